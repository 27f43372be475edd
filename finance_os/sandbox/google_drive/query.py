"""The `q` language of files.list: comparisons of a file's fields, joined by `and`, `or`, `not` and parentheses.

Without parentheses, `and` and `or` are taken from left to right.
https://developers.google.com/workspace/drive/api/guides/ref-search-terms · …/guides/search-files
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeAlias

from .store import Node, Store
from .wire import DriveError, file_not_found, invalid

Test: TypeAlias = Callable[[Node], bool]

_TOKEN = re.compile(r"\s*(?:(?P<text>'(?:[^'\\]|\\.)*')|(?P<sign>!=|<=|>=|[=<>()])|(?P<word>[A-Za-z]+))")
_ORDERS = ("=", "!=", "<", "<=", ">", ">=")
_OPERATORS = {
    "name": ("contains", "=", "!="),
    "mimeType": ("contains", "=", "!="),
    "modifiedTime": _ORDERS,
    "createdTime": _ORDERS,
    "trashed": ("=", "!="),
    "starred": ("=", "!="),
    "sharedWithMe": ("=", "!="),
}


def parse(text: str, store: Store) -> Test:
    """What `q` asks of a file. 400 for what the language does not know, 404 for a folder that the caller cannot see."""
    tokens: list[tuple[str, str]] = []
    position = 0
    while text[position:].strip():
        match = _TOKEN.match(text, position)
        if match is None:
            raise invalid("q")
        tokens.append((match.lastgroup or "", match[match.lastgroup or 0]))
        position = match.end()
    parser = _Parser(tokens, store)
    test = parser.joined()
    if parser.tokens:
        raise invalid("q")
    return test


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]], store: Store) -> None:
        self.tokens = tokens
        self.store = store

    def joined(self) -> Test:
        test = self.single()
        while self.tokens and self.tokens[0] in (("word", "and"), ("word", "or")):
            _, join = self.tokens.pop(0)
            left, right = test, self.single()
            test = _both(left, right) if join == "and" else _either(left, right)
        return test

    def single(self) -> Test:
        kind, word = self.take()
        if (kind, word) == ("word", "not"):
            denied = self.single()
            return lambda node: not denied(node)
        if word == "(" and kind == "sign":
            test = self.joined()
            if self.take() != ("sign", ")"):
                raise invalid("q")
            return test
        if kind == "text":
            return self.member(_unquoted(word))
        if word in _OPERATORS:
            return self.comparison(word)
        if word == "fullText":
            raise DriveError(501, "notImplemented", "This sandbox does not search in full texts.")
        raise invalid("q")

    def member(self, value: str) -> Test:
        """`'<id>' in parents`."""
        if self.take() != ("word", "in") or self.take() != ("word", "parents"):
            raise invalid("q")
        node = self.store.nodes.get(value)
        if node is None or not self.store.readable(node):
            raise file_not_found("")  # Drive leaves the ID out here
        return lambda node: node.parent == value

    def comparison(self, term: str) -> Test:
        _, operator = self.take()
        if operator not in _OPERATORS[term]:
            raise invalid("q")
        kind, word = self.take()
        if term in ("trashed", "starred", "sharedWithMe"):
            if word not in ("true", "false") or kind != "word":
                raise invalid("q")
            wanted = (word == "true") == (operator == "=")
            if term == "trashed":
                return lambda node: self.store.trashed(node) == wanted
            if term == "starred":
                return lambda _: not wanted
            return lambda node: (node.shared and node.drive is None) == wanted
        if kind != "text":
            raise invalid("q")
        value = _unquoted(word)
        if term in ("modifiedTime", "createdTime"):
            return _time_test(term, operator, value)
        if operator == "contains":
            return _name_contains(value) if term == "name" else lambda node: value.lower() in node.mime
        equal = operator == "="
        if term == "name":
            return lambda node: (node.name == value) == equal
        return lambda node: (node.mime == value) == equal

    def take(self) -> tuple[str, str]:
        if not self.tokens:
            raise invalid("q")
        return self.tokens.pop(0)


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def _both(left: Test, right: Test) -> Test:
    return lambda node: left(node) and right(node)


def _either(left: Test, right: Test) -> Test:
    return lambda node: left(node) or right(node)


def _name_contains(value: str) -> Test:
    """Drive finds a name by the beginnings of its words."""
    wanted = re.compile(r"(?:^|[^0-9a-z])" + re.escape(value.lower()))
    return lambda node: wanted.search(node.name.lower()) is not None


def _time_test(term: str, operator: str, value: str) -> Test:
    """Times are RFC 3339; without an offset they are UTC."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        raise invalid("q") from None
    bound = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)

    def test(node: Node) -> bool:
        given = node.modified if term == "modifiedTime" else node.created
        match operator:
            case "=":
                return given == bound
            case "!=":
                return given != bound
            case "<":
                return given < bound
            case "<=":
                return given <= bound
            case ">":
                return given > bound
            case _:
                return given >= bound

    return test
