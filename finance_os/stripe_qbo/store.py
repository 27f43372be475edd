"""The store of intents: what a plan wants is kept once each, and another payload never slips in for a written one."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from enum import StrEnum
from typing import Any

from psycopg import sql

from finance_os.evidence.canonical import canonical_json
from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.stripe_qbo.intent import CORRECTS, RAIL, Intent, LinkKey, Operation
from finance_os.stripe_qbo.links import ADOPTED
from finance_os.stripe_qbo.lookup import require_fit
from finance_os.stripe_qbo.states import WAS_WRITTEN

_NEVER_WRITTEN = sql.SQL("(state IN ('planned', 'failed', 'conflicted') AND NOT {was_written})").format(
    was_written=WAS_WRITTEN
)


class What(StrEnum):
    """What putting a plan does about one of its intents.

    new: it is kept; unchanged: it is there already, or what it would make was adopted; superseded: it takes the place
    of a version that was never written; withdrawn: it was never written, and the plan has it no longer; conflict: it
    is refused, for another payload was written, or perhaps written.
    """

    NEW = "new"
    UNCHANGED = "unchanged"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"
    CONFLICT = "conflict"


@dataclass(frozen=True)
class Change:
    """What putting a plan does about one intent.

    `stored_hash` is the input hash of what is kept now, `planned_hash` that of the plan; `None` where there is none.
    `state` is that of what is kept. `corrects` names the properties that an update corrects.
    """

    what: What
    key: LinkKey
    operation: Operation
    entity: str
    dated: date
    stored_hash: str | None
    planned_hash: str | None
    state: str | None
    corrects: tuple[str, ...] = ()

    def __str__(self) -> str:
        hashes = " → ".join(each[:12] for each in (self.stored_hash, self.planned_hash) if each)
        corrects = f", corrects {', '.join(self.corrects)}" if self.corrects else ""
        return (
            f"{self.what.value}: {self.operation.value} {self.entity} {self.key} of {self.dated}{corrects} ({hashes})"
        )


@dataclass(frozen=True)
class Put:
    """What putting a plan came to; everything but what is unchanged, in order, and how much is unchanged."""

    changes: tuple[Change, ...]
    unchanged: int

    def count(self, what: What) -> int:
        """How many intents met with `what`."""
        return self.unchanged if what is What.UNCHANGED else sum(each.what is what for each in self.changes)

    def then(self, later: "Put") -> "Put":
        """What putting this plan and then a later one came to: what was refused, as the later one says it."""
        changes = *(each for each in self.changes if each.what is not What.CONFLICT), *later.changes
        intents = later.unchanged + sum(each.what is not What.WITHDRAWN for each in later.changes)
        touched = {(each.key, each.operation) for each in changes if each.what is not What.WITHDRAWN}
        return Put(changes, intents - len(touched))

    @property
    def conflicts(self) -> tuple[Change, ...]:
        """The intents that were refused."""
        return tuple(each for each in self.changes if each.what is What.CONFLICT)


class PayloadConflict(RuntimeError):
    """A plan wants to write again, otherwise, what was written, or perhaps written. The rest of it is kept (`put`).

    An update has to say so: an applied create becomes one only where the plan has an intent of that operation.
    """

    def __init__(self, put: Put) -> None:
        self.put = put
        told = [
            f"{each.operation.value} of {each.key} is {each.state} with input hash {each.stored_hash}, "
            f"and planned with {each.planned_hash}"
            for each in put.conflicts
        ]
        more = f"; and {len(told) - 5} more" if len(told) > 5 else ""
        super().__init__(f"the same key with another payload: {'; '.join(told[:5])}{more}")


@dataclass(frozen=True)
class _Planned:
    """An intent with its input hash and its place in the plan's order: by `due`, then by `place`."""

    intent: Intent
    input_hash: str
    due: date
    place: int


def put_plan(
    database: Database, business_id: str, realm: str, intents: Iterable[Intent], *, run: str = "", whole: bool = False
) -> Put:
    """Keep what a plan wants to have written to `realm`; nothing is sent.

    The same key, operation and input hash again changes nothing. Another payload takes the place of one that was never
    written. An update that was applied can be followed by another one. `whole` says that these are all intents of the
    business: those that were never written and that it does not have any more are withdrawn. `run` names who planned.
    Raises `PayloadConflict`, after the rest is committed; `lookup.Unfit` and `ValueError`, with nothing kept, for an
    intent that must not be sent or stands there twice.
    """
    planned = _by_operation(intents)
    with database.transaction() as connection:
        connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))",
            (f"finance_os/intents/{business_id}/{RAIL}/{realm}",),
        )
        found = _compare(connection, business_id, realm, planned, whole=whole)
        replaced = [row_id for change, row_id, _ in found if change.what in (What.SUPERSEDED, What.WITHDRAWN)]
        freed = _supersede(connection, replaced)
        rows: list[dict[str, Any]] = []
        changes: list[Change] = []
        for change, row_id, version in found:
            if row_id in replaced and row_id not in freed:  # an applier took it just now
                if change.what is What.SUPERSEDED:
                    changes.append(_conflict(change))
                continue
            changes.append(change)
            if change.what in (What.NEW, What.SUPERSEDED):
                rows.append(_row(business_id, realm, planned[change.key, change.operation], version, run))
        _insert(connection, rows)
        _reorder(connection, business_id, realm, planned.values())
    put = Put(tuple(changes), len(planned) - sum(each.what is not What.WITHDRAWN for each in changes))
    if put.conflicts:
        raise PayloadConflict(put)
    return put


def compare_plan(
    database: Database, business_id: str, realm: str, intents: Iterable[Intent], *, whole: bool = False
) -> Put:
    """What `put_plan` would do, with nothing done; conflicts are among the changes."""
    planned = _by_operation(intents)
    with database.transaction() as connection:
        found = _compare(connection, business_id, realm, planned, whole=whole)
    changes = tuple(change for change, _, _ in found)
    return Put(changes, len(planned) - sum(each.what is not What.WITHDRAWN for each in changes))


def _by_operation(intents: Iterable[Intent]) -> dict[tuple[LinkKey, Operation], _Planned]:
    planned: dict[tuple[LinkKey, Operation], _Planned] = {}
    due = date.min
    for place, intent in enumerate(intents):
        require_fit(intent)
        if (intent.key, intent.operation) in planned:
            raise ValueError(f"the plan has {intent.operation.value} of {intent.key} twice")
        due = max(due, intent.dated)
        planned[intent.key, intent.operation] = _Planned(intent, intent.input_hash, due, place)
    return planned


def _compare(
    connection: DatabaseConnection,
    business_id: str,
    realm: str,
    planned: Mapping[tuple[LinkKey, Operation], _Planned],
    *,
    whole: bool,
) -> list[tuple[Change, int | None, int]]:
    """What changes, the ID of the kept intent that is in the way, and the version that a new one gets."""
    scope = {
        "business_id": business_id,
        "rail": RAIL,
        "realm": realm,
        "keys": list({str(key) for key, _ in planned}),
        "whole": whole,
    }
    query = sql.SQL(
        """
        SELECT intent_id, stripe_object, stripe_id, role, operation, entity, dated, version, input_hash, state,
               {never_written} AS is_never_written
        FROM finance_os.intents
        WHERE business_id = %(business_id)s AND rail = %(rail)s AND realm = %(realm)s
          AND (key = ANY (%(keys)s) OR (%(whole)s AND {never_written}))
        ORDER BY key, operation, version
        """
    ).format(never_written=_NEVER_WRITTEN)
    rows = connection.execute(query, scope)
    kept: dict[tuple[LinkKey, Operation], dict[str, Any]] = {}
    versions: dict[tuple[LinkKey, Operation], int] = {}
    for row in rows:
        same = LinkKey(row["stripe_object"], row["stripe_id"], row["role"]), Operation(row["operation"])
        versions[same] = row["version"]
        if row["state"] != "superseded":
            kept[same] = row
    adopted = {
        row["key"]
        for row in connection.execute(
            """
            SELECT key FROM finance_os.links
            WHERE business_id = %(business_id)s AND rail = %(rail)s AND realm = %(realm)s AND key = ANY (%(keys)s)
              AND origin = %(adopted)s
            """,
            {**scope, "adopted": ADOPTED},
        )
    }
    found: list[tuple[Change, int | None, int]] = []
    for same, each in planned.items():
        intent, input_hash = each.intent, each.input_hash
        row = kept.get(same)
        what = _what(intent, input_hash, row, is_adopted=str(intent.key) in adopted)
        if what is What.UNCHANGED:
            continue
        change = Change(
            what,
            *same,
            intent.entity,
            intent.dated,
            row["input_hash"] if row else None,
            input_hash,
            row["state"] if row else None,
            tuple(sorted(intent.corrects)),
        )
        found.append((change, row["intent_id"] if row else None, versions.get(same, 0) + 1))
    if whole:
        found += [
            (
                Change(What.WITHDRAWN, *same, row["entity"], row["dated"], row["input_hash"], None, row["state"]),
                row["intent_id"],
                0,
            )
            for same, row in kept.items()
            if same not in planned and row["is_never_written"]
        ]
    return found


def _what(intent: Intent, input_hash: str, row: Mapping[str, Any] | None, *, is_adopted: bool) -> What:
    if row is None:
        return What.UNCHANGED if is_adopted and intent.operation is Operation.CREATE else What.NEW
    if row["input_hash"] == input_hash:
        return What.UNCHANGED
    if row["is_never_written"]:
        return What.SUPERSEDED
    if row["state"] == "applied" and intent.operation is Operation.UPDATE:
        return What.NEW
    return What.CONFLICT


def _conflict(change: Change) -> Change:
    return replace(change, what=What.CONFLICT, state="sending")


def _supersede(connection: DatabaseConnection, intent_ids: Sequence[int | None]) -> set[int]:
    if not intent_ids:
        return set()
    query = sql.SQL(
        """
        UPDATE finance_os.intents SET state = 'superseded', settled_at = clock_timestamp()
        WHERE intent_id = ANY (%s) AND {never_written} RETURNING intent_id
        """
    ).format(never_written=_NEVER_WRITTEN)
    return {row["intent_id"] for row in connection.execute(query, (list(intent_ids),))}


def _reorder(connection: DatabaseConnection, business_id: str, realm: str, planned: Iterable[_Planned]) -> None:
    """Give what was planned before, and is planned still, its place in this plan."""
    places = list(planned)
    connection.execute(
        """
        UPDATE finance_os.intents AS intent SET due = now.due, place = now.place
        FROM unnest(%(hashes)s::text[], %(dues)s::date[], %(places)s::integer[]) AS now (input_hash, due, place)
        WHERE intent.business_id = %(business_id)s AND intent.rail = %(rail)s AND intent.realm = %(realm)s
          AND intent.state IN ('planned', 'failed', 'conflicted') AND intent.input_hash = now.input_hash
          AND (intent.due, intent.place) <> (now.due, now.place)
        """,
        {
            "business_id": business_id,
            "rail": RAIL,
            "realm": realm,
            "hashes": [each.input_hash for each in places],
            "dues": [each.due for each in places],
            "places": [each.place for each in places],
        },
    )


def _row(business_id: str, realm: str, planned: _Planned, version: int, run: str) -> dict[str, Any]:
    intent = planned.intent
    return {
        "business_id": business_id,
        "rail": RAIL,
        "realm": realm,
        "stripe_object": intent.key.stripe_object,
        "stripe_id": intent.key.stripe_id,
        "role": intent.key.role,
        "operation": intent.operation.value,
        "version": version,
        "entity": intent.entity,
        "payload": canonical_json(_kept_payload(intent)).decode(),
        "input_hash": planned.input_hash,
        "marker": intent.marker,
        "dated": intent.dated,
        "depends_on": [str(key) for key in intent.depends_on],
        "evidence": canonical_json(dict(intent.evidence)).decode(),
        "plan_run": run,
        "due": planned.due,
        "place": planned.place,
    }


def _kept_payload(intent: Intent) -> Mapping[str, Any]:
    return {**intent.payload, CORRECTS: intent.corrects} if intent.corrects else intent.payload


def _insert(connection: DatabaseConnection, rows: Sequence[Mapping[str, Any]]) -> None:
    with connection.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO finance_os.intents
                (business_id, rail, realm, stripe_object, stripe_id, role, operation, version, entity, payload,
                 input_hash, marker, dated, depends_on, evidence, plan_run, due, place)
            VALUES (%(business_id)s, %(rail)s, %(realm)s, %(stripe_object)s, %(stripe_id)s, %(role)s, %(operation)s,
                    %(version)s, %(entity)s, %(payload)s::jsonb, %(input_hash)s, %(marker)s, %(dated)s,
                    %(depends_on)s, %(evidence)s::jsonb, %(plan_run)s, %(due)s, %(place)s)
            """,
            rows,
        )
