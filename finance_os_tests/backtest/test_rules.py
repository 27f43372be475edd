"""The rules of the backtest: exact amounts, a stated rounding, and one class for each pair of amounts."""

from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from finance_os.backtest.rules import (
    Class,
    Rules,
    Stated,
    classify,
    divide_half_even,
    publisher_share,
    relative_variance,
    variance,
)

micros = st.integers(-(10**18), 10**18)
maybe = st.none() | micros
rules = st.builds(Rules, st.integers(0, 10_000), st.integers(0, 10**9), st.sampled_from(Stated))


@given(st.integers(-(10**30), 10**30), st.integers(1, 10**20))
@example(5, 2)
@example(-5, 2)
@example(3, 2)
def test_half_goes_to_the_even_one(numerator: int, denominator: int) -> None:
    assert divide_half_even(numerator, denominator) == round(Fraction(numerator, denominator))


@given(st.integers(0, 10**18), st.integers(0, 10_000))
def test_shares_add_up_to_the_spend_but_for_a_microdollar(spend: int, share_bps: int) -> None:
    rest = publisher_share(spend, 10_000 - share_bps)
    assert abs(publisher_share(spend, share_bps) + rest - spend) <= 1
    assert publisher_share(spend, 10_000) == spend


@given(micros, micros)
def test_relative_variance_is_exact_to_six_decimals(absolute: int, baseline: int) -> None:
    found = relative_variance(absolute, baseline)
    if baseline == 0:
        assert found is None
        return
    assert found is not None
    assert found.as_tuple().exponent == -6
    with localcontext(prec=100, rounding=ROUND_HALF_EVEN):
        assert found == (Decimal(absolute) / abs(Decimal(baseline))).quantize(Decimal("0.000001"))
    assert relative_variance(-absolute, baseline) == -found


@given(maybe, maybe, rules)
def test_every_pair_has_the_class_that_its_amounts_ask_for(
    events: int | None, baseline: int | None, rules: Rules
) -> None:
    found = variance(events, baseline, rules)
    if baseline is None:
        assert (found.verdict, found.absolute, found.relative) == (Class.NO_BASELINE, None, None)
        return
    difference = (events or 0) - baseline
    assert found.absolute == difference
    assert found.baseline == baseline
    if events is None and baseline:
        assert found.verdict is Class.NO_EVENTS
        return
    tolerance = max(Fraction(abs(baseline) * rules.tolerance_bps, 10_000), Fraction(rules.tolerance_microdollars))
    expected = (
        Class.MATCH
        if difference == 0
        else Class.WITHIN_TOLERANCE
        if abs(difference) <= tolerance
        else Class.OVER
        if difference > 0
        else Class.UNDER
    )
    assert found.verdict is expected


@pytest.mark.parametrize(
    ("events", "baseline", "expected"),
    [
        (1_001_000, 1_000_000, Class.WITHIN_TOLERANCE),  # a tenth of a percent, to the microdollar
        (1_010_000, 1_000_000, Class.WITHIN_TOLERANCE),  # a cent
        (1_010_001, 1_000_000, Class.OVER),
        (989_999, 1_000_000, Class.UNDER),
        (100_100_000, 100_000_000, Class.WITHIN_TOLERANCE),
        (100_100_001, 100_000_000, Class.OVER),
        (-100_100_001, -100_000_000, Class.UNDER),
        (0, 0, Class.MATCH),
        (None, 0, Class.MATCH),
        (None, 1, Class.NO_EVENTS),
        (0, 1, Class.WITHIN_TOLERANCE),
        (None, None, Class.NO_BASELINE),
    ],
)
def test_the_edges_of_the_default_tolerance(events: int | None, baseline: int | None, expected: Class) -> None:
    assert classify(events, baseline, Rules()) is expected


def test_a_tolerance_below_zero_is_none() -> None:
    with pytest.raises(ValueError, match="below zero"):
        Rules(tolerance_bps=-1)
