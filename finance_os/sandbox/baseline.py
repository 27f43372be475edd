"""Finance's spreadsheet: what each publisher earned, was paid and still had coming, by month, as workbooks.

The figures are the world's own, so that they agree with Gravity and the bank to the microdollar, except where `plant`
says otherwise. A workbook is written in one of several layouts, or broken in one chosen way; the same world gives the
same bytes.
"""

import io
import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

from .company import Planted, earnings_usd_micros
from .rho import write
from .world import World

HEADER = ("Period", "Publisher ID", "Publisher", "baseline_accrual", "baseline_cash", "baseline_deposit")
AMOUNTS = ("accrual", "cash", "deposit")

Layout = Literal["plain", "titled", "monthly", "microdollars"]
LAYOUTS: tuple[Layout, ...] = ("plain", "titled", "monthly", "microdollars")
"""plain: one table, months as dates. titled: a title, a header of two merged rows, a subtotal a month and a grand total
by formulas with their values. monthly: a sheet a month, named after it, with its total. microdollars: whole numbers of
microdollars, months as 202603."""

Fault = Literal[
    "formula_without_value", "error_value", "bad_month", "bad_amount", "missing_column", "wrong_total", "bomb",
    "entity_bomb", "encrypted",
]  # fmt: skip
FAULTS: tuple[Fault, ...] = (
    "formula_without_value", "error_value", "bad_month", "bad_amount", "missing_column", "wrong_total", "bomb",
    "entity_bomb", "encrypted",
)  # fmt: skip
"""Each sits in the last row of the plain layout (in the header where a column is missing), or is the whole file. A
wrong total is no reason to refuse a file, but to ask."""

PLANTED: dict[str, str] = {
    "baseline_duplicate_key": "In the first month, the second publisher is there twice.",
    "baseline_accrual_transposed": "In the last month, two digits of the first accrual have changed places.",
    "baseline_publisher_missing": "In the last month, the last publisher is missing.",
}
"""Every way in which the spreadsheet disagrees with the other systems: kind -> what it is."""

BOMB_BYTES = 96 * 1024 * 1024
_EPOCH = (1980, 1, 1, 0, 0, 0)
_MONEY = "#,##0.00_);(#,##0.00)"


@dataclass(frozen=True, slots=True)
class Economics:
    """One publisher in one month, in millionths of a US dollar.

    `accrual` is what it earned in the month, `cash` what the bank paid out to it, and `deposit` what it had earned
    until the end of the month and had not been paid.
    """

    month: date
    publisher: str
    name: str
    accrual: int
    cash: int
    deposit: int


def economics(world: World) -> list[Economics]:
    """Every publisher in every month of the world's life, by month and publisher. The last month may not be over."""
    earned: defaultdict[tuple[date, str], int] = defaultdict(int)
    for advertiser in world.advertisers:
        for campaign in advertiser.campaigns:
            day = campaign.starts
            while day < world.today and (campaign.ends is None or day < campaign.ends):
                micros = campaign.spend(world.seed, day)
                share = earnings_usd_micros(micros, advertiser.currency) // len(campaign.publishers)
                for index in campaign.publishers:
                    earned[day.replace(day=1), world.publishers[index].id] += share
                day += timedelta(days=1)
    paid: defaultdict[tuple[date, str], int] = defaultdict(int)
    for line in world.bank:
        if line.description.startswith("PUBLISHER PAYOUT ") and line.reference is not None:
            paid[line.posted.replace(day=1), line.reference] -= line.amount * 10_000
    rows: list[Economics] = []
    owed: defaultdict[str, int] = defaultdict(int)
    month = world.start.replace(day=1)
    while month <= world.today:
        for publisher in world.publishers:
            accrual, cash = earned[month, publisher.id], paid[month, publisher.id]
            owed[publisher.id] += accrual - cash
            rows.append(Economics(month, publisher.id, publisher.name, accrual, cash, owed[publisher.id]))
        month = _following(month)
    return rows


def between(rows: Iterable[Economics], first: date, last: date) -> list[Economics]:
    """The rows of the months of two days and those between them."""
    return [row for row in rows if first.replace(day=1) <= row.month <= last]


def plant(rows: Sequence[Economics], mended: Collection[str] = ()) -> tuple[list[Economics], list[Planted]]:
    """The rows with every deliberate disagreement but those `mended`, and the list of them.

    ValueError for fewer than three publishers, or for a disagreement that there is not.
    """
    if unknown := set(mended) - PLANTED.keys():
        raise ValueError(f"there is no disagreement {sorted(unknown)}; there are {sorted(PLANTED)}")
    if len({row.publisher for row in rows}) < 3:
        raise ValueError("disagreements need at least three publishers")
    first, last = rows[0].month, rows[-1].month
    twice = [row for row in rows if row.month == first][1]
    *others, missing = [row for row in rows if row.month == last]
    wrong = next((row for row in others if _transposed(row.accrual) != row.accrual and row is not twice), None)
    planted = [
        _planted("baseline_duplicate_key", twice, "a second row, one dollar more"),
        _planted("baseline_publisher_missing", missing, "no row"),
    ]
    if wrong is not None:
        detail = f"{_transposed(wrong.accrual)} microdollars instead of {wrong.accrual}"
        planted.append(_planted("baseline_accrual_transposed", wrong, detail))
    planted = [each for each in planted if each.kind not in mended]
    kinds = {each.kind for each in planted}
    changed: list[Economics] = []
    for row in rows:
        if row is missing and "baseline_publisher_missing" in kinds:
            continue
        transposed = row is wrong and "baseline_accrual_transposed" in kinds
        changed.append(replace(row, accrual=_transposed(row.accrual)) if transposed else row)
        if row is twice and "baseline_duplicate_key" in kinds:
            changed.append(replace(row, accrual=row.accrual + 1_000_000))
    return changed, planted


def render(rows: Iterable[Economics], layout: Layout = "plain", fault: Fault | None = None) -> bytes:
    """A workbook's bytes. ValueError where there is no row to break, or another layout than plain is to be broken."""
    kept = list(rows)
    if fault is not None and (not kept or layout != "plain"):
        raise ValueError("a broken workbook has the plain layout and at least one row to break")
    if fault == "encrypted":
        return _encrypted()
    from openpyxl import Workbook

    workbook = Workbook()
    values: dict[str, dict[str, str]] = {}
    _LAYOUTS[layout](workbook, kept, values)
    if fault is not None:
        _break(workbook, fault)
    parts = _parts(workbook)
    for part, cells in values.items():
        parts[part] = _with_values(parts[part], cells)
    if fault == "bomb":
        parts["xl/worksheets/sheet1.xml"] = _bomb(parts["xl/worksheets/sheet1.xml"])
    elif fault == "entity_bomb":
        parts["xl/worksheets/sheet1.xml"] = _with_entities(parts["xl/worksheets/sheet1.xml"])
    return _archive(parts)


def export(
    rows: Iterable[Economics],
    folder: Path,
    first: date,
    last: date,
    *,
    name: str | None = None,
    layout: Layout = "plain",
    fault: Fault | None = None,
) -> Path:
    """A workbook of a range of months in the drop folder, named after them unless `name` is given."""
    content = render(between(rows, first, last), layout, fault)
    return write(folder, name or f"baseline_{first:%Y-%m}_{last:%Y-%m}.xlsx", content)


# --- layouts


def _plain(workbook: Any, rows: list[Economics], values: dict[str, dict[str, str]]) -> None:  # noqa: ARG001
    sheet = workbook.active
    sheet.title = "Baseline"
    sheet.append(HEADER)
    for row in rows:
        sheet.append((row.month, row.publisher, row.name, *_dollars(row)))
        sheet.cell(sheet.max_row, 1).number_format = "mmm-yy"
        for column in (4, 5, 6):
            sheet.cell(sheet.max_row, column).number_format = _MONEY


def _titled(workbook: Any, rows: list[Economics], values: dict[str, dict[str, str]]) -> None:
    sheet = workbook.active
    sheet.title = "Economics"
    sheet["A1"] = "Publisher economics"
    sheet.merge_cells("A1:F1")
    sheet["A2"] = "US dollars, by month"
    for column, text in enumerate(("Month", "Publisher ID", "Publisher", "Baseline"), start=1):
        sheet.cell(4, column, text)
    for column, text in enumerate(AMOUNTS, start=4):
        sheet.cell(5, column, text.capitalize())
    for area in ("A4:A5", "B4:B5", "C4:C5", "D4:F4"):
        sheet.merge_cells(area)
    known = values["xl/worksheets/sheet1.xml"] = {}
    ranges: list[tuple[int, int]] = []
    at = 6
    for month in dict.fromkeys(row.month for row in rows):
        first = at
        for row in rows:
            if row.month == month:
                cells = (f"{month:%B %Y}" if at == first else None, row.publisher, row.name, *_dollars(row))
                for column, value in enumerate(cells, start=1):
                    sheet.cell(at, column, value)
                at += 1
        if at - first > 1:
            sheet.merge_cells(f"A{first}:A{at - 1}")
        sheet.cell(at, 1, f"Total {month:%B %Y}")
        _total(sheet, at, [(first, at - 1)], [row for row in rows if row.month == month], known)
        ranges.append((first, at - 1))
        at += 1
    sheet.cell(at, 1, "Grand total")
    _total(sheet, at, ranges, rows, known)
    sheet.cell(at + 2, 1, "Source: finance, unaudited")


def _monthly(workbook: Any, rows: list[Economics], values: dict[str, dict[str, str]]) -> None:
    workbook.remove(workbook.active)
    for number, month in enumerate(dict.fromkeys(row.month for row in rows), start=1):
        sheet = workbook.create_sheet(f"{month:%b %Y}")
        sheet.append(HEADER[1:])
        of_month = [row for row in rows if row.month == month]
        for row in of_month:
            sheet.append((row.publisher, row.name, *_dollars(row)))
        at = len(of_month) + 2
        sheet.cell(at, 1, "Total")
        known = values[f"xl/worksheets/sheet{number}.xml"] = {}
        _total(sheet, at, [(2, at - 1)], of_month, known, first_column=3)
    notes = workbook.create_sheet("Notes")
    notes["A1"] = "One sheet a month."
    hidden = workbook.create_sheet("Draft")
    hidden.sheet_state = "hidden"
    hidden.append(HEADER)
    hidden.append(("2026-01", "pub_99999", "Not to be read", 1, 1, 1))


def _microdollars(workbook: Any, rows: list[Economics], values: dict[str, dict[str, str]]) -> None:  # noqa: ARG001
    sheet = workbook.active
    sheet.title = "Microdollars"
    sheet.append(("Month", "Publisher ID", *(f"baseline_{name}_microdollars" for name in AMOUNTS)))
    for row in rows:
        sheet.append((int(f"{row.month:%Y%m}"), row.publisher, row.accrual, row.cash, row.deposit))


_LAYOUTS: dict[Layout, Callable[[Any, list[Economics], dict[str, dict[str, str]]], None]] = {
    "plain": _plain,
    "titled": _titled,
    "monthly": _monthly,
    "microdollars": _microdollars,
}


def _total(
    sheet: Any,
    at: int,
    ranges: list[tuple[int, int]],
    rows: list[Economics],
    values: dict[str, str],
    first_column: int = 4,
) -> None:
    """Sums by formula; `values` gets what Excel would have calculated, which openpyxl does not."""
    for column, name in enumerate(AMOUNTS, start=first_column):
        letter = chr(64 + column)
        sheet.cell(at, column, f"=SUM({','.join(f'{letter}{first}:{letter}{last}' for first, last in ranges)})")
        values[f"{letter}{at}"] = _decimal(sum(getattr(row, name) for row in rows))


def _dollars(row: Economics) -> tuple[float, float, float]:
    """Amounts as a spreadsheet holds them: in binary, exact to fifteen digits."""
    return float(_decimal(row.accrual)), float(_decimal(row.cash)), float(_decimal(row.deposit))


def _decimal(micros: int) -> str:
    sign = "-" if micros < 0 else ""
    return f"{sign}{abs(micros) // 1_000_000}.{abs(micros) % 1_000_000:06d}"


# --- faults


def _break(workbook: Any, fault: Fault) -> None:
    sheet = workbook.active
    last = sheet.max_row
    accrual = sheet.cell(last, 4)
    if fault == "formula_without_value":
        accrual.value = "=1+1"
    elif fault == "error_value":
        accrual.value = "#REF!"
    elif fault == "bad_month":
        sheet.cell(last, 1).value = "03/26"
    elif fault == "bad_amount":
        accrual.value = "12,34.5O"
    elif fault == "missing_column":
        sheet.cell(1, 2).value, sheet.cell(1, 3).value = "Site", "Site name"
    elif fault == "wrong_total":
        summed = sum(sheet.cell(row, 4).value for row in range(2, last + 1))
        sheet.append(("Total", None, None, summed + 10))


def _bomb(part: bytes) -> bytes:
    """A sheet that deflates to some hundred kilobytes."""
    head, tail = part.split(b"</sheetData>")
    return head + b" " * BOMB_BYTES + b"</sheetData>" + tail


def _with_entities(part: bytes) -> bytes:
    """A sheet whose cells stand for a billion laughs."""
    laughs = [b'<!ENTITY a0 "ha">', *(b'<!ENTITY a%d "%b">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 10))]
    body = re.sub(rb"<\?xml[^>]*\?>", b"", part)
    body = body.replace(b"<v>", b"<v>&a9;", 1)
    return b'<?xml version="1.0"?><!DOCTYPE worksheet [' + b"".join(laughs) + b"]>" + body


def _encrypted() -> bytes:
    """The outside of a workbook with a password: a compound file with the two streams of [MS-OFFCRYPTO]."""

    def entry(name: str, kind: int) -> bytes:
        text = name.encode("utf-16-le")
        return text.ljust(64, b"\0") + (len(text) + 2).to_bytes(2, "little") + bytes([kind]) + bytes(61)

    header = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1".ljust(512, b"\0")
    return header + entry("Root Entry", 5) + entry("EncryptionInfo", 2) + entry("EncryptedPackage", 2) + entry("", 0)


# --- bytes


def _parts(workbook: Any) -> dict[str, bytes]:
    """What openpyxl writes, by part, without the time at which it did."""
    from openpyxl.writer.excel import ExcelWriter

    workbook.properties.creator = "Finance"
    workbook.properties.created = workbook.properties.modified = datetime(*_EPOCH[:6])
    buffer = io.BytesIO()
    ExcelWriter(workbook, zipfile.ZipFile(buffer, "w")).save()
    with zipfile.ZipFile(buffer) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _with_values(part: bytes, values: dict[str, str]) -> bytes:
    """A sheet's XML with the values of its formulas in place."""
    for cell, value in values.items():
        pattern = rf'(<c r="{cell}"[^>]*><f>[^<]*</f>)<v\s*(?:/>|></v>)'.encode()
        part, count = re.subn(pattern, rb"\g<1><v>" + value.encode() + b"</v>", part)
        assert count == 1, cell
    return part


def _archive(parts: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content, zipfile.ZIP_DEFLATED)
    return buffer.getvalue()


# --- figures


def _following(month: date) -> date:
    return (month + timedelta(days=31)).replace(day=1)


def _transposed(micros: int) -> int:
    """`micros` with the first two neighbouring digits that differ in each other's place, of whole dollars."""
    dollars, rest = divmod(micros, 1_000_000)
    text = str(dollars)
    for at in range(len(text) - 1):
        if text[at] != text[at + 1] and not (at == 0 and text[1] == "0"):
            text = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
            break
    return int(text) * 1_000_000 + rest


def _planted(kind: str, row: Economics, detail: str) -> Planted:
    return Planted(kind, "xlsx", f"{row.month:%Y-%m}:{row.publisher}", detail)
