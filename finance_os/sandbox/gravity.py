"""Gravity, the product database: the company's product tables in a real PostgreSQL, kept up to date, read by a reader.

Money is `bigint` millionths of the row's currency ("microdollars" for usd). Every table has a primary key and an
indexed `updated_at`. Rows are inserted, updated and deleted as the world's clock moves.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, quote, urlencode, urlsplit

import psycopg
from psycopg import sql

from .world import World

_LOCK = 7_241_113  # any number: creation by two processes at once happens one after the other

# Table -> its columns in order, the primary key first.
COLUMNS: Mapping[str, Mapping[str, str]] = {
    "publishers": {
        "publisher_id": "text primary key",
        "name": "text not null",
        "legal_name": "text not null",
        "contact_email": "text not null",
        "payout_currency": "text not null",
        "revenue_share_bps": "integer not null",
        "status": "text not null",
    },
    "advertisers": {
        "advertiser_id": "text primary key",
        "name": "text not null",
        "billing_email": "text not null",
        "stripe_customer_id": "text not null",
        "currency": "text not null",
        "billing_cycle": "text not null",
        "status": "text not null",
    },
    "campaigns": {
        "campaign_id": "text primary key",
        "advertiser_id": "text not null",
        "name": "text not null",
        "stripe_customer_id": "text not null",
        "status": "text not null",
        "starts_on": "date not null",
        "ends_on": "date",
        "daily_budget_microdollars": "bigint not null",
    },
    "billing_adjustments": {
        "adjustment_id": "bigint primary key",
        "advertiser_id": "text not null",
        "kind": "text not null",
        "state": "text not null",
        "amount_microdollars": "bigint not null",
        "currency": "text not null",
        "reason": "text",
        "stripe_reference": "text",
        "stripe_invoice_id": "text",
        "effective_on": "date not null",
    },
    "advertiser_billing": {
        "billing_id": "bigint primary key",
        "advertiser_id": "text not null",
        "period_start": "date not null",
        "period_end": "date not null",
        "currency": "text not null",
        "spend_microdollars": "bigint not null",
        "billed_microdollars": "bigint not null",
        "paid_microdollars": "bigint not null",
        "state": "text not null",
        "stripe_invoice_id": "text",
        "due_on": "date",
    },
}
_TIMES = {"created_at": "timestamptz not null", "updated_at": "timestamptz not null"}


@dataclass(frozen=True, slots=True)
class Gravity:
    """A product database: `owner_url` may write to it, `url` is what a reader is given."""

    owner_url: str
    url: str
    database: str


def create(admin_url: str, world: World, *, database: str = "gravity", password: str | None = None) -> Gravity:
    """Make the database afresh from the world's present state, and its reader.

    Idempotent and safe to run from several processes. The reader is a login role named after the database
    (`gravity_reader`) that may only SELECT; its password is set to `password`, or to a random one.
    Raises psycopg.Error where the admin may not create databases or roles.
    """
    password = password or secrets.token_urlsafe(18)
    reader = f"{database}_reader"
    with psycopg.connect(admin_url, autocommit=True) as admin:
        admin.execute("select pg_advisory_lock(%s)", (_LOCK,))
        if not admin.execute("select 1 from pg_roles where rolname = %s", (reader,)).fetchone():
            admin.execute(sql.SQL("create role {} login").format(sql.Identifier(reader)))
        admin.execute(
            sql.SQL("alter role {} login nosuperuser nocreatedb nocreaterole password {}").format(
                sql.Identifier(reader), sql.Literal(password)
            )
        )
        if not admin.execute("select 1 from pg_database where datname = %s", (database,)).fetchone():
            admin.execute(sql.SQL("create database {}").format(sql.Identifier(database)))
        owner_url = _at(admin_url, database=database)
        with psycopg.connect(owner_url) as owner:
            _define(owner, reader)
            for table in COLUMNS:
                _copy(owner, table, world.gravity.rows[table])
        with psycopg.connect(owner_url, autocommit=True) as owner:
            owner.execute("analyze")
    world.gravity.take_changes()
    return Gravity(owner_url, _at(owner_url, user=reader, password=password), database)


def _define(owner: psycopg.Connection[Any], reader: str) -> None:
    for table, columns in COLUMNS.items():
        owner.execute(sql.SQL("drop table if exists {}").format(sql.Identifier(table)))
        body = sql.SQL(", ").join(
            sql.SQL("{} {}").format(sql.Identifier(column), sql.SQL(declared))  # pyright: ignore[reportArgumentType]
            for column, declared in {**columns, **_TIMES}.items()
        )
        owner.execute(sql.SQL("create table {} ({})").format(sql.Identifier(table), body))
        owner.execute(sql.SQL("create index on {} (updated_at)").format(sql.Identifier(table)))
    owner.execute("revoke create on schema public from public")
    role = sql.Identifier(reader)
    owner.execute(sql.SQL("grant usage on schema public to {}").format(role))
    owner.execute(sql.SQL("grant select on all tables in schema public to {}").format(role))


def _row(table: str, key: Any, row: dict[str, Any]) -> list[Any]:
    columns = list(COLUMNS[table])[1:]
    return [key, *(row[column] for column in columns), row["created_at"], row["updated_at"]]


def _copy(owner: psycopg.Connection[Any], table: str, rows: Mapping[Any, dict[str, Any]]) -> None:
    with (
        owner.cursor() as cursor,
        cursor.copy(sql.SQL("copy {} from stdin").format(sql.Identifier(table))) as copy,
    ):
        for key, row in rows.items():
            copy.write_row(_row(table, key, row))


def advance(gravity: Gravity, world: World) -> int:
    """Bring the database to the world's present state in one transaction; returns the rows touched."""
    changes = world.gravity.take_changes()
    if not changes:
        return 0
    with psycopg.connect(gravity.owner_url) as owner, owner.cursor() as cursor:
        for table in COLUMNS:
            keys = [key for name, key in changes if name == table]
            if not keys:
                continue
            target, key_column = sql.Identifier(table), sql.Identifier(next(iter(COLUMNS[table])))
            held = world.gravity.rows[table]
            cursor.execute(
                sql.SQL("delete from {} where {} = any(%s)").format(target, key_column),
                ([key for key in keys if key not in held],),
            )
            cursor.execute(sql.SQL("create temp table news (like {}) on commit drop").format(target))
            with cursor.copy("copy news from stdin") as copy:
                for key in keys:
                    if key in held:
                        copy.write_row(_row(table, key, held[key]))
            columns = [*list(COLUMNS[table])[1:], *_TIMES]
            sets = sql.SQL(", ").join(
                sql.SQL("{0} = excluded.{0}").format(sql.Identifier(column)) for column in columns
            )
            cursor.execute(
                sql.SQL("insert into {} select * from news on conflict ({}) do update set {}").format(
                    target, key_column, sets
                )
            )
            cursor.execute("drop table news")
    return len(changes)


def add_rows(gravity: Gravity, table: str, rows: int) -> None:
    """Add synthetic rows to `advertiser_billing` or `billing_adjustments`, for benchmarks; keys count on."""
    key = next(iter(COLUMNS[table]))
    selects = {
        "advertiser_billing": "n, 'adv_' || lpad((n %% 1000)::text, 6, '0'), date '2024-01-01' + (n %% 700)::int, "
        "date '2024-01-08' + (n %% 700)::int, 'usd', n * 1000, n * 1000, 0, 'open', 'in_1' || md5(n::text), "
        "date '2024-02-08' + (n %% 700)::int",
        "billing_adjustments": "n, 'adv_' || lpad((n %% 1000)::text, 6, '0'), 'goodwill', 'applied', -n * 10, 'usd', "
        "'synthetic', 'cbtxn_1' || md5(n::text), null, date '2024-01-01' + (n %% 700)::int",
    }
    if table not in selects:
        raise ValueError(f"synthetic rows go to {' or '.join(selects)}, not to {table}")
    statement = (
        f"insert into {table} select {selects[table]}, "  # noqa: S608 (a table of ours)
        "timestamptz '2024-01-01 00:00Z' + n %% 60000000 * interval '1 second', "
        "timestamptz '2024-01-01 00:00Z' + n %% 60000000 * interval '1 second' "
        f"from (select coalesce((select max({key}) from {table}), 0) + g as n "
        "from generate_series(1::bigint, %s::bigint) g) numbers"
    )
    with psycopg.connect(gravity.owner_url) as owner:
        owner.execute(statement, (rows,))  # pyright: ignore[reportArgumentType]
    with psycopg.connect(gravity.owner_url, autocommit=True) as owner:
        owner.execute(sql.SQL("analyze {}").format(sql.Identifier(table)))


def _at(url: str, *, database: str | None = None, user: str | None = None, password: str | None = None) -> str:
    """The same server, as another user or at another database."""
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    name = database or parts.path.lstrip("/")
    userinfo, _, place = parts.netloc.rpartition("@")
    if user is not None:
        userinfo = f"{quote(user, safe='')}:{quote(password or '', safe='')}"
        query.pop("user", None)
        query.pop("password", None)
    netloc = f"{userinfo}@{place}" if userinfo else place
    return f"postgresql://{netloc}/{quote(name)}" + (f"?{urlencode(query)}" if query else "")
