"""From days of an object to the sync runs that read them: of which kind, and what of each day can still be seen."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from finance_os.evidence.businesses import Connection
from finance_os.evidence.extraction import DayState, Extraction, Item, Kind, Page, Request
from finance_os.evidence.reading import CannotTry
from finance_os.evidence.sync_runs import Read
from finance_os.evidence.windows import Days, day_of, spans, start_of_day, window_of
from finance_os.sources.credentials import Approvals, CredentialsMissing, KeptSecrets, find_credentials
from finance_os.sources.drops import Drop
from finance_os.sources.source import Reads, Source, SourceObject


def plan_reads(
    source: Source,
    obj: SourceObject[Any],
    connection: Connection,
    days: Days,
    now: datetime,
    *,
    snapshot_days: Iterable[date] = (),
    drops: Sequence[Drop] = (),
    kept: Callable[[Connection], KeptSecrets] | None = None,
    approvals: Callable[[Connection], Approvals] | None = None,
) -> list[Read]:
    """The reads that bring `days` of `obj` up to date, oldest days first.

    `snapshot_days` are those that a snapshot was already taken on: a snapshot cannot be taken again, so such a past
    day is left as it is. `drops` are the accepted files of the connection that have something to say of `days`.
    `kept` gives the secrets that Finance OS keeps for a connection, `approvals` what policies allow its business.
    """
    today = day_of(now, connection.zone)
    opener = opening(source, obj, connection, kept, approvals)
    if obj.reads is Reads.DROP:
        return [_drop_read(obj, connection, days, drops, opener)]

    def read(
        kind: Kind,
        span: Days,
        state: DayState,
        extract: Callable[[Request], AbstractContextManager[Extraction]] | None,
        *notices: str,
    ) -> Read:
        states = dict.fromkeys(span, state)
        if state is DayState.WHOLE:
            # Of the day on which the source's memory begins, it knows a part only.
            known_since = today - obj.changes_known_for + timedelta(days=1) if obj.changes_known_for else span.first
            states = {
                day: DayState.PARTIAL if day >= today else state if day >= known_since else obj.beyond for day in span
            }
        if kind is Kind.SNAPSHOT:
            states = {today: DayState.WHOLE}
        window = window_of(span, connection.zone).until(now)
        return Read(
            connection, obj.object_type, kind, span, window, states, extract, obj.volatile_paths, notices=notices
        )

    begun = [day for day in days if day <= today]
    reads: list[Read] = []
    if obj.reads is Reads.WINDOW:
        reads += [read(Kind.WINDOW, span, DayState.WHOLE, opener) for span in spans(begun)]
    else:
        held = set(snapshot_days)
        past = spans(day for day in begun if day < today and day not in held)
        if obj.reads is Reads.UPDATED:
            reads += [read(Kind.WINDOW, span, DayState.WHOLE, opener) for span in past]
        else:
            notice = (
                f"{source.title} only knows the present: past days of {obj.object_type} cannot be observed any more."
            )
            reads += [read(Kind.WINDOW, span, DayState.UNOBSERVABLE, None, notice) for span in past]
        if today in begun:
            reads.append(read(Kind.SNAPSHOT, Days(today, today), DayState.WHOLE, opener))
    for span in spans(day for day in days if day > today):
        notice = f"In {connection.time_zone} it was still {today}: later days have not begun there."
        reads.append(read(Kind.WINDOW, span, DayState.PARTIAL, None, notice))
    return reads


def targeted_read(
    source: Source,
    obj: SourceObject[Any],
    connection: Connection,
    days: Days,
    now: datetime,
    targets: Sequence[str],
    *,
    kept: Callable[[Connection], KeptSecrets] | None = None,
    approvals: Callable[[Connection], Approvals] | None = None,
) -> Read:
    """The read of single objects, by their source IDs: what it finds is added to the present day.

    That is the connection's own, or the one of `days` that is nearest to it. It is never gone on with after a crash:
    an object that was read before it may have changed since, and that is what a new request for it tells.
    """
    today = day_of(now, connection.zone)
    present = min(max(today, days.first), days.last)
    span = Days(present, present)
    opener = opening(source, obj, connection, kept, approvals)

    @contextmanager
    def anew(request: Request) -> Iterator[Extraction]:
        with opener(request) as extraction:
            yield replace(extraction, items=map(_not_to_be_resumed, extraction.items))

    return Read(
        connection,
        obj.object_type,
        Kind.TARGETED,
        span,
        window_of(span, connection.zone),
        {present: DayState.PARTIAL},
        anew,
        obj.volatile_paths,
        tuple(targets),
    )


def _not_to_be_resumed(item: Item) -> Item:
    return msgspec.structs.replace(item, resume=None) if isinstance(item, Page) else item


def due_days(connections: Iterable[Connection], due: datetime, zone: ZoneInfo, trailing_days: int = 1) -> Days:
    """The days that a daily sync reads at `due`: of each connection its today so far, and `trailing_days` before it.

    One of them is yesterday, which is over; more are read again where a source still changes what it told of them.

    Partitions end with today in `zone`. A connection to the west of it still has the day before, so that its
    yesterday is one day more back.
    """
    todays = [day_of(due, zone), *(day_of(due, connection.zone) for connection in connections)]
    return Days(min(todays) - timedelta(days=trailing_days), todays[0])


def opening(
    source: Source,
    obj: SourceObject[Any],
    connection: Connection,
    kept: Callable[[Connection], KeptSecrets] | None = None,
    approvals: Callable[[Connection], Approvals] | None = None,
) -> Callable[[Request], AbstractContextManager[Extraction]]:
    """How `obj` is read through `connection`: its secrets are looked up when the read begins, not before."""

    @contextmanager
    def extract(request: Request) -> Iterator[Extraction]:
        try:
            credentials = find_credentials(
                connection.secret_reference,
                source.credentials,
                source.options,
                kept(connection) if kept else None,
                approvals(connection) if approvals else None,
            )
        except CredentialsMissing as error:
            raise CannotTry("credentials_missing", error.advice, permanent=True) from None
        except ValueError as error:
            raise CannotTry("secret_reference_unknown", str(error), permanent=True) from None
        with source.open(credentials) as reader:
            yield source.extract(reader, obj, request)

    return extract


def _drop_read(
    obj: SourceObject[Any],
    connection: Connection,
    days: Days,
    drops: Sequence[Drop],
    opener: Callable[[Request], AbstractContextManager[Extraction]],
) -> Read:
    return Read(
        connection,
        obj.object_type,
        Kind.DROP,
        days,
        window_of(days, connection.zone),
        {day: _told_by(obj, drops, day, connection) for day in days},
        opener if drops else None,
        obj.volatile_paths,
        tuple(drop.target for drop in drops),
        () if drops else ("No file has been handed in that says anything of these days.",),
    )


def _told_by(obj: SourceObject[Any], drops: Iterable[Drop], day: date, connection: Connection) -> DayState:
    """How much of `day` files can tell: none of it where none reaches to it, a part where it was not over yet."""
    over = start_of_day(day + timedelta(days=1), connection.zone)
    received = [
        drop.received_at
        for drop in drops
        if drop.first_day and drop.last_day and drop.first_day <= day <= drop.last_day
    ]
    if not received:
        return DayState.UNOBSERVABLE
    return DayState.WHOLE if obj.dated_by_drop or max(received) >= over else DayState.PARTIAL
