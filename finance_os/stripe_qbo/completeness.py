"""Whether everything that a QuickBooks company held before is staged: proved by the reads themselves, with no request.

An object of QuickBooks is staged on the day of its last change. One that changed last on a day that nobody read is not
staged: it would be found by no number, amount or date, and booked a second time. So nothing is sent before it is proved
that, for each entity that is looked at, the windows that were read follow one another without a gap from the company's
first moment to the end of the last closed day.

That is a proof, because a successful read is one: QuickBooks' own count of its window said so. Take any object whose
last change lies before that end. The window which that moment lies in ended before it was read, and the change is still
the last one, so that the read showed the object. Which read came first does not matter, nor in how many runs.

What changed since that end may have left a window before it was read. A read that ends in the past, or was gone on with
after a crash, therefore counts only once something was read up to the moment at which it completed; one that itself
went up to its present counts at once. What changes in the minutes of that one read is seen by the next daily sync.

The first moment is CompanyInfo's MetaData.CreateTime: when the company file was made in QuickBooks. What is imported is
changed by the import, whatever its TxnDate. Where anything staged says of itself that it is older, that moment counts.
CompanyStartDate, documented to be the same but shown as a date without a zone, is taken where there is no CreateTime.
https://developer.intuit.com/app/developer/qbo/docs/api/accounting/all-entities/companyinfo

A read of another company proves nothing; where objects of one are staged among these books, nothing does (`realms`).

Not proved here: that what was deleted is known to be deleted, for QuickBooks tells that for 30 days only. Such an
object is adopted and found missing when it is verified; it is not booked twice.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from psycopg.types.multirange import Multirange

from finance_os.evidence.canonical import evidence_hash
from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days, day_of, start_of_day
from finance_os.readiness.gate import Blocker, explain
from finance_os.sources.quickbooks.objects import OBJECTS, Way, company_path
from finance_os.stripe_qbo import realms
from finance_os.stripe_qbo.books import OBJECT_TYPES, SYSTEM

NOT_FROM_FIRST_DAY = "books_not_read_from_first_day"
"""A day of the company was never read to its end."""

CHANGED_SINCE = "books_changed_since_read"
"""Every day was read, some of them after the present was: what moved from them to the present was not seen."""

NEVER_READ = "books_never_read"
"""An entity that is always read whole, and was not."""

FIRST_DAY_UNKNOWN = "books_first_day_unknown"
"""CompanyInfo as it is staged does not say when the company was made."""

CODES = frozenset({NOT_FROM_FIRST_DAY, CHANGED_SINCE, NEVER_READ, FIRST_DAY_UNKNOWN, realms.SEVERAL})

_BEGINS_WITHIN = timedelta(minutes=15)
"""A read whose window ended no longer before it began went up to its present: windows are cut off when planned."""

_WAYS = {obj.object_type: obj.detail.way for obj in OBJECTS}
CHANGING = tuple(each for each in OBJECT_TYPES.values() if _WAYS[each] is Way.CHANGES)
"""What is read by its last change, a window at a time."""

WHOLE = tuple(each for each in OBJECT_TYPES.values() if _WAYS[each] in (Way.LIST, Way.SINGLE))
"""What is read whole each time."""


@dataclass(frozen=True)
class Unread:
    """What of an object type is not proved. `spans` are the days that lack something, in order."""

    code: str
    object_type: str
    spans: tuple[Days, ...]

    @property
    def days(self) -> int:
        """How many days lack something."""
        return sum(len(each) for each in self.spans)


@dataclass(frozen=True)
class Proof:
    """What there is to say of a company: `begun` is its first moment, `until` the end of the last closed day; `today`
    is the present one of its connection."""

    zone: ZoneInfo
    today: date
    begun: datetime | None
    until: datetime
    unread: tuple[Unread, ...] = ()


def synced_at(database: Database, business_id: str) -> datetime:
    """When the latest daily sync of a business was requested; now, where none was."""
    [row] = database.fetch(
        """
        SELECT clock_timestamp() AS now,
               (SELECT max(requested_at) FROM finance_os.scheduled_syncs WHERE business_id = %s) AS requested_at
        """,
        (business_id,),
    )
    return min(row["now"], row["requested_at"] or row["now"])


def unproven(database: Database, business_id: str, realm: str) -> list[Blocker]:
    """Why it is not proved that everything that a company holds is staged, and nothing of another one; nothing where
    it is.

    Nothing too of a company that is not staged at all: of that one no plan is made (`books.BooksNotRead`). A blocker's
    day is the first one that is missing.
    """
    with database.transaction() as connection:
        mixed = realms.several(connection, business_id, realm, list(OBJECT_TYPES.values()))
    if mixed is not None:
        return [mixed]  # which days of whose books were read, nobody can tell either
    proof = proof_of(database, business_id, realm)
    if proof is None:
        return []
    if proof.begun is None:
        info = "quickbooks_company_info"
        remedy = (
            "CompanyInfo says neither MetaData.CreateTime nor CompanyStartDate, so nobody can tell since when the "
            f"company holds anything: read it again, {_command(info, Days(proof.today, proof.today))}."
        )
        return [Blocker(FIRST_DAY_UNKNOWN, f"{SYSTEM}/{info}", None, None, remedy)]
    codes = [each.code for each in proof.unread]
    return [_blocker(proof, each, alone=codes.count(each.code) == 1) for each in proof.unread]


def of_every_realm(database: Database, business_id: str) -> list[Blocker]:
    """The same of each company of a business that is staged."""
    rows = database.fetch(
        """
        SELECT source_id FROM finance_os.raw_record_heads
        WHERE business_id = %s AND source_system = %s AND object_type = 'quickbooks_company_info' AND NOT removed
        ORDER BY source_id
        """,
        (business_id, SYSTEM),
    )
    return [each for row in rows for each in unproven(database, business_id, row["source_id"])]


def told(blockers: Sequence[Blocker]) -> str:
    """Blockers as people read them, one under another."""
    return f"What QuickBooks holds is not all known:\n{explain(blockers)}"


def proof_of(database: Database, business_id: str, realm: str) -> Proof | None:
    """What is proved of a company; `None` where nothing of it is staged."""
    rows = database.fetch(
        """
        SELECT head.connection_id, time_zone, payload #>> '{MetaData,CreateTime}' AS made,
               payload ->> 'CompanyStartDate' AS day, clock_timestamp() AS now
        FROM finance_os.raw_record_heads AS head
        JOIN finance_os.raw_source_records AS record USING (record_id)
        JOIN finance_os.connections AS of ON of.connection_id = head.connection_id
        WHERE head.business_id = %s AND head.source_system = %s AND head.object_type = 'quickbooks_company_info'
          AND head.source_id = %s AND NOT removed
        """,
        (business_id, SYSTEM, realm),
    )
    if not rows:
        return None
    [row] = rows
    zone, connection_id = ZoneInfo(row["time_zone"]), row["connection_id"]
    today, until = day_of(row["now"], zone), start_of_day(day_of(synced_at(database, business_id), zone), zone)
    begun = _begun(database, business_id, connection_id, _moment(row["made"], row["day"], zone))
    if begun is None:
        return Proof(zone, today, None, until)
    found = [
        *_unread(database, business_id, connection_id, realm, begun, until, zone),
        *_never_read(database, business_id, connection_id, realm),
    ]
    return Proof(zone, today, begun, until, tuple(found))


def _moment(made: str | None, day: str | None, zone: ZoneInfo) -> datetime | None:
    """When CompanyInfo says that the company was made. A time without an offset is not known to a day."""
    try:
        moment = datetime.fromisoformat(made or "")
        if moment.tzinfo is not None:
            return moment
    except ValueError:
        pass
    try:
        return start_of_day(date.fromisoformat((day or "")[:10]), zone)
    except ValueError:
        return None


def _begun(database: Database, business_id: str, connection_id: int, made: datetime | None) -> datetime | None:
    """The company's first moment: `made`, or that of the oldest object that is staged, where it is older."""
    if made is None:
        return None
    [row] = database.fetch(
        """
        SELECT min(least(source_created_at, source_updated_at)) AS oldest
        FROM finance_os.raw_record_heads AS head
        JOIN finance_os.raw_source_records AS record USING (record_id)
        WHERE head.business_id = %s AND head.source_system = %s AND head.object_type = ANY (%s)
          AND head.connection_id = %s
        """,
        (business_id, SYSTEM, list(CHANGING), connection_id),
    )
    return min(made, row["oldest"] or made)


def _unread(
    database: Database,
    business_id: str,
    connection_id: int,
    realm: str,
    begun: datetime,
    until: datetime,
    zone: ZoneInfo,
) -> list[Unread]:
    """The days on which something was not read, of each object type that is read by its changes.

    By windows rather than days: so it makes no difference in which time zone days were read. A read of another company,
    which came to nothing, is none.
    """
    if begun >= until:
        return []
    rows = database.fetch(
        """
        WITH reads AS (
            SELECT object_type, tstzrange(window_start, reaches_to) AS span,
                   completed_at <= max(reaches_to) OVER (PARTITION BY object_type)
                   OR (attempts = 1 AND reaches_to > started_at - %(begins_within)s) AS counts
            FROM finance_os.source_sync_runs
            WHERE business_id = %(business_id)s AND source_system = %(system)s AND object_type = ANY (%(types)s)
              AND connection_id = %(connection_id)s AND reaches_to IS NOT NULL
              AND kind = 'window' AND status = 'succeeded' AND window_start < reaches_to
              AND coalesce(query_name, %(company)s) = %(company)s
        ), needed AS (
            SELECT tstzmultirange(tstzrange(%(begun)s, %(until)s)) AS span
        )
        SELECT object_type,
               needed.span - coalesce(range_agg(reads.span) FILTER (WHERE counts), '{}') AS unproved,
               needed.span - coalesce(range_agg(reads.span), '{}') AS unread
        FROM needed CROSS JOIN unnest(%(types)s::text[]) AS wanted (object_type) LEFT JOIN reads USING (object_type)
        GROUP BY object_type, needed.span
        """,
        {
            "business_id": business_id,
            "system": SYSTEM,
            "types": list(CHANGING),
            "connection_id": connection_id,
            "company": company_path(realm),
            "begins_within": _BEGINS_WITHIN,
            "begun": begun,
            "until": until,
        },
    )
    by_type: Mapping[str, dict[str, Multirange[datetime]]] = {row["object_type"]: row for row in rows}
    found: list[Unread] = []
    for object_type in CHANGING:
        unread, unproved = (_days(by_type[object_type][each], zone) for each in ("unread", "unproved"))
        if unread:
            found.append(Unread(NOT_FROM_FIRST_DAY, object_type, unread))
        elif unproved:
            found.append(Unread(CHANGED_SINCE, object_type, unproved))
    return found


def _days(gaps: Multirange[datetime], zone: ZoneInfo) -> tuple[Days, ...]:
    """The days that gaps lie in. Two gaps of one day are one day."""
    found: list[Days] = []
    for gap in gaps:
        assert gap.lower is not None
        assert gap.upper is not None
        days = Days(day_of(gap.lower, zone), day_of(gap.upper - timedelta(microseconds=1), zone))
        if found and days.first <= found[-1].last:
            days = Days(found.pop().first, days.last)
        found.append(days)
    return tuple(found)


def _never_read(database: Database, business_id: str, connection_id: int, realm: str) -> list[Unread]:
    rows = database.fetch(
        """
        SELECT object_type FROM unnest(%(types)s::text[]) AS wanted (object_type)
        WHERE NOT EXISTS (
            SELECT FROM finance_os.source_sync_runs AS run
            WHERE run.business_id = %(business_id)s AND run.source_system = %(system)s
              AND run.object_type = wanted.object_type AND run.connection_id = %(connection_id)s
              AND run.reaches_to IS NOT NULL AND run.status = 'succeeded'
              AND coalesce(run.query_name, %(company)s) = %(company)s)
        """,
        {
            "business_id": business_id,
            "system": SYSTEM,
            "types": list(WHOLE),
            "connection_id": connection_id,
            "company": company_path(realm),
        },
    )
    lacking = {row["object_type"] for row in rows}
    return [Unread(NEVER_READ, each, ()) for each in WHOLE if each in lacking]


# --- told


def _blocker(proof: Proof, unread: Unread, *, alone: bool) -> Blocker:
    """`alone`: no other entity lacks the same; else one command reads all of them."""
    assert proof.begun is not None
    today, which = Days(proof.today, proof.today), unread.object_type if alone else None
    evidence = evidence_hash(
        [
            unread.code,
            unread.object_type,
            proof.begun.isoformat(),
            proof.until.isoformat(),
            [[str(each.first), str(each.last)] for each in unread.spans],
        ]
    )
    subject = f"{SYSTEM}/{unread.object_type}"
    if unread.code == NEVER_READ:
        remedy = f"It was never read: {_command(which, today)}, or wait for the daily sync."
        return Blocker(unread.code, subject, None, evidence, remedy)
    first, last = unread.spans[0].first, unread.spans[-1].last
    between = str(Days(first, last))
    if unread.code == CHANGED_SINCE:
        remedy = (
            f"{between} was read after the present day was, and what somebody changed meanwhile has left those days: "
            f"read the present day once more, {_command(which, today)}, or wait for the daily sync."
        )
    else:
        remedy = (
            f"{unread.days:,} days of {between} were never read to their end, and the company was made on "
            f"{day_of(proof.begun, proof.zone)}: what changed last on one of them would be booked a second time. Set "
            f"FINANCE_OS_START_DATE to {first} or earlier, and read them in one run: "
            f"{_command(which, Days(first, max(last, proof.today)))}, or a backfill of these days in the "
            "Dagster UI."
        )
    return Blocker(unread.code, subject, first, evidence, remedy)


def _command(object_type: str | None, days: Days) -> str:
    """What reads days of an object type, or of all of them, in one run."""
    asset = f"group:{SYSTEM}" if object_type is None else f'key:"{SYSTEM}/{object_type}"'
    which = f"--partition {days}" if len(days) == 1 else f"--partition-range {days.first}...{days.last}"
    return f"`dagster asset materialize -m finance_os.definitions --select '{asset}' {which}`"
