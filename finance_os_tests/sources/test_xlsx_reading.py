"""Workbooks from the inbox to the evidence: who supersedes whom, what is doubted, and what a refusal says."""

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from finance_os import settings as settings_module
from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.exceptions import open_exceptions
from finance_os.evidence.extraction import Finding, Kind, Notice, Page, RemoteCount, Request, SourceError
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Trigger
from finance_os.evidence.windows import Days, day_of, window_of
from finance_os.sandbox import baseline as sandbox
from finance_os.sandbox.world import build
from finance_os.sources import drops
from finance_os.sources.credentials import Credentials
from finance_os.sources.drops import Drop, Outcome, Taken, Target
from finance_os.sources.planning import plan_reads
from finance_os.sources.xlsx import XLSX, reading
from finance_os.sources.xlsx.columns import COLUMNS_SETTING, Columns
from finance_os.sources.xlsx.doubts import as_of
from finance_os.sources.xlsx.reading import XlsxReader
from finance_os_tests.sources.test_rho import keep
from finance_os_tests.sources.test_xlsx import FULL, HEADER, NEW_YORK, book, books

OBJECT = XLSX.object("publisher_month_baseline")
DAY = date(2026, 9, 1)
NOON = datetime(2026, 9, 1, 16, tzinfo=UTC)


class Desk:
    """An operator's desk at one business: an inbox, and what came of what was dropped there."""

    def __init__(self, database: Database, connection: Connection, location: Path) -> None:
        self.database = database
        self.connection = connection
        self.location = location
        self.inbox = location / connection.business_id / "xlsx"
        self._number = itertools.count(1)

    def drop(self, data: bytes, name: str | None = None) -> Taken:
        """Put a file into the inbox, and let it be taken."""
        self.inbox.mkdir(parents=True, exist_ok=True)
        (self.inbox / (name or f"{next(self._number)}.xlsx")).write_bytes(data)
        return self.take()

    def take(self) -> Taken:
        location = str(self.location)
        (file,) = drops.look(location, self.connection, XLSX.reads).waiting
        assert XLSX.judge is not None
        return drops.take(
            self.database, self.connection, XLSX.judge, file, location=location, credentials=Credentials({})
        )

    def hand_in(self, *rows: Sequence[Any], **more: Any) -> Drop:
        """An accepted workbook that is not staged yet."""
        taken = self.drop(book(*rows, **more))
        assert taken.outcome is Outcome.ACCEPTED
        assert taken.drop is not None
        return taken.drop

    def stage(self, *chosen: Drop) -> dict[str, Any]:
        """Read drops as one sync run, as a run of their day does; its row."""
        day = chosen[0].first_day
        assert day is not None
        now = datetime.now(UTC)
        (read,) = plan_reads(XLSX, OBJECT, self.connection, Days(day, day), now, drops=chosen)
        return perform(self.database, read, Origin(Trigger.DROP), chunk_rows=2)

    def heads(self) -> dict[str, dict[str, Any]]:
        """Source ID → payload of what is current."""
        rows = self.database.fetch(
            "SELECT source_id, payload FROM finance_os.raw_record_heads"
            " JOIN finance_os.raw_source_records USING (record_id, business_id, source_id)"
            " WHERE NOT removed AND business_id = %(business)s ORDER BY source_id",
            {"business": self.connection.business_id},
        )
        return {row["source_id"]: row["payload"] for row in rows}

    def accruals(self) -> dict[str, int | None]:
        return {source_id: payload["baseline_accrual_microdollars"] for source_id, payload in self.heads().items()}

    def open(self) -> dict[tuple[str, str], str]:
        """Code and subject → severity of what is open."""
        found = open_exceptions(self.database, self.connection.business_id)
        assert len({(each.code, each.subject) for each in found}) == len(found), "one thing is open twice"
        return {(each.code, each.subject): each.severity.value for each in found}


def _desk(database: Database, location: Path, business: str, zone: str) -> Desk:
    ensure_business(database, business, business.title(), zone)
    return Desk(database, ensure_connection(database, business, "xlsx"), location)


@pytest.fixture
def desk(database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    monkeypatch.setenv("FINANCE_OS_DROPS", str(tmp_path))
    settings_module.settings.cache_clear()
    yield _desk(database, tmp_path, "main", "America/New_York")
    settings_module.settings.cache_clear()


def row(publisher: str, accrual: Any = 1, month: str = "2026-03") -> Sequence[Any]:
    return (month, publisher, "Acorn", accrual, None, None)


TWICE = ("baseline_duplicate_key", "2026-03:pub_1")
TOTAL = ("baseline_total_differs", "2026-03")


# From the inbox


def test_an_accepted_workbook_is_staged_on_the_day_it_came(desk: Desk) -> None:
    taken = desk.drop(books({"A": [HEADER, FULL], "B": [HEADER, ("Apr 2026", *FULL[1:])]}), "March.xlsx")
    assert taken.outcome is Outcome.ACCEPTED
    assert taken.drop is not None
    today = day_of(datetime.now(UTC), NEW_YORK)
    assert (taken.drop.first_day, taken.drop.last_day, taken.drop.row_count) == (today, today, 2)
    run = desk.stage(taken.drop)
    assert (run["kind"], run["rows_new"], run["remote_count"], run["requested"]) == ("drop", 2, 2, {"READ drops": 1})
    assert desk.heads()["2026-03:pub_00012"] == {
        "period": "2026-03",
        "publisher_key": "pub_00012",
        "publisher_id": "pub_00012",
        "publisher": "Acorn Media",
        "baseline_accrual_microdollars": 1_234_500_000,
        "baseline_cash_microdollars": 1_000_000_000,
        "baseline_deposit_microdollars": 234_500_000,
        "raw": {"baseline_accrual": "1234.5", "baseline_cash": "1000", "baseline_deposit": "234.5"},
        "sheet": "A",
        "row": 2,
        "occurrence": 1,
        "occurrences": 1,
        "duplicate_as_of": None,
        "total_off_as_of": None,
    }
    sightings = desk.database.fetch("SELECT partition_day, provenance FROM finance_os.source_sync_sightings ORDER BY 2")
    assert [each["partition_day"] for each in sightings] == [today, today]
    assert [each["provenance"] for each in sightings] == [
        {"page": {"drop": taken.drop.content_hash, "file_name": "March.xlsx", "sheet": sheet}, "records": [2]}
        for sheet in "AB"
    ]
    assert desk.open() == {}
    assert list(desk.inbox.iterdir()) == []


def test_a_refused_workbook_is_explained_to_who_dropped_it(desk: Desk) -> None:
    rows = [HEADER, row("pub_1"), ("03/26", "pub_2", "Acorn", "1.234,50", "#REF!", "=1+1")]
    taken = desk.drop(books({"Mar 26": rows}), "March.xlsx")
    assert taken.outcome is Outcome.QUARANTINED
    report = (desk.inbox / "quarantined" / "March.xlsx.report.txt").read_text()
    for expected in (
        'sheet "Mar 26", row 3, column "Period" (\'03/26\'): cell A3: has no year that is certain: write it as',
        'sheet "Mar 26", row 3, column "baseline_accrual" (\'1.234,50\'): cell D3: may have a comma for its',
        'sheet "Mar 26", row 3, column "baseline_cash" (\'#REF!\'): cell E3: has an error for a value: correct',
        'sheet "Mar 26", row 3, column "baseline_deposit": cell F3: has a formula whose value was not saved:',
    ):
        assert expected in report
    assert "Acorn" not in report
    assert desk.heads() == {}
    (kept,) = desk.database.fetch("SELECT verdict, report FROM finance_os.drops")
    assert kept["verdict"] == "quarantined"
    assert kept["report"]["problem_count"] == 4
    assert {(problem["sheet"], problem["row"]) for problem in kept["report"]["problems"]} == {("Mar 26", 3)}


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("formula_without_value", "formula_without_value"),
        ("error_value", "error_value"),
        ("bad_month", "ambiguous_month"),
        ("bad_amount", "bad_amount"),
        ("missing_column", "missing_column"),
        ("bomb", "archive_bomb"),
        ("entity_bomb", "xml_entities"),
        ("encrypted", "encrypted"),
    ],
)
def test_a_workbook_that_is_broken_is_refused(desk: Desk, fault: sandbox.Fault, code: str) -> None:
    figures = [sandbox.Economics(date(2026, 3, 1), f"pub_{n}", "Acorn", n, n, n) for n in range(1, 4)]
    path = sandbox.export(figures, desk.inbox, date(2026, 3, 1), date(2026, 3, 31), fault=fault)
    taken = desk.take()
    assert taken.outcome is Outcome.QUARANTINED
    assert [problem.code for problem in taken.problems] == [code]
    report = (desk.inbox / "quarantined" / f"{path.name}.report.txt").read_text()
    assert f"[{code}]" in report
    assert sorted(each.name for each in desk.inbox.iterdir()) == ["quarantined"]


def test_every_kind_of_workbook_is_taken_and_others_are_left_alone(desk: Desk) -> None:
    desk.inbox.mkdir(parents=True)
    names = ["a.xlsx", "B.XLSX", "c.xlsm", "d.xls", "e.xlsb", "~$a.xlsx", "f.csv", "g.xlsx.part"]
    for name in names:
        (desk.inbox / name).write_bytes(b"x")
    inbox = drops.look(str(desk.location), desk.connection, XLSX.reads)
    assert sorted(file.name for file in inbox.waiting) == ["B.XLSX", "a.xlsx", "c.xlsm", "d.xls", "e.xlsb"]


# The world's own figures, in every layout


def test_every_layout_says_the_same_and_what_is_planted_is_found(database: Database, tmp_path: Path) -> None:
    world = build(seed=7, start=date(2026, 6, 20), until=datetime(2026, 7, 20, tzinfo=UTC), size=4)
    figures, planted = sandbox.plant(sandbox.economics(world))
    said: list[dict[str, Any]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FINANCE_OS_DROPS", str(tmp_path))
        settings_module.settings.cache_clear()
        for layout in sandbox.LAYOUTS:
            desk = _desk(database, tmp_path, layout, "Asia/Tokyo")
            sandbox.export(figures, desk.inbox, date(2026, 6, 1), date(2026, 7, 31), layout=layout)
            taken = desk.take()
            assert taken.drop is not None
            desk.stage(taken.drop)
            fields = ("period", "publisher_id", *(f"baseline_{name}_microdollars" for name in sandbox.AMOUNTS))
            said.append({key: [payload[name] for name in fields] for key, payload in desk.heads().items()})
            (twice,) = [each.id for each in planted if each.kind == "baseline_duplicate_key"]
            assert desk.open() == {("baseline_duplicate_key", twice): "high"}
    settings_module.settings.cache_clear()
    assert sorted(said[0].values(), key=str) == sorted(
        ([f"{each.month:%Y-%m}", each.publisher, each.accrual, each.cash, each.deposit] for each in figures), key=str
    )
    assert len(said[0]) == len(figures)
    assert all(each == said[0] for each in said[1:])


# Who supersedes whom


def test_a_corrected_workbook_supersedes(desk: Desk) -> None:
    wrong = desk.hand_in(row("pub_1", 1), row("pub_2", 2), row("PUB_1", 3))
    desk.stage(wrong)
    assert desk.accruals() == {
        "2026-03:pub_1": 1_000_000, "2026-03:pub_1#2": 3_000_000, "2026-03:pub_2": 2_000_000,
    }  # fmt: skip
    assert desk.open() == {TWICE: "high"}
    (found,) = open_exceptions(desk.database)
    assert found.detail == (
        f"Drop {wrong.content_hash[:12]} has this month and publisher 2 times: row 2 of sheet 1, row 4 of sheet 1."
    )
    run = desk.stage(desk.hand_in(row("pub_1", 4), row("pub_2", 2)))
    assert desk.accruals() == {"2026-03:pub_1": 4_000_000, "2026-03:pub_2": 2_000_000}
    assert (run["rows_changed"], run["rows_unchanged"], run["rows_removed"]) == (1, 1, 1)
    assert desk.open() == {}


def test_a_workbook_says_nothing_of_what_it_does_not_name(desk: Desk) -> None:
    desk.stage(desk.hand_in(row("pub_1", 1), row("pub_1", 2), row("pub_2", 3), ("Total", None, None, 7)))
    before = desk.accruals()
    assert desk.open() == {TWICE: "high", TOTAL: "medium"}
    desk.stage(desk.hand_in(row("pub_1", 5, "2026-04")))
    assert desk.accruals() == before | {"2026-04:pub_1": 5_000_000}
    assert desk.open() == {TWICE: "high", TOTAL: "medium"}, "a doubt was settled by a workbook that does not name it"
    desk.stage(desk.hand_in(row("pub_1", None)))
    assert desk.accruals() == {"2026-03:pub_1": None, "2026-03:pub_2": 3_000_000, "2026-04:pub_1": 5_000_000}
    assert desk.open() == {TOTAL: "medium"}
    desk.stage(desk.hand_in(row("pub_2", 3)))
    assert desk.open() == {}


def test_reading_a_workbook_again_changes_nothing(desk: Desk) -> None:
    first = desk.hand_in(row("pub_1", 1), row("pub_1", 2), ("Total", None, None, 9))
    desk.stage(first)
    before, doubts = desk.heads(), desk.open()
    run = desk.stage(first)
    assert (run["rows_new"], run["rows_changed"], run["rows_unchanged"], run["rows_removed"]) == (0, 0, 2, 0)
    assert (desk.heads(), desk.open()) == (before, doubts)
    assert desk.drop((desk.location / drops.kept_as(first.content_hash)).read_bytes()).outcome is Outcome.DUPLICATE


WORKBOOKS: Mapping[str, Sequence[Sequence[Any]]] = {
    "twice": [row("pub_1", 1), row("pub_1", 2), row("pub_2", 3)],
    "once": [row("pub_1", 4), row("pub_2", 5)],
    "thrice": [row("pub_1", 6), row("pub_1", 7), row("pub_1", 8), ("Total", None, None, 1)],
    "other": [row("pub_3", 9), row("pub_1", 10, "2026-04")],
}


@pytest.mark.parametrize(
    "names", [*itertools.permutations(WORKBOOKS, 2), ("twice", "once", "thrice"), ("thrice", "twice", "once")]
)
def test_one_run_or_several_in_order_end_the_same(desk: Desk, names: Sequence[str]) -> None:
    handed_in = [desk.hand_in(*WORKBOOKS[name]) for name in names]
    at_once = _desk(desk.database, desk.location, "other", "America/New_York")
    same = [replace(each, business_id="other", connection_id=at_once.connection.connection_id) for each in handed_in]
    for each in handed_in:
        desk.stage(each)
    at_once.stage(*reversed(same))
    assert at_once.heads() == desk.heads()
    assert at_once.open() == desk.open()
    # An older workbook that is read again, alone, takes nothing back, settles nothing and doubts nothing.
    before, doubts = desk.heads(), desk.open()
    for each in handed_in:
        desk.stage(each)
        assert desk.heads() == before
        assert desk.open() == doubts


def test_an_older_workbook_that_is_read_late_settles_nothing(desk: Desk) -> None:
    older, newer = desk.hand_in(row("pub_1", 1)), desk.hand_in(row("pub_1", 2), row("pub_1", 3))
    desk.stage(newer)
    desk.stage(older)
    assert desk.accruals() == {"2026-03:pub_1": 2_000_000, "2026-03:pub_1#2": 3_000_000}
    assert desk.open() == {TWICE: "high"}


def test_an_older_workbook_with_another_total_that_is_read_late_settles_nothing(desk: Desk) -> None:
    older, newer = (desk.hand_in(row("pub_1", 1), ("Total", None, None, total)) for total in (1, 2))
    desk.stage(newer)
    desk.stage(older)
    assert desk.heads()["2026-03:pub_1"]["total_off_as_of"] == as_of(newer.received_at)
    assert desk.open() == {TOTAL: "medium"}


def test_an_older_workbook_with_more_rows_that_is_read_late_adds_none(desk: Desk) -> None:
    older, newer = desk.hand_in(*[row("pub_1", n) for n in (1, 2, 3)]), desk.hand_in(row("pub_1", 4), row("pub_1", 5))
    desk.stage(newer)
    desk.stage(older)
    assert desk.accruals() == {"2026-03:pub_1": 4_000_000, "2026-03:pub_1#2": 5_000_000}
    assert desk.open() == {TWICE: "high"}


def test_what_a_later_workbook_settled_is_not_doubted_by_an_older_one_that_is_read_again(desk: Desk) -> None:
    older = desk.hand_in(row("pub_1", 1), row("pub_1", 2), row("pub_2", 3), ("Total", None, None, 7))
    newer = desk.hand_in(row("pub_1", 1), row("pub_2", 3))
    desk.stage(older)
    assert desk.open() == {TWICE: "high", TOTAL: "medium"}
    desk.stage(newer)
    settled = desk.heads()
    assert (sorted(settled), desk.open()) == (["2026-03:pub_1", "2026-03:pub_2"], {})
    for _ in range(2):
        run = desk.stage(older)
        assert (run["rows_new"], run["rows_changed"], run["rows_removed"]) == (0, 0, 0)
        assert (desk.heads(), desk.open()) == (settled, {})


def test_an_older_workbook_that_is_read_late_doubts_what_no_later_one_names(desk: Desk) -> None:
    older = desk.hand_in(
        row("pub_1", 1), row("pub_1", 2), row("pub_2", 3), row("pub_2", 4), ("Total", None, None, 11)
    )  # fmt: skip
    desk.stage(desk.hand_in(row("pub_1", 5)))
    run = desk.stage(older)
    assert desk.accruals() == {
        "2026-03:pub_1": 5_000_000, "2026-03:pub_2": 3_000_000, "2026-03:pub_2#2": 4_000_000,
    }  # fmt: skip
    assert desk.open() == {("baseline_duplicate_key", "2026-03:pub_2"): "high", TOTAL: "medium"}
    assert run["rows_extracted"] == run["remote_count"] == 4
    desk.stage(desk.hand_in(row("pub_2", 6)))
    assert desk.open() == {}
    before = desk.heads()
    desk.stage(older)
    assert (desk.heads(), desk.open()) == (before, {})


def test_two_businesses_never_meet(desk: Desk) -> None:
    other = _desk(desk.database, desk.location, "other", "Asia/Tokyo")
    desk.stage(desk.hand_in(row("pub_1", 1), row("pub_1", 2)))
    other.stage(other.hand_in(row("pub_1", 5)))
    assert desk.open() == {TWICE: "high"}
    assert (len(desk.heads()), other.accruals(), other.open()) == (2, {"2026-03:pub_1": 5_000_000}, {})


def test_a_total_that_is_not_the_sum(desk: Desk) -> None:
    wrong = desk.hand_in(row("pub_1", 1234.5), row("pub_2", 1), ("Total", None, None, 1243.5))
    desk.stage(wrong)
    (found,) = open_exceptions(desk.database)
    assert (found.code, found.subject, found.severity.value) == (*TOTAL, "medium")
    assert found.detail == (
        f"Row 4 of sheet 1 of drop {wrong.content_hash[:12]} says that baseline_accrual is 1,243.50 in total; its rows "
        "add up to 1,235.50."
    )
    desk.stage(desk.hand_in(row("pub_1", 1242.5), row("pub_2", 1), ("Total", None, None, 1243.5)))
    assert desk.open() == {}


# Extraction


class Nothing:
    """No evidence is held."""

    def ids_where(self, path: tuple[str, ...], value: str) -> list[str]:  # noqa: ARG002
        return []

    def ids_between(self, path: tuple[str, ...], first: str, last: str) -> list[str]:  # noqa: ARG002
        return []

    def ids_read_since(self, moment: datetime) -> list[str]:  # noqa: ARG002
        return []

    def requests_since(self, moment: datetime) -> int:  # noqa: ARG002
        return 0


def items(location: Path, *targets: str, days: Days | None = None, columns: Columns | None = None) -> list[Any]:
    days = days or Days(DAY, DAY)
    request = Request(
        Kind.DROP, days, window_of(days, NEW_YORK), NEW_YORK, lambda: NOON, Nothing(), targets=targets
    )  # fmt: skip
    reader = XlsxReader(str(location), columns or Columns())
    extraction = XLSX.extract(reader, OBJECT, request)
    assert extraction.findings_cover == "object"
    found = list(extraction)
    assert extraction.requested() == {"READ drops": len(targets)}
    return found


def target(content_hash: str, received_at: datetime, first_day: date | None = None) -> str:
    told = {"drop": content_hash, "file_name": "m.xlsx", "received_at": received_at.isoformat()}
    return json.dumps(told | ({"first_day": first_day.isoformat()} if first_day else {}))


def test_pages_are_of_one_sheet_and_bear_the_time_of_their_drop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PAGE_ROWS", 2)
    sheets = {"A": [HEADER, *(row(f"pub_{n}") for n in range(3))], "B": [HEADER, row("pub_9"), ("a remark",)]}
    content_hash = keep(tmp_path, books(sheets))
    received = datetime(2026, 9, 1, 12, 30, 15, 123456, tzinfo=UTC)
    found = items(tmp_path, target(content_hash, received))
    pages = [item for item in found if isinstance(item, Page)]
    assert [[record.provenance for record in page.records] for page in pages] == [[2, 3], [4], [2]]
    assert [(page.provenance or {})["sheet"] for page in pages] == ["A", "A", "B"]
    assert {page.requested_at for page in pages} == {received}
    assert {record.day for page in pages for record in page.records} == {DAY}
    assert [item for item in found if isinstance(item, RemoteCount)] == [RemoteCount({DAY: 4})]
    (notice,) = [item.text for item in found if isinstance(item, Notice)]
    assert notice == (
        f"Drop {content_hash[:12]}: Sheet 2 has 1 row(s) without month or publisher and without amounts, not read: 3."
    )
    assert not [item for item in found if isinstance(item, Finding)]


@pytest.mark.parametrize(
    ("received", "days", "day"),
    [
        (datetime(2026, 9, 1, 3, 59, tzinfo=UTC), Days(date(2026, 8, 1), date(2026, 9, 9)), date(2026, 8, 31)),
        (datetime(2026, 9, 1, 4, 0, tzinfo=UTC), Days(date(2026, 8, 1), date(2026, 9, 9)), date(2026, 9, 1)),
        (datetime(2026, 9, 1, 4, 0, tzinfo=UTC), Days(date(2026, 8, 31), date(2026, 8, 31)), date(2026, 8, 31)),
        (datetime(2026, 8, 1, tzinfo=UTC), Days(date(2026, 8, 31), date(2026, 8, 31)), date(2026, 8, 31)),
    ],
)
def test_the_day_is_that_of_the_drop(tmp_path: Path, received: datetime, days: Days, day: date) -> None:
    found = items(tmp_path, target(keep(tmp_path, book(FULL)), received), days=days)
    assert {record.day for item in found if isinstance(item, Page) for record in item.records} == {day}


def test_the_day_is_that_of_the_verdict_where_the_target_tells_it(tmp_path: Path) -> None:
    received, accepted = datetime(2026, 9, 1, 16, tzinfo=UTC), date(2026, 9, 4)
    named_target = target(keep(tmp_path, book(FULL)), received, accepted)
    found = items(tmp_path, named_target, days=Days(date(2026, 8, 1), date(2026, 9, 9)))
    assert {record.day for item in found if isinstance(item, Page) for record in item.records} == {accepted}
    assert {item.requested_at for item in found if isinstance(item, Page)} == {received}
    assert RemoteCount({accepted: 1}) in found


def test_a_workbook_that_is_accepted_on_another_day_than_it_came_is_counted_on_that_day(desk: Desk) -> None:
    drop = desk.hand_in(row("pub_1", 1))
    assert drop.first_day is not None
    days = Days(drop.first_day - timedelta(days=9), drop.first_day)
    early = replace(drop, received_at=drop.received_at - timedelta(days=5))
    (read,) = plan_reads(XLSX, OBJECT, desk.connection, days, datetime.now(UTC), drops=[early])
    perform(desk.database, read, Origin(Trigger.DROP), chunk_rows=2)
    counted = desk.database.fetch(
        "SELECT partition_day FROM finance_os.source_sync_partitions WHERE rows_extracted > 0 AND remote_count > 0"
    )
    assert [each["partition_day"] for each in counted] == [drop.first_day]


def test_moments_sort_as_texts_do() -> None:
    moments = [NOON, NOON + timedelta(microseconds=1), NOON.astimezone(NEW_YORK) + timedelta(seconds=1)]
    texts = [as_of(moment) for moment in moments]
    assert texts == sorted(texts)
    assert {len(text) for text in texts} == {27}


def test_drops_that_cannot_be_read(tmp_path: Path) -> None:
    content_hash = keep(tmp_path, book(FULL))
    with pytest.raises(SourceError) as caught:
        items(tmp_path, content_hash, columns=Columns(publisher_id="Site", publisher="Site name"))
    assert caught.value.code == "drop_not_readable"
    assert COLUMNS_SETTING in caught.value.message
    (tmp_path / drops.kept_as(content_hash)).write_bytes(b"something else")
    with pytest.raises(SourceError) as caught:
        items(tmp_path, content_hash)
    assert caught.value.code == "kept_drop_altered"
    with pytest.raises(SourceError) as caught:
        items(tmp_path, "{}")
    assert caught.value.code == "bad_target"


def test_a_target_of_a_hash_alone_is_read_as_of_now(tmp_path: Path) -> None:
    content_hash = keep(tmp_path, book(row("pub_1"), row("pub_1")))
    assert Target.parse(content_hash).received_at is None
    found = items(tmp_path, content_hash)
    (page,) = [item for item in found if isinstance(item, Page)]
    assert page.requested_at == NOON
    assert [record.payload and record.payload["duplicate_as_of"] for record in page.records] == [as_of(NOON)] * 2
    (finding,) = [item for item in found if isinstance(item, Finding)]
    assert (finding.code, finding.subject, finding.day) == (*TWICE, DAY)


def test_the_reader_is_opened_with_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINANCE_OS_DROPS", str(tmp_path))
    settings_module.settings.cache_clear()
    with XLSX.open(Credentials({COLUMNS_SETTING: '{"accrual": "Net"}'})) as reader:
        assert reader.location == str(tmp_path)
        assert reader.columns.headers("accrual") == ("Net",)
    settings_module.settings.cache_clear()
