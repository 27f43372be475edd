"""CSV fallback validation: the seed's state, each line's way to ready and back, and the sandbox's own disagreement."""

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from finance_os import settings as settings_module
from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import DayState
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.evidence.windows import Days
from finance_os.readiness.csv_fallback import CsvFallback
from finance_os.readiness.lines import Line
from finance_os.readiness.verdicts import Status
from finance_os.sandbox.process import Running, running_sandbox
from finance_os.sources import drops
from finance_os.sources.credentials import Credentials
from finance_os.sources.drops import Outcome
from finance_os.sources.plaid import PLAID
from finance_os.sources.planning import plan_reads
from finance_os.sources.rho import RHO
from finance_os.sources.source import Source
from finance_os_tests.readiness.bank import Bank, on, plaid, rho
from finance_os_tests.readiness.planted import forge
from finance_os_tests.sources.kept import MemorySecrets

NOTHING = "4f53cda18c2b"
PRESENT_RHO = "rho_csv_transactions_present"
PRESENT_PLAID = "plaid_transactions_present"
COVERAGE = "rho_plaid_match_coverage_ready"
VARIANCE = "rho_plaid_amount_variance_absent"
BOUNDARY = "csv_fallback_read_only_boundary"


@pytest.fixture
def bank(database: Database, acme: Connection) -> Bank:
    return Bank(database, acme.business_id)


def line(found: CsvFallback, key: str) -> Line:
    (one,) = [each for each in found.evaluation.lines if each.key == key]
    return one


def blocked(found: CsvFallback) -> list[str]:
    return [each.key for each in found.evaluation.blocked]


def counts(found: CsvFallback) -> tuple[int, int, int, int, int]:
    return found.rho_rows, found.plaid_rows, found.matched, found.rho_unmatched, found.plaid_unmatched


def test_without_evidence_it_is_as_the_seed_has_it(bank: Bank) -> None:
    found = bank.evaluate()
    ready, shut = Status.READY, Status.BLOCKED
    lines = found.evaluation.lines
    assert [(each.key, each.title, each.status, each.evidence_hash, each.blocker) for each in lines] == [
        (PRESENT_RHO, "Rho CSV transactions are available", shut, NOTHING, "phase_7_rho_csv_transactions_missing"),
        (PRESENT_PLAID, "Plaid sandbox transactions are available", shut, NOTHING,
         "phase_7_plaid_transactions_missing"),
        (COVERAGE, "Rho and Plaid transaction samples reconcile", shut, NOTHING,
         "phase_7_rho_plaid_match_coverage_blocked"),
        (VARIANCE, "Matched Rho/Plaid samples have no amount variance", shut, NOTHING,
         "phase_7_rho_plaid_amount_variance_detected"),
        (BOUNDARY, "CSV fallback validation remains read-only", ready, NOTHING, None),
    ]  # fmt: skip
    assert (found.rho_hash, found.plaid_hash) == (NOTHING, NOTHING)
    assert counts(found) == (0, 0, 0, 0, 0)
    assert found.variance_micros == 0
    assert found.evaluation.checkpoint == "csv_fallback_validation"
    assert all(each.remedy for each in found.evaluation.blocked)


def test_what_agrees_is_ready(bank: Bank) -> None:
    bank.rho(rho("r1", 0), rho("r2", 1, 200_00), rho("r3", 4, -10_00))
    bank.plaid(plaid("p1", 0), plaid("p2", 1, "-200"), plaid("p3", 3, "10.0"), days=Days(on(0), on(4)))
    found = bank.evaluate()
    assert blocked(found) == []
    assert counts(found) == (3, 3, 3, 0, 0)
    assert found.environment == "Plaid sandbox"
    assert "Plaid sandbox" in found.summary
    assert line(found, COVERAGE).details["pairs"] == [["r1", "p1"], ["r2", "p2"], ["r3", "p3"]]


def test_one_side_alone(bank: Bank) -> None:
    bank.rho(rho("r1", 0), rho("r2", 5))
    found = bank.evaluate()
    assert blocked(found) == [PRESENT_PLAID, COVERAGE, VARIANCE]
    assert counts(found) == (2, 0, 0, 2, 0)
    assert found.plaid_hash == NOTHING != found.rho_hash
    assert "materialize plaid/plaid_transaction for 2026-03-02 to 2026-03-07" in (line(found, COVERAGE).remedy or "")


def test_no_day_in_common(bank: Bank) -> None:
    bank.rho(rho("r1", 0))
    bank.plaid(plaid("p1", 200), days=Days(on(100), on(200)))
    found = bank.evaluate()
    assert found.days is None
    assert blocked(found) == [COVERAGE, VARIANCE]
    assert counts(found) == (1, 1, 0, 1, 1)
    assert f"hand in a Rho CSV export for {on(200)}" in (line(found, COVERAGE).remedy or "")


@pytest.mark.parametrize("missing_at", ["rho", "plaid"])
def test_an_unmatched_line_blocks_and_the_remedy_names_it(bank: Bank, missing_at: str) -> None:
    more = missing_at == "plaid"
    bank.rho(rho("r1", 0), rho("r2", 6), *([rho("r9", 2, -777)] if more else []))
    bank.plaid(plaid("p1", 0), plaid("p2", 6), *([] if more else [plaid("p9", 2, "7.77")]))
    found = bank.evaluate()
    assert blocked(found) == [COVERAGE]
    assert counts(found) == ((3, 2, 2, 1, 0) if more else (2, 3, 2, 0, 1))
    remedy = line(found, COVERAGE).remedy or ""
    assert ("materialize plaid/plaid_transaction" if more else "hand in a Rho CSV export") + f" for {on(2)}" in remedy
    assert ("r9" if more else "p9") in remedy


def test_pending_lines_are_listed_and_neither_match_nor_block(bank: Bank) -> None:
    bank.rho(rho("r1", 0), rho("r2", 1, -20_00, status="pending"), rho("r3", 5), rho("r4", 2, status="cancelled"))
    bank.plaid(plaid("p1", 0), plaid("p2", 1, "20", pending=True), plaid("p3", 5))
    found = bank.evaluate()
    assert blocked(found) == []
    assert (found.matched, found.rho_pending, found.plaid_pending) == (2, 1, 1)
    assert line(found, COVERAGE).details["plaid_pending_ids"] == ["p2"]
    assert line(found, PRESENT_RHO).details["cancelled_ids"] == ["r4"]


@pytest.mark.parametrize("status", ["other", None])
def test_what_is_not_known_to_be_posted_is_pending(bank: Bank, status: str | None) -> None:
    unsettled = {"status": status} | ({} if status else {"posted_on": None})
    bank.rho(rho("r1", 0), rho("r2", 1, -20_00, **unsettled), rho("r3", 5, status=None))
    bank.plaid(plaid("p1", 0), plaid("p2", 1, "20"), plaid("p3", 5))
    found = bank.evaluate()
    assert (found.matched, found.rho_pending, found.plaid_unmatched) == (2, 1, 1)


def test_a_variance_blocks_in_microdollars(bank: Bank) -> None:
    bank.rho(rho("r1", 0), rho("r2", 1, 100_01, reference="ST-ABC0001"), rho("r3", 5))
    bank.plaid(
        plaid("p1", 0), plaid("p2", 2, "-100.00", payment_meta={"reference_number": "stabc0001"}), plaid("p3", 5)
    )
    found = bank.evaluate()
    assert blocked(found) == [COVERAGE, VARIANCE]
    assert found.variance_micros == 10_000
    assert line(found, VARIANCE).details["variances"] == [["r2", "p2", "USD", 10_000]]
    assert "0.010000 USD" in (line(found, VARIANCE).remedy or "")


def test_ambiguous_lines_are_listed_and_block(bank: Bank) -> None:
    bank.rho(rho("r0", 0, -99_00), rho("r1", 5), rho("r2", 6))
    bank.plaid(plaid("p0", 0, "99"), plaid("p1", 5), plaid("p2", 6))
    found = bank.evaluate()
    assert blocked(found) == [COVERAGE]
    assert (found.matched, found.ambiguous, found.rho_unmatched, found.plaid_unmatched) == (1, 1, 2, 2)
    assert line(found, COVERAGE).details["ambiguous"] == [{"rho": ["r1", "r2"], "plaid": ["p1", "p2"]}]


def test_what_plaid_removed_is_gone_and_what_changed_late_is_found_by_its_date(bank: Bank) -> None:
    bank.rho(rho("r1", 0), rho("r2", 2, -30_00), rho("r3", 5))
    bank.plaid(plaid("p1", 0), plaid("gone", 1, "1.00"), plaid("p2", 2, "29"), plaid("p3", 5))
    assert blocked(bank.evaluate()) == [COVERAGE]
    bank.plaid(("gone", on(40), None), (*plaid("p2", 2, "30")[:1], on(40), plaid("p2", 2, "30")[2]))
    found = bank.evaluate()
    assert blocked(found) == []
    assert counts(found) == (3, 3, 3, 0, 0)


def test_only_days_that_both_have_read_to_their_end_are_judged(bank: Bank) -> None:
    bank.rho(rho("r1", 0), rho("r2", 5), rho("r3", 6, -70_00), rho("later", 30))
    bank.plaid(plaid("before", -9), plaid("p1", 0), plaid("p2", 5))
    bank.plaid(plaid("p3", 6, "71"), states={on(6): DayState.PARTIAL})
    found = bank.evaluate()
    assert blocked(found) == []
    assert found.days == Days(on(0), on(5))
    assert counts(found) == (2, 2, 2, 0, 0)
    bank.plaid(plaid("p3", 6, "71"))
    assert counts(bank.evaluate()) == (3, 3, 2, 1, 1)


def test_a_counterpart_just_outside_the_days_is_taken_and_not_missed(bank: Bank) -> None:
    bank.rho(rho("r1", 0), rho("r2", 5, -60_00), days=Days(on(0), on(5)))
    bank.plaid(plaid("p1", 0), plaid("p2", 7, "60.00"), plaid("p3", 8, "80.00"))
    found = bank.evaluate()
    assert found.days == Days(on(0), on(5))
    assert blocked(found) == []
    assert counts(found) == (2, 1, 2, 0, 0)


def test_at_most_ninety_days_are_compared(bank: Bank) -> None:
    bank.rho(rho("old", 0, -5_00), rho("r1", 10), rho("r2", 99))
    bank.plaid(plaid("other", 0, "6.00"), plaid("p1", 10), plaid("p2", 99))
    found = bank.evaluate()
    assert found.days == Days(on(10), on(99))
    assert blocked(found) == []


def test_accounts_stand_for_each_other_by_their_last_four_digits(bank: Bank) -> None:
    bank.accounts(acc_1="4821", card="9999")
    bank.rho(rho("r1", 0), rho("r2", 1, account="Savings ****7777"), rho("r3", 5))
    bank.plaid(plaid("p1", 0), plaid("c1", 1, account_id="card"), plaid("p3", 5))
    found = bank.evaluate()
    assert blocked(found) == []
    assert counts(found) == (2, 2, 2, 0, 0)
    assert line(found, PRESENT_RHO).details["of_other_accounts"] == 1
    bank.accounts(acc_1="4821", card=None)
    assert counts(bank.evaluate())[:2] == (3, 3), "where an account does not show its number, all are compared"
    bank.accounts(acc_1="1111", card="9999")
    assert bank.evaluate().matched == 0


def test_a_line_without_exact_money_blocks(bank: Bank) -> None:
    bank.rho(rho("r1", 0), rho("r2", 5))
    bank.plaid(plaid("p1", 0), plaid("odd", 1, iso_currency_code=None, unofficial_currency_code="BTC"), plaid("p2", 5))
    found = bank.evaluate()
    assert blocked(found) == [COVERAGE]
    assert line(found, COVERAGE).details["unreadable_ids"] == ["odd"]
    assert "odd" in (line(found, COVERAGE).remedy or "")


def test_the_environment_is_that_of_the_hosts_that_were_asked(bank: Bank) -> None:
    bank.rho(rho("r1", 0))
    bank.plaid(plaid("p1", 0), requested={"POST sandbox.plaid.com": 2})
    assert bank.evaluate().environment == "Plaid sandbox"
    bank.plaid(plaid("p1", 0, name="changed"), requested={"POST production.plaid.com": 2})
    found = bank.evaluate()
    assert found.environment == line(found, COVERAGE).details["environment"] == "Plaid production"


def test_the_boundary_reads_what_was_sent(bank: Bank) -> None:
    bank.rho(rho("r1", 0))
    bank.plaid(plaid("p1", 0), requested={"POST sandbox.plaid.com": 2})
    before = bank.evaluate()
    assert blocked(before) == []
    bank.plaid(plaid("p1", 0), requested={"DELETE sandbox.plaid.com": 1})
    found = bank.evaluate()
    assert blocked(found) == [BOUNDARY]
    assert line(found, BOUNDARY).blocker == "phase_7_csv_fallback_write_boundary_violated"
    assert line(found, BOUNDARY).details["violations"]
    assert line(found, BOUNDARY).evidence_hash != line(before, BOUNDARY).evidence_hash


def test_hashes_are_those_of_the_evidence_whatever_the_order_and_the_business(
    database: Database, acme: Connection, globex: Connection, owner: Database
) -> None:
    of_rho = [rho(f"r{n}", n % 20, -100 * n - 100) for n in range(30)]
    of_plaid = [plaid(f"p{n}", n % 20, str(n + 1)) for n in range(28)]
    first, second = Bank(database, acme.business_id), Bank(database, globex.business_id)
    first.rho(*of_rho)
    first.plaid(*of_plaid)
    order = random.Random(3)
    order.shuffle(of_rho)
    order.shuffle(of_plaid)
    second.plaid(*of_plaid[:11], days=Days(on(0), on(19)))
    second.rho(*of_rho)
    second.plaid(*of_plaid[11:], days=Days(on(0), on(19)))
    hashes = [[each.evidence_hash for each in bank.evaluate().evaluation.lines] for bank in (first, second)]
    assert hashes[0] == hashes[1]
    assert counts(first.evaluate()) == (30, 28, 28, 2, 0)
    second.plaid(plaid("p3", 3, "4", name="other words"))
    assert second.evaluate().plaid_hash != first.evaluate().plaid_hash
    assert second.evaluate().validation_hash != first.evaluate().validation_hash
    forge(
        owner, "UPDATE finance_os.raw_record_heads SET removed = true WHERE source_id = 'r5' AND business_id = 'acme'"
    )
    assert counts(first.evaluate()) == (29, 28, 27, 2, 1)


# The sandbox's own bank


UNTIL = datetime(2025, 11, 5, 10, tzinfo=UTC)
DAYS = 36
SPAN = Days((UNTIL - timedelta(days=DAYS + 1)).date(), (UNTIL - timedelta(days=1)).date())


@pytest.fixture
def sandbox(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """One company with its Plaid room, whose bank exports fall into acme's inbox."""
    inbox = tmp_path / "drops" / "acme" / "rho"
    with running_sandbox(seed=5, days=DAYS, size=5, until=UNTIL, drops=inbox, rooms=("plaid",)) as running:
        for name, value in running.env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("FINANCE_OS_DROPS", str(tmp_path / "drops"))
        monkeypatch.setenv("FINANCE_OS_PLAID_RATE_LIMIT", "1000000")
        settings_module.settings.cache_clear()
        yield running
        settings_module.settings.cache_clear()


def materialize(database: Database, source: Source, object_type: str, connection: Connection, days: Days) -> None:
    """As the asset would: plan and perform the reads of some days."""
    obj, secrets = source.object(object_type), MemorySecrets()
    files = drops.accepted_drops(database, connection, days=days) if source is RHO else ()
    for read in plan_reads(source, obj, connection, days, datetime.now(UTC), drops=files, kept=lambda _: secrets):
        perform(database, read, Origin(Trigger.MANUAL), chunk_rows=500)


def take_drops(database: Database, connection: Connection) -> list[Outcome]:
    """As the sensor would: judge every file in the inbox, then stage what they tell."""
    location = settings_module.settings().drops_location
    waiting = drops.look(location, connection, RHO.reads).waiting
    assert RHO.judge is not None
    taken = [
        drops.take(database, connection, RHO.judge, file, location=location, credentials=Credentials({}))
        for file in waiting
    ]
    materialize(database, RHO, "rho_cash_transaction", connection, SPAN)
    return [each.outcome for each in taken]


def test_the_bank_and_plaid_disagree_until_the_amended_export_is_handed_in(bank: Bank, sandbox: Running) -> None:
    """Real files through the drop judge and Plaid's own library over a socket, as the demo works it off."""
    database, today = bank.database, datetime.now(UTC).date()
    assert set(take_drops(database, bank.connections["rho"])) == {Outcome.ACCEPTED}
    assert blocked(bank.evaluate()) == [PRESENT_PLAID, COVERAGE, VARIANCE]
    materialize(database, PLAID, "plaid_account", bank.connections["plaid"], Days(today - timedelta(days=1), today))
    materialize(database, PLAID, "plaid_transaction", bank.connections["plaid"], SPAN)

    planted = {each["kind"]: each["id"] for each in sandbox.call("GET", "/planted")["planted"][0]}
    found = bank.evaluate()
    assert blocked(found) == [COVERAGE], line(found, VARIANCE).details
    assert line(found, COVERAGE).details["plaid_unmatched_ids"] == [planted["plaid_line_without_bank_line"]]
    assert (found.rho_unmatched, found.plaid_unmatched, found.ambiguous) == (0, 1, 0)
    late = planted["plaid_line_a_day_late"]
    (bank_line,) = [one for one, other in line(found, COVERAGE).details["pairs"] if other == late]
    days = {
        row["source_id"]: row["day"]
        for row in database.fetch(
            """
            SELECT source_id, coalesce(payload ->> 'posted_on', payload ->> 'date') AS day
            FROM finance_os.raw_source_records WHERE source_id = ANY (%s)
            """,
            ([bank_line, late],),
        )
    }
    assert date.fromisoformat(days[late]) - date.fromisoformat(days[bank_line]) == timedelta(days=1)

    told = {"first": SPAN.first.isoformat(), "last": SPAN.last.isoformat()}
    assert sandbox.call("POST", "/drops", {**told, "name": "again.csv"})["lines"] == found.rho_rows
    take_drops(database, bank.connections["rho"])
    assert blocked(bank.evaluate()) == [COVERAGE], "the same export once more corrects nothing"
    amended = sandbox.call("POST", "/drops", {**told, "name": "amended.csv", "amended": True})
    assert amended["lines"] == found.rho_rows + 1
    assert take_drops(database, bank.connections["rho"]) == [Outcome.ACCEPTED]
    after = bank.evaluate()
    assert blocked(after) == []
    assert after.matched == found.matched + 1 == after.rho_rows == after.plaid_rows > 10
    assert after.validation_hash != found.validation_hash
