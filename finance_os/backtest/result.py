"""The result of a month: its rows, what they add up to, and one hash over all that it rests on."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from finance_os.backtest.compare import COLUMNS, Row, compare
from finance_os.backtest.evidence import MonthEvidence, Refused
from finance_os.backtest.month import Month
from finance_os.backtest.publishers import Publishers
from finance_os.backtest.rules import Class, Rules
from finance_os.evidence.canonical import payload_hash
from finance_os.evidence.windows import Days


@dataclass(frozen=True)
class Result:
    """A month of a business, compared. `days` are those of the month that are in it."""

    business_id: str
    month: Month
    days: Days
    rules: Rules
    rows: tuple[Row, ...]

    @property
    def totals(self) -> dict[str, int]:
        """Sums over all rows: microdollars, impressions, records. `expected` has no part of spend that it is not
        known of; baseline amounts are of every row of the baseline, of a key that is there twice both."""
        baseline = [each for row in self.rows for each in row.baseline]
        return {
            "spend_microdollars": sum(row.spend or 0 for row in self.rows),
            "expected_microdollars": sum(row.expected or 0 for row in self.rows),
            **{
                f"baseline_{column}_microdollars": sum(each.amounts[column] or 0 for each in baseline)
                for column in COLUMNS
            },
            "impressions": sum(row.impressions for row in self.rows),
            "records": sum(row.records for row in self.rows),
            "baseline_rows": len(baseline),
        }

    @property
    def classes(self) -> dict[str, int]:
        """How many rows there are of each class, those of none too."""
        counted = Counter(row.verdict for row in self.rows)
        return {each.value: counted[each] for each in Class}

    @property
    def result_hash(self) -> str:
        """SHA-256 (64 hex digits) over the rules, the days and every row with the hashes of its records."""
        return payload_hash(self.as_json()).hex()

    @property
    def sign_off_blockers(self) -> tuple[str, ...]:
        """Why nobody may sign this result; nothing where somebody may."""
        found: list[str] = []
        if self.days != Days(self.month.first, self.month.last):
            found.append("month_not_whole")
        if any(row.verdict is Class.DUPLICATE_BASELINE_KEY for row in self.rows):
            found.append("duplicate_baseline_key")
        if not any(row.baseline for row in self.rows):
            found.append("no_baseline_rows")
        return tuple(found)

    def row(self, publisher: str) -> Row:
        """The row of a publisher. LookupError where there is none."""
        for each in self.rows:
            if each.publisher == publisher:
                return each
        known = ", ".join(each.publisher for each in self.rows[:10])
        raise LookupError(f"{self.month} has no publisher {publisher!r}; it begins with {known or 'none'}")

    def as_json(self) -> dict[str, Any]:
        """All that is hashed: the same on every machine, in every time zone, in whatever order things were staged."""
        return {
            "business_id": self.business_id,
            "month": str(self.month),
            "first_day": self.days.first.isoformat(),
            "last_day": self.days.last.isoformat(),
            "rules": self.rules.as_json(),
            "rows": [row.as_json() for row in sorted(self.rows, key=lambda row: row.publisher)],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Result":
        """A result from its `as_json`."""
        return cls(
            stored["business_id"],
            Month.parse(stored["month"]),
            Days(date.fromisoformat(stored["first_day"]), date.fromisoformat(stored["last_day"])),
            Rules.from_json(stored["rules"]),
            tuple(Row.from_json(row) for row in stored["rows"]),
        )


def result_of(evidence: MonthEvidence, rules: Rules) -> Result:
    """The comparison of a month's evidence. Raises `Refused` unless its rows add up to the evidence."""
    rows = compare(evidence.spends, evidence.baseline, Publishers(evidence.publishers), rules)
    result = Result(evidence.business_id, evidence.month, evidence.days, rules, rows)
    totals = result.totals
    told = (totals["spend_microdollars"], totals["records"], totals["baseline_rows"])
    given = (evidence.total, sum(each.records for each in evidence.spends), len(evidence.baseline))
    if told != given:
        raise Refused(
            "rows_do_not_tie_out",
            f"{evidence.month}: the rows have {told} microdollars, spend records and baseline rows, the evidence has "
            f"{given}: this is a defect, report it",
        )
    return result
