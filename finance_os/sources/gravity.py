"""Gravity: the product's own PostgreSQL, read with versioned queries in read-only snapshots.

Gravity only knows its present state. A snapshot is complete for the day it is taken; a past day is what was last
changed in it and is still there.
"""

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

import psycopg
import psycopg.conninfo
from psycopg import pq
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.rows import TupleRow, tuple_row
from psycopg.types.json import set_json_loads
from psycopg.types.string import TextLoader
from typing_extensions import override

from finance_os.evidence.canonical import decode
from finance_os.evidence.extraction import Extraction, Item, Kind, Page, Record, RemoteCount, Request, SourceError
from finance_os.evidence.windows import start_of_day
from finance_os.sources.credentials import Credentials
from finance_os.sources.guard import Query, ReadOnlyGuard
from finance_os.sources.source import Cadence, Column, Reads, Source, SourceObject
from finance_os.sources.sql_queries import SqlQuery, load_query

URL = "FINANCE_OS_GRAVITY_URL"
FOLDER = "gravity"
READS = (Query(f"sql/{FOLDER}"),)

ROWS_PER_PAGE = 5_000

GravityConnection: TypeAlias = psycopg.Connection[TupleRow]

# What the URL does not say itself: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
_CONNECTION = {
    "connect_timeout": "10",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
    "tcp_user_timeout": "60000",
    "application_name": "finance-os",
}

# For this transaction only, so that nothing is left behind in a pooler's server connection. None of these takes
# the snapshot. A page is one statement (FETCH), and while it is staged the transaction idles.
_SESSION = """
    SET LOCAL statement_timeout = '10min';
    SET LOCAL lock_timeout = '10s';
    SET LOCAL idle_in_transaction_session_timeout = '30min';
    SET LOCAL TimeZone = 'UTC';
    SET LOCAL DateStyle = 'ISO, YMD';
    SET LOCAL extra_float_digits = 1;
    SET LOCAL bytea_output = 'hex'
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

_REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba.conf entry|role .* does not exist|not permitted to log in"
)
_NO_DATABASE = re.compile(r"database .* does not exist")
_RELATION = re.compile(r"permission denied for (?:\w+ )+?\"?([\w.]+)\"?$")


class _ExactFloat(Loader):
    """A float as the exact decimal of its shortest text."""

    format = pq.Format.TEXT

    @override
    def load(self, data: Buffer) -> Decimal:
        return Decimal(bytes(data).decode())


def _utc_text(moment: datetime) -> str:
    return f"{moment.astimezone(UTC).isoformat(timespec='microseconds')[:-6]}Z"


def _clock_text(moment: datetime) -> str:
    return moment.isoformat(timespec="microseconds")


Convert: TypeAlias = Callable[[Any], Any]

# PostgreSQL type -> what makes a JSON value of what psycopg gives; None where it is one already. uuid, date, float
# and json columns have loaders of their own, see `GravityReader.transaction`.
_CONVERSIONS: Mapping[str, Convert | None] = {
    "bool": None,
    "int2": None,
    "int4": None,
    "int8": None,
    "numeric": None,
    "float4": None,
    "float8": None,
    "text": None,
    "varchar": None,
    "bpchar": None,
    "name": None,
    "uuid": None,
    "date": None,
    "json": None,
    "jsonb": None,
    "timestamptz": _utc_text,
    "timestamp": _clock_text,
    "bytea": bytes.hex,
}
_KEY_TYPES = {"int2", "int4", "int8", "text", "varchar", "uuid", "date"}


class GravityReader:
    """Reads one Gravity database. Made by `connect`."""

    def __init__(self, url: str) -> None:
        try:
            given = psycopg.conninfo.conninfo_to_dict(url)
            self._guard = ReadOnlyGuard(READS, url)
        except (psycopg.ProgrammingError, ValueError):
            raise SourceError(
                "invalid_url",
                f"{URL} is not a PostgreSQL URL: postgresql://user:password@host/database",
                permanent=True,
            ) from None
        self._parameters = {**_CONNECTION, **given}
        host = str(given.get("host") or given.get("hostaddr") or "")
        self.host = host if host and not host.startswith("/") else "local socket"

    def __repr__(self) -> str:
        return f"GravityReader({self.host})"

    def sent(self) -> dict[str, int]:
        """How many statements were sent so far, by `"SELECT host"`."""
        return self._guard.sent()

    def count_select(self) -> None:
        """Count a statement."""
        self._guard.count("SELECT", self.host)

    @contextmanager
    def transaction(self) -> Iterator[GravityConnection]:
        """A connection in a REPEATABLE READ, READ ONLY transaction whose snapshot has not been taken yet.

        The transaction is over, and the connection closed, at the end of the block. Raises `psycopg.Error`.
        """
        connection = GravityConnection.connect(prepare_threshold=None, row_factory=tuple_row, **self._parameters)
        with connection:
            connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            connection.read_only = True
            for name in ("uuid", "date"):
                connection.adapters.register_loader(name, TextLoader)
            for name in ("float4", "float8"):
                connection.adapters.register_loader(name, _ExactFloat)
            set_json_loads(decode, connection)
            connection.execute(_SESSION)
            yield connection


@contextmanager
def connect(credentials: Credentials) -> Iterator[GravityReader]:
    """A reader of the database that the credentials lead to; it connects when something is read."""
    yield GravityReader(credentials[URL])


def extract(gravity: GravityReader, obj: SourceObject[SqlQuery], request: Request) -> Extraction:
    """All rows of `obj` as they are now, those last changed in the request's window, or those with given IDs.

    One transaction, one snapshot: the count is exact, and a read that failed begins anew. A targeted row that is
    not there is a removal.
    """
    before = Counter(gravity.sent())
    return Extraction(
        _read(gravity, obj.detail, request),
        requested=lambda: dict(Counter(gravity.sent()) - before),
        query_name=obj.detail.name,
        query_version=str(obj.detail.version),
    )


@dataclass(frozen=True)
class _Reading:
    """One way of reading a query: which rows, in which order, and which day each belongs to."""

    where: str | None
    order_by: str
    bucket: str
    parameters: Mapping[str, Any]
    starts: tuple[datetime, ...]
    days: tuple[date, ...]

    def day(self, updated_at: datetime) -> date:
        """The day of a row that was last changed then."""
        return self.days[bisect_right(self.starts, updated_at) - 1] if self.starts else self.days[0]


def _reading(query: SqlQuery, request: Request) -> _Reading:
    key = ", ".join(f"q.{column}" for column in query.key)
    whole = (request.days.last,)
    if request.kind is Kind.SNAPSHOT:
        return _Reading(None, key, "1", {}, (), whole)
    if request.kind is Kind.TARGETED:
        wanted = {"targets": list(request.targets)}
        return _Reading(f"{query.source_id} = ANY(%(targets)s)", key, "1", wanted, (), whole)
    if request.kind is Kind.WINDOW:
        # The days' bounds go to the server, so that its time zone data has no say in which day a row belongs to.
        days = tuple(request.days)
        starts = tuple(start_of_day(day, request.zone) for day in days)
        return _Reading(
            where=f"q.{query.updated} >= %(start)s AND q.{query.updated} < %(end)s",
            order_by=f"q.{query.updated}, {key}",
            bucket=f"width_bucket(q.{query.updated}, %(starts)s)",
            parameters={"start": request.window.start, "end": request.window.end, "starts": list(starts)},
            starts=starts,
            days=days,
        )
    raise ValueError(f"a {request.kind} is not read from Gravity")


def _read(gravity: GravityReader, query: SqlQuery, request: Request) -> Iterator[Item]:
    reading = _reading(query, request)
    with _explained(gravity, query), gravity.transaction() as connection:
        requested_at = request.now()
        gravity.count_select()
        yield _count(connection, query, reading)
        gravity.count_select()
        found: set[str] = set()
        provenance = {
            "query": query.name,
            "version": query.version,
            "extracted_at": _utc_text(requested_at),
        }
        for records in _records(connection, query, reading):
            if request.kind is Kind.TARGETED:
                found.update(record.source_id for record in records)
            yield Page(records, requested_at, provenance=provenance)
    if request.kind is Kind.TARGETED and (gone := [target for target in request.targets if target not in found]):
        removals = [Record(source_id, None, request.days.last) for source_id in dict.fromkeys(gone)]
        yield Page(removals, requested_at, provenance=provenance)


def _count(connection: GravityConnection, query: SqlQuery, reading: _Reading) -> RemoteCount:
    """Rows by day. Raises `SourceError` where a row has no key, or no updated time, as no window would ever hold it."""
    undated = f"q.{query.updated} IS NULL"
    nameless = " OR ".join(f"q.{column} IS NULL" for column in query.key)
    statement = query.select(
        f"{reading.bucket}, count(*), min({query.source_id}) FILTER (WHERE {undated}), bool_or({nameless})",
        where=reading.where and f"({reading.where}) OR {undated}",
        group_by="1",
    )
    by_day: dict[date, int] = {}
    for bucket, rows, without_time, without_key in connection.execute(statement.encode(), reading.parameters):
        if without_key:
            key = ", ".join(query.key)
            raise SourceError(
                "unidentified_row", f"{query.name} version {query.version}: a row has no {key}", permanent=True
            )
        if without_time is not None:
            raise SourceError(
                "undated_row",
                f"{query.name} version {query.version}: row {without_time} has no {query.updated}",
                permanent=True,
            )
        by_day[reading.days[bucket - 1]] = rows
    return RemoteCount(by_day)


def _records(connection: GravityConnection, query: SqlQuery, reading: _Reading) -> Iterator[list[Record]]:
    with connection.cursor("finance_os") as cursor:
        cursor.execute(query.select(where=reading.where, order_by=reading.order_by).encode(), reading.parameters)
        record_of = _record_maker(cursor, query, reading)
        last: str | None = None
        while rows := cursor.fetchmany(ROWS_PER_PAGE):
            records = [record_of(row) for row in rows]
            for record in records:
                if record.source_id == last:
                    raise SourceError(
                        "duplicate_row",
                        f"{query.name} version {query.version} gives row {last} twice: its key is not unique",
                        permanent=True,
                    )
                last = record.source_id
            yield records


def _record_maker(
    cursor: psycopg.Cursor[TupleRow], query: SqlQuery, reading: _Reading
) -> Callable[[tuple[Any, ...]], Record]:
    """What makes a record of a row, decided once for all rows from the types of the columns."""
    columns = cursor.description or []
    types = {column.name: _type_name(column.type_code) for column in columns}
    names = tuple(types)

    def problem(column: str, fault: str) -> SourceError:
        return SourceError(
            "unsupported_column", f"{query.name} version {query.version}: column {column} {fault}", permanent=True
        )

    if twice := [name for name, times in Counter(column.name for column in columns).items() if times > 1]:
        raise problem(twice[0], "is there twice")
    conversions: list[tuple[str, Convert]] = []
    for name, kind in types.items():
        if kind.removesuffix("[]") not in _CONVERSIONS:
            raise problem(name, f"is of type {kind}, which has no exact JSON form: cast it in the query")
        convert = _CONVERSIONS[kind.removesuffix("[]")]
        if convert is not None:
            conversions.append((name, _each(convert) if kind.endswith("[]") else convert))
    for name in query.key:
        if types.get(name) not in _KEY_TYPES:
            raise problem(name, f"is of type {types.get(name)} and cannot be a key: cast it in the query")
    for name in (query.updated, query.created):
        if name is not None and types.get(name) != "timestamptz":
            raise problem(name, f"is of type {types.get(name)} and should be timestamptz: cast it in the query")
    key = tuple(names.index(name) for name in query.key)
    updated = names.index(query.updated or "")
    created = names.index(query.created) if query.created else updated
    dated = bool(reading.starts)
    day = reading.days[-1]

    def record_of(row: tuple[Any, ...]) -> Record:
        payload = dict(zip(names, row, strict=True))
        for name, convert in conversions:
            value = payload[name]
            if value is not None:
                payload[name] = convert(value)
        updated_at = row[updated]
        return Record(
            source_id=str(row[key[0]]) if len(key) == 1 else ":".join([str(row[at]) for at in key]),
            payload=payload,
            day=reading.day(updated_at) if dated else day,
            version=(updated_at - _EPOCH) // _MICROSECOND,
            created_at=row[created],
            updated_at=updated_at,
        )

    return record_of


def _type_name(oid: int) -> str:
    """`text`, `text[]` …; the OID where it is not one of PostgreSQL's own types."""
    found = psycopg.adapters.types.get(oid)
    if found is None:
        return f"OID {oid}"
    return f"{found.name}[]" if oid == found.array_oid else found.name


def _each(convert: Convert) -> Convert:
    """`convert` for every member of an array, which may have several dimensions."""

    def convert_all(values: list[Any]) -> list[Any]:
        return [
            convert_all(value) if isinstance(value, list) else None if value is None else convert(value)
            for value in values
        ]

    return convert_all


@contextmanager
def _explained(gravity: GravityReader, query: SqlQuery) -> Iterator[None]:
    """Raise what PostgreSQL or the way to it reports as a `SourceError`, without its text."""
    try:
        yield
    except psycopg.Error as error:
        raise _explanation(error, gravity, query) from None


def _explanation(error: psycopg.Error, gravity: GravityReader, query: SqlQuery) -> SourceError:
    """https://www.postgresql.org/docs/current/errcodes-appendix.html"""
    state, what = error.sqlstate or "", f"{query.name} version {query.version}"
    # libpq gives no SQLSTATE for a connection that was refused, only the server's text.
    if state.startswith("28") or (not state and _REFUSED.search(str(error))):
        return SourceError("unauthorized", f"Gravity at {gravity.host} refused the login of {URL}", permanent=True)
    if state == "3D000" or (not state and _NO_DATABASE.search(str(error))):
        return SourceError("unknown_database", f"{gravity.host} has no database of the name in {URL}", permanent=True)
    if state == "42501":
        relation = _RELATION.search(error.diag.message_primary or "")
        place = relation[1] if relation else "a relation"
        return SourceError("permission_denied", f"{what}: the login of {URL} may not read {place}", permanent=True)
    if state in ("57014", "55P03", "25P03", "25P04"):
        return SourceError("timeout", f"{what} took too long at {gravity.host} (SQLSTATE {state})")
    if state[:2] in ("08", "53", "57") or (not state and isinstance(error, psycopg.OperationalError)):
        return SourceError("unreachable", f"Gravity at {gravity.host} did not answer {what}")
    if isinstance(error, psycopg.DataError) and not state:
        return SourceError(
            "unreadable_value", f"{what}: a time is infinite or beyond the years 1 to 9999", permanent=True
        )
    return SourceError("query_failed", f"{what} failed (SQLSTATE {state or 'none'})", permanent=state.startswith("42"))


def _money(name: str, description: str) -> Column:
    return Column(name, "integer", f"{description} Millionths of the currency.")


_CREATED = Column("created_at", "timestamp", "When the row was made.")
_UPDATED = Column("updated_at", "timestamp", "When the row was last changed.")
_ADVERTISER = Column("advertiser_id", "string", "Canonical ID of the advertiser.")
_CURRENCY = Column("currency", "string", "Three-letter ISO code, lower case.")
_INVOICE = Column("stripe_invoice_id", "string", "The Stripe invoice that it belongs to, where there is one.")

GRAVITY = Source(
    system="gravity",
    title="Gravity prod database",
    order=6,
    description="Who publishers and advertisers are, which campaigns run for whom, and what was credited and billed.",
    cadence=Cadence.DAILY,
    sla=timedelta(days=1),
    credentials=(URL,),
    reads=READS,
    cursor_strategy="Read-only SQL snapshots with explicit query version, source updated timestamp, and extraction "
    "timestamp.",
    evidence_policy="Store canonical IDs, campaign advertiser joins, query name, query version, extraction timestamp, "
    "and row hash.",
    objects=(
        SourceObject(
            "gravity_canonical_entities",
            "Publishers under the canonical IDs that every other system is matched to.",
            load_query(FOLDER, "gravity_canonical_entities"),
            label="gravity_canonical_entities",
            reads=Reads.UPDATED,
            columns=(
                Column("publisher_id", "string", "Canonical ID of the publisher."),
                Column("name", "string", "Name on the product's pages."),
                Column("legal_name", "string", "Name on contracts and payouts."),
                Column("payout_currency", "string", "Currency that it is paid in, lower case."),
                Column("revenue_share_bps", "integer", "Its share of the revenue, in hundredths of a percent."),
                Column("status", "string", "Whether it is active."),
                _CREATED,
                _UPDATED,
            ),
            shown=("publisher_id", "payout_currency", "revenue_share_bps", "status", "updated_at"),
        ),
        SourceObject(
            "gravity_campaign_advertiser",
            "Campaigns joined with the advertiser who pays for them, and its Stripe customer.",
            load_query(FOLDER, "gravity_campaign_advertiser"),
            label="gravity_campaign_advertiser",
            reads=Reads.UPDATED,
            columns=(
                Column("campaign_id", "string", "Canonical ID of the campaign."),
                _ADVERTISER,
                Column("name", "string", "Name of the campaign."),
                Column("status", "string", "Whether it runs."),
                Column("starts_on", "date", "Its first day."),
                Column("ends_on", "date", "Its last day; null while it is open."),
                _money("daily_budget_microdollars", "The most that it may spend a day."),
                Column("stripe_customer_id", "string", "The Stripe customer that the campaign names."),
                Column("advertiser_name", "string", "Name of the advertiser; null where the advertiser is missing."),
                Column("advertiser_status", "string", "Whether the advertiser is active."),
                Column("advertiser_stripe_customer_id", "string", "The Stripe customer that the advertiser names."),
                Column("advertiser_currency", "string", "Currency that the advertiser is billed in, lower case."),
                Column("advertiser_billing_cycle", "string", "How often it is billed."),
                _CREATED,
                Column("updated_at", "timestamp", "When the campaign or its advertiser was last changed."),
            ),
            shown=("campaign_id", "advertiser_id", "stripe_customer_id", "status", "updated_at"),
        ),
        SourceObject(
            "gravity_billing_adjustment",
            "The ledger of credits and other adjustments to what advertisers owe.",
            load_query(FOLDER, "gravity_billing_adjustment"),
            label="gravity_billing_adjustment",
            reads=Reads.UPDATED,
            columns=(
                Column("adjustment_id", "integer", "Gravity's ID of the adjustment."),
                _ADVERTISER,
                Column("kind", "string", "What it was granted for."),
                Column("state", "string", "Whether it was applied."),
                _money("amount_microdollars", "The adjustment; a credit is negative."),
                _CURRENCY,
                Column("reason", "string", "Why, in the words of whoever granted it."),
                Column("stripe_reference", "string", "The Stripe credit note or balance transaction that carries it."),
                _INVOICE,
                Column("effective_on", "date", "The day that it counts for."),
                _CREATED,
                _UPDATED,
            ),
            shown=(
                "adjustment_id",
                "advertiser_id",
                "kind",
                "state",
                "amount_microdollars",
                "currency",
                "effective_on",
            ),
        ),
        SourceObject(
            "gravity_advertiser_billing",
            "What each advertiser spent, was billed and paid, by billing period.",
            load_query(FOLDER, "gravity_advertiser_billing"),
            label="gravity_advertiser_billing",
            reads=Reads.UPDATED,
            columns=(
                Column("billing_id", "integer", "Gravity's ID of the billing period of an advertiser."),
                _ADVERTISER,
                Column("period_start", "date", "First day of the period."),
                Column("period_end", "date", "The day after its last."),
                _CURRENCY,
                _money("spend_microdollars", "What its campaigns spent."),
                _money("billed_microdollars", "What it was billed."),
                _money("paid_microdollars", "What it has paid."),
                Column("state", "string", "How the bill stands."),
                _INVOICE,
                Column("due_on", "date", "When it is due; null while that is open."),
                _CREATED,
                _UPDATED,
            ),
            shown=("billing_id", "advertiser_id", "period_start", "state", "spend_microdollars", "billed_microdollars"),
        ),
    ),
    open=connect,
    extract=extract,
    kinds=("postgres",),
    read_scope="A login that can only SELECT, in read-only transactions of versioned queries.",
)
