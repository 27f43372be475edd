"""The spreadsheet: the world's own figures to the microdollar, whole or with what is planted, in every layout."""

import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pytest

from finance_os.sandbox import baseline
from finance_os.sandbox.world import World, build

START, UNTIL = date(2026, 6, 20), datetime(2026, 8, 10, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def small() -> World:
    """A world of its own, only to be looked at."""
    return build(seed=5, start=START, until=UNTIL, size=5)


@pytest.fixture(scope="module")
def figures(small: World) -> list[baseline.Economics]:
    return baseline.economics(small)


def opened(content: bytes, *, values: bool = True) -> Any:
    return openpyxl.load_workbook(io.BytesIO(content), data_only=values)


def cells(content: bytes) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Sheet and values of every row."""
    for sheet in opened(content).worksheets:
        yield from ((sheet.title, row) for row in sheet.iter_rows(values_only=True))


def micros(value: float | None) -> int:
    return int((Decimal(f"{value or 0:.15g}") * 1_000_000).to_integral_value())


def test_every_publisher_has_every_month(small: World, figures: list[baseline.Economics]) -> None:
    months = [date(2026, 6, 1), date(2026, 7, 1), date(2026, 8, 1)]
    assert [(row.month, row.publisher) for row in figures] == [
        (month, publisher.id) for month in months for publisher in small.publishers
    ]


def test_what_was_earned_is_what_was_paid_and_what_is_owed(small: World, figures: list[baseline.Economics]) -> None:
    for publisher in small.publishers:
        rows = [row for row in figures if row.publisher == publisher.id]
        assert sum(row.accrual - row.cash for row in rows) == publisher.earned == rows[-1].deposit
        owed = 0
        for row in rows:
            owed += row.accrual - row.cash
            assert row.deposit == owed >= 0
            assert row.accrual > 0
    assert sum(row.cash for row in figures) > 0


def test_cash_is_what_the_bank_says(small: World, figures: list[baseline.Economics]) -> None:
    paid: defaultdict[tuple[date, str], int] = defaultdict(int)
    for line in small.bank:
        if line.description.startswith("PUBLISHER PAYOUT"):
            paid[line.posted.replace(day=1), str(line.reference)] -= line.amount
    assert paid
    assert {(row.month, row.publisher): row.cash for row in figures if row.cash} == {
        key: cents * 10_000 for key, cents in paid.items()
    }


def test_a_month_that_is_over_does_not_change_when_the_clock_moves(figures: list[baseline.Economics]) -> None:
    world = build(seed=5, start=START, until=datetime(2026, 8, 1, tzinfo=UTC), size=5)
    before = {(row.month, row.publisher): row for row in baseline.economics(world)}
    for row in figures:
        if row.month < date(2026, 8, 1):
            assert before[row.month, row.publisher] == row


def test_disagreements_are_where_they_are_said_to_be(figures: list[baseline.Economics]) -> None:
    changed, planted = baseline.plant(figures)
    assert {each.kind for each in planted} == set(baseline.PLANTED)
    keys = {each.kind: each.id for each in planted}
    good, bad = ({f"{row.month:%Y-%m}:{row.publisher}": row for row in rows} for rows in (figures, changed))
    assert set(good) - set(bad) == {keys["baseline_publisher_missing"]}
    counted = [f"{row.month:%Y-%m}:{row.publisher}" for row in changed]
    assert {key for key in counted if counted.count(key) > 1} == {keys["baseline_duplicate_key"]}
    wrong = keys["baseline_accrual_transposed"]
    differing = {key for key in bad if bad[key] != good[key]} - {keys["baseline_duplicate_key"]}
    assert differing == {wrong}
    digits = (str(good[wrong].accrual), str(bad[wrong].accrual))
    assert sorted(digits[0]) == sorted(digits[1])
    assert abs(good[wrong].accrual - bad[wrong].accrual) % 9_000_000 == 0
    assert sum(left != right for left, right in zip(*digits, strict=True)) == 2
    with pytest.raises(ValueError, match="three publishers"):
        baseline.plant(figures[:2])


@pytest.mark.parametrize("layout", baseline.LAYOUTS)
def test_the_same_world_gives_the_same_bytes(figures: list[baseline.Economics], layout: baseline.Layout) -> None:
    content = baseline.render(figures, layout)
    assert baseline.render(baseline.economics(build(seed=5, start=START, until=UNTIL, size=5)), layout) == content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert b"1980-01-01T00:00:00Z" in archive.read("docProps/core.xml")


def test_the_plain_layout(figures: list[baseline.Economics]) -> None:
    (header, *rows) = [row for _, row in cells(baseline.render(figures))]
    assert header == baseline.HEADER
    read = [(row[0].date(), *row[1:3], *map(micros, row[3:])) for row in rows]
    assert read == [(row.month, row.publisher, row.name, row.accrual, row.cash, row.deposit) for row in figures]


def test_the_layout_of_microdollars(figures: list[baseline.Economics]) -> None:
    rows = [row for _, row in cells(baseline.render(figures, "microdollars"))][1:]
    assert rows == [(int(f"{row.month:%Y%m}"), row.publisher, row.accrual, row.cash, row.deposit) for row in figures]


@pytest.mark.parametrize("layout", ["titled", "monthly"])
def test_totals_are_formulas_with_their_values(figures: list[baseline.Economics], layout: baseline.Layout) -> None:
    content = baseline.render(figures, layout)
    formulas = opened(content, values=False)
    totals = 0
    for sheet in opened(content).worksheets:
        for row in sheet.iter_rows():
            for cell in row:
                formula = formulas[sheet.title][cell.coordinate].value
                if isinstance(formula, str) and formula.startswith("=SUM("):
                    areas = re.findall(r"([A-F]\d+):([A-F]\d+)", formula)
                    inside = [each.value for first, last in areas for (each,) in sheet[first:last]]
                    assert micros(cell.value) == sum(map(micros, inside))
                    totals += 1
    assert totals == 3 * (4 if layout == "titled" else 3)


def test_the_titled_layout_is_merged(figures: list[baseline.Economics]) -> None:
    sheet = opened(baseline.render(figures, "titled")).worksheets[0]
    merged = {str(area) for area in sheet.merged_cells.ranges}
    assert {"A1:F1", "A4:A5", "B4:B5", "C4:C5", "D4:F4"} < merged
    assert len(merged) == 5 + 3
    assert [sheet.cell(5, column).value for column in (4, 5, 6)] == ["Accrual", "Cash", "Deposit"]


def test_the_monthly_layout_has_other_sheets_too(figures: list[baseline.Economics]) -> None:
    workbook = opened(baseline.render(figures, "monthly"))
    assert workbook.sheetnames == ["Jun 2026", "Jul 2026", "Aug 2026", "Notes", "Draft"]
    assert [sheet.sheet_state for sheet in workbook.worksheets] == ["visible"] * 4 + ["hidden"]


@pytest.mark.parametrize(
    ("fault", "cell", "value"),
    [
        ("formula_without_value", 4, "=1+1"),
        ("error_value", 4, "#REF!"),
        ("bad_month", 1, "03/26"),
        ("bad_amount", 4, "12,34.5O"),
    ],
)
def test_a_broken_workbook_is_broken_in_one_cell(
    figures: list[baseline.Economics], fault: baseline.Fault, cell: int, value: str
) -> None:
    good, bad = (
        list(opened(content, values=False).worksheets[0].iter_rows(values_only=True))
        for content in (baseline.render(figures), baseline.render(figures, fault=fault))
    )
    differing = [(row, at) for row in range(len(good)) for at in range(6) if good[row][at] != bad[row][at]]
    assert differing == [(len(good) - 1, cell - 1)]
    assert bad[-1][cell - 1] == value


def test_a_wrong_total_and_a_missing_column(figures: list[baseline.Economics]) -> None:
    *rows, total = [row for _, row in cells(baseline.render(figures, fault="wrong_total"))]
    assert total[0] == "Total"
    assert micros(total[3]) - sum(row.accrual for row in figures) == 10_000_000
    assert len(rows) == len(figures) + 1
    header = next(row for _, row in cells(baseline.render(figures, fault="missing_column")))
    assert not {"Publisher", "Publisher ID"} & set(header)


def test_files_that_do_harm(figures: list[baseline.Economics]) -> None:
    bomb = baseline.render(figures, fault="bomb")
    with zipfile.ZipFile(io.BytesIO(bomb)) as archive:
        assert sum(info.file_size for info in archive.infolist()) > baseline.BOMB_BYTES
    assert len(bomb) < 200_000
    with zipfile.ZipFile(io.BytesIO(baseline.render(figures, fault="entity_bomb"))) as archive:
        sheet = archive.read("xl/worksheets/sheet1.xml")
    assert sheet.count(b"<!ENTITY") == 10
    assert sheet.count(b"&a9;") == 1
    encrypted = baseline.render(figures, fault="encrypted")
    assert encrypted.startswith(b"\xd0\xcf\x11\xe0")
    assert "EncryptedPackage".encode("utf-16-le") in encrypted


def test_nothing_to_break(figures: list[baseline.Economics]) -> None:
    with pytest.raises(ValueError, match="at least one row"):
        baseline.render([], fault="bad_month")
    with pytest.raises(ValueError, match="plain layout"):
        baseline.render(figures, "titled", "bad_month")


def test_an_export_holds_the_months_that_were_asked_for(figures: list[baseline.Economics], tmp_path: Path) -> None:
    path = baseline.export(figures, tmp_path, date(2026, 6, 30), date(2026, 7, 1))
    assert path.name == "baseline_2026-06_2026-07.xlsx"
    assert {row[0].month for _, row in cells(path.read_bytes()) if isinstance(row[0], datetime)} == {6, 7}
    assert [each.name for each in tmp_path.iterdir()] == [path.name], "a temporary file was left behind"
