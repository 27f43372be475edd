"""What people do to older objects in QuickBooks, from Intuit's webhook to the open exception, as the sensors ask.

Everything was written by an earlier run. A webhook names the object; the inbox has it read; that moved evidence, so an
export of the present day is asked for; it reads what moved, and nothing else of old.
"""

import itertools
import json
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import dagster as dg
import pytest

from finance_os import settings as settings_module
from finance_os.defs import export_sensor as sensing
from finance_os.defs.assets.sources import RAW_RECORDS, source_assets
from finance_os.defs.assets.stripe_qbo import export_job, stripe_qbo_assets
from finance_os.defs.export_outcomes import AGREES, VERIFICATION
from finance_os.defs.export_sensor import BUSINESS_TAG, export_sensor
from finance_os.defs.io_managers import RawRecordIOManager
from finance_os.defs.resources import Evidence
from finance_os.defs.webhook_sensor import webhook_jobs, webhook_sensor
from finance_os.evidence.businesses import active_connections
from finance_os.evidence.database import Database
from finance_os.evidence.exceptions import open_exceptions
from finance_os.readiness.gate import Gate
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.sources.quickbooks import QUICKBOOKS
from finance_os.sources.sealing import new_key
from finance_os.stripe_qbo import drift
from finance_os.webhooks import inbox
from finance_os.webhooks.events import events_in
from finance_os.webhooks.settings import webhook_settings
from finance_os_tests.defs.ticking import execute, tick
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.stripe_qbo.books import Books
from finance_os_tests.stripe_qbo.staged import RULES, company, copy_of, environment
from finance_os_tests.webhooks.senders import entity, notifications

NOTHING = "nothing has moved since the last export"


def opened(_: Database, business_id: str, __: Any) -> Gate:
    """A gate that is open."""
    return Gate(business_id, ())


@dataclass(frozen=True)
class Exported:
    """What became of one export: whether its check passed, how grave it is if not, what it says, and what was sent."""

    passed: bool
    severity: dg.AssetCheckSeverity
    description: str
    succeeded: bool
    reads: int
    writes: int
    told: str


@dataclass
class Office:
    """An installation whose sensors are asked tick by tick, and whose runs are executed here."""

    database: Database
    companies: dict[str, Books]
    defs: dg.Definitions
    instance: dg.DagsterInstance = field(default_factory=dg.DagsterInstance.ephemeral)
    cursors: dict[str, str | None] = field(default_factory=dict)
    seconds: Iterator[int] = field(default_factory=itertools.count)

    def tick(self, name: str) -> tuple[list[dg.RunRequest], str]:
        found = tick(self.defs, self.instance, name, self.cursors.get(name))
        self.cursors[name] = found.cursor
        return found.requests, found.said

    def run(self, request: dg.RunRequest) -> dg.ExecuteInProcessResult:
        return execute(self.defs, self.instance, request)

    def exported(self, business_id: str = "acme") -> Exported:
        """The one export that the sensor asks for now."""
        requests, told = self.tick("stripe_qbo_export_wanted")
        assert [request.tags[BUSINESS_TAG] for request in requests] == [business_id], told
        before = self.companies[business_id].before
        reads, writes = before.reads, before.writes
        result = self.run(requests[0])
        [check] = result.get_asset_check_evaluations()
        assert check.asset_check_key == AGREES
        logged = self.instance.all_logs(result.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
        [shown] = [
            each.asset_materialization.metadata
            for each in logged
            if each.asset_materialization and each.asset_materialization.asset_key == VERIFICATION
        ]
        return Exported(
            check.passed,
            check.severity,
            check.description or "",
            result.success,
            before.reads - reads,
            before.writes - writes,
            str(shown["requests"].value),
        )

    def webhook(self, business_id: str, name: str, source_id: str, operation: str) -> None:
        """Intuit tells of one object, and what the inbox asks for is read."""
        [connection] = [
            each for each in active_connections(self.database, "quickbooks") if each.business_id == business_id
        ]
        at = f"2026-11-20T10:00:{next(self.seconds):02d}.000Z"
        told = entity(name, source_id, operation, lastUpdated=at)
        body = notifications((self.companies[business_id].realm, [told]))
        inbox.store(self.database, connection, body, [(connection, each) for each in events_in("quickbooks", body)])
        requests, _ = self.tick("webhook_inbox")
        assert [request.job_name for request in requests] == ["quickbooks_webhooks"]
        assert self.run(requests[0]).success
        assert self.tick("webhook_inbox")[0] == []

    def change(self, business_id: str, action: str, name: str, **body: Any) -> None:
        """Somebody changes an object in QuickBooks, which tells of it."""
        self.companies[business_id].change(action, entity=name, body=body)
        self.webhook(business_id, name, body["Id"], action.title())

    def codes(self, business_id: str = "acme") -> Counter[tuple[str, str]]:
        return Counter((each.code, each.subject) for each in open_exceptions(self.database, business_id))

    def link(self, entity_name: str, business_id: str = "acme") -> dict[str, Any]:
        """The first link with an entity that an intent made: its key, ID and what was sent. An invoice falls due, a
        payment is of some amount."""
        return self.database.fetch(
            """
            SELECT link.key, link.qbo_id, intent.resolved FROM finance_os.links AS link
            JOIN finance_os.intents AS intent USING (business_id, realm, key)
            WHERE link.business_id = %s AND link.entity = %s AND intent.operation = 'create'
              AND intent.state = 'applied' AND (link.entity <> 'Invoice' OR intent.payload ? 'DueDate')
              AND (link.entity <> 'Payment' OR (intent.payload ->> 'TotalAmt')::numeric > 0)
            ORDER BY link.key LIMIT 1
            """,
            (business_id, entity_name),
        )[0]


@contextmanager
def office_of(database: Database, companies: dict[str, Books]) -> Iterator[Office]:
    """An installation on a database; its environment is the process's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINANCE_OS_DATABASE_URL", database.url)
        patch.setattr(sensing, "LOOK_AGAIN_SECONDS", 0)
        patch.setattr(sensing, "FIRST_WAIT", 0)
        settings_module.settings.cache_clear()
        webhook_settings.cache_clear()
        job, from_webhooks, evidence = export_job(), webhook_jobs([QUICKBOOKS]), Evidence()
        defs = dg.Definitions(
            assets=[stripe_qbo_assets(opened), *source_assets(QUICKBOOKS)],
            jobs=[job, *from_webhooks],
            sensors=[export_sensor(job, opened), *webhook_sensor([QUICKBOOKS], from_webhooks)],
            resources={"evidence": evidence, RAW_RECORDS: RawRecordIOManager(evidence, [QUICKBOOKS])},
            executor=dg.in_process_executor,
        )
        yield Office(database, companies, defs)
    settings_module.settings.cache_clear()
    webhook_settings.cache_clear()


@pytest.fixture(scope="module")
def written(
    server_url: str, staged_name: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, dict[str, Books]]]:
    """A database to copy, in which two businesses with the same external IDs are exported, and their companies."""
    with pytest.MonkeyPatch.context() as patch, company() as acmes, company() as globexes:
        for name in [name for name in os.environ if name.startswith("FINANCE_OS_") and "TEST" not in name]:
            patch.delenv(name)
        patch.setenv("FINANCE_OS_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("FINANCE_OS_BUSINESS", "acme")
        patch.setenv("FINANCE_OS_ENCRYPTION_KEY", new_key())
        patch.setenv("FINANCE_OS_QBO_RULES", json.dumps({"acme": RULES, "globex": RULES}))
        companies = {"acme": acmes, "globex": globexes}
        for books, prefix in ((acmes, ""), (globexes, "GLOBEX_")):
            reads = {f"{prefix}{name}": value for name, value in books.room.env(books.base).items()}
            for name, value in {**reads, **environment(books, prefix)}.items():
                patch.setenv(name, value)
        with copy_of(server_url, staged_name) as database, office_of(database, companies) as office:
            for business_id, books in companies.items():
                approve_policy(database, business_id, QBO_EXPORT.key, scope=books.realm)
            requests, told = office.tick("stripe_qbo_export_wanted")
            assert len(requests) == 2, told
            assert all(office.run(request).success for request in requests)
            for business_id in companies:
                # What the reads of their webhooks will need is kept with what is copied.
                office.webhook(business_id, "Invoice", office.link("Invoice", business_id)["qbo_id"], "Create")
            office.instance.dispose()
            yield urlsplit(database.url).path.removeprefix("/"), companies


@pytest.fixture
def office(server_url: str, written: tuple[str, dict[str, Books]]) -> Iterator[Office]:
    """A copy of what is written, in which both businesses have been exported as they are."""
    with copy_of(server_url, written[0]) as database, office_of(database, written[1]) as office:
        requests, _ = office.tick("stripe_qbo_export_wanted")
        for request in requests:
            assert office.run(request).success
        assert office.tick("stripe_qbo_export_wanted") == ([], f"acme: {NOTHING}; globex: {NOTHING}")
        yield office


def test_a_webhook_about_an_older_invoice_changed_by_hand_ends_in_an_exception(office: Office) -> None:
    billed = office.link("Invoice")
    writes = office.companies["acme"].before.writes
    office.change("acme", "update", "Invoice", Id=billed["qbo_id"], DueDate="2027-01-31")
    first = office.exported()
    assert (first.passed, first.severity, first.succeeded) == (False, dg.AssetCheckSeverity.ERROR, False)
    assert first.description == "QuickBooks does not agree: 1 acme qbo_object_changed. Nothing is written over it."
    assert first.told == "2 GET query"  # the invoice, and the clearing account
    assert office.codes() == {("qbo_object_changed", billed["key"]): 1}
    [told] = open_exceptions(office.database, "acme")
    assert f"DueDate is 2027-01-31, not {billed['resolved']['DueDate']}" in told.detail
    # Nothing new: it is not read again, and what is wrong stays wrong, but fails no further run.
    second = office.exported()
    assert (second.passed, second.severity, second.succeeded) == (False, dg.AssetCheckSeverity.WARN, True)
    assert (second.description, second.told, second.reads) == (first.description, "1 GET query", first.reads - 1)
    assert [each.exception_id for each in open_exceptions(office.database, "acme")] == [told.exception_id]
    assert office.tick("stripe_qbo_export_wanted")[0] == []
    # Put back by hand: the webhook of that is enough.
    office.change("acme", "update", "Invoice", Id=billed["qbo_id"], DueDate=billed["resolved"]["DueDate"])
    third = office.exported()
    assert (third.passed, third.succeeded, third.description) == (True, True, "1 objects are as planned.")
    assert office.codes() == {}
    assert office.tick("stripe_qbo_export_wanted")[0] == []
    assert office.companies["acme"].before.writes == writes


def test_an_older_deposit_that_is_dated_anew_by_hand_is_told_of(office: Office) -> None:
    """So is what its payout says of it; and both end when it is put back."""
    deposit = office.link("Deposit")
    with office.database.transaction() as connection:
        connection.execute("SET LOCAL ROLE NONE")
        connection.execute("UPDATE finance_os.links SET origin = 'adopted' WHERE key = %s", (deposit["key"],))
    office.change("acme", "update", "Deposit", Id=deposit["qbo_id"], TxnDate="2026-09-30")
    found = office.exported()
    assert (found.passed, found.severity, found.writes) == (False, dg.AssetCheckSeverity.ERROR, 0)
    assert found.told == "3 GET query"  # the deposit, the clearing account, and the payout's deposit
    codes = ("payout_differs_from_deposit", "qbo_object_changed")
    assert office.codes() == {(code, deposit["key"]): 1 for code in codes}
    office.change("acme", "update", "Deposit", Id=deposit["qbo_id"], TxnDate=deposit["resolved"]["TxnDate"])
    again = office.exported()
    assert (again.passed, again.writes, office.codes()) == (True, 0, {})


def test_an_older_object_deleted_by_hand_is_told_of_and_not_made_again(office: Office) -> None:
    """In the other business's company nothing has happened, though its objects have the same IDs."""
    paid = office.link("Payment", "globex")
    office.webhook("globex", "Payment", paid["qbo_id"], "Create")  # only what was staged can be staged as removed
    assert office.exported("globex").passed
    office.change("globex", "delete", "Payment", Id=paid["qbo_id"])
    found = office.exported("globex")
    assert (found.passed, found.severity, found.writes) == (False, dg.AssetCheckSeverity.ERROR, 0)
    wrong = {("qbo_object_missing", paid["key"]): 1, ("clearing_differs", "clearing:usd"): 1}
    assert office.codes("globex") == wrong
    again = office.exported("globex")
    assert (again.passed, again.reads, again.writes) == (False, found.reads - 1, 0)
    assert "1 globex qbo_object_missing" in again.description
    assert (office.codes("globex"), office.codes("acme")) == (wrong, {})
    assert drift.moved(office.database, "acme", office.companies["acme"].realm) == []
