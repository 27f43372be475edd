"""Taking a file out of an inbox: it is kept, judged, recorded and cleared away, in this order.

Wherever that stops, taking the file again ends in the same state: a drop is known by its bytes, and nothing is removed
that has changed since it was read.
"""

import hashlib
from dataclasses import dataclass
from enum import StrEnum

from finance_os.evidence.businesses import Connection
from finance_os.evidence.database import Database
from finance_os.sources.credentials import Credentials
from finance_os.sources.drops.inbox import MAX_BYTES, DropFile, inbox_name
from finance_os.sources.drops.kept import keep
from finance_os.sources.drops.quarantine import clear_refusals, put_into_quarantine
from finance_os.sources.drops.records import Drop, find_accepted, record_verdict
from finance_os.sources.drops.stores import Store, open_store
from finance_os.sources.drops.verdicts import Accepted, Judge, Problem


class Outcome(StrEnum):
    """What became of a file that was to be taken.

    accepted: it can be staged; quarantined: refused, see its report; duplicate: the same bytes were accepted
    before; changed: it is not what was listed any more and waits for the next look; gone: somebody else took it.
    """

    ACCEPTED = "accepted"
    QUARANTINED = "quarantined"
    DUPLICATE = "duplicate"
    CHANGED = "changed"
    GONE = "gone"


@dataclass(frozen=True)
class Taken:
    """The end of one `take`. `report` is where a refused file's report lies."""

    outcome: Outcome
    file_name: str
    drop: Drop | None = None
    problems: tuple[Problem, ...] = ()
    report: str | None = None


def take(
    database: Database,
    connection: Connection,
    judge: Judge,
    file: DropFile,
    *,
    location: str,
    credentials: Credentials,
    max_bytes: int = MAX_BYTES,
) -> Taken:
    """Take one file out of the inbox of `connection`: keep it, judge it, record the verdict, clear the inbox.

    Raises what `judge` raises (a setting that is wrong is not the file's fault: the file stays), `SourceError`
    (`drops_unreachable`, `drop_too_large`), and database errors. The file is then taken again at the next look.
    """
    store = open_store(location)
    inbox = inbox_name(connection)
    key = f"{inbox}/{file.name}"
    try:
        data, stamp = store.read(key, max_bytes)
    except FileNotFoundError:
        return Taken(Outcome.GONE, file.name)
    if stamp != file.stamp:
        return Taken(Outcome.CHANGED, file.name)
    content_hash = hashlib.sha256(data).hexdigest()
    keep(store, content_hash, data)
    if known := find_accepted(database, connection, content_hash=content_hash):
        return _finish(store, inbox, file, Taken(Outcome.DUPLICATE, file.name, known[0]))
    judged = judge(data, file.name, connection.zone, credentials)
    drop = record_verdict(database, connection, file, content_hash, judged)
    if drop is None:  # another process accepted it in this moment
        known = find_accepted(database, connection, content_hash=content_hash)
        return _finish(store, inbox, file, Taken(Outcome.DUPLICATE, file.name, known[0]))
    if isinstance(judged, Accepted):
        return _finish(store, inbox, file, Taken(Outcome.ACCEPTED, file.name, drop))
    report = put_into_quarantine(store, inbox, stamp, data, drop, connection, judged)
    return Taken(Outcome.QUARANTINED, file.name, drop, judged.problems, report)


def _finish(store: Store, inbox: str, file: DropFile, taken: Taken) -> Taken:
    """Clear away an accepted file, and what is left of an earlier refusal of the same bytes."""
    assert taken.drop is not None
    clear_refusals(store, inbox, file.name, taken.drop.content_hash)
    store.remove(f"{inbox}/{file.name}", file.stamp)
    return taken
