"""`finance-os alerts`: what has failed and not recovered, the messages that told of it, and a test of a channel."""

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from finance_os.commands.opened import console, errors, opened_database, require_business
from finance_os.settings import Settings

if TYPE_CHECKING:
    from finance_os.alerts.ledger import Alert

app = typer.Typer(help="Alerts, and the messages that told of them.", no_args_is_help=True)


class ChannelName(StrEnum):
    """A channel that messages go to."""

    SLACK = "slack"
    SMTP = "smtp"


@app.command("list")
def alerts_list(
    business: Annotated[str | None, typer.Option(help="Only this business.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="The resolved ones too, and the messages sent.")] = False,
) -> None:
    """Show the open alerts, and whether messages may go out."""
    from finance_os.alerts.channels import ChannelMisconfigured
    from finance_os.alerts.delivery import channel_states
    from finance_os.alerts.ledger import latest_alerts, open_alerts
    from finance_os.alerts.messages import latest_messages

    with opened_database() as database:
        known = require_business(database, business)
        found = latest_alerts(database, business) if everything else open_alerts(database, business)
        table = Table("business", "severity", "kind", "what", "count", "since", "last", "resolved")
        for alert in found:
            table.add_row(
                alert.business_id,
                alert.severity,
                alert.kind,
                alert.message,
                f"{alert.count:,}",
                *(f"{moment:%Y-%m-%d %H:%M}" if moment else "" for moment in _moments(alert)),
            )
        console.print(table if found else "Nothing is open.")
        messages = latest_messages(database, business)
        unknown = [message for message in messages if message.status == "unknown"]
        if everything and messages:
            sent = Table("message", "business", "channel", "purpose", "new", "recovered", "status", "detail", "begun")
            for message in messages:
                sent.add_row(
                    str(message.message_id),
                    message.business_id,
                    message.channel,
                    message.purpose,
                    str(message.opened),
                    str(message.recovered),
                    message.status,
                    message.detail or "",
                    f"{message.begun_at:%Y-%m-%d %H:%M}",
                )
            console.print(sent)
        elif unknown:
            console.print(f"{len(unknown)} of the latest messages may not have arrived: see --all.")
        try:
            for business_id in known if business is None else [business]:
                for target, state in channel_states(database, Settings(), business_id).items():
                    console.print(f"{business_id}: {target} is {state}", soft_wrap=True)
        except ChannelMisconfigured as error:
            errors.print(f"[red]{error}[/]")


@app.command("test")
def alerts_test(
    channel: Annotated[ChannelName, typer.Option(help="Where to.")],
    business: Annotated[str | None, typer.Option(help="The business; the installation's own if not given.")] = None,
) -> None:
    """Send one test message, if the channel is approved."""
    from finance_os.alerts.channels import ChannelMisconfigured, configured_channels
    from finance_os.alerts.delivery import send_test
    from finance_os.readiness.policies import PolicyGated

    settings = Settings()
    with opened_database() as database:
        known = require_business(database, business)
        business_id = business or (settings.business if settings.business in known else None)
        if business_id is None:
            raise LookupError(f"say which --business; there are {', '.join(known) or 'none yet'}")
        try:
            chosen = next((each for each in configured_channels(settings) if each.name == channel), None)
            if chosen is None:
                variable = {"slack": "FINANCE_OS_ALERT_SLACK_WEBHOOK", "smtp": "FINANCE_OS_ALERT_SMTP"}[channel]
                raise ChannelMisconfigured(f"{variable} is not set: there is no channel to test.")
            delivery = send_test(database, business_id, chosen)
        except (ChannelMisconfigured, PolicyGated) as error:
            errors.print(str(error), style="red", markup=False, soft_wrap=True)
            raise SystemExit(1) from None
    detail = f" ({delivery.detail})" if delivery.detail else ""
    console.print(f"Message {delivery.message_id} to {chosen.target}: {delivery.state}{detail}.", soft_wrap=True)
    if delivery.state != "delivered":
        raise SystemExit(1)


def _moments(alert: "Alert") -> tuple[datetime | None, ...]:
    return alert.first_seen, alert.last_seen, alert.resolved_at
