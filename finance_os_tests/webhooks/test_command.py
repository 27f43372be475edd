"""`finance-os webhooks` as a person runs it."""

import re
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from finance_os.commands import webhooks
from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.webhooks import inbox
from finance_os.webhooks.settings import WebhookSettings
from finance_os.webhooks.walk import request_reads
from finance_os_tests.webhooks.senders import stripe_event
from finance_os_tests.webhooks.test_walk import come, refunds, run

Say = Callable[..., str]


@pytest.fixture
def say(database: Database, acme: Connection, monkeypatch: pytest.MonkeyPatch) -> Say:
    """Runs a command against the test's database; what it prints, or what it refuses with."""
    monkeypatch.setenv("FINANCE_OS_DATABASE_URL", database.url)
    monkeypatch.setattr(webhooks.console, "width", 240)

    def said(*arguments: str) -> str:
        result = CliRunner().invoke(webhooks.app, list(arguments))
        if result.exception is not None:
            assert isinstance(result.exception, LookupError), result.exception
            return f"refused: {result.exception}"
        assert result.exit_code == 0
        return " ".join(result.output.split())

    return said


def test_list_shows_the_backlog_what_was_refused_and_the_latest(
    database: Database, acme: Connection, globex: Connection, say: Say
) -> None:
    come(database, acme, *refunds([1, 2]), b"{")
    come(database, globex, *refunds([3]))
    with database.transaction() as opened:
        inbox.count_refusal(opened, acme, "signature_wrong", 3)
        inbox.count_refusal(opened, None, "unknown_connection")
    request_reads(database, WebhookSettings())
    said = say("list")
    assert "acme │ stripe │ 1 │ requested │ 2 │ 0 │ 0" in said
    assert "acme │ stripe │ 1 │ poisoned │ 1 │ 0 │ 1" in said
    assert "refused: 3 × signature_wrong at connection 1" in said
    assert "refused: 1 × unknown_connection at no connection" in said
    assert "stripe_refund re_2" in said
    assert "jane@example.com" not in said
    assert "re_3" not in say("list", "--business", "acme")
    assert "re_1" not in say("list", "--state", "poisoned")
    assert "re_2" not in say("list", "--limit", "1", "--business", "acme", "--never-came")
    assert say("list", "--state", "lost").startswith("refused: there is no state 'lost'")
    assert say("list", "--business", "nobody").startswith("refused: there is no business 'nobody'")


def test_show_tells_the_way_of_one_event_and_not_its_body(database: Database, acme: Connection, say: Say) -> None:
    come(
        database,
        acme,
        stripe_event(
            "evt_1", "refund.updated", {"object": "refund", "id": "re_1", "customer_email": "jane@example.com"}
        ),
    )
    [request] = request_reads(database, WebhookSettings())
    run(database, request, {"stripe_refund": None})
    said = say("show", "1")
    for words in ("key evt_1", "type refund.updated", "state done since", "reads stripe_refund re_1", "sync runs 1"):
        assert words in said
    assert re.search(r"body \d+ bytes, SHA-256 [0-9a-f]{64}", said)
    assert "jane@example.com" not in said
    assert say("show", "7").startswith("refused: there is no webhook event 7")


def test_replay_by_number_by_state_and_by_time(database: Database, acme: Connection, say: Say) -> None:
    come(database, acme, *refunds([1, 2]), b"{")
    for request in request_reads(database, WebhookSettings()):
        run(database, request, {"stripe_refund": None})
    assert say("replay", "1", "2") == "2 event(s) are walked again."
    assert say("replay", "--state", "poisoned", "--business", "acme") == "1 event(s) are walked again."
    request_reads(database, WebhookSettings())
    assert say("replay", "1").startswith("0 event(s) are walked again.")
    assert say("replay", "--from", "2000-01-01", "--to", "2001-01-01") == "0 event(s) are walked again."
    assert say("replay", "99").startswith("refused: there is no webhook event 99")
    assert say("replay").startswith("refused: say which")
    states = {row["event_number"]: row["state"] for row in inbox.listed(database)}
    assert states == {1: "requested", 2: "requested", 3: "poisoned"}
