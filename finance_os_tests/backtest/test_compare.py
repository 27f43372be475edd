"""The comparison of a month: nothing is lost, nobody is guessed, and order changes nothing."""

import random
from collections import Counter
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finance_os.backtest.compare import COLUMNS, BaselineRow, Row, Spend, compare
from finance_os.backtest.month import Month, NotAMonth
from finance_os.backtest.publishers import Publisher, Publishers
from finance_os.backtest.result import Result
from finance_os.backtest.rules import Class, Rules, Stated
from finance_os.evidence.canonical import canonical_json, decode
from finance_os.evidence.windows import Days

MARCH = Month(date(2026, 3, 1))
KNOWN = (Publisher("pub_1", "Acorn Media", "Acorn LLC", 7_000), Publisher("pub_2", "Birch", "Birch LLC", 7_000))

ids = st.sampled_from(["pub_1", "pub_2", "pub_3", "PUB_1", "x"])
names = st.none() | st.sampled_from(["Acorn Media", "birch llc", "Nobody", "pub_2", "pub_3"])
amounts = st.none() | st.integers(-(10**12), 10**12)


@st.composite
def months(draw: st.DrawFn) -> tuple[list[Spend], list[BaselineRow]]:
    spends = [
        Spend(publisher_id, draw(st.integers(0, 10**12)), draw(st.integers(0, 99)), draw(st.integers(1, 31)), "e")
        for publisher_id in draw(st.sets(ids))
    ]
    rows = [
        row(f"r{number}", draw(st.none() | ids), draw(names), *draw(st.tuples(amounts, amounts, amounts)))
        for number in range(draw(st.integers(0, 6)))
    ]
    return spends, rows


def row(
    source_id: str,
    publisher_id: str | None,
    name: str | None = None,
    accrual: int | None = None,
    cash: int | None = None,
    deposit: int | None = None,
) -> BaselineRow:
    key = (publisher_id or name or "nobody").lower()
    given_amounts = {"accrual": accrual, "cash": cash, "deposit": deposit}
    return BaselineRow(source_id, key, publisher_id, name, given_amounts, f"hash of {source_id}")


def compared(spends: list[Spend], rows: list[BaselineRow], rules: Rules | None = None) -> dict[str, Row]:
    return {each.publisher: each for each in compare(spends, rows, Publishers(KNOWN), rules or Rules())}


def result(rows: tuple[Row, ...]) -> Result:
    return Result("acme", MARCH, Days(MARCH.first, MARCH.last), Rules(), rows)


@given(months(), st.randoms(use_true_random=False))
def test_everything_is_in_exactly_one_row_whatever_the_order(
    month: tuple[list[Spend], list[BaselineRow]], order: random.Random
) -> None:
    spends, rows = month
    found = compare(spends, rows, Publishers(KNOWN), Rules())
    assert [each.publisher for each in found] == sorted({each.publisher for each in found})
    assert sum(each.spend or 0 for each in found) == sum(each.microdollars for each in spends)
    assert sum(each.records for each in found) == sum(each.records for each in spends)
    assert Counter(one.source_id for each in found for one in each.baseline) == Counter(each.source_id for each in rows)
    for each in found:
        assert (each.verdict is Class.DUPLICATE_BASELINE_KEY) == (len(each.baseline) > 1)
        if each.verdict is Class.UNRESOLVED_PUBLISHER:
            assert not each.resolved
    shuffled_spends, shuffled_rows, known = list(spends), list(rows), list(KNOWN)
    for each in (shuffled_spends, shuffled_rows, known):
        order.shuffle(each)
    again = compare(shuffled_spends, shuffled_rows, Publishers(known), Rules())
    assert result(again).result_hash == result(found).result_hash
    assert result(tuple(reversed(found))).result_hash == result(found).result_hash


@given(months())
def test_a_stored_result_is_the_same_result(month: tuple[list[Spend], list[BaselineRow]]) -> None:
    found = result(compare(*month, Publishers(KNOWN), Rules()))
    stored = Result.from_json(decode(canonical_json(found.as_json()).decode()))
    assert (stored.result_hash, stored.totals, stored.classes) == (found.result_hash, found.totals, found.classes)
    assert stored.sign_off_blockers == found.sign_off_blockers


@given(months(), st.data())
def test_any_change_of_an_amount_or_a_record_changes_the_hash(
    month: tuple[list[Spend], list[BaselineRow]], data: st.DataObject
) -> None:
    spends, rows = month
    if not spends and not rows:
        return
    before = result(compare(spends, rows, Publishers(KNOWN), Rules())).result_hash
    at = data.draw(st.integers(0, len(spends) + len(rows) - 1))
    if at < len(spends):
        one = spends[at]
        spends = [*spends[:at], Spend(one.publisher_id, one.microdollars, one.impressions, one.records, "other"),
                  *spends[at + 1 :]]  # fmt: skip
    else:
        one = rows[at - len(spends)]
        other = BaselineRow(one.source_id, one.publisher_key, one.publisher_id, one.publisher, one.amounts, "other")
        rows = [other if each is one else each for each in rows]
    assert result(compare(spends, rows, Publishers(KNOWN), Rules())).result_hash != before


def test_variances_are_of_the_publishers_share() -> None:
    [found] = compared([Spend("pub_1", 1_000_001, 5, 31, "e")], [row("r", "PUB_1", None, 700_000, 0)]).values()
    assert (found.spend, found.expected, found.name) == (1_000_001, 700_001, "Acorn Media")
    assert (found.variances["accrual"].absolute, str(found.variances["accrual"].relative)) == (1, "0.000001")
    assert (found.variances["cash"].absolute, found.variances["cash"].relative) == (700_001, None)
    assert [found.variances[column].verdict for column in COLUMNS] == [
        Class.WITHIN_TOLERANCE,
        Class.OVER,
        Class.NO_BASELINE,
    ]
    assert found.verdict is Class.WITHIN_TOLERANCE


def test_variances_are_of_the_spend_where_the_baseline_states_that() -> None:
    rules = Rules(stated=Stated.SPEND)
    [found] = compared([Spend("pub_1", 1_000_000, 5, 31, "e")], [row("r", "pub_1", None, 1_000_000)], rules).values()
    assert (found.expected, found.verdict) == (1_000_000, Class.MATCH)


def test_a_row_without_an_accrual_is_judged_by_what_it_has() -> None:
    [found] = compared([Spend("pub_1", 1_000_000, 5, 31, "e")], [row("r", "pub_1", None, None, 700_000)]).values()
    assert (found.verdict, found.variances["accrual"].verdict) == (Class.MATCH, Class.NO_BASELINE)


def test_a_name_and_an_id_of_one_publisher_are_a_duplicate_key() -> None:
    found = compared(
        [Spend("pub_1", 1_000_000, 5, 31, "e")],
        [row("a", "pub_1", None, 700_000), row("b", None, " acorn  MEDIA", 700_000)],
    )
    assert found["pub_1"].verdict is Class.DUPLICATE_BASELINE_KEY
    assert found["pub_1"].variances["accrual"].baseline is None
    assert result(tuple(found.values())).sign_off_blockers == ("duplicate_baseline_key",)


def test_unknown_publishers_have_rows_of_their_own() -> None:
    found = compared(
        [Spend("pub_9", 100, 1, 1, "e")],
        [row("a", "Pub_9", None, 70), row("b", "pub_8", None, 5), row("c", None, "Nobody", 6)],
    )
    assert {key: each.verdict for key, each in found.items()} == dict.fromkeys(
        ("pub_9", "baseline:pub_8", "baseline:nobody"), Class.UNRESOLVED_PUBLISHER
    )
    assert (found["pub_9"].spend, found["pub_9"].expected) == (100, None)
    assert found["pub_9"].variances["accrual"].baseline == 70


def test_a_row_that_fits_two_publishers_fits_neither() -> None:
    known = Publishers((Publisher("A1", "Same", None, 1), Publisher("a1", "Same", None, 1)))
    rows = [row("a", None, "same", 1), row("b", "Ａ1", None, 1), row("c", "A1", None, 1)]
    found = {each.publisher: each for each in compare([], rows, known, Rules())}
    assert {key: len(each.baseline) for key, each in found.items()} == {
        "baseline:same": 1,
        "baseline:ａ1": 1,
        "A1": 1,
    }
    assert found["A1"].resolved


def test_a_publishers_spend_is_given_once() -> None:
    with pytest.raises(ValueError, match="twice"):
        compared([Spend("pub_1", 1, 1, 1, "e")] * 2, [])


def test_only_whole_months_with_a_baseline_can_be_signed() -> None:
    [one] = compare([], [row("a", "pub_1", None, 0)], Publishers(KNOWN), Rules())
    assert result((one,)).sign_off_blockers == ()
    part = Result("acme", MARCH, Days(MARCH.first, date(2026, 3, 30)), Rules(), (one,))
    assert part.sign_off_blockers == ("month_not_whole",)
    assert result(()).sign_off_blockers == ("no_baseline_rows",)


@pytest.mark.parametrize("text", ["2026-03", "2026-03-01", " 2026-03 "])
def test_months_as_people_and_dagster_write_them(text: str) -> None:
    assert Month.parse(text) == MARCH


@pytest.mark.parametrize("text", ["2026-13", "2026-3", "2026-03-02", "march", "0000-01"])
def test_what_is_no_month(text: str) -> None:
    with pytest.raises(NotAMonth, match="write it as 2026-03"):
        Month.parse(text)


def test_the_days_of_a_month_that_are_over() -> None:
    start = date(2026, 1, 1)
    assert MARCH.days_over(date(2026, 4, 1), start) == Days(MARCH.first, MARCH.last)
    assert MARCH.days_over(date(2026, 3, 11), start) == Days(MARCH.first, date(2026, 3, 10))
    assert MARCH.days_over(date(2026, 3, 1), start) is None
    assert MARCH.days_over(date(2026, 5, 1), date(2026, 3, 20)) == Days(date(2026, 3, 20), MARCH.last)
