"""Drops are found when they have settled, taken once, and never lost, wherever taking them stops."""

import errno
import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import boto3
import moto
import pytest

from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import SourceError
from finance_os.evidence.windows import Days
from finance_os.sources import drops
from finance_os.sources.credentials import Credentials
from finance_os.sources.drops import (
    Accepted,
    DropFile,
    Inbox,
    Judged,
    Outcome,
    Problem,
    Quarantined,
    Stamp,
    Taken,
    intake,
    stores,
)
from finance_os.sources.guard import Take

READS = (Take("*.csv"),)
NOBODY = Credentials({})
GOOD, BAD = b"good\n1\n", b"bad\n1\n"
BUCKET = "drop-bucket"


def judge(data: bytes, file_name: str, zone: ZoneInfo, credentials: Credentials) -> Judged:
    """Accepts what does not begin with "bad"."""
    if data.startswith(b"bad"):
        return Quarantined((Problem("bad_amount", "is bad: make it good", 2, "Amount", "12,34"),), 1)
    return Accepted(1, date(2026, 8, 3), date(2026, 8, 5))


@pytest.fixture
def main(database: Database) -> Connection:
    ensure_business(database, "main", "Main", "America/New_York")
    return ensure_connection(database, "main", "rho")


@pytest.fixture
def other(database: Database) -> Connection:
    ensure_business(database, "other", "Other", "Asia/Tokyo")
    return ensure_connection(database, "other", "rho")


@pytest.fixture(params=["folder", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A drop location: a folder, and a prefix of a bucket."""
    if request.param == "folder":
        yield str(tmp_path / "drops")
        return
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with moto.mock_aws():
        boto3.client("s3").create_bucket(Bucket=BUCKET)
        yield f"s3://{BUCKET}/finance/drops"


def put(location: str, key: str, data: bytes) -> None:
    """What an operator does: put a file somewhere below the drop location."""
    if location.startswith("s3://"):
        boto3.client("s3").put_object(Bucket=BUCKET, Key=f"finance/drops/{key}", Body=data)
    else:
        path = Path(location) / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def tree(location: str) -> dict[str, bytes]:
    """Everything below the drop location."""
    if location.startswith("s3://"):
        client = boto3.client("s3")
        keys = [item["Key"] for item in client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
        return {
            key.removeprefix("finance/drops/"): client.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys
        }
    root = Path(location)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def look(location: str, connection: Connection) -> Inbox:
    return drops.look(location, connection, READS)


def take_all(database: Database, connection: Connection, location: str, judge_: drops.Judge = judge) -> list[Taken]:
    return [
        drops.take(database, connection, judge_, file, location=location, credentials=NOBODY)
        for file in look(location, connection).waiting
    ]


def outcomes(taken: list[Taken]) -> list[tuple[str, Outcome]]:
    return [(item.file_name, item.outcome) for item in taken]


def rows(database: Database) -> list[dict[str, Any]]:
    return database.fetch(
        """
        SELECT business_id, file_name, encode(content_hash, 'hex') AS content_hash, verdict, row_count, first_day,
               last_day, report, kept_as, size_bytes
        FROM finance_os.drops ORDER BY business_id, file_name
        """
    )


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def kept(data: bytes) -> str:
    return f".kept/{sha(data)[:2]}/{sha(data)}"


# Looking


def test_a_look_at_an_inbox(location: str, main: Connection, tmp_path: Path) -> None:
    assert look(location, main) == Inbox(f"{location}/main/rho", (), ())
    for name in ("b.csv", "A.CSV", ".hidden.csv", "~x.csv", "x.csv.part", "x.tmp", "notes.txt", "line\nbreak.csv"):
        put(location, f"main/rho/{name}", GOOD)
    put(location, "main/rho/quarantined/old.csv", BAD)
    put(location, "main/rho/folder.csv/inside.csv", GOOD)
    put(location, "main/rho/large.csv", b"x" * 2_000)
    inbox = drops.look(location, main, READS, max_bytes=1_000)
    assert sorted(file.name for file in inbox.waiting) == ["A.CSV", "b.csv"]
    assert {file.stamp.size for file in inbox.waiting} == {len(GOOD)}
    assert abs(inbox.waiting[0].modified_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert {item.name: item.reason.split(":")[0] for item in inbox.ignored} == {
        ".hidden.csv": "its name says that it is hidden or not finished",
        "~x.csv": "its name says that it is hidden or not finished",
        "x.csv.part": "its name says that it is hidden or not finished",
        "x.tmp": "its name says that it is hidden or not finished",
        "notes.txt": "its name does not match *.csv",
        "line�break.csv": "its name has characters that cannot be printed",
        "folder.csv": "it is not a plain file",
        "large.csv": "it is 2,000 bytes; the most that is read is 1,000",
    }


def test_only_plain_files_are_drops(tmp_path: Path, main: Connection) -> None:
    inbox = Path(drops.prepare_inbox(str(tmp_path), main))
    assert inbox == tmp_path / "main" / "rho"
    secret = tmp_path / "secret.csv"
    secret.write_bytes(GOOD)
    (inbox / "link.csv").symlink_to(secret)
    os.mkfifo(inbox / "pipe.csv")
    os.close(os.open(os.fsencode(inbox) + b"/\xff.csv", os.O_CREAT))
    found = look(str(tmp_path), main)
    assert found.waiting == ()
    assert [item.name for item in found.ignored] == ["link.csv", "pipe.csv", "�.csv"]


def test_the_oldest_file_comes_first(tmp_path: Path, main: Connection) -> None:
    for age, name in enumerate(["c.csv", "a.csv", "b.csv"]):
        put(str(tmp_path), f"main/rho/{name}", GOOD)
        os.utime(tmp_path / "main" / "rho" / name, (1_000_000 - age, 1_000_000 - age))
    assert [file.name for file in look(str(tmp_path), main).waiting] == ["b.csv", "a.csv", "c.csv"]


def test_no_two_connections_share_an_inbox(main: Connection) -> None:
    def inbox(account: str) -> str:
        return drops.inbox_name(Connection(1, "main", "rho", account, main.secret_reference, main.time_zone))

    assert inbox("default") == "main/rho"
    assert inbox("savings") == "main/rho@savings"
    names = [
        "default",
        "Default",
        "savings",
        "Savings",
        "SAVINGS",
        "a/b",
        "a b",
        "a-b",
        "..",
        "../../x",
        "",
        "ä",
        "x" * 300,
    ]
    made = [inbox(name) for name in names]
    assert len({name.lower() for name in made}) == len(names)
    for name in made:
        assert Path(os.path.normpath(name)).parent == Path("main")
        assert len(name) < 100


# Settling


def file_of(size: int, mtime: float, identity: str = "1") -> DropFile:
    return DropFile("a.csv", Stamp(size, int(mtime * 1e9), identity))


NOW = datetime(2026, 8, 31, 12, tzinfo=UTC)
AGO = NOW.timestamp()


def test_a_file_has_settled_when_it_is_old_enough() -> None:
    assert drops.is_settled(file_of(1, AGO - 5), NOW, 5)
    assert not drops.is_settled(file_of(1, AGO - 4.9), NOW, 5)
    assert not drops.is_settled(file_of(1, AGO + 60), NOW, 5)
    assert drops.is_settled(file_of(1, AGO), NOW, 0)


def test_an_empty_file_is_given_time() -> None:
    assert not drops.is_settled(file_of(0, AGO - 59), NOW, 5)
    assert drops.is_settled(file_of(0, AGO - 60), NOW, 5)


@pytest.mark.parametrize("mtime", [AGO - 86_400, AGO, AGO + 86_400], ids=["old", "present", "future"])
def test_a_file_that_grows_under_any_time_waits(mtime: float) -> None:
    observations: drops.Observations | None = None
    settled: list[int] = []
    for second in range(0, 40, 2):
        now = NOW + timedelta(seconds=second)
        file = file_of(min(second, 20) + 1, mtime)
        observations = drops.observe([file], now, json.loads(json.dumps(observations)))
        if drops.is_settled(file, now, 5, observations):
            settled.append(second)
    assert settled == list(range(26, 40, 2))


def test_what_is_gone_is_forgotten_and_what_came_back_is_new() -> None:
    file = file_of(1, AGO - 86_400)
    first = drops.observe([file], NOW)
    assert drops.observe([], NOW, first) == {}
    replaced = file_of(1, AGO - 86_400, "2")
    assert not drops.is_settled(replaced, NOW + timedelta(hours=1), 5, first)
    later = drops.observe([replaced], NOW + timedelta(hours=1), first)
    assert not drops.is_settled(replaced, NOW + timedelta(hours=1), 5, later)


def test_a_growing_file_on_disk_waits(tmp_path: Path, main: Connection, database: Database) -> None:
    path = tmp_path / "main" / "rho" / "a.csv"
    path.parent.mkdir(parents=True)
    observations: drops.Observations | None = None
    now = datetime.now(UTC)
    with path.open("wb") as growing:
        for _ in range(3):
            growing.write(GOOD)
            growing.flush()
            os.utime(path, (1_000_000, 1_000_000))  # an old time, preserved by whoever copies
            (file,) = look(str(tmp_path), main).waiting
            now += timedelta(seconds=60)
            observations = drops.observe([file], now, observations)
            assert not drops.is_settled(file, now, 5, observations)
    (file,) = look(str(tmp_path), main).waiting
    now += timedelta(seconds=60)
    observations = drops.observe([file], now, observations)
    now += timedelta(seconds=60)
    assert drops.is_settled(file, now, 5, drops.observe([file], now, observations))


# Taking


def test_an_accepted_file(location: str, database: Database, main: Connection) -> None:
    put(location, "main/rho/a.csv", GOOD)
    (taken,) = take_all(database, main, location)
    assert (taken.outcome, taken.report, taken.problems) == (Outcome.ACCEPTED, None, ())
    assert tree(location) == {kept(GOOD): GOOD}
    assert rows(database) == [
        {
            "business_id": "main",
            "file_name": "a.csv",
            "content_hash": sha(GOOD),
            "verdict": "accepted",
            "row_count": 1,
            "first_day": date(2026, 8, 3),
            "last_day": date(2026, 8, 5),
            "report": {"problem_count": 0, "problems": []},
            "kept_as": kept(GOOD),
            "size_bytes": len(GOOD),
        }
    ]
    assert drops.read_kept(location, sha(GOOD)) == GOOD
    assert taken.drop is not None
    assert drops.accepted_drops(database, main) == [taken.drop]
    target = drops.Target.parse(taken.drop.target)
    assert (target.drop, target.file_name, target.received_at) == (sha(GOOD), "a.csv", taken.drop.received_at)
    assert target.first_day == taken.drop.first_day


def test_a_quarantined_file(
    location: str, database: Database, main: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, "finance_os")
    put(location, "main/rho/a.csv", BAD)
    (taken,) = take_all(database, main, location)
    assert taken.outcome is Outcome.QUARANTINED
    assert taken.report == f"{location}/main/rho/quarantined/a.csv.report.txt"
    left = tree(location)
    report = left.pop("main/rho/quarantined/a.csv.report.txt").decode()
    assert left == {kept(BAD): BAD, "main/rho/quarantined/a.csv": BAD}
    assert "row 2, column \"Amount\" ('12,34'): is bad: make it good [bad_amount]" in report
    assert sha(BAD) in report
    assert f"drop it into {location}/main/rho" in report
    (row,) = rows(database)
    assert (row["verdict"], row["row_count"], row["first_day"]) == ("quarantined", 0, None)
    assert row["report"] == {
        "problem_count": 1, "problems": [{"row": 2, "column": "Amount", "code": "bad_amount"}],
    }  # fmt: skip
    assert "12,34" not in json.dumps(row["report"]) + caplog.text
    assert drops.accepted_drops(database, main) == []


def test_the_same_bytes_are_one_drop(location: str, database: Database, main: Connection) -> None:
    put(location, "main/rho/a.csv", GOOD)
    (first,) = take_all(database, main, location)
    put(location, "main/rho/again.csv", GOOD)
    put(location, "main/rho/thrice.csv", GOOD)
    found = take_all(database, main, location)
    assert outcomes(found) == [("again.csv", Outcome.DUPLICATE), ("thrice.csv", Outcome.DUPLICATE)]
    assert {item.drop for item in found} == {first.drop}
    assert tree(location) == {kept(GOOD): GOOD}
    assert len(rows(database)) == 1


def test_a_refused_file_is_judged_anew(location: str, database: Database, main: Connection) -> None:
    put(location, "main/rho/a.csv", BAD)
    take_all(database, main, location)
    put(location, "main/rho/a.csv", BAD)
    assert outcomes(take_all(database, main, location)) == [("a.csv", Outcome.QUARANTINED)]
    assert len(tree(location)) == 3
    put(location, "main/rho/a.csv", BAD)
    assert outcomes(take_all(database, main, location, lambda *_: Accepted(3))) == [("a.csv", Outcome.ACCEPTED)]
    assert tree(location) == {kept(BAD): BAD}
    (row,) = rows(database)
    assert (row["verdict"], row["row_count"], row["report"]["problem_count"]) == ("accepted", 3, 0)
    # The verdict of an accepted drop stands, whatever would be said of it today.
    put(location, "main/rho/b.csv", BAD)
    assert outcomes(take_all(database, main, location)) == [("b.csv", Outcome.DUPLICATE)]
    assert rows(database) == [row]


def test_refused_files_of_one_name_stay_apart(location: str, database: Database, main: Connection) -> None:
    for content in (BAD, BAD + b"2", BAD):
        put(location, "main/rho/a.csv", content)
        take_all(database, main, location)
    distinct = f"a.{sha(BAD + b'2')[:12]}.csv"
    quarantined = {key.removeprefix("main/rho/quarantined/"): data for key, data in tree(location).items()
                   if key.startswith("main/")}  # fmt: skip
    assert set(quarantined) == {"a.csv", "a.csv.report.txt", distinct, f"{distinct}.report.txt"}
    assert (quarantined["a.csv"], quarantined[distinct]) == (BAD, BAD + b"2")
    assert sha(BAD + b"2").encode() in quarantined[f"{distinct}.report.txt"]


def test_two_businesses_that_drop_the_same_bytes(
    location: str, database: Database, main: Connection, other: Connection
) -> None:
    put(location, "main/rho/a.csv", GOOD)
    put(location, "other/rho/a.csv", GOOD)
    assert outcomes(take_all(database, main, location)) == [("a.csv", Outcome.ACCEPTED)]
    assert set(tree(location)) == {kept(GOOD), "other/rho/a.csv"}
    assert drops.accepted_drops(database, other) == []
    assert outcomes(take_all(database, other, location)) == [("a.csv", Outcome.ACCEPTED)]
    assert [row["business_id"] for row in rows(database)] == ["main", "other"]
    assert [drop.business_id for drop in drops.accepted_drops(database, other)] == ["other"]


def test_two_accounts_of_one_business(location: str, database: Database, main: Connection) -> None:
    savings = ensure_connection(database, "main", "rho", "savings")
    put(location, "main/rho@savings/a.csv", GOOD)
    assert look(location, main).waiting == ()
    assert outcomes(take_all(database, savings, location)) == [("a.csv", Outcome.ACCEPTED)]
    assert drops.accepted_drops(database, main) == []
    assert len(drops.accepted_drops(database, savings)) == 1
    put(location, "main/rho/a.csv", GOOD)
    assert outcomes(take_all(database, main, location)) == [("a.csv", Outcome.DUPLICATE)]


def test_a_file_that_changed_since_it_was_listed_waits(location: str, database: Database, main: Connection) -> None:
    put(location, "main/rho/a.csv", GOOD)
    (file,) = look(location, main).waiting
    put(location, "main/rho/a.csv", GOOD[::-1])  # of the same size, and on S3 in the same second
    before = tree(location)
    taken = drops.take(database, main, judge, file, location=location, credentials=NOBODY)
    assert taken.outcome is Outcome.CHANGED
    assert tree(location) == before
    assert rows(database) == []
    assert outcomes(take_all(database, main, location)) == [("a.csv", Outcome.ACCEPTED)]


@pytest.mark.parametrize("content", [GOOD, BAD])
def test_a_file_that_is_replaced_while_it_is_taken_stays(
    location: str, database: Database, main: Connection, content: bytes
) -> None:
    def slow(data: bytes, file_name: str, zone: ZoneInfo, credentials: Credentials) -> Judged:
        put(location, "main/rho/a.csv", b"new\n")
        return judge(data, file_name, zone, credentials)

    put(location, "main/rho/a.csv", content)
    take_all(database, main, location, slow)
    assert tree(location)["main/rho/a.csv"] == b"new\n"
    assert tree(location)[kept(content)] == content
    assert outcomes(take_all(database, main, location)) == [("a.csv", Outcome.ACCEPTED)]


def test_a_file_that_is_gone(location: str, database: Database, main: Connection) -> None:
    file = DropFile("a.csv", Stamp(1, 1, "x"))
    taken = drops.take(database, main, judge, file, location=location, credentials=NOBODY)
    assert taken == Taken(Outcome.GONE, "a.csv")
    assert rows(database) == []


def test_a_file_that_is_too_large_is_not_read(location: str, database: Database, main: Connection) -> None:
    put(location, "main/rho/a.csv", GOOD)
    (file,) = look(location, main).waiting
    with pytest.raises(SourceError) as caught:
        drops.take(database, main, judge, file, location=location, credentials=NOBODY, max_bytes=3)
    assert caught.value.code == "drop_too_large"
    assert tree(location) == {"main/rho/a.csv": GOOD}


def test_who_still_writes_to_a_refused_file_loses_nothing(tmp_path: Path, database: Database, main: Connection) -> None:
    path = Path(drops.prepare_inbox(str(tmp_path), main)) / "a.csv"
    with path.open("wb") as writer:
        writer.write(BAD)
        writer.flush()
        assert outcomes(take_all(database, main, str(tmp_path))) == [("a.csv", Outcome.QUARANTINED)]
        writer.write(b"late")
    assert (path.parent / "quarantined" / "a.csv").read_bytes() == BAD + b"late"


def test_a_damaged_copy_is_replaced(location: str, database: Database, main: Connection) -> None:
    put(location, kept(GOOD), GOOD[:3])
    with pytest.raises(SourceError) as caught:
        drops.read_kept(location, sha(GOOD))
    assert caught.value.code == "kept_drop_altered"
    put(location, "main/rho/a.csv", GOOD)
    take_all(database, main, location)
    assert drops.read_kept(location, sha(GOOD)) == GOOD
    with pytest.raises(SourceError) as caught:
        drops.read_kept(location, sha(BAD))
    assert caught.value.code == "kept_drop_missing"
    with pytest.raises(ValueError, match="64 hex digits"):
        drops.read_kept(location, "../../secret")


def test_accepted_drops_of_days(location: str, database: Database, main: Connection) -> None:
    put(location, "main/rho/a.csv", GOOD)
    put(location, "main/rho/b.csv", b"nothing in it")
    take_all(database, main, location, lambda data, *rest: judge(data, *rest) if data == GOOD else Accepted(0))

    def names(days: Days | None = None, judged_since: datetime | None = None) -> list[str]:
        found = drops.accepted_drops(database, main, days=days, judged_since=judged_since)
        return sorted(drop.file_name for drop in found)

    assert names() == ["a.csv", "b.csv"]
    assert names(Days(date(2026, 8, 5), date(2026, 9, 1))) == ["a.csv"]
    assert names(Days(date(2026, 8, 1), date(2026, 8, 3))) == ["a.csv"]
    assert names(Days(date(2026, 8, 4), date(2026, 8, 4))) == ["a.csv"]
    assert names(Days(date(2026, 8, 6), date(2026, 9, 1))) == []
    assert names(judged_since=datetime.now(UTC) + timedelta(hours=1)) == []
    assert names(judged_since=datetime.now(UTC) - timedelta(hours=1)) == ["a.csv", "b.csv"]


def test_many_processes_take_the_same_file(tmp_path: Path, database: Database, main: Connection) -> None:
    put(str(tmp_path), "main/rho/a.csv", GOOD)
    put(str(tmp_path), "main/rho/b.csv", BAD)
    files = look(str(tmp_path), main).waiting
    together = threading.Barrier(8)
    found: list[Taken] = []

    def work() -> None:
        together.wait()
        found.extend(
            drops.take(database, main, judge, file, location=str(tmp_path), credentials=NOBODY) for file in files
        )

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 16
    assert [item.outcome for item in found].count(Outcome.ACCEPTED) == 1
    assert len(rows(database)) == 2
    assert set(tree(str(tmp_path))) == {
        kept(GOOD), kept(BAD), "main/rho/quarantined/b.csv", "main/rho/quarantined/b.csv.report.txt",
    }  # fmt: skip


def test_s3_that_does_not_answer(
    tmp_path: Path, database: Database, main: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with moto.mock_aws(), pytest.raises(SourceError) as caught:
        look("s3://there-is-no-such-bucket/drops", main)
    assert caught.value.code == "drops_unreachable"
    assert not caught.value.permanent


# Crashes


class Crash(BaseException):
    """The process is gone: nothing catches it."""


class Power:
    """Cuts the power at the `at`-th step of those that it watches, before or after the step is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, at: int, after: bool) -> None:
        self.steps: list[str] = []
        self._monkeypatch = monkeypatch
        self._at = at
        self._after = after
        self._off = False

    def watch(self, owner: Any, name: str) -> None:
        original: Callable[..., Any] = getattr(owner, name)

        def step(*args: Any, **kwargs: Any) -> Any:
            if self._off:  # a process that is gone cleans nothing up
                raise Crash
            self.steps.append(name)
            cut = len(self.steps) == self._at
            if cut and not self._after:
                self._off = True
                raise Crash
            result = original(*args, **kwargs)
            if cut:
                self._off = True
                raise Crash
            return result

        self._monkeypatch.setattr(owner, name, step)

    def restore(self) -> None:
        self._monkeypatch.undo()


def crash_points(
    monkeypatch: pytest.MonkeyPatch, arm: Callable[[Power], None], work: Callable[[], object]
) -> Iterator[list[str]]:
    """Run `work` again and again, cut off at each of its steps in turn; yields after each crash, on restored power."""
    for at in range(1, 100):
        crashed = False
        for after in (False, True):
            power = Power(monkeypatch, at, after)
            arm(power)
            try:
                work()
            except Crash:
                crashed = True
            finally:
                power.restore()
            yield power.steps
        if not crashed:
            return
    raise AssertionError("it never came to an end")


@pytest.mark.parametrize("content", [GOOD, BAD], ids=["accepted", "quarantined"])
@pytest.mark.parametrize("history", ["first", "after a refusal", "after acceptance"])
def test_a_crash_at_any_step_loses_nothing_and_doubles_nothing(
    tmp_path: Path,
    database: Database,
    main: Connection,
    monkeypatch: pytest.MonkeyPatch,
    content: bytes,
    history: str,
) -> None:
    location = ""
    earlier = {"first": None, "after a refusal": BAD, "after acceptance": GOOD}[history]

    def begin(number: int) -> None:
        nonlocal location
        location = str(tmp_path / str(number))
        put(location, "main/rho/a.csv", content)
        with database.transaction() as connection:
            connection.execute("RESET ROLE")
            connection.execute("DELETE FROM finance_os.drops")
        if earlier is not None:
            other_verdict = Quarantined((Problem("x", "x"),), 1) if earlier == BAD else Accepted(1)
            take_all(database, main, location, lambda *_: other_verdict)
            put(location, "main/rho/a.csv", content)

    def arm(power: Power) -> None:
        for owner, name in (
            (os, "open"), (os, "fsync"), (os, "replace"), (Path, "unlink"), (Path, "mkdir"),
            (intake, "record_verdict"), (intake, "find_accepted"), (intake, "keep"),
        ):  # fmt: skip
            power.watch(owner, name)

    begin(0)
    take_all(database, main, location)
    undisturbed = (tree(location), rows(database))

    begin(1)
    seen: set[str] = set()
    number = 1
    for steps in crash_points(monkeypatch, arm, lambda: take_all(database, main, location)):
        number += 1
        seen.update(steps)
        after_crash = tree(location)
        assert content in after_crash.values()  # wherever it was cut off, the bytes are there
        if "main/rho/a.csv" not in after_crash:
            assert len(rows(database)) == 1  # the inbox is cleared only once the verdict stands
        take_all(database, main, location)
        files = {key: data for key, data in tree(location).items() if not key.endswith(".tmp")}
        assert ({key: _without_time(data) for key, data in files.items()}, rows(database)) == (
            {key: _without_time(data) for key, data in undisturbed[0].items()}, undisturbed[1],
        ), steps  # fmt: skip
        begin(number)
    assert number > 8
    assert {"open", "find_accepted"} <= seen
    if history != "after acceptance":
        assert "record_verdict" in seen


def _without_time(data: bytes) -> bytes:
    return b"\n".join(line for line in data.splitlines() if b"Received" not in line and b"drop it into" not in line)


@pytest.mark.parametrize("content", [GOOD, BAD], ids=["accepted", "quarantined"])
def test_a_crash_at_any_request_to_s3(
    database: Database, main: Connection, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    kept_environment = {name: os.environ[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
    with moto.mock_aws():
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket=BUCKET)
        location = f"s3://{BUCKET}/finance/drops"
        put(location, "main/rho/a.csv", content)
        steps: list[list[str]] = []

        def arm(power: Power) -> None:
            for name, value in kept_environment.items():
                monkeypatch.setenv(name, value)
            for name in ("read", "write", "remove", "move"):
                power.watch(stores.Bucket, name)
            power.watch(intake, "record_verdict")

        for seen in crash_points(monkeypatch, arm, lambda: take_all(database, main, location)):
            steps.append(seen)
            for name, value in kept_environment.items():
                monkeypatch.setenv(name, value)
            assert content in tree(location).values()
            take_all(database, main, location)
            assert len(rows(database)) == 1
            assert set(tree(location)) == {kept(content)} | (
                {"main/rho/quarantined/a.csv", "main/rho/quarantined/a.csv.report.txt"} if content == BAD else set()
            )
            with database.transaction() as connection:
                connection.execute("RESET ROLE")
                connection.execute("DELETE FROM finance_os.drops")
            for key in tree(location):
                boto3.client("s3").delete_object(Bucket=BUCKET, Key=f"finance/drops/{key}")
            put(location, "main/rho/a.csv", content)
        assert {"read", "write", "record_verdict"} <= set(steps[-1])


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_full_disk_leaves_the_file_where_it_is(
    tmp_path: Path, database: Database, main: Connection, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    put(str(tmp_path), "main/rho/a.csv", GOOD)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, step, full)
        with pytest.raises(OSError, match="No space left"):
            take_all(database, main, str(tmp_path))
    assert tree(str(tmp_path)) == {"main/rho/a.csv": GOOD}
    assert rows(database) == []
    assert outcomes(take_all(database, main, str(tmp_path))) == [("a.csv", Outcome.ACCEPTED)]


def test_a_judge_that_fails_leaves_the_file_where_it_is(location: str, database: Database, main: Connection) -> None:
    def broken(*_: Any) -> Judged:
        raise SourceError("setting_invalid", "the column map is wrong", permanent=True)

    put(location, "main/rho/a.csv", GOOD)
    with pytest.raises(SourceError):
        take_all(database, main, location, broken)
    assert tree(location)["main/rho/a.csv"] == GOOD
    assert rows(database) == []
