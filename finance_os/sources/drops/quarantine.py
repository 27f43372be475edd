"""The folder of refused files in an inbox: what they are called there, and the report beside each."""

import hashlib
from contextlib import suppress
from datetime import UTC
from pathlib import PurePosixPath

from finance_os.evidence.businesses import Connection
from finance_os.sources.drops.inbox import printable
from finance_os.sources.drops.records import Drop
from finance_os.sources.drops.stores import Stamp, Store
from finance_os.sources.drops.verdicts import Problem, Quarantined


def put_into_quarantine(
    store: Store, inbox: str, stamp: Stamp, data: bytes, drop: Drop, connection: Connection, judged: Quarantined
) -> str:
    """Write the report of a refused file that lies in `inbox`, and move the file there; the report's path or URL."""
    name = _quarantined_name(store, inbox, drop.file_name, drop.content_hash, data)
    report = f"{inbox}/quarantined/{name}.report.txt"
    store.write(report, _report(drop, connection, judged, store.shown(inbox)).encode())
    store.move(f"{inbox}/{drop.file_name}", stamp, f"{inbox}/quarantined/{name}", data)
    return store.shown(report)


def clear_refusals(store: Store, inbox: str, file_name: str, content_hash: str) -> None:
    """Remove what is left of an earlier refusal of the same bytes."""
    for name in _quarantined_names(file_name, content_hash):
        refused = f"{inbox}/quarantined/{name}"
        with suppress(FileNotFoundError):
            text, stamp = store.read(f"{refused}.report.txt", None)
            if content_hash.encode() in text:
                store.remove(f"{refused}.report.txt", stamp)
        with suppress(FileNotFoundError):
            data, stamp = store.read(refused, None)
            if hashlib.sha256(data).hexdigest() == content_hash:
                store.remove(refused, stamp)


def _quarantined_names(name: str, content_hash: str) -> tuple[str, str]:
    """What a refused file is called: as it was, or with its hash where another of that name lies already."""
    path = PurePosixPath(name)
    return name, f"{path.stem}.{content_hash[:12]}{path.suffix}"


def _quarantined_name(store: Store, inbox: str, name: str, content_hash: str, data: bytes) -> str:
    plain, distinct = _quarantined_names(name, content_hash)
    try:
        lying, _ = store.read(f"{inbox}/quarantined/{plain}", None)
    except FileNotFoundError:
        return plain
    return plain if lying == data else distinct


def _report(drop: Drop, connection: Connection, judged: Quarantined, inbox: str) -> str:
    """Why a file was refused, for the person who handed it in."""
    lines = [
        "This file was refused. Nothing in it was staged.",
        "",
        f"File       {drop.file_name}",
        f"Source     {connection.source_system}, account {connection.external_account}, of {connection.business_id}",
        f"SHA-256    {drop.content_hash}",
        f"Received   {drop.received_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC",
        "",
        f"Problems   {judged.count}"
        + (f", of which the first {len(judged.problems)}" if judged.count > len(judged.problems) else ""),
        "",
    ]
    for problem in judged.problems:
        shown = f" ({problem.value[:40]!r})" if problem.value is not None else ""
        lines.append(f"  {_place(problem)}{shown}: {problem.message} [{problem.code}]")
    lines += [
        "",
        "What to do",
        f"  Correct the file, or export it again, and drop it into {inbox}",
        "  If the file is right and the names of its columns or its date format are not those that are expected,",
        "  correct the source's setting and move this file back to where it was dropped.",
        "",
    ]
    return "\n".join(lines)


def _place(problem: Problem) -> str:
    """`sheet "Mar 2026", row 3, column "Amount"`, as far as it is known; else the file."""
    where = [f'sheet "{printable(problem.sheet)}"'] if problem.sheet is not None else []
    where += [f"row {problem.row}"] if problem.row is not None else []
    where += [f'column "{problem.column}"'] if problem.column is not None else []
    return ", ".join(where) or "the file"
