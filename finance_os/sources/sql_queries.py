"""Versioned read-only queries: one file an object type, from which every form of reading it is derived.

A file begins with a header of `-- name: value` lines, then comes one SELECT. Rows by updated time, by key and their
counts are that same SELECT with a condition around it, so they cannot drift apart. Whoever changes what is read
raises the version, which is kept with everything that was read by it.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from finance_os.evidence.database import sql_folder

_HEADER = re.compile(r"-- *([a-z]+): *(.*)")
_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_NEEDED = {"query", "version", "title", "key"}
_OPTIONAL = {"created", "updated"}
_PLACEHOLDER = re.compile(r"(?<![:\w]):([a-z_][a-z0-9_]*)")


class MalformedQuery(ValueError):
    """A query file that does not keep to the form."""


@dataclass(frozen=True)
class SqlQuery:
    """A versioned SELECT.

    `key` are the columns that identify a row, `created` and `updated` those with its times, as the SELECT names
    them. `text` is the SELECT without a semicolon; its placeholders, such as `:start`, are its `parameters`.
    """

    name: str
    version: int
    title: str
    text: str
    key: tuple[str, ...]
    created: str | None = None
    updated: str | None = None
    parameters: tuple[str, ...] = ()

    @cached_property
    def checksum(self) -> str:
        """SHA-256 in hex of everything that decides what is read."""
        parts = (self.name, ",".join(self.key), self.created or "", self.updated or "", self.text)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @property
    def source_id(self) -> str:
        """SQL for a row's source ID: the key's columns as text, joined by `:`."""
        columns = [f"CAST(q.{column} AS text)" for column in self.key]
        return " || ':' || ".join(columns)

    def bound_to(self, names: Mapping[str, str]) -> str:
        """The text with each placeholder replaced: `{"start": ":start_3"}` puts `:start_3` where `:start` stands."""
        return _PLACEHOLDER.sub(lambda found: names[found[1]], self.text)

    def select(
        self,
        columns: str = "q.*",
        *,
        where: str | None = None,
        group_by: str | None = None,
        order_by: str | None = None,
    ) -> str:
        """The query as `q` inside another SELECT, whose clauses may hold placeholders such as `%(start)s`."""
        comment = f"/* {self.name} version {self.version} */"
        clauses = [comment, "SELECT", columns, "FROM (", self.text.replace("%", "%%"), ") AS q"]
        for word, clause in (("WHERE", where), ("GROUP BY", group_by), ("ORDER BY", order_by)):
            if clause is not None:
                clauses.append(f"{word} {clause}")
        return "\n".join(clauses)


def load_query(folder: str, name: str) -> SqlQuery:
    """The query in `sql/<folder>/<name>.sql`. Raises `MalformedQuery`, or `FileNotFoundError`."""
    return _parse(sql_folder() / folder / f"{name}.sql")


def load_queries(folder: str) -> dict[str, SqlQuery]:
    """Every query of `sql/<folder>`, by name."""
    return {path.stem: _parse(path) for path in sorted((sql_folder() / folder).glob("*.sql"))}


def _parse(path: Path) -> SqlQuery:
    lines = path.read_text("utf-8").splitlines()
    header: dict[str, str] = {}
    while lines and (not lines[0].strip() or lines[0].startswith("--")):
        if found := _HEADER.fullmatch(lines.pop(0).rstrip()):
            header[found[1]] = found[2]
    text = "\n".join(line.rstrip() for line in lines).strip()
    if missing := _NEEDED - set(header):
        raise MalformedQuery(f"{path.name} does not declare {', '.join(sorted(missing))}")
    if unknown := set(header) - _NEEDED - _OPTIONAL - {"parameters"}:
        raise MalformedQuery(f"{path.name} declares {', '.join(sorted(unknown))}, which means nothing")
    if header["query"] != path.stem:
        raise MalformedQuery(f"{path.name} declares another name, {header['query']}")
    if not re.fullmatch(r"[1-9][0-9]*", header["version"]):
        raise MalformedQuery(f"{path.name}: a version is a whole number from 1 on, not {header['version']!r}")
    key = tuple(column.strip() for column in header["key"].split(","))
    for column in (*key, *(header[name] for name in sorted(_OPTIONAL & set(header)))):
        if not _NAME.fullmatch(column):
            raise MalformedQuery(f"{path.name}: {column!r} is not a plain column name")
    if not re.match(r"(?i)(SELECT|WITH)\b", text):
        raise MalformedQuery(f"{path.name} does not begin with SELECT or WITH")
    if ";" in text:
        raise MalformedQuery(f"{path.name} holds a semicolon: a query is one statement, without one")
    parameters = tuple(name.strip() for name in header["parameters"].split(",")) if "parameters" in header else ()
    if used := set(_PLACEHOLDER.findall(text)) ^ set(parameters):
        raise MalformedQuery(f"{path.name} declares other parameters than it uses: {', '.join(sorted(used))}")
    return SqlQuery(
        name=header["query"],
        version=int(header["version"]),
        title=header["title"],
        text=text,
        key=key,
        created=header.get("created"),
        updated=header.get("updated"),
        parameters=parameters,
    )
