"""Rho's exports: whole or growing, overlapping, with twins, and broken in exactly one way."""

import csv
import io
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from finance_os.sandbox import rho
from finance_os.sandbox.process import Running
from finance_os.sandbox.world import World

from .conftest import START, UNTIL


def rows(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode(), newline="")))


def test_an_export_holds_the_lines_of_its_days(world: World, tmp_path: Path) -> None:
    first, last = START + timedelta(days=20), START + timedelta(days=50)
    path = rho.export(world.bank, tmp_path, first, last)
    assert path.name == f"rho_{first}_{last}.csv"
    header, *body = rows(path.read_bytes())
    assert tuple(header) == rho.HEADER
    lines = rho.lines_between(world.bank, first, last)
    assert len(body) == len(lines) > 10
    total = sum(Decimal(row[header.index("Amount")]) * 100 for row in body)
    assert total == sum(line.amount for line in lines)
    assert all(first.isoformat() <= row[header.index("Posted Date")] <= last.isoformat() for row in body)
    assert [p.name for p in tmp_path.iterdir()] == [path.name], "a temporary file was left behind"


def test_twins_are_there_and_have_no_transaction_id(world: World) -> None:
    counted = Counter(tuple(rho.fields(line)) for line in world.bank)
    twins = [row for row, count in counted.items() if count > 1]
    assert twins
    assert {counted[row] for row in twins} == {2}
    assert {row[0] for row in twins} == {""}
    named = [line.transaction_id for line in world.bank if line.transaction_id]
    assert len(named) == len(set(named))


def test_exports_overlap(world: World, tmp_path: Path) -> None:
    last = UNTIL.date()
    paths = rho.export_all(world.bank, tmp_path, START, last, days=30, overlap=2)
    contents = [rows(path.read_bytes())[1:] for path in paths]
    assert len(contents) == 5
    every = Counter(tuple(rho.fields(line)) for line in world.bank)
    assert set(every) == {tuple(row) for content in contents for row in content}
    repeated = sum(len(content) for content in contents) - len(world.bank)
    assert repeated > 0


@pytest.mark.parametrize("fault", rho.FAULTS)
def test_a_broken_file_is_broken_in_one_way(world: World, fault: rho.Fault) -> None:
    good = rows(rho.render(world.bank))
    content = rho.render(world.bank, fault)
    if fault == "wrong_encoding":
        with pytest.raises(UnicodeDecodeError):
            content.decode()
        content = content.decode("latin-1").encode()
    bad = rows(content)
    differing = [index for index, (left, right) in enumerate(zip(good, bad, strict=True)) if left != right]
    if fault == "missing_column":
        assert bad[0] == [name for name in good[0] if name != "Amount"]
        assert {len(row) for row in bad} == {len(rho.HEADER) - 1}
    else:
        assert differing == [len(good) - 1]
        widths = {len(row) for row in bad}
        assert widths == ({len(rho.HEADER), len(rho.HEADER) - 3} if fault == "ragged_line" else {len(rho.HEADER)})


def test_an_amended_export_has_the_one_charge_that_exports_leave_out(world: World, tmp_path: Path) -> None:
    bank = rho.amended(world.bank)
    ((at, charge),) = [(at, line) for at, line in enumerate(bank) if line not in world.bank]
    assert bank[:at] + bank[at + 1 :] == world.bank
    assert (charge.amount, charge.posted) == (-777, world.bank[at - 1].posted)
    assert charge.transaction_id not in {line.transaction_id for line in world.bank}
    first, last = charge.posted, UNTIL.date()
    plain = rho.export(world.bank, tmp_path, first, last, name="plain.csv")
    corrected = rho.export(bank, tmp_path, first, last, name="amended.csv")
    assert Counter(corrected.read_text().splitlines()) - Counter(plain.read_text().splitlines()) == Counter(
        [",".join(rho.fields(charge))]
    )
    assert rho.amended(world.bank[:5]) == world.bank[:5], "before the bank has booked it"


def test_nothing_to_break() -> None:
    with pytest.raises(ValueError, match="at least one line"):
        rho.render([], "bad_date")


def test_a_growing_file_is_seen_growing(world: World, tmp_path: Path) -> None:
    content = rho.render(world.bank)
    sizes: list[int] = []
    path = rho.write_slowly(
        tmp_path, "slow.csv", content, steps=4, wait=lambda: sizes.append((tmp_path / "slow.csv").stat().st_size)
    )
    assert path.read_bytes() == content
    assert sizes == sorted(set(sizes))
    assert len(sizes) == 4


def test_the_sandbox_fills_its_drop_folder(sandbox: Running, world: World) -> None:
    folder = Path(sandbox.env["FINANCE_OS_DROPS"])
    held = {tuple(row) for path in folder.glob("rho_*.csv") for row in rows(path.read_bytes())[1:]}
    assert held == {tuple(rho.fields(line)) for line in world.bank}
    answer = sandbox.call(
        "POST",
        "/drops",
        {"first": START.isoformat(), "last": UNTIL.date().isoformat(), "name": "broken.csv", "fault": "bad_amount"},
    )
    path = Path(answer["path"])
    assert path.parent == folder
    assert "12,34.5O" in path.read_text()
    path.unlink()
    told = {"first": START.isoformat(), "last": UNTIL.date().isoformat(), "name": "amended.csv"}
    amended = sandbox.call("POST", "/drops", {**told, "amended": True})
    assert amended["lines"] == len(world.bank) + 1
    path = Path(amended["path"])
    assert "-7.77" in path.read_text()
    path.unlink()
