"""The warehouse's tables in a real PostgreSQL, filled and changed by the sandbox, read by a reader.

Times are `timestamp` in UTC, prices US dollars as `numeric(18, 6)`. As in Redshift, nothing keeps a key unique.
"""

import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from .content import Arrivals, Click, EngineEvent, Impression, moment

_LOCK = 7_241_114  # any number: creation by two processes at once happens one after the other

COLUMNS: Mapping[str, Mapping[str, str]] = {
    "ad_impressions": {
        "impression_id": "varchar(64) not null",
        "campaign_id": "varchar(32)",
        "publisher_id": "varchar(32)",
        "advertiser_id": "varchar(32)",
        "occurred_at": "timestamp not null",
        "ingested_at": "timestamp not null",
        "price": "numeric(18, 6)",
    },
    "ad_clicks": {
        "click_id": "varchar(64) not null",
        "impression_id": "varchar(64)",
        "campaign_id": "varchar(32)",
        "publisher_id": "varchar(32)",
        "advertiser_id": "varchar(32)",
        "clicked_at": "timestamp not null",
        "ingested_at": "timestamp not null",
        "ip_address": "varchar(45)",
        "user_agent": "varchar(200)",
    },
    "engine_events": {
        "event_id": "varchar(64) not null",
        "event_type": "varchar(32) not null",
        "campaign_id": "varchar(32)",
        "publisher_id": "varchar(32)",
        "occurred_at": "timestamp not null",
        "ingested_at": "timestamp not null",
    },
}
_TIME = {"ad_impressions": "occurred_at", "ad_clicks": "clicked_at", "engine_events": "occurred_at"}

# Table -> a row of it from a number `n` and its share `f` of a day, for benchmarks.
_SYNTHETIC = {
    "ad_impressions": "'imp_bench_' || n, 'cmp_' || lpad((n %% 997)::text, 7, '0'), "
    "'pub_' || lpad((n %% 31)::text, 5, '0'), 'adv_000001', at, at + interval '30 seconds', "
    "((n %% 5000) + 1) / 1000000.0",
    "ad_clicks": "'clk_bench_' || n, 'imp_bench_' || n, 'cmp_' || lpad((n %% 997)::text, 7, '0'), "
    "'pub_' || lpad((n %% 31)::text, 5, '0'), 'adv_000001', at, at + interval '30 seconds', '203.0.113.7', 'bench'",
    "engine_events": "'evt_bench_' || n, 'pacing_adjusted', 'cmp_' || lpad((n %% 997)::text, 7, '0'), null, at, "
    "at + interval '30 seconds'",
}


@dataclass(frozen=True, slots=True)
class Warehouse:
    """A warehouse database: `owner` may write to it; `reader`, whose password is `password`, may only SELECT."""

    owner: str = field(repr=False)
    database: str
    reader: str
    password: str = field(repr=False)

    @property
    def reading(self) -> str:
        """How the reader connects to PostgreSQL itself."""
        return make_conninfo(self.owner, user=self.reader, password=self.password)

    def add(self, rows: Arrivals) -> int:
        """Insert rows in one transaction; how many."""
        added = 0
        with psycopg.connect(self.owner) as owner:
            for table, values in (
                ("ad_impressions", map(_impression, rows.impressions)),
                ("ad_clicks", map(_click, rows.clicks)),
                ("engine_events", map(_event, rows.events)),
            ):
                added += _copy(owner, table, values)
        return added

    def delete(self, table: str, publisher: str, day: date) -> int:
        """Delete a publisher's rows of a (UTC) day; how many there were."""
        with psycopg.connect(self.owner) as owner:
            done = owner.execute(
                sql.SQL("delete from {} where publisher_id = %s and {} >= %s and {} < %s").format(
                    *map(sql.Identifier, (table, _TIME[table], _TIME[table]))
                ),
                (publisher, day, day + timedelta(days=1)),
            )
            return done.rowcount

    def add_rows(self, table: str, count: int, first: date, days: int = 1) -> None:
        """Add synthetic rows evenly over some days, for benchmarks; their numbers begin at 1."""
        if table not in _SYNTHETIC:
            raise ValueError(f"synthetic rows go to {', '.join(_SYNTHETIC)}, not to {table}")
        statement = (
            f"insert into {table} select {_SYNTHETIC[table]} from (select n, "  # noqa: S608 (a table of ours)
            "%(first)s::timestamp + n * %(days)s::float8 / (%(count)s + 1) * interval '1 day' as at "
            "from generate_series(1::bigint, %(count)s::bigint) as n) as numbers"
        )
        values = {"first": datetime.combine(first, datetime.min.time()), "count": count, "days": days}
        with psycopg.connect(self.owner) as owner:
            owner.execute(statement, values)  # pyright: ignore[reportArgumentType]
        with psycopg.connect(self.owner, autocommit=True) as owner:
            owner.execute(sql.SQL("analyze {}").format(sql.Identifier(table)))


def create(admin_url: str, rows: Arrivals, *, database: str, password: str | None = None) -> Warehouse:
    """Make the database afresh with these rows, and its reader, a login role named after it.

    Idempotent and safe to run from several processes. Raises psycopg.Error where the admin may not create databases
    or roles.
    """
    password = password or secrets.token_urlsafe(18)
    made = Warehouse(make_conninfo(admin_url, dbname=database), database, f"{database}_reader", password)
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute("select pg_advisory_lock(%s)", (_LOCK,))
        if not admin.execute("select 1 from pg_roles where rolname = %s", (made.reader,)).fetchone():
            admin.execute(sql.SQL("create role {} login").format(sql.Identifier(made.reader)))
        admin.execute(
            sql.SQL("alter role {} login nosuperuser nocreatedb nocreaterole password {}").format(
                sql.Identifier(made.reader), sql.Literal(password)
            )
        )
        if not admin.execute("select 1 from pg_database where datname = %s", (database,)).fetchone():
            admin.execute(sql.SQL("create database {}").format(sql.Identifier(database)))
        with psycopg.connect(made.owner) as owner:
            _define(owner, made.reader)
        made.add(rows)
        with psycopg.connect(made.owner, autocommit=True) as owner:
            owner.execute("analyze")
    return made


def _define(owner: psycopg.Connection[Any], reader: str) -> None:
    for table, columns in COLUMNS.items():
        owner.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(table)))
        body = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(declared))  # pyright: ignore[reportArgumentType]
            for column, declared in columns.items()
        )
        owner.execute(sql.SQL("create table {} ({})").format(sql.Identifier(table), body))
        owner.execute(sql.SQL("create index on {} ({})").format(sql.Identifier(table), sql.Identifier(_TIME[table])))
    owner.execute("revoke create on schema public from public")
    role = sql.Identifier(reader)
    owner.execute(sql.SQL("grant usage on schema public to {}").format(role))
    owner.execute(sql.SQL("grant select on all tables in schema public to {}").format(role))


def _copy(owner: psycopg.Connection[Any], table: str, rows: Iterable[tuple[Any, ...]]) -> int:
    copied = 0
    with (
        owner.cursor() as cursor,
        cursor.copy(sql.SQL("copy {} from stdin").format(sql.Identifier(table))) as copy,
    ):
        for row in rows:
            copy.write_row(row)
            copied += 1
    return copied


def _impression(each: Impression) -> tuple[Any, ...]:
    times = moment(each.occurred), moment(each.ingested)
    return each.id, each.campaign, each.publisher, each.advertiser, *times, Decimal(each.price).scaleb(-6)


def _click(each: Click) -> tuple[Any, ...]:
    shown = each.impression
    ids = each.id, shown.id, shown.campaign, shown.publisher, shown.advertiser
    return *ids, moment(each.clicked), moment(each.ingested), each.address, each.browser


def _event(each: EngineEvent) -> tuple[Any, ...]:
    return each.id, each.type, each.campaign, each.publisher, moment(each.occurred), moment(each.ingested)
