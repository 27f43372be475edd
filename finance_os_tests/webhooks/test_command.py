"""`finance-os webhooks` as a person runs it."""

import re
from collections.abc import Callable

import pytest
from typer.testing import CliRunner

from finance_os.commands import webhooks
from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.database import Database
from finance_os.webhooks import inbox, retention
from finance_os.webhooks.settings import WebhookSettings
from finance_os.webhooks.walk import request_reads
from finance_os_tests.webhooks.aging import age
from finance_os_tests.webhooks.senders import stripe_event
from finance_os_tests.webhooks.test_walk import come, one, refunds, run

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


def test_prune_says_how_many_of_which_source(
    database: Database, acme: Connection, globex: Connection, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "AT_ONCE", 2)
    come(database, acme, *refunds(range(5)), b"{")
    come(database, globex, *refunds([1]))
    for request in request_reads(database, WebhookSettings()):
        run(database, request, {"stripe_refund": None})
    age(database, 8)
    assert say("prune", "--dry-run") == "bodies would be pruned: 0"
    would = "bodies of acme/stripe would be pruned: 5 bodies of globex/stripe would be pruned: 1"
    kept = (
        "as old, and kept: 1. An event of theirs waits, is being read, or is set aside: "
        "`finance-os webhooks list --state poisoned` shows those."
    )
    assert say("prune", "--older-than", "7", "--dry-run") == f"{would} bodies would be pruned: 6 {kept}"
    done = "bodies of acme/stripe pruned: 5 bodies of globex/stripe pruned: 1 bodies pruned: 6"
    assert say("prune", "--older-than", "7") == f"{done} {kept}"
    assert say("prune", "--older-than", "7") == f"bodies pruned: 0 {kept}"
    monkeypatch.setenv("FINANCE_OS_WEBHOOK_BODY_DAYS", "0")
    assert say("prune").startswith("refused: bodies are kept for ever, as FINANCE_OS_WEBHOOK_BODY_DAYS is 0")
    assert CliRunner().invoke(webhooks.app, ["prune", "--older-than", "0"]).exit_code == 2
    monkeypatch.setenv("FINANCE_OS_WEBHOOK_BODY_DAYS", "7")
    assert say("prune") == f"bodies pruned: 0 {kept}"


def test_what_was_pruned_is_shown_and_not_walked_again(database: Database, acme: Connection, say: Say) -> None:
    come(database, acme, *refunds([1]), stripe_event("evt_2", "x.updated", {"object": "payment_method", "id": "pm_1"}))
    bank = ensure_connection(database, "acme", "plaid")
    body = b'{"webhook_type": "TRANSACTIONS", "webhook_code": "SYNC_UPDATES_AVAILABLE", "item_id": "item1"}'
    come(database, bank, body)
    for request in request_reads(database, WebhookSettings()):
        run(database, request, dict.fromkeys(request.reads))
    age(database, 31)
    assert "bodies pruned: 3" in say("prune")
    assert re.search(r"body pruned 20\d\d-\d\d-\d\d \d\d:\d\d:\d\dZ, SHA-256 [0-9a-f]{64} state done", say("show", "1"))
    come(database, acme, *refunds([4]))
    run(database, one(request_reads(database, WebhookSettings())), {"stripe_refund": None})
    said = say("replay", "4", "1")
    assert said.startswith("refused: the body of webhook event 1 was pruned 20")
    assert said.endswith(
        "without its body an event cannot be walked again. What it speaks of (stripe_refund re_1) was read then, and "
        "the daily sync reads what has changed since; `finance-os replay --object refund:re_1 --read` reads it now."
    )
    assert {row["state"] for row in inbox.listed(database)} == {"done"}, "all or none of those that are named"
    assert say("replay", "2").endswith("It asked for nothing to be read.")
    assert say("replay", "3").endswith(
        "the daily sync reads what has changed since; materializing its days in Dagster reads it now."
    )
    said = say("replay", "--state", "done")
    assert said.startswith("1 event(s) are walked again. the body of webhook event 1 was pruned")
    assert "and those of 2 more" in said
    assert say("replay", "--from", "2000-01-01", "--state", "done").startswith("refused: the body of webhook event 1")
