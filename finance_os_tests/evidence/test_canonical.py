"""Canonical JSON: equal for equal payloads, different for different ones, and the same after PostgreSQL has held it."""

import hashlib
import json
import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import psycopg
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from finance_os.evidence.canonical import (
    MAX_DEPTH,
    NO_EVIDENCE,
    Uncanonical,
    canonical_json,
    decode,
    evidence_hash,
    parse_path,
    payload_hash,
    without_fields,
)

# Text as a vendor may send it, with what is special in JSON, in PostgreSQL and in UTF-16.
text = st.text(
    st.characters(codec="utf-8", exclude_characters="\x00")
    | st.sampled_from('"\\/\b\f\n\r\t\x7f\u2028\uffff\U0001f600u0'),
    max_size=12,
)
decimals = st.builds(
    lambda sign, digits, exponent: Decimal((sign, digits, exponent)),
    st.integers(0, 1),
    st.lists(st.integers(0, 9), min_size=1, max_size=25).map(tuple),
    st.integers(-40, 40) | st.sampled_from([-16_383, -16_000, 4_000]),
).filter(lambda number: -number.as_tuple().exponent <= 16_383)  # pyright: ignore[reportOperatorIssue]
integers = st.integers() | st.integers(-(10**40), 10**40) | st.sampled_from([10**4_298, -(10**4_298), 2**63, 2**64])
scalars = st.none() | st.booleans() | integers | decimals | text
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4), max_leaves=20
)
payloads = st.dictionaries(text, values, max_size=6)


@pytest.fixture(scope="module")
def postgres(server_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute("CREATE TEMPORARY TABLE kept (payload jsonb)")
        yield connection


def kept(postgres: psycopg.Connection[Any], canonical: bytes) -> str:
    """The JSON text that PostgreSQL gives back for what was stored as `canonical`."""
    postgres.execute("TRUNCATE kept")
    with postgres.cursor().copy("COPY kept FROM STDIN") as copy:
        copy.write_row([canonical.decode()])
    row = postgres.execute("SELECT payload::text FROM kept").fetchone()
    assert row is not None
    return row[0]


def shuffled(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict):
        items = [(key, shuffled(item, rng)) for key, item in value.items()]
        rng.shuffle(items)
        return dict(items)
    return [shuffled(item, rng) for item in value] if isinstance(value, list) else value


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values say the same, numbers by their exact value."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, int | Decimal) and isinstance(other, int | Decimal):
        return isinstance(one, bool) == isinstance(other, bool) and one == other
    return type(one) is type(other) and one == other


@settings(max_examples=150)
@given(payloads)
@example({"a": [Decimal("-0.00"), Decimal("1E+3"), Decimal("1E-7"), Decimal("1.10"), Decimal("0E+5")]})
@example({"\\u0000": "\\u0000", "\\": "\\\\u0000"})
def test_what_postgresql_gives_back_has_the_same_hash(
    postgres: psycopg.Connection[Any], payload: dict[str, Any]
) -> None:
    canonical = canonical_json(payload)
    given_back = decode(kept(postgres, canonical))
    assert canonical_json(given_back) == canonical
    assert payload_hash(given_back) == hashlib.sha256(canonical).digest()
    assert same(given_back, payload)


@given(payloads, st.randoms(use_true_random=False), st.integers(0, 8))
def test_key_order_and_whitespace_never_matter(payload: dict[str, Any], rng: random.Random, indent: int) -> None:
    canonical = canonical_json(payload)
    assert canonical_json(shuffled(payload, rng)) == canonical
    loose = msgspec.json.format(canonical, indent=indent)
    assert payload_hash(decode(loose)) == payload_hash(payload)
    assert payload_hash(decode(b"\n\t " + loose.replace(b"\n", b"\r\n\t") + b" \n")) == payload_hash(payload)


def changed(value: Any, data: st.DataObject) -> Any:
    """`value` with one change, somewhere in it."""
    if isinstance(value, dict) and value and data.draw(st.booleans()):
        key = data.draw(st.sampled_from(sorted(value)))
        return {**value, key: changed(value[key], data)}
    if isinstance(value, list) and value and data.draw(st.booleans()):
        at = data.draw(st.integers(0, len(value) - 1))
        return [*value[:at], changed(value[at], data), *value[at + 1 :]]
    ways: list[Any] = [[value]]
    if isinstance(value, dict):
        ways.append({**value, data.draw(text.filter(lambda key: key not in value)): None})
        ways.extend({name: item for name, item in value.items() if name != key} for key in value)
        ways.extend({f"{name} " if name == key else name: item for name, item in value.items()} for key in value)
    elif isinstance(value, list):
        ways.extend([[*value, None], [None, *value, None]])
        ways.extend([value[::-1]] if not same(value, value[::-1]) else [])
        ways.extend([value[:-1]] if value else [])
    elif isinstance(value, bool) or value is None:
        ways.extend([item for item in (True, False, None, 0, "") if not same(item, value)])
    elif isinstance(value, int):
        ways.extend([value + 1, str(value), Decimal(f"{value}.0")])
    elif isinstance(value, Decimal):
        ways.append("number")
        if value.is_zero() or value.adjusted() < 20:
            ways.append(Decimal(f"{value:f}" + ("0" if "." in f"{value:f}" else ".0")))
    else:
        ways.extend([value + " ", value.swapcase() if value.swapcase() != value else None])
    return data.draw(st.sampled_from(ways))


@settings(max_examples=150)
@given(payloads, st.data())
def test_every_other_change_changes_the_hash(payload: dict[str, Any], data: st.DataObject) -> None:
    other = changed(payload, data)
    assume(all(len(str(part)) < 4_000 for part in (payload, other)))
    assert payload_hash(other) != payload_hash(payload)


@given(payloads, values, values, text, text)
def test_a_volatile_field_never_matters(payload: dict[str, Any], one: Any, other: Any, at: str, below: str) -> None:
    def kept_of(value: Any) -> bytes:
        whole = {**payload, at: {"inner": [{below: value, "stays": 1}, {"stays": 2}, 3]}, "stays": payload}
        return payload_hash(without_fields(whole, [(at, "inner", "*", below)]))

    assume(at != "stays")
    assume(below != "stays")
    assert kept_of(one) == kept_of(other)
    without = payload_hash({**payload, at: {"inner": [{"stays": 1}, {"stays": 2}, 3]}, "stays": payload})
    assert kept_of(one) == without


def test_only_what_lies_on_a_path_is_taken_out() -> None:
    payload = {"a": {"b": 1, "c": 2}, "list": [{"url": "x", "id": 1}, {"id": 2}], "url": "kept", "text": "list"}
    paths = [parse_path("list.*.url"), parse_path("a.b"), parse_path("nothing.here"), parse_path("text.*.x")]
    assert without_fields(payload, paths) == {
        "a": {"c": 2},
        "list": [{"id": 1}, {"id": 2}],
        "url": "kept",
        "text": "list",
    }
    assert payload["a"] == {"b": 1, "c": 2}


def test_no_evidence() -> None:
    assert evidence_hash([]) == evidence_hash(NO_EVIDENCE) == "4f53cda18c2b"
    assert evidence_hash([{}]) != evidence_hash([])
    assert evidence_hash({"b": 1, "a": Decimal("1.10")}) == hashlib.sha256(b'{"a":1.10,"b":1}').hexdigest()[:12]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"b": 1, "a": [True, None]}, '{"a":[true,null],"b":1}'),
        ((1, (2,)), "[1,[2]]"),
        (Decimal("1E+3"), "1000"),
        (Decimal("-0"), "0"),
        (Decimal("-0.00"), "0.00"),
        (Decimal("1.500"), "1.500"),
        (Decimal("12E-8"), "0.00000012"),
        (Decimal("0E-3"), "0.000"),
        (2**200, str(2**200)),
        ("é\u2028\x7f\x01/", '"é\u2028\x7f\\u0001/"'),
        ({"é": 1, "z": 2, "\U0001f600": 3, "\uffff": 4}, '{"z":2,"é":1,"\uffff":4,"\U0001f600":3}'),
    ],
)
def test_the_form(value: Any, expected: str) -> None:
    assert canonical_json(value).decode() == expected


def nested(depth: int, inner: Any = 1) -> Any:
    for n in range(depth):
        inner = [inner] if n % 2 else {"a": inner}
    return inner


class Text(str):
    """Not a plain `str`."""

    __slots__ = ()


REFUSED = {
    "a float": 0.1,
    "a float in a list": [1, [0.5]],
    "not a number": Decimal("NaN"),
    "a signalling NaN": Decimal("sNaN"),
    "infinity": Decimal("-Infinity"),
    "NUL": "a\x00b",
    "NUL after a backslash": "\\\x00",
    "NUL in a key": {"a": {"\x00": 1}},
    "a lone surrogate": "\ud800",
    "a lone surrogate in a key": {"\udfff": 1},
    "a key that is a number": {1: 2},
    "a text of its own kind": Text("a"),
    "bytes": b"a",
    "a set": {1},
    "too many digits after the point": Decimal("1E-16384"),
    "too many digits before the point": Decimal("1E+131072"),
    "a zero with too many digits": Decimal("0E-20000"),
    "an integer that Python cannot read": Decimal("1E+4300"),
    "an integer that Python cannot write": 10**4_300,
    "a negative integer that msgspec cannot read": Decimal("-" + "9" * 4_300),
    "too deep": nested(MAX_DEPTH + 1),
    "much too deep": nested(5_000),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_kept_is_refused(what: str) -> None:
    with pytest.raises(Uncanonical):
        canonical_json({"value": REFUSED[what]} if "deep" not in what else REFUSED[what])


ACCEPTED = {
    "the deepest": nested(MAX_DEPTH - 1, Decimal("1E+3")),
    "the longest integer": int("9" * 4_299),
    "the longest negative one": -int("9" * 4_299),
    "a long fraction": Decimal("9" * 4_000 + "." + "9" * 16_383),
    "digits in a text": "9" * 10_000,
    "an escaped backslash before u0000": "\\u0000 \\\\u0000",
    "one large text": "é" * 3_000_000,
    "many keys": {str(n): n for n in range(20_000)},
}


@pytest.mark.parametrize("what", ACCEPTED)
def test_what_is_large_but_kept(postgres: psycopg.Connection[Any], what: str) -> None:
    canonical = canonical_json({"value": ACCEPTED[what]})
    assert canonical_json(decode(kept(postgres, canonical))) == canonical


def test_depth_does_not_depend_on_the_caller() -> None:
    def below(frames: int) -> bytes:
        return below(frames - 1) if frames else canonical_json(nested(MAX_DEPTH, Decimal("1E+3")))

    assert below(400) == below(0)


wild = st.text(st.characters(), max_size=6)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.builds(lambda digits, exponent: Decimal((0, digits, exponent)), st.just((1, 2)), st.integers(-20_000, 140_000))
    | wild
    | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(wild | st.integers(), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=150)
@given(anything)
def test_anything_is_kept_exactly_or_refused(postgres: psycopg.Connection[Any], value: Any) -> None:
    try:
        canonical = canonical_json(value)
    except Uncanonical:
        return
    given_back = decode(kept(postgres, canonical))
    assert canonical_json(given_back) == canonical
    assert same(given_back, value)


@pytest.mark.parametrize(
    "broken", ["", "{", '{"a":1}}', "[1,]", "NaN", "1e99999999999999999999", "9" * 4_301, "[" * 99_999]
)
def test_what_is_not_json_is_refused(broken: str) -> None:
    with pytest.raises(Uncanonical):
        decode(broken)
    with pytest.raises(Uncanonical):
        decode(b'"\xff"')


@given(values)
def test_reading_agrees_with_the_standard_library(value: Any) -> None:
    canonical = canonical_json(value)
    assert same(json.loads(canonical, parse_float=Decimal), decode(canonical))
