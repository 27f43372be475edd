"""Events that are set aside raise an alert, which is resolved when they have been replayed."""

from finance_os.alerts.raising import raise_alerts
from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.evidence.exceptions import open_exceptions
from finance_os.webhooks import inbox
from finance_os.webhooks.settings import WebhookSettings
from finance_os.webhooks.walk import request_reads
from finance_os_tests.webhooks.senders import stripe_event
from finance_os_tests.webhooks.test_walk import come, refunds, run, settings


def told(database: Database) -> list[tuple[str, str, str]]:
    return [
        (alert.business_id, alert.code, "open" if alert.resolved_at is None else "resolved")
        for alert in raise_alerts(database)
    ]


def test_what_cannot_be_understood_raises_an_alert_at_once(
    database: Database, acme: Connection, globex: Connection
) -> None:
    come(database, acme, b"{", *refunds([1]))
    come(database, globex, *refunds([1]))
    assert told(database) == []
    request_reads(database, WebhookSettings())
    [found] = open_exceptions(database, "acme")
    assert (found.source_system, found.object_type, found.code) == ("webhooks", "stripe", "webhooks_set_aside")
    assert found.detail.startswith("1 webhook event(s) are set aside, the first is event 1:")
    assert open_exceptions(database, "globex") == []
    assert told(database) == [("acme", "webhooks_set_aside", "open")]

    come(database, acme, b"[")
    request_reads(database, WebhookSettings())
    [found] = open_exceptions(database, "acme")
    assert found.detail.startswith("2 webhook event(s)")
    assert told(database) == [("acme", "webhooks_set_aside", "open")], "the same alert"

    inbox.replay(database, [1], "somebody")
    [found] = open_exceptions(database, "acme")
    assert found.detail.startswith("1 webhook event(s)")
    inbox.replay(database, inbox.numbers_between(database, None, None, state="poisoned"), "somebody")
    assert open_exceptions(database, "acme") == []
    assert told(database) == [("acme", "webhooks_set_aside", "resolved")]


def test_what_cannot_be_read_raises_an_alert_when_it_is_given_up(database: Database, acme: Connection) -> None:
    ours = settings()
    come(database, acme, stripe_event("evt_1", "refund.updated", {"object": "refund", "id": "re_1"}))
    for tried in range(ours.max_tries):
        assert open_exceptions(database, "acme") == [], tried
        [request] = request_reads(database, ours)
        run(database, request, {"stripe_refund": "forbidden"})
    assert len(open_exceptions(database, "acme")) == 1
    inbox.replay(database, [1], "somebody")
    [request] = request_reads(database, ours)
    run(database, request, {"stripe_refund": None})
    assert open_exceptions(database, "acme") == []
