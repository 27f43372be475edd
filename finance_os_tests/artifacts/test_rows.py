"""Rows of a real database are what the schemas and PostgreSQL's catalogue say, and no others are."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jsonschema_rs
import pytest
from typer.testing import CliRunner

from finance_os.artifacts import schemas
from finance_os.artifacts.bigquery import column_types
from finance_os.artifacts.export import exported
from finance_os.artifacts.rows import TABLES, Table, table_named
from finance_os.commands import artifacts as command
from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.stripe_qbo import links
from finance_os.stripe_qbo.apply import apply
from finance_os.stripe_qbo.intent import Operation
from finance_os.stripe_qbo.planning import plan_of
from finance_os.stripe_qbo.store import put_plan
from finance_os.webhooks import inbox
from finance_os.webhooks.events import events_in
from finance_os.webhooks.settings import WebhookSettings
from finance_os.webhooks.walk import request_reads
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.stripe_qbo.books import Books, books, customer, key, story
from finance_os_tests.stripe_qbo.mapping.worlds import company, evidence, living, rules
from finance_os_tests.webhooks.senders import stripe_event

SCHEMA_OF = {
    "intents": "intent",
    "intent_attempts": "intent_attempt",
    "links": "link",
    "webhook_events": "webhook_event",
}


def validator(name: str) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schemas.schema(name), validate_formats=True)


def rows(database: Database, table: str, business_id: str | None = None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in exported(database, table_named(table), business_id)]


def valid_rows(database: Database, table: str) -> list[dict[str, Any]]:
    """The rows of a table, each of which the schema takes."""
    judge, found = validator(SCHEMA_OF[table]), rows(database, table)
    for row in found:
        judge.validate(row)
    return found


@pytest.mark.parametrize("name", schemas.NAMES)
def test_every_schema_is_one(name: str) -> None:
    described = schemas.schema(name)
    assert described["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    jsonschema_rs.meta.validate(described)


# --- against PostgreSQL's catalogue; a generated column is as little null as what it is made of

TYPES = {
    "bigint": "INT64",
    "integer": "INT64",
    "text": "STRING",
    "text[]": "ARRAY<STRING>",
    "bigint[]": "ARRAY<INT64>",
    "jsonb": "JSON",
    "date": "DATE",
    "timestamp with time zone": "TIMESTAMP",
    "numeric": "NUMERIC",
    "boolean": "BOOL",
    "bytea": "BYTES",
}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_declared_columns_are_those_of_the_catalogue(owner: Database, table: Table) -> None:
    found = owner.fetch(
        """
        SELECT attname, format_type(atttypid, NULL) AS type, NOT attnotnull AND attgenerated = '' AS nullable,
               col_description(attrelid, attnum) AS comment
        FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
        """,
        (f"finance_os.{table.name}",),
    )
    in_catalogue = [
        (row["attname"], TYPES[row["type"]], row["nullable"] and not row["type"].endswith("[]")) for row in found
    ]
    assert [(name, *kind) for name, kind in column_types(table).items()] == in_catalogue
    properties = schemas.schema(SCHEMA_OF[table.name])["$defs"][table.row.__name__]["properties"]
    described = {name: each["description"] for name, each in properties.items()}
    commented = {row["attname"]: row["comment"] for row in found if row["comment"]}
    assert {name: described[name] for name in commented} == commented
    [row] = owner.fetch("SELECT obj_description(%s::regclass) AS comment", (f"finance_os.{table.name}",))
    assert table.description == row["comment"]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_allowed_values_are_those_of_the_checks(owner: Database, table: Table) -> None:
    checks = owner.fetch(
        "SELECT pg_get_constraintdef(oid) AS text FROM pg_constraint WHERE conrelid = %s::regclass AND contype = 'c'",
        (f"finance_os.{table.name}",),
    )
    allowed: dict[str, set[str]] = {}
    for check in checks:
        for column, values in re.findall(r"CHECK \(\((\w+) = ANY \(ARRAY\[([^\]]*)\]\)\)\)", check["text"]):
            allowed[column] = set(re.findall(r"'([^']*)'", values))
    described = schemas.schema(SCHEMA_OF[table.name])["$defs"]
    properties = described[table.row.__name__]["properties"]
    said = {
        name: set(described["Operation"]["enum"] if "$ref" in each else each["enum"])
        for name, each in properties.items()
        if ("enum" in each and name in allowed) or each.get("$ref") == "#/$defs/Operation"
    }
    assert said == allowed
    if table.name != "webhook_events":
        assert allowed


def test_the_key_of_a_table_is_its_primary_key(owner: Database) -> None:
    for table in TABLES:
        keys = owner.fetch(
            """
            SELECT attname FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = ANY (indkey)
            WHERE indrelid = %s::regclass AND indisprimary
            """,
            (f"finance_os.{table.name}",),
        )
        assert [row["attname"] for row in keys] == [table.identity]


# --- rows


@pytest.fixture(scope="module")
def served() -> Iterator[Books]:
    with books() as found:
        yield found


def test_intents_attempts_and_links_that_were_written_are_as_described(
    served: Books, database: Database, acme: Connection, globex: Connection
) -> None:
    realm = served.realm
    approve_policy(database, "acme", QBO_EXPORT.key, scope=realm)
    intents = story(served, 2, "schema")
    put_plan(database, "acme", realm, intents, run="test")
    adopted = key("customer", "cus_adopted")
    links.adopt(database, "acme", realm, adopted, "Customer", "1", "0")
    with served.writer() as writer:
        apply(database, writer, "acme", realm)
        bad = customer("cus_bad", CurrencyRef={"value": "XXX"})
        renamed = replace(intents[3], operation=Operation.UPDATE)
        put_plan(database, "acme", realm, [*intents, bad, renamed], run="test")
        apply(database, writer, "acme", realm)
    put_plan(database, "globex", realm, [customer("cus_of_globex")])

    kept = valid_rows(database, "intents")
    assert {row["state"] for row in kept} == {"applied", "failed", "planned"}
    assert {row["business_id"] for row in kept} == {"acme", "globex"}
    [sold] = [row for row in kept if row["key"] == "invoice:in_schema0:invoice"]
    assert b'"Amount": 120.50' in b"".join(exported(database, table_named("intents"))), "amounts stay as written"
    assert sold["payload"]["CustomerRef"]["value"] == {"$link": "customer:cus_schema0:customer"}
    assert sold["resolved"]["CustomerRef"]["value"].isdigit()
    assert sold["planned_at"].endswith("+00:00")
    linked = valid_rows(database, "links")
    assert {row["origin"] for row in linked} == {"created", "adopted"}
    assert {row["step"] for row in valid_rows(database, "intent_attempts")} >= {"sending", "answered", "refused"}
    assert {row["business_id"] for row in rows(database, "intents", "globex")} == {"globex"}


def test_a_plan_of_a_real_months_life_is_as_described(database: Database, acme: Connection) -> None:
    world = living(30, 3, 7)
    with company(world) as realm:
        plan = plan_of(evidence(world), realm.books(), rules())
    put_plan(database, "acme", "9130", plan.intents, run="test")
    kept = valid_rows(database, "intents")
    assert len(kept) == len(plan.intents) > 30
    assert {"Customer", "Invoice", "Payment", "Deposit"} <= {row["entity"] for row in kept}


def test_events_of_the_inbox_are_as_described(database: Database, acme: Connection) -> None:
    paid, unknown = stripe_event("evt_1"), b"[]"
    for body in (paid, unknown, stripe_event("evt_2", "customer.updated", {"id": "cus_1", "object": "customer"})):
        inbox.store(database, acme, body, [(acme, event) for event in events_in("stripe", body)])
    request_reads(database, WebhookSettings())
    found = valid_rows(database, "webhook_events")
    assert {row["state"] for row in found} == {"requested", "poisoned"}
    assert ["in_1"] in [row["reads"].get("stripe_invoice") for row in found]


BROKEN = {
    "an unknown state": {"state": "sent"},
    "no number": {"intent_id": "1"},
    "a hash that is none": {"input_hash": "abc"},
    "a marker of two words": {"marker": "a b"},
    "a time without a zone": {"planned_at": "2026-07-10T00:00:00"},
    "a day that is none": {"dated": "2026-02-30"},
    "another column": {"note": "x"},
    "an entity that is not written": {"entity": "Bill"},
    "what is never done to it": {"operation": "void", "entity": "Customer"},
    "without its marker": {"payload": {"DisplayName": "A"}},
    "nothing to find it by": {"payload": {"Notes": "stripe:cus_1"}},
    "a reference to no key": {"payload": {"DisplayName": "A", "Notes": "x", "ParentRef": {"$link": "cus_1"}}},
    "more than a reference": {"payload": {"DisplayName": "A", "Notes": "x", "R": {"$link": "a:b:c", "name": "A"}}},
    "sent without a requestid": {"state": "sending", "requestid": None},
}


def test_a_row_that_could_not_be_kept_is_refused(database: Database, acme: Connection) -> None:
    put_plan(database, "acme", "9130", [customer("cus_1")])
    [row] = rows(database, "intents")
    judge = validator("intent")
    judge.validate(row)
    assert [case for case, change in BROKEN.items() if judge.is_valid(row | change)] == []
    assert [name for name in row if judge.is_valid({each: row[each] for each in row if each != name})] == []


def test_the_command_prints_rows(database: Database, acme: Connection, globex: Connection) -> None:
    for business in ("acme", "globex"):
        put_plan(database, business, "9130", [customer("cus_1")])
    run = CliRunner(env={"FINANCE_OS_DATABASE_URL": database.url})
    printed = run.invoke(command.app, ["rows", "intents", "--business", "globex"])
    assert [json.loads(line)["business_id"] for line in printed.output.splitlines()] == ["globex"]
    with pytest.raises(LookupError, match="intents, intent_attempts, links, webhook_events"):
        run.invoke(command.app, ["rows", "payouts"], catch_exceptions=False)
