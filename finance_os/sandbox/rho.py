"""Rho's bank exports: CSV files for a range of days, written whole, growing, or broken in one chosen way.

No public document gives Rho's header: HEADER is assumed. Amounts are signed dollars with two decimals, dates ISO 8601.
A line without a transaction ID can have a genuine twin: a second movement that looks exactly the same.

Exports leave one charge out that the bank has booked (Plaid shows it, see PLANTED there). An amended export has it.
"""

import csv
import io
import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

from .company import BankLine
from .ids import letters

HEADER = (
    "Transaction ID", "Date", "Posted Date", "Description", "Counterparty", "Amount", "Currency", "Status", "Type",
    "Reference", "Account",
)  # fmt: skip
ACCOUNT = "Operating ****4821"

_CHARGE_AFTER = 6
_CHARGE_CENTS = -777

Fault = Literal["bad_date", "bad_amount", "missing_column", "wrong_encoding", "ragged_line"]
FAULTS: tuple[Fault, ...] = ("bad_date", "bad_amount", "missing_column", "wrong_encoding", "ragged_line")


def dollars(cents: int) -> str:
    """Signed US cents as Rho writes them: -1500 is `-15.00`."""
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02d}"


def fields(line: BankLine) -> list[str]:
    """A bank line as the cells under HEADER."""
    return [
        line.transaction_id or "",
        line.begun.isoformat(),
        line.posted.isoformat(),
        line.description,
        line.counterparty,
        dollars(line.amount),
        line.currency,
        line.status,
        line.type,
        line.reference or "",
        ACCOUNT,
    ]


def lines_between(bank: Iterable[BankLine], first: date, last: date) -> list[BankLine]:
    """The lines posted from `first` to `last`, both included, in the order in which they were posted."""
    return [line for line in bank if first <= line.posted <= last]


def amended(bank: Sequence[BankLine]) -> list[BankLine]:
    """The account as the bank corrects it: with the charge that exports leave out, once there are that many lines."""
    lines = list(bank)
    if len(lines) >= _CHARGE_AFTER:
        charge = replace(
            lines[_CHARGE_AFTER - 1],
            transaction_id="rho_" + letters("bank:charge left out", 20).lower(),
            description="ACCOUNT ANALYSIS CHARGE",
            counterparty="Rho",
            amount=_CHARGE_CENTS,
            type="Fee",
            reference=None,
            payout=None,
        )
        lines.insert(_CHARGE_AFTER, charge)
    return lines


def render(lines: Iterable[BankLine], fault: Fault | None = None) -> bytes:
    """The file's bytes. A fault sits in the last row (in the header where a column is missing)."""
    rows = [list(HEADER), *(fields(line) for line in lines)]
    if fault is not None and len(rows) < 2:
        raise ValueError("a broken file needs at least one line to break")
    if fault == "bad_date":
        rows[-1][HEADER.index("Posted Date")] = "2026-02-30"
    elif fault == "bad_amount":
        rows[-1][HEADER.index("Amount")] = "12,34.5O"
    elif fault == "missing_column":
        rows = [[cell for cell, name in zip(row, HEADER, strict=True) if name != "Amount"] for row in rows]
    elif fault == "ragged_line":
        rows[-1] = rows[-1][:-3]
    elif fault == "wrong_encoding":
        rows[-1][HEADER.index("Counterparty")] = "Café Médias"
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\r\n").writerows(rows)
    return buffer.getvalue().encode("latin-1" if fault == "wrong_encoding" else "utf-8")


def write(folder: Path, name: str, content: bytes) -> Path:
    """Put a file into the drop folder in one rename: a watcher sees all of it or nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    hidden = folder / f".{name}.{os.getpid()}.part"
    hidden.write_bytes(content)
    return hidden.rename(folder / name)


def write_slowly(
    folder: Path,
    name: str,
    content: bytes,
    *,
    steps: int = 5,
    wait: Callable[[], None] = lambda: time.sleep(0.2),
) -> Path:
    """Write a file in `steps` parts under its final name, waiting after each: an upload that is still going on."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    size = -(-len(content) // steps)
    with path.open("wb") as file:
        for start in range(0, len(content), size):
            file.write(content[start : start + size])
            file.flush()
            wait()
    return path


def export(
    bank: Iterable[BankLine],
    folder: Path,
    first: date,
    last: date,
    *,
    name: str | None = None,
    fault: Fault | None = None,
) -> Path:
    """One export of a range of days, both included; the file is named after them unless `name` is given."""
    return write(folder, name or f"rho_{first}_{last}.csv", render(lines_between(bank, first, last), fault))


def export_all(
    bank: Iterable[BankLine], folder: Path, first: date, last: date, *, days: int = 30, overlap: int = 2
) -> list[Path]:
    """Exports of `days` days each over a whole range, every one repeating the last `overlap` days of the one before."""
    kept = list(bank)
    paths: list[Path] = []
    start = first
    while start <= last:
        end = min(last, start + timedelta(days=days - 1))
        paths.append(export(kept, folder, max(first, start - timedelta(days=overlap)), end))
        start = end + timedelta(days=1)
    return paths
