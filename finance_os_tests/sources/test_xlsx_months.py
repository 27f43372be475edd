"""Months: every way in which people write one is that one, and what could be another is refused."""

from calendar import monthrange
from datetime import date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl.utils.datetime import CALENDAR_MAC_1904, to_excel

from finance_os.sources.xlsx.months import is_month, month_of_date, parse_month
from finance_os.sources.xlsx.problems import Unreadable
from finance_os_tests.sources.test_xlsx import baseline, book, number, only_problem, raw_book

months = st.builds(date, st.integers(2000, 2099), st.integers(1, 12), st.just(1))
days = st.dates(date(2000, 1, 1), date(2099, 12, 31))

FORMS = (
    "%Y-%m", "%Y/%m", "%Y%m", "%m/%Y", "%m-%Y", "%m.%Y", "%b %Y", "%B %Y", "%b-%y", "%b %y", "%b '%y", "%b. %Y",
    "%B, %Y", "%Y %b", "%Y-%B", "%b%Y", "%Y-%m-%d", "%Y-%m-%dT00:00:00", "%Y-%m-%d 00:00:00", "%B %d, %Y", "%d %b %Y",
    "%d-%b-%Y",
)  # fmt: skip


@given(months, st.sampled_from(FORMS), st.sampled_from([str, str.upper, str.lower]), st.sampled_from(["", " "]))
def test_a_month_is_the_same_however_it_is_written(month: date, form: str, case: type[str], blank: str) -> None:
    assert parse_month(blank + case(month.strftime(form)) + blank) == month


@given(days, st.sampled_from(["%Y-%m-%d", "%d %B %Y", "%b %d, %Y"]))
def test_a_day_means_its_month(day: date, form: str) -> None:
    assert parse_month(day.strftime(form)) == day.replace(day=1)


@given(days, st.sampled_from(["%m/%d/%Y", "%d/%m/%Y", "%d.%m.%Y"]))
def test_a_day_in_an_order_that_is_not_known_is_right_or_refused(day: date, form: str) -> None:
    text = day.strftime(form)
    if day.day > 12 or day.day == day.month:
        assert parse_month(text) == day.replace(day=1)
    else:
        with pytest.raises(Unreadable, match="either of two months"):
            parse_month(text)


@pytest.mark.parametrize("text", ["3/2026", "2026-3", "Sept 2026", "sep-26", "September 2026", "2026.09", "03 / 2026"])
def test_short_forms(text: str) -> None:
    assert parse_month(text) in (date(2026, 3, 1), date(2026, 9, 1))


@pytest.mark.parametrize(
    ("text", "code"),
    [
        *((text, "ambiguous_month") for text in ("03/26", "26-Mar", "Mar", "march", "3-26", "02/03/2026", "1.2.2026")),
        *((text, "bad_month") for text in (
            "2026-13", "2026-00", "13/2026", "2026-02-30", "202613", "20260301", "Q1 2026", "2026", "46082", "soon",
            "Mars 2026", "Marc 2026", "2026-03 and 2026-04", "FY26", "٢٠٢٦-٠٣", "0000-01", "31/02/2026", "", "Mar 226",
        )),
    ],
)  # fmt: skip
def test_what_is_no_month_is_refused(text: str, code: str) -> None:
    with pytest.raises(Unreadable) as caught:
        parse_month(text)
    assert caught.value.code == code
    assert ": write it as 2026-03" in caught.value.message
    assert not is_month(text)


@given(st.text(max_size=20) | st.from_regex(r"[0-9]{1,4}[-/. ][0-9A-Za-z]{1,4}", fullmatch=True))
def test_any_text_is_a_month_or_refused(text: str) -> None:
    if is_month(text):
        assert parse_month(text).day == 1


def test_a_format_says_how_months_are_written() -> None:
    assert parse_month("03/26", "%m/%y") == date(2026, 3, 1)
    assert parse_month("26.03.2026", "%d.%m.%Y") == date(2026, 3, 1)
    with pytest.raises(Unreadable, match="%m/%y"):
        parse_month("2026-03", "%m/%y")


# Dates in cells


@given(days)
def test_a_date_is_its_month_by_either_calendar(day: date) -> None:
    row = ("pub_1", "A", 1)
    windows, mac = int(to_excel(day) or 0), int(to_excel(datetime(*day.timetuple()[:3]), CALENDAR_MAC_1904) or 0)
    expected = [f"{day:%Y-%m}"]
    for serial in (str(windows), f"{windows}.75"):
        data = raw_book([number(serial, 1), *row], formats=["yyyy-mm"])
        assert [each.period for each in baseline(data).rows] == expected
    data = raw_book([number(str(mac), 1), *row], formats=["mmm yyyy"], properties='<workbookPr date1904="1"/>')
    assert [each.period for each in baseline(data).rows] == expected


@given(days)
def test_a_date_that_shows_no_year_is_a_whole_month_or_refused(day: date) -> None:
    for code in ("mmmm yyyy", "m/d/yy", "[$-409]mmm\\-yy;@"):
        assert month_of_date(day, code) == day.replace(day=1)
    for code in ("d-mmm", "mmm", '[$-yyy]mmm "yy"', "mmm\\y"):
        if day.day in (1, monthrange(day.year, day.month)[1]):
            assert month_of_date(day, code) == day.replace(day=1)
        else:
            with pytest.raises(Unreadable, match="shows no year"):
                month_of_date(day, code)


def test_dates_as_openpyxl_and_others_write_them() -> None:
    row = ("pub_1", "A", 1)
    cells = [date(2026, 3, 1), datetime(2026, 3, 31, 23, 59), "2026-03", 202603]
    assert [each.period for each in baseline(book(*((cell, *row) for cell in cells))).rows] == ["2026-03"] * 4
    iso = raw_book([_typed("d", "2026-03-01T00:00:00"), *row])
    assert [each.period for each in baseline(iso).rows] == ["2026-03"]


def test_cells_that_are_no_month() -> None:
    row = ("pub_1", "A", 1)
    today = date.today()
    far = today + timedelta(days=800)
    for cell, code in (
        (46_082, "bad_month"),  # a date whose format was lost
        (2026.1, "bad_month"),  # October or January
        (True, "bad_month"),
        ("1999-12", "month_out_of_range"),
        (f"{far:%Y-%m}", "month_out_of_range"),
        (date(1999, 12, 31), "month_out_of_range"),
        ("=A1", "formula_without_value"),
    ):
        assert only_problem(book((cell, *row))) == (code, 2, "Period"), cell
    assert only_problem(raw_book([_typed("e", "#N/A"), *row])) == ("error_value", 2, "Period")
    for serial in ("99999999", "0.5", "1E999", "NaN"):
        data = raw_book([number(serial, 1), *row], formats=["yyyy-mm"])
        assert only_problem(data) == ("bad_month", 2, "Period")
    assert baseline(book((f"{today:%Y-%m}", *row))).rows


def _typed(kind: str, text: str):
    cell = number(text)
    return type(cell)(f't="{kind}"', cell.content)
