"""`finance-os policy`: what is gated, who asked for leave, who gave it, and until when."""

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from finance_os.commands.opened import console, errors, opened_database, require_business
from finance_os.evidence.database import Database
from finance_os.readiness import approvals, policies
from finance_os.readiness.approvals import APPROVER_ROLE, PolicyRefused
from finance_os.readiness.policies import PolicyState
from finance_os.settings import Settings

app = typer.Typer(help="Policies: what stays shut until another login approves it.", no_args_is_help=True)

HOW_TO_MAKE_AN_APPROVER = f"CREATE ROLE bob LOGIN PASSWORD '…' IN ROLE {APPROVER_ROLE}"

Name = Annotated[str, typer.Argument(help="The policy: " + ", ".join(policy.key for policy in policies.POLICIES) + ".")]
Business = Annotated[str | None, typer.Option(help="The business; the installation's own if not given.")]
Reason = Annotated[str, typer.Option(help="Why, in a few words, without personal data.")]


@app.command("list")
def policy_list(business: Annotated[str | None, typer.Option(help="Only this business.")] = None) -> None:
    """Show each policy: its status, who approved what until when, what waits and what is unexplained."""
    from finance_os.sources.installation import ensure_installation

    with opened_database() as database:
        ensure_installation(database, Settings(), [])
        known = require_business(database, business)
        for business_id in known if business is None else [business]:
            _print_states(business_id, policies.policy_states(database, business_id))


@app.command("record")
def policy_record(business: Business = None) -> None:
    """Put every policy in force, gated, where that was not done yet."""
    with _opened(business) as (database, business_id):
        recorded = policies.ensure_policies(database, business_id)
    console.print(
        f"{business_id}: recorded {', '.join(recorded)}."
        if recorded
        else f"{business_id}: nothing to do, every policy is recorded."
    )


@app.command("request")
def policy_request(
    name: Name,
    reason: Reason = "",
    expires: Annotated[
        str, typer.Option(help="Until when: 30d, 12h, or a date or time such as 2030-01-31T18:00Z.")
    ] = "",
    scope: Annotated[
        str | None,
        typer.Option(help="The target that is to be allowed (channel, host, realm), or action:ID to explain one."),
    ] = None,
    business: Business = None,
) -> None:
    """Ask for approval of a policy, as the login of the finance database."""
    policies.policy_named(name)
    until = moment(expires)
    with _opened(business) as (database, business_id):
        policies.ensure_policies(database, business_id)
        asked = approvals.request(database, business_id, name, reason=reason, expires_at=until, scope=scope)
    console.print(
        f"Request {asked.request_id}: {name} of {business_id} for {_scope(asked.scope)} until "
        f"{_time(asked.expires_at)}, asked by {asked.requested_by}. Another login can approve it: "
        f"`finance-os policy approve {name} --business {business_id} --request {asked.request_id} --reason …`.",
        markup=False,
        soft_wrap=True,
    )


@app.command("approve")
def policy_approve(
    name: Name,
    reason: Reason = "",
    request: Annotated[int | None, typer.Option(help="ID of the request, if several are open.")] = None,
    expires: Annotated[str | None, typer.Option(help="Sooner than was asked for: 30d, 12h, a date or a time.")] = None,
    business: Business = None,
) -> None:
    """Approve a request, as the login in FINANCE_OS_APPROVER_DATABASE_URL, which is not the one that asked."""
    policies.policy_named(name)
    until = None if expires is None else moment(expires)
    with _approver_database() as database:
        business_id = _business(database, business)
        given = approvals.approve(database, business_id, name, reason=reason, request_id=request, expires_at=until)
    console.print(
        f"Request {given.request_id} is approved: {name} of {business_id} for {_scope(given.scope)} until "
        f"{_time(given.expires_at)}, asked by {given.requested_by}, approved by {given.approved_by}.",
        markup=False,
        soft_wrap=True,
    )


@app.command("revoke")
def policy_revoke(
    name: Name,
    reason: Reason = "",
    request: Annotated[int | None, typer.Option(help="Only this request and its approval.")] = None,
    business: Business = None,
) -> None:
    """Revoke what is approved or asked for under a policy, at once."""
    policies.policy_named(name)
    with _opened(business) as (database, business_id):
        revoked = approvals.revoke(database, business_id, name, reason=reason, request_id=request)
        state = policies.policy_state(database, business_id, name)
    console.print(
        f"Revoked request{'s' if len(revoked) > 1 else ''} {', '.join(map(str, revoked))}: "
        f"{name} of {business_id} is {state.status}.",
        soft_wrap=True,
    )


@app.command("approver")
def policy_approver(name: Annotated[str, typer.Argument(help="The login: letters, digits and underscores.")]) -> None:
    """Make a login that can approve, on the embedded server, and print the variable to approve as it."""
    from finance_os.local.approver import make_approver

    if Settings().database_url is not None:
        raise PolicyRefused(
            "The server in FINANCE_OS_DATABASE_URL is not ours to make logins on. Its administrator can run: "
            f"{HOW_TO_MAKE_AN_APPROVER.replace('bob', name)}"
        )
    with opened_database() as database:
        address = make_approver(database, name)
    console.print(f"export FINANCE_OS_APPROVER_DATABASE_URL='{address}'", soft_wrap=True, markup=False, highlight=False)


def moment(text: str) -> datetime:
    """The time that `30d`, `12h`, a date (its end, in UTC) or an ISO time (UTC if it names no zone) stands for."""
    text = text.strip()
    if not text:
        raise PolicyRefused("An approval expires: say until when with --expires, such as 30d or 2030-01-31.")
    if found := re.fullmatch(r"([1-9]\d{0,4})([dh])", text):
        number = int(found[1])
        return datetime.now(UTC) + (timedelta(days=number) if found[2] == "d" else timedelta(hours=number))
    try:
        given = datetime.fromisoformat(text)
        if re.fullmatch(r"\d{4}-?\d{2}-?\d{2}", text):
            given += timedelta(days=1)
    except (ValueError, OverflowError):
        raise PolicyRefused(f"{text!r} is no time: write 30d, 12h, 2030-01-31 or 2030-01-31T18:00Z.") from None
    given = given if given.tzinfo else given.replace(tzinfo=UTC)
    if given <= datetime.now(UTC):
        raise PolicyRefused(f"{text} is past: an approval expires at a time to come.")
    return given


@contextmanager
def _opened(business: str | None) -> Iterator[tuple[Database, str]]:
    """The finance database and the business that is meant; the plain installation's is made if there is none yet."""
    from finance_os.sources.installation import ensure_installation

    with opened_database() as database:
        ensure_installation(database, Settings(), [])
        yield database, _business(database, business)


@contextmanager
def _approver_database() -> Iterator[Database]:
    settings = Settings()
    if settings.approver_database_url is None:
        how = (
            "`finance-os policy approver bob` makes one on the embedded server"
            if settings.database_url is None
            else f"on your server: {HOW_TO_MAKE_AN_APPROVER}"
        )
        raise PolicyRefused(
            f"Approving takes a login of its own, in FINANCE_OS_APPROVER_DATABASE_URL, that is not the one that asked; "
            f"{how}."
        )
    database = Database(settings.approver_database_url.get_secret_value(), APPROVER_ROLE)
    with ExitStack() as opened:
        if settings.database_url is None:
            opened.enter_context(opened_database())  # starts the embedded server, on which the approver logs in
        _require_approver(database)
        yield database


def _require_approver(database: Database) -> None:
    import psycopg

    with database.connection() as connection:
        try:
            with database.transaction(connection):
                pass
        except psycopg.errors.InsufficientPrivilege:
            raise PolicyRefused(
                f"{connection.info.user} approves nothing: it is no member of {APPROVER_ROLE}, which the login in "
                f"FINANCE_OS_APPROVER_DATABASE_URL has to be."
            ) from None


def _business(database: Database, business: str | None) -> str:
    known = require_business(database, business)
    if business is not None:
        return business
    own = Settings().business
    if own in known:
        return own
    if len(known) != 1:
        raise LookupError(f"name a business with --business; there are {', '.join(known) or 'none yet'}")
    return known[0]


def _print_states(business_id: str, states: tuple[PolicyState, ...]) -> None:
    table = Table("policy", "state", title=f"Policies of {business_id}", title_justify="left", show_lines=True)
    table.columns[0].no_wrap = True
    for state in states:
        # As text: a scope is what somebody typed, and may look like markup.
        table.add_row(Text(f"{state.policy.title}\n{state.policy.key}"), Text("\n".join(_lines(state))))
    console.print(table)
    for state in states:
        if state.remedy is not None:
            errors.print(f"{business_id}: {state.remedy}", style="red", markup=False, soft_wrap=True)
    if not all(state.recorded for state in states):
        console.print(f"{business_id}: not recorded yet. `finance-os policy record` puts the policies in force.")


def _lines(state: PolicyState) -> Iterator[str]:
    yield state.status
    yield state.policy.allows if state.approved else state.policy.sentence
    for each in state.approvals:
        yield (
            f"approved: {_scope(each.scope)} until {_time(each.expires_at)}, asked by {each.requested_by}, "
            f"approved by {each.approved_by}"
        )
    for each in state.requests:
        yield (
            f"waits: request {each.request_id}, {_scope(each.scope)} until {_time(each.expires_at)}, "
            f"asked by {each.requested_by}"
        )
    if not state.ready:
        yield f"unexplained: {state.unexplained_count} external action(s)"


def _scope(scope: str) -> str:
    return "any target" if scope == policies.ANYTHING else scope


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
