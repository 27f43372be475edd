"""Matching two banks' lines: against every pairing there is, in any order, and beside lines that have nothing to do."""

import itertools
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finance_os.readiness.bank_match import Ambiguous, BankLine, Matching, Variance, match, references

FIRST = date(2026, 3, 2)
WINDOW = 3


def line(
    key: str,
    day: int = 0,
    amount: int = 1_500,
    reference: str | None = None,
    *,
    direction: Literal["in", "out"] = "out",
    pending: bool = False,
    currency: str = "USD",
    account: str = "",
) -> BankLine:
    """A line `day` days after the first, of `amount` cents."""
    return BankLine(key, FIRST + timedelta(days=day), amount * 10_000, direction, reference, pending, currency, account)


def lines_of(side: str) -> st.SearchStrategy[list[BankLine]]:
    """Few days, amounts and references, so that everything that can clash does."""
    each = st.builds(
        lambda day, amount, reference, direction, pending: line(
            "", day, amount, reference, direction=direction, pending=pending
        ),
        st.integers(0, 12),
        st.sampled_from((100, 100, 101, 250)),
        st.sampled_from((None, None, "REF-0001", "ref0001 0002", "0002", "pub_00017")),
        st.sampled_from(("out", "out", "in")),
        st.sampled_from((False, False, False, True)),
    )
    return st.lists(each, max_size=8).map(
        lambda lines: [replace(each, key=f"{side}{number:02d}") for number, each in enumerate(lines)]
    )


def mirrored(found: Matching) -> Matching:
    return Matching(
        found.right,
        found.left,
        tuple((one, other) for other, one in found.pairs),
        tuple(Ambiguous(each.right, each.left) for each in found.ambiguous),
        tuple(replace(each, left=each.right, right=each.left) for each in found.variances),
    )


def as_sets(found: Matching) -> tuple[object, ...]:
    return found.left, found.right, set(found.pairs), set(found.ambiguous), set(found.variances)


def alike(one: BankLine, other: BankLine) -> bool:
    return (one.day, references(one.reference)) == (other.day, references(other.reference))


# What a person would say


def test_same_amount_within_the_days() -> None:
    found = match([line("r", 0)], [line("p", 3)])
    assert found.pairs == (("r", "p"),)
    assert (found.left.matched, found.left.unmatched) == (1, ())
    assert match([line("r", 0)], [line("p", 4)]).pairs == ()
    assert match([line("r", 0)], [line("p", 4)], window_days=4).pairs == (("r", "p"),)


@pytest.mark.parametrize(
    "other",
    [
        line("p", amount=1_501),
        line("p", direction="in"),
        line("p", currency="EUR"),
        line("p", account="4821"),
        line("p", pending=True),
    ],
)
def test_what_differs_is_not_matched(other: BankLine) -> None:
    found = match([line("r")], [other])
    assert (found.pairs, found.ambiguous, found.variances) == ((), (), ())
    assert found.left.unmatched == ("r",)
    assert (found.right.unmatched, found.right.pending) == (((), ("p",)) if other.pending else (("p",), ()))


def test_a_pending_line_neither_matches_nor_stands_in_the_way() -> None:
    found = match([line("r", pending=True), line("s")], [line("p"), line("q", pending=True)])
    assert found.pairs == (("s", "p"),)
    assert (found.left.pending, found.right.pending) == (("r",), ("q",))
    assert (found.left.rows, found.left.matched, found.left.unmatched) == (2, 1, ())


def test_the_only_complete_pairing_is_found_where_the_nearest_would_miss_it() -> None:
    """p3 lies nearest to r2, and r0 to nothing but p3; whoever pairs nearest first leaves r0 and p5 apart."""
    found = match([line("r0", 0), line("r2", 2)], [line("p3", 3), line("p5", 5)])
    assert found.pairs == (("r0", "p3"), ("r2", "p5"))


def test_twins_change_places_without_being_a_choice() -> None:
    """Two fees of one amount on one day, on both sides: which is which makes no difference to anybody."""
    left, right = [line("r1"), line("r2")], [line("p1"), line("p2")]
    assert match(left, right).pairs == (("r1", "p1"), ("r2", "p2"))
    missing = match(left, right[:1])
    assert missing.pairs == ()
    assert missing.ambiguous == (Ambiguous(("r1", "r2"), ("p1",)),)
    assert missing.left.unmatched == ("r1", "r2")


def test_two_ways_are_ambiguous_unless_references_decide() -> None:
    left, right = [line("r1", 0), line("r2", 1)], [line("p1", 0), line("p2", 1)]
    found = match(left, right)
    assert found.pairs == ()
    assert found.ambiguous == (Ambiguous(("r1", "r2"), ("p1", "p2")),)
    assert found.left.unmatched == ("r1", "r2")
    left[0], right[1] = replace(left[0], reference="WIRE FW-20260301"), replace(right[1], reference="fw20260301")
    assert match(left, right).pairs == (("r1", "p2"), ("r2", "p1"))


def test_references_decide_what_cannot_be_paired_completely() -> None:
    left = [line("r1", 0, reference="TRACE-0007"), line("r2", 0)]
    found = match(left, [line("p", 1, reference="ACH trace0007")])
    assert found.pairs == (("r1", "p"),)
    assert found.left.unmatched == ("r2",)
    assert found.ambiguous == ()


def test_references_that_contradict_each_other_decide_nothing() -> None:
    left = [line("r1", 0, reference="AA11 BB22"), line("r2", 1)]
    right = [line("p1", 0, reference="AA11"), line("p2", 1, reference="BB22")]
    found = match(left, right)
    assert found.pairs == ()
    assert found.ambiguous == (Ambiguous(("r1", "r2"), ("p1", "p2")),)


def test_what_is_a_reference() -> None:
    assert references("STRIPE TRANSFER ST-UNKNOWN0001, no. 000123 / 00451234") == {"stunknown0001", "451234"}
    assert references("INVOICE ACH A1") == references(None) == references("") == frozenset()
    assert references("pub_00017") == references("PUB-00017")


def test_one_reference_and_two_amounts_are_a_variance() -> None:
    left = [line("r", 0, 10_000, "PO-4711"), line("s", 0, 500)]
    right = [line("p", 2, 9_999, "po4711"), line("q", 0, 500)]
    found = match(left, right)
    assert found.pairs == (("s", "q"),)
    assert found.variances == (Variance("r", "p", 10_000, "USD"),)
    assert (found.left.unmatched, found.right.unmatched) == (("r",), ("p",))
    assert match(left, [replace(right[0], day=FIRST + timedelta(days=4))]).variances == ()
    assert match(left, [replace(right[0], direction="in")]).variances == ()
    assert match(left, [replace(right[0], pending=True)]).variances == ()
    assert match(left, [right[0], line("o", 1, 9_000, "PO4711")]).variances == (), "which of the two is it?"


def test_keys_and_amounts_are_checked() -> None:
    with pytest.raises(ValueError, match="two lines"):
        match([line("r"), line("r")], [])
    with pytest.raises(ValueError, match="positive"):
        match([], [line("p", amount=0)])


# Against every pairing there is


def ways(left: Sequence[BankLine], right: Sequence[BankLine]) -> set[frozenset[tuple[str, str]]]:
    """All complete pairings within the days, as what is paired with what but for lines that are alike."""
    name = lambda each: f"{each.day} {sorted(references(each.reference))}"  # noqa: E731
    found: set[frozenset[tuple[str, str]]] = set()
    if len(left) != len(right):
        return found
    for order in itertools.permutations(right):
        pairs = list(zip(left, order, strict=True))
        if all(abs((one.day - other.day).days) <= WINDOW for one, other in pairs):
            counted = Counter((name(one), name(other)) for one, other in pairs)
            found.add(frozenset((f"{pair[0]} {count}", pair[1]) for pair, count in counted.items()))
    return found


def components(left: Sequence[BankLine], right: Sequence[BankLine]) -> list[tuple[list[BankLine], list[BankLine]]]:
    """Groups that hang together by the days, found by walking."""
    rest = [(each, 0) for each in left] + [(each, 1) for each in right]
    found: list[tuple[list[BankLine], list[BankLine]]] = []
    while rest:
        group, grown = [rest.pop()], True
        while grown:
            grown = False
            for each in list(rest):
                if any(side != each[1] and abs((one.day - each[0].day).days) <= WINDOW for one, side in group):
                    rest.remove(each)
                    group.append(each)
                    grown = True
        found.append(([one for one, side in group if not side], [one for one, side in group if side]))
    return found


@given(st.data())
def test_a_group_with_one_way_is_matched_so_and_no_other_without_references(data: st.DataObject) -> None:
    reference = data.draw(st.sampled_from((None, "mixed")))
    each = st.tuples(st.integers(0, 11), st.sampled_from((None, "own1")) if reference else st.none())
    # References of the two sides never meet here, so that they tell lines apart and decide nothing.
    left = [line(f"r{n}", day, reference=ref) for n, (day, ref) in enumerate(data.draw(st.lists(each, max_size=6)))]
    right = [
        line(f"p{n}", day, reference=ref and "theirs2")
        for n, (day, ref) in enumerate(data.draw(st.lists(each, max_size=6)))
    ]
    found = match(left, right)
    paired = dict(found.pairs)
    for one_side, other_side in components(left, right):
        single = len(ways(one_side, other_side)) == 1 and bool(one_side)
        others = {each.key for each in other_side}
        assert {paired.get(each.key) for each in one_side} == (others if single else ({None} if one_side else set()))
        is_ambiguous = bool(one_side and other_side and not single)
        keys = tuple(sorted(each.key for each in one_side)), tuple(sorted(others))
        assert (Ambiguous(*keys) in found.ambiguous) == is_ambiguous


# What always holds


@given(lines_of("r"), lines_of("p"))
def test_everything_is_accounted_for(left: list[BankLine], right: list[BankLine]) -> None:
    found = match(left, right)
    by_key = {each.key: each for each in (*left, *right)}
    for side, lines, taken in (
        (found.left, left, [one for one, _ in found.pairs]),
        (found.right, right, [other for _, other in found.pairs]),
    ):
        assert len(set(taken)) == len(taken) == side.matched, "matched twice"
        assert sorted((*taken, *side.unmatched, *side.pending)) == sorted(each.key for each in lines)
        assert set(side.pending) == {each.key for each in lines if each.pending}
        assert side.rows == len(lines)
    for one, other in ((by_key[one], by_key[other]) for one, other in found.pairs):
        assert (one.amount, one.direction, one.currency) == (other.amount, other.direction, other.currency)
        assert abs((one.day - other.day).days) <= WINDOW
        assert not one.pending
        assert not other.pending
    assert sum(by_key[one].amount for one, _ in found.pairs) == sum(by_key[other].amount for _, other in found.pairs)
    open_keys = [key for each in found.ambiguous for key in (*each.left, *each.right)]
    assert len(set(open_keys)) == len(open_keys)
    assert set(open_keys) <= {*found.left.unmatched, *found.right.unmatched}
    assert all(each.left and each.right for each in found.ambiguous)
    for each in found.variances:
        one, other = by_key[each.left], by_key[each.right]
        assert each.amount == abs(one.amount - other.amount) > 0
        assert references(one.reference) & references(other.reference)
        assert {each.left, each.right} <= {*found.left.unmatched, *found.right.unmatched} - set(open_keys)


@given(lines_of("r"), lines_of("p"), st.randoms(use_true_random=False))
def test_the_order_of_lines_and_of_sides_makes_no_difference(
    left: list[BankLine], right: list[BankLine], order: random.Random
) -> None:
    found = match(left, right)
    shuffled = order.sample(left, len(left)), order.sample(right, len(right))
    assert match(*shuffled) == found
    assert as_sets(match(right, left)) == as_sets(mirrored(found))


@given(lines_of("r"), lines_of("p"), st.sampled_from(("left", "right")), st.sampled_from(("amount", "days", "pending")))
def test_a_line_that_has_nothing_to_do_with_the_others_changes_nothing(
    left: list[BankLine], right: list[BankLine], side: str, how: str
) -> None:
    stranger = {
        "amount": line("x", 3, 999_999, "NOBODYS-0815"),
        "days": line("x", 40, 100, "REF-0001"),
        "pending": line("x", 3, 100, "REF-0001", pending=True),
    }[how]
    without, found = match(left, right), match([*left, stranger], right)
    if side == "right":
        found = match(left, [*right, stranger])
    assert (found.pairs, found.ambiguous, found.variances) == (without.pairs, without.ambiguous, without.variances)


@given(lines_of("r"), st.integers(-3, 3))
def test_two_sources_that_agree_leave_only_what_repeats_on_other_days(left: list[BankLine], late: int) -> None:
    """One side is the other, so many days later: nothing is unmatched but what could be something else."""
    right = [replace(each, key=f"p{each.key}", day=each.day + timedelta(days=late)) for each in left]
    found = match(left, right)
    open_keys = {key for each in found.ambiguous for key in each.left}
    if late == 0 or not found.ambiguous:
        assert set(found.left.unmatched) <= open_keys
    for one, other in found.pairs:
        pair = [next(each for each in lines if each.key == key) for lines, key in ((left, one), (right, other))]
        assert pair[0].amount == pair[1].amount


def test_a_hundred_thousand_lines_take_seconds_even_if_all_are_of_one_amount() -> None:
    """n log n: no group is compared line by line with itself. The limit is generous for a busy machine."""
    rng = random.Random(5)
    mixed = [line(f"r{n}", rng.randrange(365), rng.randrange(100, 5_000_00), f"TX{n:07d}") for n in range(100_000)]
    same = [line(f"r{n}", n // 400, 100) for n in range(100_000)]
    for lines, matched in ((mixed, 100_000), (same, 0)):
        other = [replace(each, key=f"p{each.key}") for each in lines]
        began = time.process_time()
        found = match(lines, other)
        assert time.process_time() - began < 15
        assert found.left.matched == matched
