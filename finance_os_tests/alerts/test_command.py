"""`finance-os alerts`: what a person sees of what is open, and the test of a channel."""

from collections.abc import Callable, Iterator

import pytest
import stamina
from typer.testing import CliRunner, Result

from finance_os.alerts.channels import slack
from finance_os.alerts.raising import raise_alerts
from finance_os.commands.alerts import app
from finance_os.evidence.database import Database
from finance_os_tests.alerts.raised import blocked, ready
from finance_os_tests.alerts.receivers import Webhook, webhook
from finance_os_tests.readiness.approvers import approve_policy

pytestmark = pytest.mark.usefixtures("acme", "globex")

Run = Callable[..., Result]


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    stamina.set_testing(True, attempts=1)
    with webhook() as found:
        monkeypatch.setenv("FINANCE_OS_ALERT_SLACK_WEBHOOK", found.url)
        yield found
    stamina.set_testing(False)


@pytest.fixture
def alerts(database: Database, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("FINANCE_OS_DATABASE_URL", database.url)
    monkeypatch.setenv("FINANCE_OS_BUSINESS", "acme")
    monkeypatch.delenv("FINANCE_OS_ALERT_SLACK_WEBHOOK", raising=False)
    monkeypatch.delenv("FINANCE_OS_ALERT_SMTP", raising=False)
    return lambda *arguments: CliRunner().invoke(app, arguments)


def test_what_is_open_is_listed_of_all_or_one_business(database: Database, alerts: Run) -> None:
    assert "Nothing is open." in alerts("list").output
    blocked(database, "acme")
    blocked(database, "globex", check="completeness")
    raise_alerts(database)
    both = alerts("list").output
    assert "trace of" in both
    assert "completeness of" in both
    one = alerts("list", "--business", "globex").output
    assert "completeness of" in one
    assert "acme" not in one
    assert isinstance(alerts("list", "--business", "nobody").exception, LookupError)
    ready(database, "globex", check="completeness")
    raise_alerts(database)
    assert "Nothing is open." in alerts("list", "--business", "globex").output
    assert "completeness of" in alerts("list", "--business", "globex", "--all").output


def test_a_test_message_needs_an_approval(database: Database, alerts: Run, hook: Webhook) -> None:
    assert "is policy_gated_no_delivery" in alerts("list").output
    refused = alerts("test", "--channel", "slack")
    assert refused.exit_code == 1
    assert "policy_gated_no_delivery" in refused.output
    assert "finance-os policy request outbound_alert_delivery" in refused.output
    assert hook.bodies == []
    approve_policy(database, "acme", "outbound_alert_delivery", scope=slack(hook.url).target)
    assert alerts("test", "--channel", "slack", "--business", "globex").exit_code == 1
    sent = alerts("test", "--channel", "slack")
    assert (sent.exit_code, len(hook.bodies)) == (0, 1)
    assert ": delivered." in sent.output
    hook.status = 404
    failed = alerts("test", "--channel", "slack")
    assert failed.exit_code == 1
    assert "failed (slack_answered_404)" in failed.output
    listed = alerts("list", "--all").output
    assert "is approved" in listed
    assert "slack_answered_404" in listed
    assert "secret" not in "".join((refused.output, sent.output, failed.output, listed))


def test_a_channel_that_is_not_configured_is_said(alerts: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    unset = alerts("test", "--channel", "smtp")
    assert unset.exit_code == 1
    assert "FINANCE_OS_ALERT_SMTP is not set" in unset.output
    monkeypatch.setenv("FINANCE_OS_ALERT_SMTP", "smtp://hunter2")
    for command in (["test", "--channel", "smtp"], ["list"]):
        wrong = alerts(*command)
        assert "FINANCE_OS_ALERT_SMTP needs" in wrong.output
        assert "hunter2" not in wrong.output
