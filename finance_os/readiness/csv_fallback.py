"""The checkpoint "CSV fallback validation": whether Rho's CSV files and Plaid tell of the same movements of cash.

Which lines are compared is said in `bank_sample`, and how they are matched in `bank_match`.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from finance_os.evidence.canonical import NO_EVIDENCE, evidence_hash
from finance_os.evidence.database import Database
from finance_os.evidence.money import dollars
from finance_os.evidence.windows import Days, spans
from finance_os.readiness.bank_match import Ambiguous, Variance, match
from finance_os.readiness.bank_sample import Row, Sample, Side, load_sample
from finance_os.readiness.boundary import Boundary, boundary_facts
from finance_os.readiness.lines import Evaluation, Line, LineDeclaration
from finance_os.sources.plaid import PLAID
from finance_os.sources.rho import RHO

CSV_FALLBACK_VALIDATION = "csv_fallback_validation"
SOURCES = (PLAID, RHO)

EXAMPLES = 5
"""How many lines or days a remedy names."""

LISTED = 100
"""How many lines the details of a check list."""

RHO_PRESENT = LineDeclaration(
    "rho_csv_transactions_present", "Rho CSV transactions are available", "phase_7_rho_csv_transactions_missing"
)
PLAID_PRESENT = LineDeclaration(
    "plaid_transactions_present", "Plaid sandbox transactions are available", "phase_7_plaid_transactions_missing"
)
COVERAGE = LineDeclaration(
    "rho_plaid_match_coverage_ready",
    "Rho and Plaid transaction samples reconcile",
    "phase_7_rho_plaid_match_coverage_blocked",
)
VARIANCE = LineDeclaration(
    "rho_plaid_amount_variance_absent",
    "Matched Rho/Plaid samples have no amount variance",
    "phase_7_rho_plaid_amount_variance_detected",
)
BOUNDARY = LineDeclaration(
    "csv_fallback_read_only_boundary",
    "CSV fallback validation remains read-only",
    "phase_7_csv_fallback_write_boundary_violated",
)
LINES = (RHO_PRESENT, PLAID_PRESENT, COVERAGE, VARIANCE, BOUNDARY)

_HAND_IN = "hand in a Rho CSV export"
_MATERIALIZE = "materialize plaid/plaid_transaction"


@dataclass(frozen=True)
class CsvFallback:
    """The checkpoint as it is now, and the figures beside it.

    `rho_rows` and `plaid_rows` count the current rows of the compared `days`. `matched` counts pairs; of a pair, one
    line may lie just outside those days. `rho_unmatched` and `plaid_unmatched` count posted lines, ambiguous ones
    too; pending ones are apart. `variance_micros` is in microdollars, of lines in USD.
    """

    evaluation: Evaluation
    environment: str
    days: Days | None
    rho_rows: int
    rho_hash: str
    plaid_rows: int
    plaid_hash: str
    matched: int
    rho_unmatched: int
    plaid_unmatched: int
    rho_pending: int
    plaid_pending: int
    ambiguous: int
    variance_micros: int

    @property
    def validation_hash(self) -> str:
        """The evidence hash of the checkpoint."""
        return self.evaluation.evidence_hash

    @property
    def summary(self) -> str:
        """What was compared and what came of it, in a sentence."""
        days = f"{self.days}" if self.days else "no days in common"
        return (
            f"Rho CSV compared with {self.environment}, {days}: {self.matched} matched, "
            f"{self.rho_unmatched} unmatched Rho, {self.plaid_unmatched} unmatched Plaid "
            f"({self.rho_pending + self.plaid_pending} pending lines are not compared)"
        )


@dataclass(frozen=True)
class _Comparison:
    """A sample and what came of matching it: everything that has a line on one of the compared days."""

    sample: Sample
    pairs: tuple[tuple[str, str], ...]
    ambiguous: tuple[Ambiguous, ...]
    variances: tuple[Variance, ...]
    rho_unmatched: tuple[Row, ...]
    plaid_unmatched: tuple[Row, ...]

    @property
    def variance_micros(self) -> int:
        """The sum of the variances in USD, in microdollars."""
        return sum(each.amount for each in self.variances if each.currency == "USD")


def evaluate_csv_fallback(
    database: Database,
    business_id: str,
    boundary: Boundary | None = None,
    *,
    excluded: frozenset[str] = frozenset(),
) -> CsvFallback:
    """Compare the bank lines of a business; reads evidence only.

    Where one side is taken out of the plan (`excluded`) there is nothing to compare, and that is nobody's fault.
    """
    sample = load_sample(database, business_id)
    compared = _compare(sample)
    boundary = boundary or boundary_facts(database, business_id, SOURCES)
    left_out = sorted(excluded & {"rho", "plaid"})
    compared_lines = (
        RHO_PRESENT.judge(
            bool(sample.rho.rows),
            sample.rho.evidence,
            "Put a CSV export of Rho's cash transactions into the drop folder of rho, and let it be taken.",
            _rows_of(sample.rho),
        ),
        PLAID_PRESENT.judge(
            bool(sample.plaid.rows),
            sample.plaid.evidence,
            "Connect Plaid's sandbox and materialize plaid/plaid_transaction.",
            {"environment": sample.environment, **_rows_of(sample.plaid)},
        ),
        _coverage(compared),
        _variance(compared),
    )
    if left_out:
        compared_lines = tuple(
            each.judge(True, ["excluded", *left_out], "", {"excluded": left_out}) for each in LINES[:4]
        )
    lines = (
        *compared_lines,
        BOUNDARY.judge(
            boundary.held,
            boundary.evidence or NO_EVIDENCE,
            "A source of this comparison did more than read: revoke the credential or grant behind it, "
            "then sync it again.",
            {"violations": list(boundary.violations)},
        ),
    )
    return CsvFallback(
        evaluation=Evaluation(business_id, CSV_FALLBACK_VALIDATION, lines),
        environment=sample.environment,
        days=sample.days,
        rho_rows=len(sample.rho.rows),
        rho_hash=evidence_hash(sample.rho.evidence),
        plaid_rows=len(sample.plaid.rows),
        plaid_hash=evidence_hash(sample.plaid.evidence),
        matched=len(compared.pairs),
        rho_unmatched=len(compared.rho_unmatched),
        plaid_unmatched=len(compared.plaid_unmatched),
        rho_pending=len(sample.rho.ids("pending")),
        plaid_pending=len(sample.plaid.ids("pending")),
        ambiguous=len(compared.ambiguous),
        variance_micros=compared.variance_micros,
    )


def _compare(sample: Sample) -> _Comparison:
    """Match the sample; where no day is common, nothing is compared and every posted line is unmatched."""
    matching = match(sample.rho.lines, sample.plaid.lines) if sample.days else match((), ())
    rho, plaid = ({row.source_id for row in side.rows} for side in (sample.rho, sample.plaid))
    pairs = tuple((one, other) for one, other in matching.pairs if one in rho or other in plaid)
    matched = {one for one, _ in pairs}, {other for _, other in pairs}
    unmatched = (
        tuple(row for row in side.rows if row.state == "posted" and row.source_id not in known)
        for side, known in zip((sample.rho, sample.plaid), matched, strict=True)
    )
    ambiguous = (each for each in matching.ambiguous if rho.intersection(each.left) or plaid.intersection(each.right))
    variances = (each for each in matching.variances if each.left in rho or each.right in plaid)
    return _Comparison(sample, pairs, tuple(ambiguous), tuple(variances), *unmatched)


def _coverage(compared: _Comparison) -> Line:
    """Ready: at least one match, and no posted or unreadable line of the compared days without one."""
    sample, ambiguous = compared.sample, compared.ambiguous
    unreadable = (*sample.rho.ids("unreadable"), *sample.plaid.ids("unreadable"))
    reasons = _what_to_do(compared, unreadable)
    facts = {
        "environment": sample.environment,
        "days": str(sample.days) if sample.days else None,
        "pairs": compared.pairs,
        "rho_unmatched": _ids(compared.rho_unmatched),
        "plaid_unmatched": _ids(compared.plaid_unmatched),
        "unreadable": unreadable,
    }
    details = {
        "environment": sample.environment,
        "days": str(sample.days) if sample.days else None,
        "matched": len(compared.pairs),
        "pairs": [list(pair) for pair in compared.pairs[:LISTED]],
        **_listed("rho_unmatched", _ids(compared.rho_unmatched)),
        **_listed("plaid_unmatched", _ids(compared.plaid_unmatched)),
        **_listed("rho_pending", sample.rho.ids("pending")),
        **_listed("plaid_pending", sample.plaid.ids("pending")),
        **_listed("unreadable", unreadable),
        "ambiguous": [
            {"rho": list(each.left[:LISTED]), "plaid": list(each.right[:LISTED])} for each in ambiguous[:LISTED]
        ],
    }
    return COVERAGE.judge(not reasons, facts if _any_rows(sample) else NO_EVIDENCE, " ".join(reasons), details)


def _what_to_do(compared: _Comparison, unreadable: Sequence[str]) -> list[str]:
    """A sentence for everything that stands in the way; none if the samples reconcile."""
    sample = compared.sample
    if not sample.rho.rows or not sample.plaid.rows:
        missing = [_HAND_IN] if not sample.rho.rows else []
        missing += [_MATERIALIZE] if not sample.plaid.rows else []
        told = sample.rho.told or sample.plaid.told
        return [f"There is nothing to compare: {' and '.join(missing)}{f' for {told}' if told else ''}."]
    if sample.days is None:
        return [
            f"Rho and Plaid show no posted line on the same days: {_HAND_IN} for {sample.plaid.told}, "
            f"or {_MATERIALIZE} for {sample.rho.told}."
        ]
    reasons: list[str] = []
    if not compared.pairs:
        reasons.append(
            f"No line of Rho is one of Plaid on {sample.days}: see that both are of the same bank account; "
            f"{_HAND_IN} for these days."
        )
    ambiguous_rho, ambiguous_plaid = (
        {key for each in compared.ambiguous for key in getattr(each, side)} for side in ("left", "right")
    )
    only_plaid = [row for row in compared.plaid_unmatched if row.source_id not in ambiguous_plaid]
    only_rho = [row for row in compared.rho_unmatched if row.source_id not in ambiguous_rho]
    if only_plaid:
        reasons.append(
            f"Plaid shows {len(only_plaid)} posted lines that Rho's files do not have ({_some(_ids(only_plaid))}): "
            f"{_HAND_IN} for {_some_days(only_plaid)} that has them, or look at them at the bank."
        )
    if only_rho:
        reasons.append(
            f"Rho's files have {len(only_rho)} posted lines that Plaid does not show ({_some(_ids(only_rho))}): "
            f"{_MATERIALIZE} for {_some_days(only_rho)}, or look at them at the bank."
        )
    open_keys = (
        *(row.source_id for row in compared.rho_unmatched if row.source_id in ambiguous_rho),
        *(row.source_id for row in compared.plaid_unmatched if row.source_id in ambiguous_plaid),
    )
    if open_keys:
        reasons.append(
            f"{len(open_keys)} lines of equal amount could be paired in more than one way, or not completely "
            f"({_some(open_keys)}): look at them; an export with the bank's references would tell them apart."
        )
    if unreadable:
        reasons.append(f"{len(unreadable)} lines have no exact amount or no day ({_some(unreadable)}): look at them.")
    return reasons


def _variance(compared: _Comparison) -> Line:
    """Ready: something is matched, and no two lines with one reference differ in amount."""
    variances = compared.variances
    found = [[each.left, each.right, each.currency, each.amount] for each in variances]
    if not compared.pairs:
        remedy = "Nothing is matched yet, so nothing is known of its amounts: work off the line before this one."
    else:
        shown = ", ".join(
            f"Rho {each.left} and Plaid {each.right} by {dollars(each.amount)} {each.currency}"
            for each in variances[:EXAMPLES]
        )
        remedy = (
            f"{len(variances)} lines share a reference and differ in amount ({shown}): have the bank say which is "
            "right, then hand in the corrected export or materialize plaid/plaid_transaction again."
        )
    facts = {"matched": bool(compared.pairs), "variances": found}
    return VARIANCE.judge(
        bool(compared.pairs) and not variances,
        facts if _any_rows(compared.sample) else NO_EVIDENCE,
        remedy,
        {
            "matched": len(compared.pairs),
            "variance_micros": compared.variance_micros,
            "variances": found[:LISTED],
        },
    )


def _any_rows(sample: Sample) -> bool:
    return bool(sample.rho.rows or sample.plaid.rows)


def _rows_of(side: Side) -> dict[str, Any]:
    """How many rows of a side are what, and those that are left out by name."""
    return {
        "rows": len(side.rows),
        "days": str(side.told) if side.told else None,
        "posted": len(side.ids("posted")),
        "of_other_accounts": side.elsewhere,
        **_listed("pending", side.ids("pending")),
        **_listed("cancelled", side.ids("cancelled")),
        **_listed("of_no_amount", side.ids("empty")),
        **_listed("unreadable", side.ids("unreadable")),
    }


def _listed(name: str, ids: Sequence[str]) -> dict[str, Any]:
    return {name: len(ids), f"{name}_ids": list(ids[:LISTED])}


def _ids(rows: Iterable[Row]) -> tuple[str, ...]:
    return tuple(row.source_id for row in rows)


def _some(ids: Sequence[str]) -> str:
    more = len(ids) - EXAMPLES
    return ", ".join(ids[:EXAMPLES]) + (f" and {more} more" if more > 0 else "")


def _some_days(rows: Iterable[Row]) -> str:
    days: set[date] = {row.day for row in rows if row.day is not None}
    found = spans(days)
    more = len(found) - EXAMPLES
    return ", ".join(map(str, found[:EXAMPLES])) + (f" and {more} more spans of days" if more > 0 else "")
