"""The query language of QuickBooks Online: parsed, checked against the entity's properties, and carried out.

    SELECT * | COUNT(*) FROM Entity [WHERE property operator value [AND …]]
        [ORDERBY property [ASC | DESC], …] [STARTPOSITION n] [MAXRESULTS n]

https://developer.intuit.com/app/developer/qbo/docs/learn/explore-the-quickbooks-online-api/data-queries
Words, entities, properties and text values are not case sensitive; there is no OR, no join and no projection.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import cmp_to_key
from typing import Any

from .entities import KINDS
from .faults import query_parser, query_validation
from .fields import Kind
from .formats import moment

DEFAULT_RESULTS = 100
MAX_RESULTS = 1_000
_TOKEN = re.compile(
    r"\s+|(?P<text>'(?:\\.|[^'\\])*')|(?P<number>-?\d+(?:\.\d+)?)(?![\w-])|(?P<word>[A-Za-z_][\w.]*)"
    r"|(?P<sign><=|>=|[=<>(),*])",
    re.DOTALL,
)
_BY_LOWER_NAME = {name.lower(): kind for name, kind in KINDS.items()}
_OPERATORS = ("=", "<", ">", "<=", ">=", "in", "like")


@dataclass(frozen=True, slots=True)
class Condition:
    """`values` has one element except for `in`."""

    name: str
    type: str
    operator: str
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Query:
    """A statement that makes sense for its entity. `start` counts from 1."""

    kind: Kind
    count: bool
    conditions: tuple[Condition, ...]
    order: tuple[tuple[str, str, bool], ...]
    start: int
    limit: int

    @property
    def shows_inactive(self) -> bool:
        """Inactive names are hidden unless the statement speaks of them."""
        return any(each.name == "Active" and False in each.values for each in self.conditions)


@dataclass(frozen=True, slots=True)
class _Token:
    type: str
    value: str
    column: int

    @property
    def word(self) -> str:
        return self.value.lower() if self.type == "word" else ""


class _Parser:
    """Reads a statement from left to right; every error says where, as Intuit's parser does."""

    def __init__(self, text: str, today: date) -> None:
        if not text.strip():
            raise query_parser("The query provided was empty")
        self.today = today
        self.tokens = list(_tokens(text))
        self.at = 0

    @property
    def token(self) -> _Token:
        return self.tokens[self.at]

    def take(self, expected: str, *words: str) -> _Token:
        token = self.token
        if token.word not in words and token.value not in words:
            raise _unexpected(token, expected or ", ".join(words))
        self.at += 1
        return token

    def has(self, *words: str) -> bool:
        """Step over these words where they come next."""
        ahead = [each.word or each.value for each in self.tokens[self.at : self.at + len(words)]]
        if ahead != list(words):
            return False
        self.at += len(words)
        return True

    def name(self, expected: str) -> _Token:
        if self.token.type != "word":
            raise _unexpected(self.token, expected)
        self.at += 1
        return self.tokens[self.at - 1]

    def statement(self) -> Query:
        self.take('"select"', "select")
        count = self.has("count", "(", "*", ")")
        if not count:
            self.take('"*" or "count(*)"', "*")
        self.take('"from"', "from")
        entity = self.name("an entity")
        kind = _BY_LOWER_NAME.get(entity.value.lower())
        if kind is None:
            raise query_validation(f"Metadata not found for Entity: {entity.value}")
        conditions: list[Condition] = []
        if self.has("where"):
            conditions.append(self.condition(kind))
            while self.has("and"):
                conditions.append(self.condition(kind))
        order: list[tuple[str, str, bool]] = []
        if self.has("orderby") or self.has("order", "by"):
            order.append(self.sorting(kind))
            while self.has(","):
                order.append(self.sorting(kind))
        start = self.whole() if self.has("startposition") else 1
        limit = self.whole() if self.has("maxresults") else DEFAULT_RESULTS
        if self.token.type != "end":
            raise _unexpected(self.token, "<EOF>")
        if limit > MAX_RESULTS:
            raise query_validation(f"value {limit} is too large. Max allowed value is {MAX_RESULTS}.")
        return Query(kind, count, tuple(conditions), tuple(order), start, limit)

    def whole(self) -> int:
        token = self.token
        if token.type != "number" or not token.value.isdigit() or int(token.value) < 1:
            raise _unexpected(token, "a positive whole number")
        self.at += 1
        return int(token.value)

    def property(self, kind: Kind) -> tuple[str, str]:
        token = self.name("a property")
        for name, type_ in kind.filters.items():
            if name.lower() == token.value.lower():
                return name, type_
        if token.value.split(".")[0].lower() in {name.lower() for name in kind.fields}:
            raise query_validation(f"property '{token.value}' is not queryable")
        raise query_validation(f"Property {token.value} not found for Entity {kind.name}")

    def sorting(self, kind: Kind) -> tuple[str, str, bool]:
        name, type_ = self.property(kind)
        descending = self.has("desc")
        if not descending:
            self.has("asc")
        return name, type_, descending

    def condition(self, kind: Kind) -> Condition:
        name, type_ = self.property(kind)
        operator = self.token.word or self.token.value
        if operator not in _OPERATORS:
            raise _unexpected(self.token, "an operator")
        self.at += 1
        if (type_ in ("id", "ref", "flag") and operator not in ("=", "in")) or (
            operator == "like" and type_ not in ("text", "date")
        ):
            raise query_validation(f"operator {operator.upper()} is not supported for property '{name}'")
        if operator != "in":
            return Condition(name, type_, operator, (self.value(name, "like" if operator == "like" else type_),))
        self.take("(", "(")
        values = [self.value(name, type_)]
        while self.has(","):
            values.append(self.value(name, type_))
        self.take(")", ")")
        return Condition(name, type_, operator, tuple(values))

    def value(self, name: str, type_: str) -> Any:
        token = self.token
        if token.type == "text":
            text = re.sub(r"\\(.)", r"\1", token.value[1:-1], flags=re.DOTALL)
        elif token.type == "number":
            text = token.value
        elif token.word in ("true", "false"):
            text = token.word
        elif token.word == "current_date" and type_ == "date":
            text = self.today.isoformat()
        else:
            raise _unexpected(token, "a value")
        self.at += 1
        try:
            return _READERS[type_](text)
        except (ValueError, InvalidOperation):
            raise query_validation(f"value '{text}' is not valid for property '{name}'") from None


def _flag(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


_READERS: dict[str, Callable[[str], Any]] = {
    "id": str,
    "ref": str,
    "text": str.casefold,
    "like": lambda text: (
        re.compile(".*".join(re.escape(part) for part in text.casefold().split("%")), re.DOTALL).fullmatch
    ),
    "date": lambda text: date.fromisoformat(text).isoformat(),
    "time": moment,
    "flag": _flag,
    "number": Decimal,
}


def _tokens(text: str) -> Iterator[_Token]:
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:
            raise query_parser(
                f'Invalid content. Lexical error at line 1, column {at + 1}.  Encountered: "{text[at]}" '
                f'({ord(text[at])}), after : ""'
            )
        if found.lastgroup is not None:
            yield _Token(found.lastgroup, found.group(), at + 1)
        at = found.end()
    yield _Token("end", "<EOF>", len(text) + 1)


def _unexpected(token: _Token, expected: str) -> Exception:
    return query_parser(
        f'Encountered " <{token.type.upper()}> "{token.value} "" at line 1, column {token.column}.\n'
        f"Was expecting:\n    {expected} ..."
    )


def parse(text: str, today: date) -> Query:
    """A statement ready to be carried out; Fault 4000 where it cannot be read, 4001 where it makes no sense."""
    return _Parser(text, today).statement()


# --- carrying it out


def look_up(body: dict[str, Any], name: str, type_: str) -> Any:
    """The value of a property as it compares; None where the object does not have it."""
    value: Any = body
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, dict):
        value = value.get("value") if type_ == "ref" else value.get("Address")
    if value is None:
        return None
    match type_:
        case "text":
            return str(value).casefold()
        case "time":
            return moment(value)
        case "number":
            return Decimal(value)
    return value


_COMPARE: dict[str, Callable[[Any, tuple[Any, ...]], bool]] = {
    "=": lambda value, wanted: value == wanted[0],
    "<": lambda value, wanted: value < wanted[0],
    ">": lambda value, wanted: value > wanted[0],
    "<=": lambda value, wanted: value <= wanted[0],
    ">=": lambda value, wanted: value >= wanted[0],
    "in": lambda value, wanted: value in wanted,
    "like": lambda value, wanted: wanted[0](str(value)) is not None,
}


def matches(body: dict[str, Any], condition: Condition) -> bool:
    value = look_up(body, condition.name, condition.type)
    return value is not None and _COMPARE[condition.operator](value, condition.values)


def select(query: Query, bodies: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every object that the statement speaks of, in its order (before its page is cut out)."""
    found = [
        body
        for body in bodies
        if (query.shows_inactive or body.get("Active") is not False)
        and all(matches(body, each) for each in query.conditions)
    ]
    if query.order:
        found.sort(key=cmp_to_key(lambda one, other: _compare(query, one, other)))
    else:
        found.sort(key=_id, reverse=query.kind.is_transaction)
    return found


def page(query: Query, found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return found[query.start - 1 : query.start - 1 + query.limit]


def _id(body: dict[str, Any]) -> tuple[int, str]:
    key = body.get("Id", "")
    return (int(key), "") if key.isdigit() else (0, key)


def _compare(query: Query, one: dict[str, Any], other: dict[str, Any]) -> int:
    for name, type_, descending in query.order:
        left, right = (
            (_id(one), _id(other)) if type_ == "id" else (look_up(one, name, type_), look_up(other, name, type_))
        )
        if left == right:
            continue
        less = left is None or (right is not None and left < right)
        return -1 if less != descending else 1
    return -1 if _id(one) < _id(other) else 1
