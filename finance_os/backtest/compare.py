"""The comparison of one month: event-level spend by publisher against the baseline's rows, over plain values.

No event and no baseline row is ever left out: each is in exactly one row of the outcome, also where nobody knows whose
it is. The order in which anything is given changes nothing.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from finance_os.backtest.publishers import Publisher, Publishers, plain
from finance_os.backtest.rules import Class, Rules, Stated, Variance, publisher_share, variance

COLUMNS = ("accrual", "cash", "deposit")
"""The baseline's amounts. A row's class is that of the first one that its baseline has: what was earned in the month is
what events of the month speak of; what was paid in it was mostly earned before."""


@dataclass(frozen=True)
class Spend:
    """A publisher's event-level spend in a month: microdollars, impressions, days with spend, and its evidence.

    `evidence` is the SHA-256 (hex) over the source IDs and payload hashes of its records, sorted.
    """

    publisher_id: str
    microdollars: int
    impressions: int
    records: int
    evidence: str


@dataclass(frozen=True)
class BaselineRow:
    """A current row of the baseline. Amounts are microdollars by column; `payload_hash` is hex."""

    source_id: str
    publisher_key: str
    publisher_id: str | None
    publisher: str | None
    amounts: Mapping[str, int | None]
    payload_hash: str


@dataclass(frozen=True)
class Row:
    """One publisher in a month. Amounts are microdollars.

    `publisher` is Gravity's ID, else what events call it, else `baseline:` and the baseline's key. `spend` is the
    event-level spend (`None` without events), `expected` what of it is compared with the baseline. `variances` has
    every column; where the key is there more than once they hold no amounts, and `baseline` lists the rows.
    """

    publisher: str
    name: str | None
    resolved: bool
    spend: int | None
    impressions: int
    records: int
    share_bps: int | None
    expected: int | None
    variances: Mapping[str, Variance]
    verdict: Class
    spend_evidence: str | None
    baseline: tuple[BaselineRow, ...]
    """The baseline's rows, by source ID."""

    def as_json(self) -> dict[str, Any]:
        """The row as it is hashed and stored. What people typed as a name stays in the raw record."""
        return {
            "publisher": self.publisher,
            "name": self.name,
            "resolved": self.resolved,
            "spend_microdollars": self.spend,
            "impressions": self.impressions,
            "records": self.records,
            "revenue_share_bps": self.share_bps,
            "expected_microdollars": self.expected,
            "class": self.verdict.value,
            "variances": {
                column: {
                    "baseline_microdollars": each.baseline,
                    "absolute_microdollars": each.absolute,
                    "relative": None if each.relative is None else str(each.relative),
                    "class": each.verdict.value,
                }
                for column, each in self.variances.items()
            },
            "spend_evidence": self.spend_evidence,
            "baseline": [
                {
                    "source_id": each.source_id,
                    "publisher_key": each.publisher_key,
                    "publisher_id": each.publisher_id,
                    "amounts": {column: each.amounts[column] for column in COLUMNS},
                    "payload_hash": each.payload_hash,
                }
                for each in self.baseline
            ],
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Row":
        """A row as it was stored."""
        return cls(
            stored["publisher"],
            stored["name"],
            stored["resolved"],
            stored["spend_microdollars"],
            stored["impressions"],
            stored["records"],
            stored["revenue_share_bps"],
            stored["expected_microdollars"],
            {
                column: Variance(
                    each["baseline_microdollars"],
                    each["absolute_microdollars"],
                    None if each["relative"] is None else Decimal(each["relative"]),
                    Class(each["class"]),
                )
                for column in COLUMNS
                for each in [stored["variances"][column]]
            },
            Class(stored["class"]),
            stored["spend_evidence"],
            tuple(BaselineRow(**each, publisher=None) for each in stored["baseline"]),
        )


def compare(
    spends: Iterable[Spend], baseline: Iterable[BaselineRow], publishers: Publishers, rules: Rules
) -> tuple[Row, ...]:
    """One row a publisher that events or the baseline have, by publisher.

    ValueError where a publisher's spend is given more than once.
    """
    spent: dict[str, Spend] = {}
    known: dict[str, Publisher] = {}
    for each in spends:
        if each.publisher_id in spent:
            raise ValueError(f"the spend of {each.publisher_id} is given twice")
        spent[each.publisher_id] = each
    # Events name a publisher exactly; an ID that Gravity does not have is taken as it is.
    unknown_ids: defaultdict[str, set[str]] = defaultdict(set)
    canonical = {publisher_id: publishers.by_exact_id(publisher_id) for publisher_id in spent}
    for publisher_id, found in canonical.items():
        if found is None:
            unknown_ids[plain(publisher_id)].add(publisher_id)
        else:
            known[publisher_id] = found
    rows: defaultdict[str, list[BaselineRow]] = defaultdict(list)
    for row in baseline:
        found = publishers.of_row(row.publisher_id, row.publisher)
        if found is not None:
            known[found.publisher_id] = found
            rows[found.publisher_id].append(row)
        else:
            named = unknown_ids.get(plain(row.publisher_id or row.publisher or ""), set())
            rows[next(iter(named)) if len(named) == 1 else f"baseline:{row.publisher_key}"].append(row)
    return tuple(
        _row(key, spent.get(key), sorted(rows.get(key, ()), key=lambda row: row.source_id), known.get(key), rules)
        for key in sorted(spent.keys() | rows.keys())
    )


def _row(key: str, spend: Spend | None, rows: list[BaselineRow], publisher: Publisher | None, rules: Rules) -> Row:
    share_bps = publisher.share_bps if publisher else None
    expected = None
    if spend is not None:
        if rules.stated is Stated.SPEND:
            expected = spend.microdollars
        elif share_bps is not None:
            expected = publisher_share(spend.microdollars, share_bps)
    uncertain = (
        Class.DUPLICATE_BASELINE_KEY
        if len(rows) > 1
        else Class.UNRESOLVED_PUBLISHER
        if publisher is None or (spend is not None and expected is None)
        else None
    )
    variances: dict[str, Variance] = {}
    for column in COLUMNS:
        amount = rows[0].amounts[column] if len(rows) == 1 else None
        if uncertain is None:
            variances[column] = variance(expected, amount, rules)
        else:
            compared = None if amount is None or expected is None else variance(expected, amount, rules)
            variances[column] = Variance(
                amount,
                compared.absolute if compared else None,
                compared.relative if compared else None,
                uncertain,
            )
    stated = [column for column in COLUMNS if variances[column].baseline is not None]
    return Row(
        publisher=key,
        name=publisher.name if publisher else None,
        resolved=publisher is not None,
        spend=spend.microdollars if spend else None,
        impressions=spend.impressions if spend else 0,
        records=spend.records if spend else 0,
        share_bps=share_bps,
        expected=expected,
        variances=variances,
        verdict=uncertain or variances[stated[0] if stated else COLUMNS[0]].verdict,
        spend_evidence=spend.evidence if spend else None,
        baseline=tuple(rows),
    )
