"""What Stripe's endpoints accept: query strings, list filters, expandable fields; all else is refused.

Parameters are those of the SDK's own `*ListParams`; errors follow https://docs.stripe.com/api/errors.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NoReturn
from urllib.parse import parse_qsl

EXPAND_DEPTH = 4
_BRACKETS = re.compile(r"^([^\[\]]+)((?:\[[^\[\]]*\])*)$")


class StripeError(Exception):
    """An answer that is an error, in Stripe's form."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self.error: dict[str, Any] = {"message": message, "type": kind}
        if code is not None:
            self.error["code"] = code
            self.error["doc_url"] = "https://stripe.com/docs/error-codes/" + code.replace("_", "-")
        if param is not None:
            self.error["param"] = param


def missing(kind: str, key: str, *, param: str, status: int) -> StripeError:
    """No such object: 404 where the ID is in the path, 400 where a parameter names it."""
    noun = _NOUNS.get(kind, kind.replace("_", " "))
    return StripeError(status, f"No such {noun}: '{key}'", code="resource_missing", param=param)


_NOUNS = {"payment_intent": "payment_intent", "line_item": "invoice line item"}


def parse_query(query: bytes) -> dict[str, Any]:
    """A query string as Stripe reads it: `a[b]=` is a map, `a[]=` and `a[0]=` are lists, all else is text."""
    result: dict[str, Any] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        match = _BRACKETS.match(name)
        if match is None:
            raise _unknown(name)
        base, rest = match.groups()
        keys = re.findall(r"\[([^\[\]]*)\]", rest)
        if not keys:
            result[base] = value
        elif len(keys) == 1 and (keys[0] == "" or keys[0].isdigit()):
            values = result.setdefault(base, [])
            if not isinstance(values, list):
                raise StripeError(400, f"Invalid array: {base}", param=base)
            values.append(value)
        elif len(keys) == 1:
            values = result.setdefault(base, {})
            if not isinstance(values, dict):
                raise StripeError(400, f"Invalid hash: {base}", param=base)
            values[keys[0]] = value
        else:
            raise _unknown(name)
    return result


def _unknown(name: str) -> StripeError:
    return StripeError(400, f"Received unknown parameter: {name}", code="parameter_unknown", param=name)


def integer(value: Any, name: str) -> int:
    if not isinstance(value, str) or not re.fullmatch(r"-?\d{1,18}", value):
        raise StripeError(400, f"Invalid integer: {value}", code="parameter_invalid_integer", param=name)
    return int(value)


def text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise StripeError(400, f"Invalid string: {value}", param=name)
    if not value:
        message = f"You passed an empty string for '{name}'. We assume empty values are an attempt to unset a parameter"
        raise StripeError(
            400, f"{message}; however '{name}' cannot be unset.", code="parameter_invalid_empty", param=name
        )
    return value


def texts(value: Any, name: str) -> list[str]:
    if not isinstance(value, list):
        raise StripeError(400, "Invalid array", param=name)
    return [text(each, name) for each in value]


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open bounds in seconds; None is open."""

    low: int | None
    high: int | None

    def holds(self, value: int | None) -> bool:
        if value is None:
            return False
        return (self.low is None or value >= self.low) and (self.high is None or value < self.high)


def span(value: Any, name: str) -> Span:
    """`created=123` or `created[gte]=…&created[lt]=…`, as half-open bounds."""
    if isinstance(value, str):
        moment = integer(value, name)
        return Span(moment, moment + 1)
    if not isinstance(value, dict):
        raise StripeError(400, f"Invalid timestamp: {value}", param=name)
    lows: list[int] = []
    highs: list[int] = []
    for key, raw in value.items():
        bound = integer(raw, f"{name}[{key}]") if key in ("gt", "gte", "lt", "lte") else None
        match key:
            case "gt" | "gte":
                lows.append((bound or 0) + (key == "gt"))
            case "lt" | "lte":
                highs.append((bound or 0) + (key == "lte"))
            case _:
                raise _unknown(f"{name}[{key}]")
    return Span(max(lows, default=None), min(highs, default=None))


Match = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter of a list: how its value is read, what it keeps, and which kind of object it names, if any."""

    read: Callable[[Any, str], Any]
    keep: Callable[[Any, Any], bool]
    names: str | None = None
    group: str | None = None


def same(attribute: str, *, names: str | None = None, group: bool = False, choices: tuple[str, ...] = ()) -> Filter:
    """Keeps records whose attribute equals the value."""

    def read(value: Any, name: str) -> str:
        value = text(value, name)
        if choices and value not in choices:
            listed = ", ".join(choices[:-1]) + f", or {choices[-1]}"
            raise StripeError(400, f"Invalid {name}: must be one of {listed}", param=name)
        return value

    return Filter(read, lambda record, value: getattr(record, attribute) == value, names, attribute if group else None)


def within(attribute: str) -> Filter:
    return Filter(span, lambda record, value: value.holds(getattr(record, attribute)))


def nothing() -> Filter:
    """A documented filter on something that no object of this account has: keeps nothing."""
    return Filter(text, lambda _record, _value: False)


def _read_types(value: Any, name: str) -> list[str]:
    types = texts(value, name)
    if len(types) > 20:
        raise StripeError(400, "You may not specify more than 20 event types.", param=name)
    return types


def _read_payment(value: Any, name: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise StripeError(400, "Invalid hash", param=name)
    for key in value:
        if key not in ("type", "payment_intent", "payment_record"):
            raise _unknown(f"{name}[{key}]")
    if value.get("type") not in ("payment_intent", "payment_record"):
        raise StripeError(
            400, f"Missing required param: {name}[type].", code="parameter_missing", param=f"{name}[type]"
        )
    return value


def _keep_payment(record: Any, value: dict[str, str]) -> bool:
    return value["type"] == "payment_intent" and value.get("payment_intent", record.payment_intent) == (
        record.payment_intent
    )


_CUSTOMER = same("customer", names="customer", group=True)

FILTERS: Mapping[str, Mapping[str, Filter]] = {
    "customer": {"email": same("email"), "test_clock": nothing()},
    "invoice": {
        "collection_method": same("collection_method", choices=("charge_automatically", "send_invoice")),
        "customer": _CUSTOMER,
        "customer_account": nothing(),
        "due_date": within("due_date"),
        "status": same("status", choices=("draft", "open", "paid", "uncollectible", "void")),
        "subscription": nothing(),
    },
    "charge": {
        "customer": _CUSTOMER,
        "payment_intent": same("payment_intent", names="payment_intent", group=True),
        "transfer_group": nothing(),
    },
    "payment_intent": {"customer": _CUSTOMER, "customer_account": nothing()},
    "balance_transaction": {
        "currency": same("currency"),
        "payout": same("payout", names="payout", group=True),
        "source": same("source", group=True),
        "type": same("type"),
    },
    "credit_note": {
        "customer": _CUSTOMER,
        "customer_account": nothing(),
        "invoice": same("invoice", names="invoice", group=True),
    },
    "customer_balance_transaction": {"invoice": same("invoice", names="invoice")},
    "refund": {
        "charge": same("charge", names="charge", group=True),
        "payment_intent": same("payment_intent", names="payment_intent", group=True),
    },
    "payout": {
        "arrival_date": within("arrival_date"),
        "destination": nothing(),
        "status": same("status", choices=("pending", "paid", "failed", "canceled", "in_transit")),
    },
    "dispute": {
        "charge": same("charge", names="charge", group=True),
        "payment_intent": same("payment_intent", names="payment_intent", group=True),
    },
    "invoice_payment": {
        "invoice": same("invoice", names="invoice", group=True),
        "payment": Filter(_read_payment, _keep_payment),
        "status": same("status", choices=("canceled", "open", "paid")),
    },
    "event": {
        "delivery_success": Filter(text, lambda _record, value: value == "true"),
        "type": Filter(text, lambda record, value: fnmatchcase(record.type, value)),
        "types": Filter(_read_types, lambda record, value: any(fnmatchcase(record.type, each) for each in value)),
    },
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A list request, read and checked."""

    limit: int = 10
    after: str | None = None
    before: str | None = None
    created: Span = Span(None, None)
    expand: tuple[tuple[str, ...], ...] = ()
    filters: tuple[tuple[str, Filter, Any], ...] = field(default=())


def read_list(params: dict[str, Any], filters: Mapping[str, Filter], *, has_created: bool, kind: str) -> Asked:
    """Check a list request against what the endpoint takes; StripeError 400 names the first fault."""
    limit, after, before, created = 10, None, None, Span(None, None)
    expand: tuple[tuple[str, ...], ...] = ()
    chosen: list[tuple[str, Filter, Any]] = []
    for name, value in params.items():
        if name == "limit":
            limit = integer(value, name)
            if not 1 <= limit <= 100:
                bound = "greater than or equal to 1" if limit < 1 else "less than or equal to 100"
                raise StripeError(400, f"This value must be {bound}.", code="parameter_invalid_integer", param="limit")
        elif name == "starting_after":
            after = text(value, name)
        elif name == "ending_before":
            before = text(value, name)
        elif name == "expand":
            expand = read_expand(value, kind, is_list=True)
        elif name == "created" and has_created:
            created = span(value, name)
        elif name in filters:
            chosen.append((name, filters[name], filters[name].read(value, name)))
        else:
            raise _unknown(name)
    if after and before:
        raise StripeError(400, "You may only specify one of these parameters: starting_after, ending_before.")
    return Asked(limit, after, before, created, expand, tuple(chosen))


def read_one(params: dict[str, Any], kind: str) -> tuple[tuple[str, ...], ...]:
    """The expansions of a retrieve request, which takes nothing else."""
    for name in params:
        if name != "expand":
            raise _unknown(name)
    return read_expand(params["expand"], kind, is_list=False) if "expand" in params else ()


# Expandable fields: kind -> dotted path -> kind of the object there; "*" where no object of this account has one.
# A path that ends in "[]" is a list to be included: its objects are reached through ".data".
EXPANDABLE: Mapping[str, Mapping[str, str]] = {
    "customer": {
        "default_source": "*",
        "invoice_settings.default_payment_method": "*",
        "sources[]": "*",
        "subscriptions[]": "*",
        "tax_ids[]": "*",
        "tax": "*",
        "test_clock": "*",
    },
    "invoice": {
        "application": "*",
        "customer": "customer",
        "default_payment_method": "*",
        "default_source": "*",
        "discounts": "*",
        "latest_revision": "*",
        "lines[]": "line_item",
        "on_behalf_of": "*",
        "payments[]": "invoice_payment",
        "test_clock": "*",
    },
    "line_item": {"discounts": "*", "subscription": "*"},
    "payment_intent": {
        "application": "*",
        "customer": "customer",
        "latest_charge": "charge",
        "on_behalf_of": "*",
        "review": "*",
    },
    "charge": {
        "application": "*",
        "application_fee": "*",
        "balance_transaction": "balance_transaction",
        "customer": "customer",
        "failure_balance_transaction": "*",
        "on_behalf_of": "*",
        "payment_intent": "payment_intent",
        "refunds[]": "refund",
        "review": "*",
        "source_transfer": "*",
    },
    "balance_transaction": {"source": "source"},
    "source": {
        "balance_transaction": "balance_transaction",
        "charge": "charge",
        "customer": "customer",
        "payment_intent": "payment_intent",
    },
    "credit_note": {
        "customer": "customer",
        "customer_balance_transaction": "customer_balance_transaction",
        "invoice": "invoice",
        "lines[]": "credit_note_line_item",
        "refunds.refund": "refund",
    },
    "credit_note_line_item": {},
    "customer_balance_transaction": {
        "credit_note": "credit_note",
        "customer": "customer",
        "invoice": "invoice",
    },
    "refund": {
        "balance_transaction": "balance_transaction",
        "charge": "charge",
        "customer": "customer",
        "failure_balance_transaction": "balance_transaction",
        "payment_intent": "payment_intent",
        "source_transfer_reversal": "*",
        "transfer_reversal": "*",
    },
    "payout": {
        "balance_transaction": "balance_transaction",
        "failure_balance_transaction": "balance_transaction",
        "original_payout": "*",
        "reversed_by": "*",
    },
    "dispute": {"charge": "charge", "payment_intent": "payment_intent"},
    "invoice_payment": {"invoice": "invoice", "payment.payment_intent": "payment_intent"},
    "event": {},
    "balance": {},
    "account": {},
    "*": {},
}


def read_expand(value: Any, kind: str, *, is_list: bool) -> tuple[tuple[str, ...], ...]:
    """Check `expand[]`: fields that can be expanded, at most four levels; in lists every path begins with `data`."""
    return tuple(_check_path(path, kind, is_list) for path in texts(value, "expand"))


def _check_path(path: str, kind: str, is_list: bool) -> tuple[str, ...]:
    parts = path.split(".")
    if len(parts) > EXPAND_DEPTH:
        raise StripeError(
            400,
            f"You cannot expand more than {EXPAND_DEPTH} levels of a property. Property: {path}",
            param="expand",
        )
    if is_list:
        if parts[0] != "data" or len(parts) < 2:
            _not_expandable(path, f" You may want to try expanding 'data.{path}' instead.")
        parts = parts[1:]
    left = parts
    while left:
        field_parts, target, is_nested = _field(kind, left)
        if target is None:
            _not_expandable(path, "")
        left = left[len(field_parts) :]
        if is_nested and left:
            if left[0] != "data" or len(left) == 1:
                _not_expandable(path, "")
            left = left[1:]
        kind = target
    return tuple(parts)


def _not_expandable(path: str, hint: str) -> NoReturn:
    raise StripeError(400, f"This property cannot be expanded ({path}).{hint}", param="expand")


def _field(kind: str, parts: list[str]) -> tuple[list[str], str | None, bool]:
    """The expandable field that begins `parts`: its own parts, the kind it leads to, and whether it is a list."""
    for name, target in EXPANDABLE[kind].items():
        own = name.removesuffix("[]").split(".")
        if parts[: len(own)] == own:
            return own, target, name.endswith("[]")
    return [], None, False
