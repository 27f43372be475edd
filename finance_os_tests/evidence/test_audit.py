"""The audit chain: who may touch it, and that whatever somebody with every right does to it is found and named."""

import hashlib
import itertools
import json
import os
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import psycopg
import pytest
from cloudpathlib import S3Client
from hypothesis import given, settings
from hypothesis import strategies as st
from moto import mock_aws

from finance_os.evidence import anchors, audit
from finance_os.evidence.anchors import Anchor, DamagedAnchor
from finance_os.evidence.audit import NO_PREDECESSOR, Fault, UnfitForAudit, append, current_anchor, verify
from finance_os.evidence.businesses import Connection, ensure_business
from finance_os.evidence.canonical import Uncanonical, canonical_json, decode
from finance_os.evidence.database import Database

Row = dict[str, Any]

_numbers = itertools.count(1)

plain_text = st.text(st.characters(codec="utf-8", exclude_characters="\x00@:"), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.decimals(allow_nan=False, allow_infinity=False) | plain_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain_text, inner, max_size=3),
    max_leaves=6,
)
details_of_an_event = st.dictionaries(plain_text, values, max_size=4)


class Tampered:
    """A chain of `length` events of a new business, in the hands of a superuser whom no trigger or key stops."""

    def __init__(self, database: Database, details: Sequence[dict[str, Any]]) -> None:
        self.database = database
        self.business_id = f"b{os.getpid()}_{next(_numbers)}"
        self.length = len(details)
        ensure_business(database, self.business_id, "A business", "UTC")
        with database.transaction() as connection:
            for n, item in enumerate(details):
                append(connection, self.business_id, "thing.happened", f"thing:{n}", item)
        self.anchor = current_anchor(database, self.business_id)
        self.honest = self.rows()

    def rows(self) -> list[Row]:
        with self.database.connection() as connection:
            return connection.execute(
                "SELECT *, details::text AS details FROM finance_os.finance_audit_events "
                "WHERE business_id = %s ORDER BY sequence",
                (self.business_id,),
            ).fetchall()

    def put(self, rows: Sequence[Row]) -> None:
        """Replace the whole chain by `rows`."""
        self.execute("DELETE FROM finance_os.finance_audit_events WHERE business_id = %(business_id)s")
        with psycopg.connect(self.database.url) as connection:
            connection.execute("SET LOCAL session_replication_role = replica")
            connection.cursor().executemany(
                """
                INSERT INTO finance_os.finance_audit_events
                    (business_id, sequence, event_type, subject, actor, details, occurred_at,
                     canonical, previous_hash, event_hash)
                VALUES (%(business_id)s, %(sequence)s, %(event_type)s, %(subject)s, %(actor)s, %(details)s::jsonb,
                        %(occurred_at)s, %(canonical)s, %(previous_hash)s, %(event_hash)s)
                """,
                rows,
            )

    def execute(self, statement: str, **parameters: Any) -> int:
        with psycopg.connect(self.database.url) as connection:
            connection.execute("SET LOCAL session_replication_role = replica")
            return connection.execute(
                statement.encode(),
                {"business_id": self.business_id, **parameters},
            ).rowcount

    def found(self, *kept: Anchor) -> tuple[int, Fault] | None:
        verification = verify(self.database, self.business_id, kept)
        if verification.broken is None:
            return None
        assert verification.events == verification.broken.sequence - 1
        assert str(verification.broken.sequence) in verification.broken.reason
        return verification.broken.sequence, verification.broken.fault


def forged(row: Row, **changes: Any) -> Row:
    """`row` with changes, and canonical bytes and a hash that fit them."""
    new = {**row, **changes}
    canonical = canonical_json(
        {
            "business_id": new["business_id"],
            "sequence": new["sequence"],
            "event_type": new["event_type"],
            "subject": new["subject"],
            "actor": new["actor"],
            "details": decode(new["details"]),
            "occurred_at": new["occurred_at"].astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "previous_hash": new["previous_hash"].hex(),
        }
    )
    return {**new, "canonical": canonical, "event_hash": hashlib.sha256(canonical).digest()}


def rewritten(rows: Sequence[Row], start: int) -> list[Row]:
    """The chain written anew from event `start` on, sound in itself."""
    new = list(rows[: start - 1])
    for row in rows[start - 1 :]:
        previous = new[-1]["event_hash"] if new else NO_PREDECESSOR
        changes = {"details": '{"instead": true}'} if row["sequence"] == start else {}
        new.append(forged(row, previous_hash=previous, **changes))
    return new


@pytest.fixture
def lawless(database: Database) -> Database:
    """A database whose audit table has lost every constraint, as a superuser could arrange."""
    with psycopg.connect(database.url) as connection:
        names = connection.execute(
            "SELECT conname FROM pg_constraint WHERE conrelid = 'finance_os.finance_audit_events'::regclass "
            "AND contype IN ('c', 'p', 'u', 'f') ORDER BY contype"
        ).fetchall()
        for (name,) in names:
            connection.execute(f'ALTER TABLE finance_os.finance_audit_events DROP CONSTRAINT "{name}"'.encode())
    return database


chains = st.lists(details_of_an_event, min_size=1, max_size=7)
examples = settings(max_examples=15)

Edit = Callable[[Row], Row]


def _flip(name: str) -> Edit:
    return lambda row: {**row, name: bytes([row[name][0] ^ 1]) + row[name][1:]}


EDITS: dict[str, Edit] = {
    "event_type": lambda row: {**row, "event_type": row["event_type"] + "x"},
    "subject": lambda row: {**row, "subject": row["subject"] + "x"},
    "actor": lambda row: {**row, "actor": row["actor"] + "x"},
    "details": lambda row: {**row, "details": json.dumps({**json.loads(row["details"]), "edited": True})},
    "occurred_at": lambda row: {**row, "occurred_at": row["occurred_at"].replace(year=2001)},
    "canonical": _flip("canonical"),
    "previous_hash": _flip("previous_hash"),
    "event_hash": _flip("event_hash"),
    "canonical that is no event": lambda row: {
        **row,
        "canonical": b"[]",
        "event_hash": hashlib.sha256(b"[]").digest(),
    },
    "canonical that is no JSON": lambda row: {
        **row,
        "canonical": b"\xff",
        "event_hash": hashlib.sha256(b"\xff").digest(),
    },
}


@examples
@given(chain=chains, data=st.data())
def test_an_untouched_chain_is_sound(database: Database, chain: list[dict[str, Any]], data: st.DataObject) -> None:
    tampered = Tampered(database, chain)
    verification = verify(database, tampered.business_id, [tampered.anchor])
    assert verification.sound
    assert (verification.events, verification.head) == (len(chain), tampered.anchor.head)
    for row, details in zip(tampered.rows(), chain, strict=True):
        assert canonical_json(decode(row["details"])) == canonical_json(details)
        assert hashlib.sha256(bytes(row["canonical"])).digest() == row["event_hash"]


@examples
@given(chain=chains, column=st.sampled_from(sorted(EDITS)), data=st.data())
def test_an_edit_of_any_column_is_found(
    lawless: Database, chain: list[dict[str, Any]], column: str, data: st.DataObject
) -> None:
    tampered = Tampered(lawless, chain)
    at = data.draw(st.integers(1, len(chain)))
    rows = tampered.honest
    tampered.put([*rows[: at - 1], EDITS[column](rows[at - 1]), *rows[at:]])
    assert tampered.found() == (at, Fault.EDITED)


def test_the_edits_above_are_of_every_column(database: Database) -> None:
    columns = {
        row["column_name"]
        for row in database.fetch(
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'finance_audit_events'"
        )
    }
    assert columns == {"business_id", "sequence"} | {name for name in EDITS if " " not in name}


@examples
@given(chain=chains, data=st.data())
def test_an_edit_with_a_fitting_hash_is_found_by_its_successor_or_an_anchor(
    lawless: Database, chain: list[dict[str, Any]], data: st.DataObject
) -> None:
    tampered = Tampered(lawless, chain)
    at = data.draw(st.integers(1, len(chain)))
    rows = tampered.honest
    tampered.put([*rows[: at - 1], forged(rows[at - 1], details='{"instead": true}'), *rows[at:]])
    last = at == len(chain)
    assert tampered.found() == (None if last else (at, Fault.EDITED))
    assert tampered.found(tampered.anchor) == (at, Fault.REWRITTEN if last else Fault.EDITED)


@examples
@given(chain=chains, data=st.data())
def test_a_forged_event_at_the_end_is_told_from_the_anchored_one_before_it(
    lawless: Database, chain: list[dict[str, Any]], data: st.DataObject
) -> None:
    tampered = Tampered(lawless, chain)
    rows = tampered.honest
    extra = forged(rows[-1], sequence=len(chain) + 1, previous_hash=b"\x07" * 32)
    tampered.put([*rows, extra])
    assert tampered.found(tampered.anchor) == (len(chain) + 1, Fault.EDITED)


@examples
@given(chain=st.lists(details_of_an_event, min_size=2, max_size=7), renumber=st.booleans(), data=st.data())
def test_events_deleted_before_the_end_are_missed(
    lawless: Database, chain: list[dict[str, Any]], renumber: bool, data: st.DataObject
) -> None:
    tampered = Tampered(lawless, chain)
    first = data.draw(st.integers(1, len(chain) - 1))
    last = data.draw(st.integers(first, len(chain) - 1))
    rows = [*tampered.honest[: first - 1], *tampered.honest[last:]]
    if renumber:
        rows = [{**row, "sequence": n} for n, row in enumerate(rows, start=1)]
    tampered.put(rows)
    assert tampered.found() == (first, Fault.DROPPED)


@examples
@given(chain=st.lists(details_of_an_event, min_size=2, max_size=7), data=st.data())
def test_a_swap_of_what_two_events_hold_is_found(
    lawless: Database, chain: list[dict[str, Any]], data: st.DataObject
) -> None:
    tampered = Tampered(lawless, chain)
    first = data.draw(st.integers(1, len(chain) - 1))
    second = data.draw(st.integers(first + 1, len(chain)))
    rows = list(tampered.honest)
    rows[first - 1], rows[second - 1] = (
        {**rows[second - 1], "sequence": first},
        {**rows[first - 1], "sequence": second},
    )
    tampered.put(rows)
    assert tampered.found() == (first, Fault.SWAPPED)


@examples
@given(chain=chains, data=st.data())
def test_a_tail_that_was_cut_off_is_found_with_an_anchor(
    lawless: Database, chain: list[dict[str, Any]], data: st.DataObject
) -> None:
    tampered = Tampered(lawless, chain)
    left = data.draw(st.integers(0, len(chain) - 1))
    tampered.put(tampered.honest[:left])
    assert tampered.found() is None
    assert tampered.found(tampered.anchor) == (left + 1, Fault.CUT_OFF)


@examples
@given(chain=chains, data=st.data())
def test_an_event_put_between_others_is_found(
    lawless: Database, chain: list[dict[str, Any]], data: st.DataObject
) -> None:
    tampered = Tampered(lawless, chain)
    at = data.draw(st.integers(1, len(chain)))
    rows = tampered.honest
    extra = forged(rows[at - 1], details='{"extra": true}')
    tampered.put([*rows[: at - 1], extra, *({**row, "sequence": row["sequence"] + 1} for row in rows[at - 1 :])])
    assert tampered.found() == (at, Fault.INSERTED)


@examples
@given(chain=chains, data=st.data())
def test_a_chain_written_anew_is_found_at_the_first_anchor_after_it(
    lawless: Database, chain: list[dict[str, Any]], data: st.DataObject
) -> None:
    tampered = Tampered(lawless, chain)
    start = data.draw(st.integers(1, len(chain)))
    kept = [
        Anchor(tampered.business_id, row["sequence"], row["event_hash"].hex(), datetime.now(UTC))
        for row in data.draw(st.permutations(tampered.honest))
    ][: data.draw(st.integers(0, len(chain)))]
    tampered.put(rewritten(tampered.honest, start))
    assert tampered.found() is None
    later = [anchor.count for anchor in kept if anchor.count >= start]
    assert tampered.found(*kept) == ((min(later), Fault.REWRITTEN) if later else None)


@examples
@given(chain=chains, data=st.data())
def test_a_second_event_in_the_same_place_is_a_fork(
    lawless: Database, chain: list[dict[str, Any]], data: st.DataObject
) -> None:
    tampered = Tampered(lawless, chain)
    at = data.draw(st.integers(1, len(chain)))
    twin = forged(tampered.honest[at - 1], details='{"twin": true}')
    tampered.put([*tampered.honest, twin])
    assert tampered.found() == (at, Fault.FORKED)


@examples
@given(chain=chains, data=st.data())
def test_an_event_that_follows_an_earlier_one_is_a_fork(
    lawless: Database, chain: list[dict[str, Any]], data: st.DataObject
) -> None:
    tampered = Tampered(lawless, chain)
    rows = tampered.honest
    followed = data.draw(st.integers(0, len(chain) - 1))
    previous = rows[followed - 1]["event_hash"] if followed else NO_PREDECESSOR
    tampered.put([*rows, forged(rows[-1], sequence=len(chain) + 1, previous_hash=previous)])
    assert tampered.found() == (len(chain) + 1, Fault.FORKED)


def test_an_event_moved_to_another_business_is_missed_here_and_found_there(lawless: Database) -> None:
    here, there = Tampered(lawless, [{}, {}, {}]), Tampered(lawless, [{}])
    moved = here.execute(
        "UPDATE finance_os.finance_audit_events SET business_id = %(there)s "
        "WHERE business_id = %(business_id)s AND sequence = 2",
        there=there.business_id,
    )
    assert moved == 1
    assert here.found() == (2, Fault.DROPPED)
    assert there.found() == (2, Fault.EDITED)


def test_infinite_times_and_impossible_numbers_are_edits_and_no_crash(lawless: Database) -> None:
    tampered = Tampered(lawless, [{}, {}])
    tampered.execute(
        "UPDATE finance_os.finance_audit_events SET occurred_at = 'infinity' "
        "WHERE business_id = %(business_id)s AND sequence = 2"
    )
    assert tampered.found() == (2, Fault.EDITED)
    canonical = canonical_json({**decode(bytes(tampered.honest[1]["canonical"])), "sequence": "second"})
    row = {**tampered.honest[1], "canonical": canonical, "event_hash": hashlib.sha256(canonical).digest()}
    tampered.put([tampered.honest[0], row])
    assert tampered.found() == (2, Fault.EDITED)


def test_the_database_itself_refuses_a_hash_that_does_not_fit(database: Database) -> None:
    tampered = Tampered(database, [{}])
    wrong = {**tampered.honest[0], "event_hash": b"\x01" * 32}
    with pytest.raises(psycopg.errors.CheckViolation):
        tampered.put([wrong])


CHANGES = [
    "UPDATE finance_os.finance_audit_events SET actor = 'x'",
    "DELETE FROM finance_os.finance_audit_events",
    "TRUNCATE finance_os.finance_audit_events",
]


@pytest.mark.parametrize("statement", CHANGES)
def test_nobody_changes_the_chain(database: Database, owner: Database, statement: str) -> None:
    tampered = Tampered(database, [{}])
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"), database.transaction() as one:
        one.execute(statement.encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"), owner.transaction() as one:
        one.execute(statement.encode())
    assert tampered.rows() == tampered.honest


def test_a_reader_records_nothing(database: Database, acme: Connection) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege), database.as_reader().transaction() as connection:
        append(connection, "acme", "thing.happened", "thing:1", {})
    assert verify(database.as_reader(), "acme").sound


def test_an_event_is_what_append_returns(database: Database, acme: Connection) -> None:
    with database.transaction() as connection:
        first = append(connection, "acme", "thing.happened", "thing:1", {"count": 3})
        second = append(connection, "acme", "thing.happened", "thing:2", {}, actor="someone")
    assert (first.sequence, first.previous_hash, first.actor) == (1, NO_PREDECESSOR, "finance-os")
    assert (second.sequence, second.previous_hash, second.actor) == (2, first.event_hash, "someone")
    assert first.occurred_at <= second.occurred_at
    anchor = current_anchor(database, "acme")
    assert (anchor.count, anchor.head) == (2, second.event_hash.hex())


def test_what_is_rolled_back_leaves_no_gap(database: Database, acme: Connection) -> None:
    with database.transaction() as connection:
        append(connection, "acme", "thing.happened", "thing:1", {})
        raise psycopg.Rollback
    with database.transaction() as connection:
        assert append(connection, "acme", "thing.happened", "thing:1", {}).sequence == 1
    assert verify(database, "acme").events == 1


def test_businesses_have_chains_of_their_own(database: Database, acme: Connection, globex: Connection) -> None:
    with database.transaction() as one, database.transaction() as other:
        # Neither waits for the other.
        first = append(one, "acme", "thing.happened", "thing:1", {})
        second = append(other, "globex", "thing.happened", "thing:1", {})
    assert first.sequence == second.sequence == 1
    assert first.event_hash != second.event_hash
    assert verify(database, "acme").head == first.event_hash.hex()
    with pytest.raises(ValueError, match="globex"):
        verify(database, "acme", [current_anchor(database, "globex")])


def test_sixty_four_writers_make_one_chain(database: Database, acme: Connection, globex: Connection) -> None:
    writers, events = 64, 4
    together = threading.Barrier(writers)

    def write(writer: int) -> None:
        business_id = "acme" if writer % 4 else "globex"
        with database.connection() as connection:
            together.wait()
            for n in range(events):
                with database.transaction(connection):
                    append(connection, business_id, "thing.happened", f"thing:{writer}:{n}", {"writer": writer})

    with ThreadPoolExecutor(writers) as pool:
        for future in [pool.submit(write, writer) for writer in range(writers)]:
            future.result()
    assert verify(database, "acme").events == writers * events * 3 // 4
    assert verify(database, "globex").events == writers * events // 4
    assert verify(database, "acme").sound
    assert verify(database, "globex").sound
    subjects = {row["subject"] for row in database.fetch("SELECT subject FROM finance_os.finance_audit_events")}
    assert len(subjects) == writers * events


def test_a_writer_with_an_old_snapshot_fails_instead_of_forking(database: Database, acme: Connection) -> None:
    with database.connection() as late:
        late.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        with database.transaction(late):
            with database.transaction() as early:
                append(early, "acme", "thing.happened", "thing:1", {})
            with pytest.raises(psycopg.errors.UniqueViolation):
                append(late, "acme", "thing.happened", "thing:2", {})
    assert verify(database, "acme").events == 1


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kathmandu", "America/St_Johns"])
@pytest.mark.parametrize("style", ["ISO, MDY", "SQL, DMY"])
def test_hashes_do_not_depend_on_the_session(database: Database, acme: Connection, zone: str, style: str) -> None:
    with database.transaction() as connection:
        connection.execute("SELECT set_config('TimeZone', %s, true), set_config('DateStyle', %s, true)", (zone, style))
        event = append(connection, "acme", "thing.happened", "thing:1", {})
    assert abs(event.occurred_at - datetime.now(UTC)).total_seconds() < 60
    elsewhere = f"{database.url}{'&' if '?' in database.url else '?'}options=-c%20TimeZone%3DAsia/Tokyo"
    assert verify(Database(elsewhere), "acme") == verify(database, "acme")
    assert verify(database, "acme").head == event.event_hash.hex()


@pytest.mark.parametrize(
    "details",
    [
        {"customer": "jane.doe@example.com"},
        {"customers": [{"note": "write to <jane@example.co.uk>, please"}]},
        {"jane@example.com": 1},
        {"key": "sk_live_4eC39HqLyjWDarjtT1zdp7dc"},
        {"key": "rk_test_4eC39HqLyjWDarjtT1zdp7dc"},
        {"error": "cannot reach postgresql://finance:hunter2@db.example/finance"},
        {"error": "redis://:hunter2@cache"},
    ],
)
def test_personal_data_and_secrets_are_refused(database: Database, acme: Connection, details: dict[str, Any]) -> None:
    with pytest.raises(UnfitForAudit) as refusal, database.transaction() as connection:
        append(connection, "acme", "thing.happened", "thing:1", details)
    for secret in ("jane", "4eC39", "hunter2"):
        assert secret not in str(refusal.value)
    assert verify(database, "acme").events == 0


def test_what_only_resembles_a_secret_is_recorded(database: Database, acme: Connection) -> None:
    details = {
        "requested": {"GET api.stripe.com": 3},
        "id": "cus_NffrFeUfNV2Hib",
        "risk_score_total": 7,
        "url": "postgresql://db.example:5432/finance",
        "note": "3 @ 5 USD; task_1234567",
    }
    with database.transaction() as connection:
        append(connection, "acme", "thing.happened", "thing:1", details)
    assert verify(database, "acme").sound


def test_what_is_not_exact_is_refused(database: Database, acme: Connection) -> None:
    with pytest.raises(Uncanonical), database.transaction() as connection:
        append(connection, "acme", "thing.happened", "thing:1", {"amount": 0.1})


def test_verification_takes_little_memory(database: Database) -> None:
    tampered = Tampered(database, [{"text": "x" * 500}])
    rows, count = [tampered.honest[0]], 20_000
    while len(rows) < count:
        rows.append(forged(rows[-1], sequence=len(rows) + 1, previous_hash=rows[-1]["event_hash"]))
    tampered.put(rows)
    del rows
    tracemalloc.start()
    assert verify(database, tampered.business_id).events == count
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6_000_000, f"{peak:,} bytes for {count:,} events"


# Anchors


AT = datetime(2026, 3, 1, 12, 30, 0, 5, tzinfo=UTC)


def an_anchor(count: int, business_id: str = "acme") -> Anchor:
    return Anchor(business_id, count, hashlib.sha256(str(count).encode()).hexdigest(), AT)


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 prefix."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    with mock_aws():
        S3Client().set_as_default_client()
        boto3.client("s3").create_bucket(Bucket="kept")
        yield "s3://kept/some/where"


@pytest.fixture(params=["folder", "bucket"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.getfixturevalue("bucket") if request.param == "bucket" else str(tmp_path / "anchors")


def test_anchors_come_back_in_the_order_written(location: str) -> None:
    assert anchors.read(location, "acme").anchors == ()
    written = tuple(an_anchor(count) for count in (0, 2, 9, 10, 11))
    for anchor in written:
        anchors.write(location, anchor)
        anchors.write(location, replace(an_anchor(anchor.count, "globex"), head="ab" * 32))
    assert anchors.read(location, "acme") == anchors.Anchors(written)
    assert len(anchors.read(location, "globex").anchors) == len(written)


def test_an_object_is_never_overwritten(bucket: str) -> None:
    first = an_anchor(3)
    anchors.write(bucket, first)
    anchors.write(bucket, replace(first, at=AT.replace(year=2027)))
    anchors.write(bucket, replace(first, head="cd" * 32))
    kept = anchors.read(bucket, "acme").anchors
    assert len(kept) == 2
    assert first in kept


def test_only_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    folder, path = str(tmp_path), tmp_path / "acme.jsonl"
    anchors.write(folder, an_anchor(1))
    whole = path.read_bytes()
    anchors.write(folder, an_anchor(2))
    both = path.read_bytes()
    for length in range(len(whole) + 1, len(both)):
        path.write_bytes(both[:length])
        torn = anchors.read(folder, "acme")
        assert torn.anchors == (an_anchor(1),)
        assert "acme.jsonl" in torn.notices[0]
    anchors.write(folder, an_anchor(3))
    assert anchors.read(folder, "acme") == anchors.Anchors((an_anchor(1), an_anchor(3)))


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"\n",
        lambda line: line[:-5] + b"\n",
        lambda _: b"[]\n",
        lambda line: line.replace(b'"count":1', b'"count":1.5'),
        lambda line: line.replace(b'"count":1', b'"count":-1'),
        lambda line: line.replace(b'"acme"', b'"globex"'),
        lambda line: line.replace(b'"at":"2', b'"at":"x'),
        lambda line: line.replace(b'"head":"', b'"head":"00'),
        lambda line: line.replace(b"}", b',"more":1}'),
    ],
)
def test_any_other_damage_is_an_error(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    folder, path = str(tmp_path), tmp_path / "acme.jsonl"
    anchors.write(folder, an_anchor(1))
    line = path.read_bytes()
    path.write_bytes(line + damage(line) + line)
    with pytest.raises(DamagedAnchor, match="line 2"):
        anchors.read(folder, "acme")


def test_a_damaged_object_is_an_error(bucket: str) -> None:
    anchors.write(bucket, an_anchor(1))
    boto3.client("s3").put_object(Bucket="kept", Key="some/where/acme/x.json", Body=b'{"count":')
    with pytest.raises(DamagedAnchor, match=r"acme/x\.json"):
        anchors.read(bucket, "acme")


def test_many_writers_of_one_file(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda count: anchors.write(str(tmp_path), an_anchor(count)), range(80)))
    kept = anchors.read(str(tmp_path), "acme")
    assert sorted(anchor.count for anchor in kept.anchors) == list(range(80))
    assert not kept.notices


def test_a_business_id_is_no_path(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="business ID"):
        an_anchor(1, "../acme")
    with pytest.raises(ValueError, match="business ID"):
        anchors.read(str(tmp_path), "../acme")


def test_a_chain_is_verified_against_what_was_kept(location: str, lawless: Database) -> None:
    tampered = Tampered(lawless, [{}, {}, {}])
    anchors.write(location, tampered.anchor)
    tampered.put(tampered.honest[:2])
    kept = anchors.read(location, tampered.business_id).anchors
    assert audit.verify(lawless, tampered.business_id).sound
    assert tampered.found(*kept) == (3, Fault.CUT_OFF)
