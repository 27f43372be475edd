"""Words for tests of the bank's two sides: records of Rho and of Plaid, and a business that they are staged for."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from finance_os.evidence.businesses import ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import DayState, Extraction, Kind, Page, Record
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.evidence.windows import Days
from finance_os.readiness.csv_fallback import CsvFallback, evaluate_csv_fallback
from finance_os_tests.evidence.staged import NOON, read_of

FIRST = date(2026, 3, 2)


def on(day: int) -> date:
    return FIRST + timedelta(days=day)


def rho(key: str, day: int, cents: int = -1_500, **fields: Any) -> tuple[str, date, dict[str, Any]]:
    """A record of Rho; money that came in is positive."""
    payload = {
        "transaction_id": key,
        "posted_on": on(day).isoformat(),
        "transacted_on": on(day).isoformat(),
        "amount_minor": cents,
        "currency": "USD",
        "status": "posted",
        "reference": None,
        "description": "FEE",
        "account": "Operating ****4821",
    }
    return key, on(day), payload | fields


def plaid(key: str, day: int, dollars: str = "15.00", **fields: Any) -> tuple[str, date, dict[str, Any]]:
    """A record of Plaid; money that left is positive."""
    payload = {
        "transaction_id": key,
        "account_id": "acc_1",
        "date": on(day).isoformat(),
        "amount": Decimal(dollars),
        "iso_currency_code": "USD",
        "pending": False,
        "name": "FEE",
        "payment_meta": {"reference_number": None},
    }
    return key, on(day), payload | fields


class Bank:
    """A business whose two sources are staged by hand. Each call is one sync run over whole days."""

    def __init__(self, database: Database, business_id: str) -> None:
        self.database = database
        self.business_id = business_id
        self.connections = {name: ensure_connection(database, business_id, name) for name in ("rho", "plaid")}
        self.minutes = 0

    def rho(self, *records: tuple[str, date, dict[str, Any]], **how: Any) -> None:
        self._stage("rho", "rho_cash_transaction", records, **how)

    def plaid(self, *records: tuple[str, date, dict[str, Any] | None], **how: Any) -> None:
        self._stage("plaid", "plaid_transaction", records, **how)

    def accounts(self, **masks: str | None) -> None:
        records = [(key, FIRST, {"account_id": key, "mask": mask}) for key, mask in masks.items()]
        self._stage("plaid", "plaid_account", records)

    def _stage(
        self,
        system: str,
        object_type: str,
        records: Sequence[tuple[str, date, dict[str, Any] | None]],
        *,
        days: Days | None = None,
        states: Mapping[date, DayState] | None = None,
        requested: Mapping[str, int] | None = None,
    ) -> None:
        self.minutes += 1
        page = Page(
            [Record(key, payload, day) for key, day, payload in records], NOON + timedelta(minutes=self.minutes)
        )
        read = read_of(
            self.connections[system],
            [page],
            kind=Kind.DROP if system == "rho" else Kind.WINDOW,
            days=days or Days(min(day for _, day, _ in records), max(day for _, day, _ in records)),
            object_type=object_type,
        )
        read = replace(read, states=states or {})
        if requested is not None:
            read = replace(read, extract=lambda _: _opened(Extraction([page], requested=lambda: requested)))
        perform(self.database, read, Origin(Trigger.MANUAL), chunk_rows=100)

    def evaluate(self) -> CsvFallback:
        return evaluate_csv_fallback(self.database, self.business_id)


class _opened:  # noqa: N801  reads as a word
    """A source that is open already."""

    def __init__(self, extraction: Extraction) -> None:
        self.extraction = extraction

    def __enter__(self) -> Extraction:
        return self.extraction

    def __exit__(self, *_: object) -> None:
        return None
