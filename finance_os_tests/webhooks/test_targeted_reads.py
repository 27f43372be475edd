"""A targeted read: added to the present day, and never gone on with after a crash."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Extraction, Kind, Page, Record, Request, SourceError
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.evidence.windows import Days
from finance_os.sources.planning import targeted_read
from finance_os.sources.stripe import STRIPE

INVOICE = STRIPE.object("stripe_invoice")


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (Days(date(2026, 5, 4), date(2026, 5, 4)), date(2026, 5, 4)),
        (Days(date(2026, 5, 1), date(2026, 5, 9)), date(2026, 5, 4)),
        (Days(date(2026, 5, 5), date(2026, 5, 9)), date(2026, 5, 5)),
        (Days(date(2026, 5, 1), date(2026, 5, 3)), date(2026, 5, 3)),
    ],
)
def test_it_is_added_to_the_connections_present_day(acme: Connection, days: Days, expected: date) -> None:
    now = datetime(2026, 5, 5, 2, tzinfo=UTC)  # still the 4th in New York
    read = targeted_read(STRIPE, INVOICE, acme, days, now, ["in_1", "in_2"])
    assert (read.kind, read.targets) == (Kind.TARGETED, ("in_1", "in_2"))
    assert read.days == Days(expected, expected)
    assert list(read.states) == [expected]
    assert read.volatile == INVOICE.volatile_paths


def test_a_new_request_for_the_same_objects_reads_them_all_again(
    database: Database, acme: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first read crashed behind an object, which has changed since."""
    monkeypatch.setenv("FINANCE_OS_STRIPE_API_KEY", "rk_test_x")
    state = {"in_1": "old", "in_2": "old"}
    asked: list[tuple[str, Any]] = []
    crash = True

    @contextmanager
    def opened(_: Any) -> Iterator[None]:
        yield

    def extract(_: Any, __: Any, request: Request) -> Extraction:
        def items() -> Iterator[Page]:
            for number, target in enumerate(request.targets[(request.resume or {}).get("targets", 0) :], 1):
                asked.append((target, request.resume))
                if crash and target == "in_2":
                    raise SourceError("timeout", "no answer in time")
                record = Record(target, {"id": target, "status": state[target]}, request.days.last)
                yield Page([record], request.now(), {"targets": number})

        return Extraction(items())

    source = replace(STRIPE, open=opened, extract=extract)
    today = Days(datetime.now(UTC).date(), datetime.now(UTC).date())

    def read() -> None:
        planned = targeted_read(source, INVOICE, acme, today, datetime.now(UTC), ["in_1", "in_2"])
        perform(database, planned, Origin(Trigger.WEBHOOK), chunk_rows=1)

    with pytest.raises(SourceError):
        read()
    crash, state["in_1"] = False, "new"
    read()
    assert asked == [("in_1", None), ("in_2", None)] * 2
    heads = database.fetch(
        """
        SELECT head.source_id, record.payload ->> 'status' AS status FROM finance_os.raw_record_heads AS head
        JOIN finance_os.raw_source_records AS record USING (record_id) ORDER BY 1
        """
    )
    assert [tuple(row.values()) for row in heads] == [("in_1", "new"), ("in_2", "old")]
    runs = database.fetch("SELECT status FROM finance_os.source_sync_runs ORDER BY sync_run_id")
    assert [row["status"] for row in runs] == ["failed", "succeeded"]
