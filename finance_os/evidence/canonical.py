"""Canonical JSON and the hashes over it.

Canonical JSON is UTF-8 without blanks, keys sorted, and every number an exact decimal in the form in which
PostgreSQL's `jsonb` prints it: no exponent, no negative zero, trailing zeros kept. So the hash of a payload can be
recomputed by anyone from what the database stored.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

import msgspec

MAX_DEPTH = 200
"""Deeper payloads are refused. Python's JSON libraries give up at about 1,000 levels less the caller's own stack."""

MAX_BYTES = 64 * 1024 * 1024
"""Larger payloads are refused; `jsonb` itself ends at 256 MB."""

NO_EVIDENCE: tuple[()] = ()
"""Evidence of nothing. Its evidence hash is `4f53cda18c2b`."""

_encode = msgspec.json.Encoder(order="sorted", decimal_format="number").encode
_decode = msgspec.json.Decoder(float_hook=Decimal).decode

_CONTAINERS = frozenset({dict, list, tuple})
_SCALARS = frozenset({str, int, bool, type(None)})
# PostgreSQL's numeric: up to 131,072 digits before the decimal point and 16,383 after it.
_MAX_EXPONENT, _MAX_SCALE = 131_071, 16_383
# Integers that Python may not read back: its limit is 4,300 digits, and msgspec counts the sign as one.
_MANY_DIGITS = re.compile(rb"(?<![0-9])[0-9]{4300}")


class Uncanonical(ValueError):
    """A value that has no canonical JSON, or that PostgreSQL could not give back unchanged."""


def decode(text: bytes | str) -> Any:
    """JSON text as Python values, exactly: fractions become `Decimal`, integers keep every digit.

    Raises `Uncanonical` for what is not JSON, or cannot be held exactly (integers of 4,300 digits and more).
    """
    try:
        return _decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Uncanonical(f"cannot be read as JSON: {error}") from None
    except ArithmeticError:
        raise Uncanonical("holds a number beyond any range") from None
    except RecursionError:
        raise Uncanonical("is nested too deeply to be read") from None


def canonical_json(value: Any) -> bytes:
    """The canonical JSON of `value`: `dict` (string keys), `list`, `tuple`, `str`, `int`, `Decimal`, `bool`, `None`.

    Raises `Uncanonical` for everything else: a `float` (it is not exact: read JSON with `decode`), NaN and
    infinity, a NUL character or a lone surrogate (PostgreSQL cannot store them), numbers beyond PostgreSQL's
    `numeric`, integers of 4,300 digits and more, nesting beyond `MAX_DEPTH`, more than `MAX_BYTES`.
    """
    if _needs_rewriting(value):
        value = _rewritten(value)
    try:
        text = _encode(value)
    except UnicodeEncodeError as error:
        raise Uncanonical("holds a lone surrogate, which is not text in any encoding") from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise Uncanonical(f"cannot be written as JSON: {error}") from error
    if b"\\u0000" in text and _has_nul(text):
        raise Uncanonical("holds a NUL character, which PostgreSQL cannot store")
    if len(text) >= 4_300 and _MANY_DIGITS.search(text):
        decode(text)
    if len(text) > MAX_BYTES:
        raise Uncanonical(f"is {len(text):,} bytes of JSON; the most that is kept is {MAX_BYTES:,}")
    return text


def payload_hash(payload: Any) -> bytes:
    """SHA-256 of the canonical JSON of `payload`, from which volatile fields have been taken out already."""
    return hashlib.sha256(canonical_json(payload)).digest()


def evidence_hash(evidence: Any) -> str:
    """First 12 hex digits of the SHA-256 over the canonical JSON of what a check looked at."""
    return payload_hash(list(evidence) if isinstance(evidence, tuple) else evidence).hex()[:12]


def without_fields(payload: Mapping[str, Any], paths: Iterable[Sequence[str]]) -> Mapping[str, Any]:
    """`payload` without the fields at `paths`; each path is a sequence of keys, and `*` walks over a list.

    Only what lies on a path is copied; a path that leads nowhere is no error.
    """
    for path in paths:
        payload = _without(payload, path)
    return payload


def parse_path(path: str) -> tuple[str, ...]:
    """`"lines.data.*.url"` as `("lines", "data", "*", "url")`."""
    return tuple(path.split("."))


def _without(value: Any, path: Sequence[str]) -> Any:
    step, rest = path[0], path[1:]
    if step == "*" and isinstance(value, list) and rest:
        return [_without(item, rest) for item in value]
    if not isinstance(value, Mapping) or step not in value:
        return value
    if rest:
        return {**value, step: _without(value[step], rest)}
    return {key: item for key, item in value.items() if key != step}


def _needs_rewriting(value: Any) -> bool:
    """Whether a decimal in `value` is not yet written as PostgreSQL would; refuses what has no canonical JSON.

    Runs once for every record: members that are all scalars are passed over at C speed.
    """
    rewrite = False
    level: list[Any] = [(value,)]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for container in level:
            members = container
            if type(container) is dict:
                try:
                    "".join(container)
                except TypeError:
                    raise Uncanonical("has a key that is not a string") from None
                members = container.values()
            if _SCALARS.issuperset(map(type, members)):
                continue
            for member in members:
                kind = type(member)
                if kind in _CONTAINERS:
                    below.append(member)
                elif kind is Decimal:
                    rewrite = _plain(member) != str(member) or rewrite
                elif kind not in _SCALARS:
                    raise _unknown(kind)
        if not below:
            return rewrite
        level = below
    raise Uncanonical(f"is nested deeper than {MAX_DEPTH} levels")


def _unknown(kind: type) -> Uncanonical:
    if kind is float:
        return Uncanonical("holds a float, which is not exact: read it as a Decimal")
    return Uncanonical(f"holds a {kind.__name__}, which is not a JSON value")


def _plain(number: Decimal) -> str:
    """`number` as PostgreSQL's `numeric` prints it."""
    if not number.is_finite():
        raise Uncanonical(f"holds {number}, which is not a number in JSON")
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    if number.adjusted() > _MAX_EXPONENT or -exponent > _MAX_SCALE:
        raise Uncanonical("holds a number beyond the range of PostgreSQL's numeric")
    return format(abs(number) if not number else number, "f")


def _rewritten(value: Any) -> Any:
    if type(value) is Decimal:
        return msgspec.Raw(_plain(value).encode())
    # `map`, as a comprehension would take a second stack frame for each level.
    if type(value) is dict:
        return dict(zip(value, map(_rewritten, value.values()), strict=True))
    if type(value) in (list, tuple):
        return list(map(_rewritten, value))
    return value


def _has_nul(text: bytes) -> bool:
    """Whether an escaped NUL stands in `text`: `\\u0000` after an even number of backslashes."""
    at = text.find(b"\\u0000")
    while at >= 0:
        before = at
        while text[before - 1 : before] == b"\\":
            before -= 1
        if (at - before) % 2 == 0:
            return True
        at = text.find(b"\\u0000", at + 1)
    return False
