"""The rules of the backtest: what is compared with what, when two amounts agree, and what a disagreement is called."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import Any

VERSION = 1
"""Raised when the same evidence would give another result."""

RELATIVE_DECIMALS = 6
"""Decimals of a relative variance: 0.012500 is 1.25 percent."""

WHOLE_BPS = 10_000
"""Basis points of the whole."""


class Class(StrEnum):
    """What became of a comparison.

    match: the same to the microdollar. within_tolerance: the difference is small enough. over: events say more than
    the baseline; under: less. no_baseline: the baseline says nothing; no_events: no event-level spend is there of what
    the baseline has. duplicate_baseline_key: the baseline has the month and publisher more than once.
    unresolved_publisher: Gravity does not have the publisher, so that nobody knows its share.
    """

    MATCH = "match"
    WITHIN_TOLERANCE = "within_tolerance"
    OVER = "over"
    UNDER = "under"
    NO_BASELINE = "no_baseline"
    NO_EVENTS = "no_events"
    DUPLICATE_BASELINE_KEY = "duplicate_baseline_key"
    UNRESOLVED_PUBLISHER = "unresolved_publisher"


class Stated(StrEnum):
    """What the baseline's amounts are: the publisher's share of the spend, or the spend itself."""

    PUBLISHER_SHARE = "publisher_share"
    SPEND = "spend"


@dataclass(frozen=True)
class Rules:
    """By what a month is judged. The tolerance is the larger of its two parts.

    `tolerance_bps` is of the baseline's amount, in hundredths of a percent; `tolerance_microdollars` is absolute.
    `stated` is what the baseline's amounts are.
    """

    tolerance_bps: int = 10
    tolerance_microdollars: int = 10_000
    stated: Stated = Stated.PUBLISHER_SHARE

    def __post_init__(self) -> None:
        if self.tolerance_bps < 0 or self.tolerance_microdollars < 0:
            raise ValueError("a tolerance is not below zero")

    def as_json(self) -> dict[str, Any]:
        """The rules as they are hashed and stored."""
        return {
            "version": VERSION,
            "tolerance_bps": self.tolerance_bps,
            "tolerance_microdollars": self.tolerance_microdollars,
            "stated": self.stated.value,
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Rules":
        """Rules as they were stored."""
        return cls(stored["tolerance_bps"], stored["tolerance_microdollars"], Stated(stored["stated"]))


@dataclass(frozen=True)
class Variance:
    """One amount of the baseline, and how far the events' amount lies above it.

    Amounts are microdollars. `absolute` is the events' amount less the baseline's; `relative` is that divided by the
    baseline's amount without its sign, with six decimals, half to even. Either is `None` where it has no meaning: no
    amount to compare, or (`relative`) a baseline of zero.
    """

    baseline: int | None
    absolute: int | None
    relative: Decimal | None
    verdict: Class


def divide_half_even(numerator: int, denominator: int) -> int:
    """The quotient as a whole number; what lies half way goes to the even one. `denominator` is above zero."""
    whole, rest = divmod(numerator, denominator)
    return whole + (2 * rest > denominator or (2 * rest == denominator and whole % 2 == 1))


def publisher_share(spend: int, share_bps: int) -> int:
    """A publisher's share of `spend` microdollars, in microdollars; rounded once, half to even."""
    return divide_half_even(spend * share_bps, WHOLE_BPS)


def relative_variance(absolute: int, baseline: int) -> Decimal | None:
    """`absolute` / |`baseline`| with six decimals, half to even, by integers alone; `None` for a baseline of zero."""
    if baseline == 0:
        return None
    return Decimal(divide_half_even(absolute * 10**RELATIVE_DECIMALS, abs(baseline))).scaleb(-RELATIVE_DECIMALS)


def classify(events: int | None, baseline: int | None, rules: Rules) -> Class:
    """How two amounts in microdollars stand to each other; `None` is one that is not there.

    No events beside a baseline of zero agree: nothing was expected, and nothing came.
    """
    if baseline is None:
        return Class.NO_BASELINE
    if events is None and baseline != 0:
        return Class.NO_EVENTS
    difference = (events or 0) - baseline
    if difference == 0:
        return Class.MATCH
    within_share = abs(difference) * WHOLE_BPS <= rules.tolerance_bps * abs(baseline)
    if within_share or abs(difference) <= rules.tolerance_microdollars:
        return Class.WITHIN_TOLERANCE
    return Class.OVER if difference > 0 else Class.UNDER


def variance(events: int | None, baseline: int | None, rules: Rules) -> Variance:
    """The comparison of two amounts in microdollars, either of which may not be there.

    Without events the variance is the whole baseline: nothing is what the events say.
    """
    absolute = None if baseline is None else (events or 0) - baseline
    relative = None if absolute is None or baseline is None else relative_variance(absolute, baseline)
    return Variance(baseline, absolute, relative, classify(events, baseline, rules))
