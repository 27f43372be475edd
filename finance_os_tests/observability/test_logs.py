"""Structured logs: a JSON object a line, with what it is about, and without what people wrote."""

import io
import json
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from typing import Any

import psycopg
import pytest

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import SourceError
from finance_os.observability import logs
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.stripe_qbo.apply import apply
from finance_os.stripe_qbo.store import put_plan
from finance_os.webhooks.settings import WebhookSettings
from finance_os.webhooks.walk import request_reads
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.stripe_qbo.books import books, customer, story
from finance_os_tests.web.conftest import Browse, browse
from finance_os_tests.webhooks.senders import STRIPE_HEADER, STRIPE_SECRET, stripe_event, stripe_header

__all__ = ["browse"]

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def lines() -> Iterator[Lines]:
    """What was logged in the test, line by line."""
    stream, root, ours = io.StringIO(), logging.getLogger(), logging.getLogger(logs.OURS)
    before, level = list(root.handlers), ours.level
    assert logs.configure({"FINANCE_OS_LOG": "json"}, stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    root.handlers[:] = before
    ours.setLevel(level)


def test_a_line_has_its_fields_and_those_of_its_surroundings(lines: Lines) -> None:
    log = logging.getLogger("finance_os.somewhere")
    with logs.about(webhook_request=12, run="r1"):
        log.info("intent %s", "applied", extra={"key": "invoice:in_1:invoice", "run": "r2"})
        with logs.about(webhook_request=13):
            log.warning("inner")
    log.info("after")
    first, inner, after = lines()
    assert datetime.fromisoformat(first.pop("time")).tzinfo is not None
    assert first == {
        "level": "info",
        "logger": "finance_os.somewhere",
        "event": "intent applied",
        "key": "invoice:in_1:invoice",
        "webhook_request": 12,
        "run": "r2",
    }
    assert (inner["webhook_request"], inner["run"], inner["level"]) == (13, "r1", "warning")
    assert "webhook_request" not in after


def test_other_libraries_say_what_is_a_warning(lines: Lines) -> None:
    logging.getLogger("httpx").info("HTTP Request: GET https://vendor.example/?token=secret")
    logging.getLogger("httpx").warning("slow")
    logging.getLogger("finance_os.x").debug("not unless asked for")
    assert [line["event"] for line in lines()] == ["slow"]


def test_an_error_is_told_by_its_type_and_place_and_not_by_its_words(lines: Lines, database: Database) -> None:
    log = logging.getLogger("finance_os.x")
    try:
        database.fetch("SELECT 'jane@example.com'::integer")
    except psycopg.Error:
        log.exception("a query failed")
    with suppress(SourceError):
        try:
            raise SourceError("rate_limited", "Jane Doe must wait")
        except SourceError:
            log.error("a read failed", exc_info=True)
            raise
    first, second = lines()
    assert first["error"] == "psycopg.errors.InvalidTextRepresentation"
    assert any("database.py" in place and place.endswith(" fetch") for place in first["raised_at"])
    assert (second["error_code"], second["error"].rsplit(".", 1)[1]) == ("rate_limited", "SourceError")
    assert not [word for word in ("jane", "Jane") if word in json.dumps([first, second])]


def test_no_personal_data_is_in_the_lines_of_a_webhook_and_an_export(
    database: Database, acme: Connection, browse: Browse, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINANCE_OS_STRIPE_WEBHOOK_SECRET", STRIPE_SECRET)
    client, place = browse(database), f"/webhooks/acme/stripe/{acme.connection_id}"
    body = stripe_event("evt_1", item={"id": "in_1", "object": "invoice", "customer_email": "jane@example.com"})
    assert client.post(place, content=body, headers={STRIPE_HEADER: stripe_header(body)}).status_code == 200
    assert client.post(place, content=body, headers={STRIPE_HEADER: "t=1,v1=jane"}).status_code == 400
    with books() as company:
        approve_policy(database, "acme", QBO_EXPORT.key, scope=company.realm)
        jane = customer("cus_jane", DisplayName="Jane Doe", PrimaryEmailAddr={"Address": "jane@example.com"})
        put_plan(database, "acme", company.realm, [*story(company, 1, "logs"), jane])
        with company.writer() as writer:
            apply(database, writer, "acme", company.realm)
        token = company.values["FINANCE_OS_QUICKBOOKS_WRITE_REFRESH_TOKEN"]
    said = lines()
    applied = [line for line in said if line["event"] == "intent applied"]
    assert {"key", "intent_id", "business_id", "realm", "entity", "operation", "seconds"} <= applied[0].keys()
    assert len(applied) == 5
    text = json.dumps(said)
    assert not [word for word in ("Jane", "jane@", "O'Hara", "Acorn", token, STRIPE_SECRET) if word in text]


def test_one_id_runs_from_the_webhook_to_the_object_in_quickbooks(
    database: Database, acme: Connection, browse: Browse, lines: Lines, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINANCE_OS_STRIPE_WEBHOOK_SECRET", STRIPE_SECRET)
    body = stripe_event("evt_7", item={"id": "in_ids0", "object": "invoice"})
    place = f"/webhooks/acme/stripe/{acme.connection_id}"
    assert browse(database).post(place, content=body, headers={STRIPE_HEADER: stripe_header(body)}).is_success
    request_reads(database, WebhookSettings())
    with books() as company:
        approve_policy(database, "acme", QBO_EXPORT.key, scope=company.realm)
        put_plan(database, "acme", company.realm, story(company, 1, "ids"))
        with company.writer() as writer:
            apply(database, writer, "acme", company.realm)
        [sold] = [each for each in story(company, 1, "ids") if each.entity == "Invoice"]
        qbo_id = company.one(sold)["Id"]
    said = lines()
    assert ["evt_7"] in [line.get("event_keys") for line in said]
    about = [
        line for line in said if "stripe:in_ids0" in (line.get("correlation_id"), *line.get("correlation_ids", ()))
    ]
    assert about[0]["event"].startswith("webhook events requested")
    [linked] = [line for line in about if line["event"] == "intent linked"]
    assert (linked["entity"], linked["qbo_id"]) == ("Invoice", qbo_id)
    assert linked["requestid"]
    assert any(line["event"] == "intent applied" and line["intent_id"] == linked["intent_id"] for line in about)


def test_nothing_is_set_up_unless_asked_for() -> None:
    handlers = list(logging.getLogger().handlers)
    assert not logs.configure({})
    assert not logs.configure({"FINANCE_OS_LOG": "plain"})
    assert logging.getLogger().handlers == handlers
    with pytest.raises(LookupError, match="json or plain"):
        logs.configure({"FINANCE_OS_LOG": "yaml"})
    with pytest.raises(LookupError, match="FINANCE_OS_LOG_LEVEL"):
        logs.configure({"FINANCE_OS_LOG": "json", "FINANCE_OS_LOG_LEVEL": "LOUD"})


def test_a_command_writes_json_to_standard_error(database: Database) -> None:
    code = "import finance_os.cli, logging, sys; sys.argv = ['finance-os', 'db', 'status']\n"
    code += (
        "import atexit; atexit.register(lambda: logging.getLogger('finance_os.x').info('bye'))\nfinance_os.cli.main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        env={"FINANCE_OS_LOG": "json", "FINANCE_OS_DATABASE_URL": database.url, "PATH": ""},
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert json.loads(ended.stderr)["event"] == "bye"
