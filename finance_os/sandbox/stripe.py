"""Stripe's API on localhost, read only: lists, retrieval, expansion, errors and limits as Stripe's own.

https://docs.stripe.com/api · pagination: newest first, 10 to a page unless `limit` (1 to 100) says otherwise.
"""

import base64
import time
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec
from starlette.types import Receive, Scope, Send

from . import billing_objects, money_objects
from .ids import letters, stripe_id
from .ledger import Ledger, between, encode, index_of
from .stripe_form import API_VERSION, NESTED, VOLATILE, nested_list
from .stripe_params import (
    EXPANDABLE,
    FILTERS,
    Asked,
    Filter,
    StripeError,
    missing,
    parse_query,
    read_list,
    read_one,
)

_VOLATILE = VOLATILE.encode()
_CREATED = attrgetter("created")

# Collections at the top of the API: path segment -> kind, and the permission that reads it.
COLLECTIONS: Mapping[str, tuple[str, str]] = {
    "customers": ("customer", "customer"),
    "invoices": ("invoice", "invoice"),
    "charges": ("charge", "charge"),
    "payment_intents": ("payment_intent", "payment_intent"),
    "balance_transactions": ("balance_transaction", "balance_transaction_source"),
    "credit_notes": ("credit_note", "credit_note"),
    "refunds": ("refund", "charge"),
    "payouts": ("payout", "payout"),
    "disputes": ("dispute", "dispute"),
    "invoice_payments": ("invoice_payment", "invoice"),
    "events": ("event", "event"),
}

# Collections below an object: (collection, segment) -> kind, permission, and whether they filter by `created`.
BELOW: Mapping[tuple[str, str], tuple[str, str, bool]] = {
    ("invoices", "lines"): ("line_item", "invoice", False),
    ("credit_notes", "lines"): ("credit_note_line_item", "credit_note", False),
    ("charges", "refunds"): ("refund", "charge", False),
    ("customers", "balance_transactions"): ("customer_balance_transaction", "customer", True),
}

PERMISSIONS = frozenset(
    [permission for _, permission in COLLECTIONS.values()] + ["balance", "accounts_kyc_basic", "credit_note"]
)


@dataclass(frozen=True, slots=True)
class Key:
    """An API key: whose account it opens, and what it may read (None: a secret key, everything)."""

    secret: str
    ledger: Ledger
    permissions: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    body: bytes
    status: int = 200
    headers: tuple[tuple[bytes, bytes], ...] = ()


class RateLimit:
    """A bucket of one second's requests, refilled evenly; None lets everything through."""

    def __init__(self, per_second: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.set(per_second)

    def set(self, per_second: float | None) -> None:
        self.per_second = per_second
        self._tokens = max(1.0, per_second or 0)
        self._filled = self._clock()

    def take(self) -> bool:
        if self.per_second is None:
            return True
        now = self._clock()
        self._tokens = min(max(1.0, self.per_second), self._tokens + (now - self._filled) * self.per_second)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class StripeApp:
    """The ASGI app. Each key leads to its own account; an account has its own rate limit."""

    def __init__(self, keys: Sequence[Key], per_second: float | None = None) -> None:
        self.keys = {key.secret: key for key in keys}
        self.limits = {key.ledger.account: RateLimit(per_second) for key in keys}
        self._requests = 0

    async def __call__(self, scope: Scope, _receive: Receive, send: Send) -> None:
        self._requests += 1
        request_id = stripe_id("request", self._requests)
        headers = dict(scope["headers"])
        try:
            answer = self._answer(scope["method"], scope["path"], scope["query_string"], headers)
        except StripeError as error:
            error.error["request_log_url"] = f"https://dashboard.stripe.com/test/logs/{request_id}"
            extra = tuple((name.lower().encode(), value.encode()) for name, value in error.headers.items())
            answer = Answer(encode({"error": error.error}), error.status, extra)
        body = answer.body
        if _VOLATILE in body:
            body = body.replace(_VOLATILE, letters(f"read:{self._requests}", len(VOLATILE)).encode())
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": [
                    (b"content-type", b"application/json"),
                    (b"content-length", str(len(body)).encode()),
                    (b"request-id", request_id.encode()),
                    (b"stripe-version", API_VERSION.encode()),
                    *answer.headers,
                ],
            }
        )
        await send({"type": "http.response.body", "body": body})

    def _answer(self, method: str, path: str, query: bytes, headers: Mapping[bytes, bytes]) -> Answer:
        key = self._authenticate(headers.get(b"authorization", b"").decode("latin-1"))
        if not self.limits[key.ledger.account].take():
            raise StripeError(
                429,
                "Request rate limit exceeded. Learn more about rate limits here https://stripe.com/docs/rate-limits.",
                code="rate_limit",
                headers={"Stripe-Rate-Limited-Reason": "global-rate"},
            )
        version = headers.get(b"stripe-version", API_VERSION.encode()).decode("latin-1")
        if version != API_VERSION:
            raise StripeError(400, f"Invalid Stripe API version: {version}. This sandbox speaks {API_VERSION} only.")
        match path.strip("/").split("/"):
            case ["v1", *parts] if parts:
                return Answer(self._route(key, method, path, parts, query))
        raise _unrecognized(method, path)

    # --- who asks

    def _authenticate(self, header: str) -> Key:
        scheme, _, credentials = header.partition(" ")
        secret = ""
        if scheme.lower() == "bearer":
            secret = credentials.strip()
        elif scheme.lower() == "basic":
            try:
                secret = base64.b64decode(credentials, validate=True).decode("latin-1").partition(":")[0]
            except ValueError:
                secret = ""
        challenge = {"WWW-Authenticate": 'Basic realm="Stripe"'}
        if not secret:
            raise StripeError(
                401,
                "You did not provide an API key. You need to provide your API key in the Authorization header, using "
                "Bearer auth (e.g. 'Authorization: Bearer YOUR_SECRET_KEY'). See "
                "https://stripe.com/docs/api#authentication for details, or we can help at https://support.stripe.com/.",
                headers=challenge,
            )
        key = self.keys.get(secret)
        if key is None:
            raise StripeError(401, f"Invalid API Key provided: {_masked(secret)}", headers=challenge)
        return key

    def _allow(self, key: Key, permission: str, access: str = "read") -> None:
        if key.permissions is None and access == "read":
            return
        if key.permissions is not None and access == "read" and permission in key.permissions:
            return
        raise StripeError(
            403,
            f"The provided key '{_masked(key.secret)}' does not have the required permissions for this endpoint on "
            f"account '{key.ledger.account}'. Having the 'rak_{permission}_{access}' permission would allow this "
            "request to continue.",
        )

    # --- what is asked for

    def _route(self, key: Key, method: str, path: str, parts: list[str], query: bytes) -> bytes:
        ledger = key.ledger
        permission = _permission(parts)
        if permission is None:
            raise _unrecognized(method, path)
        if method != "GET":
            self._allow(key, permission, "write")
        self._allow(key, permission)
        params = parse_query(query)
        match parts:
            case ["balance"]:
                read_one(params, "balance")
                return encode(money_objects.balance(*ledger.balance()))
            case ["account"]:
                read_one(params, "account")
                return encode(money_objects.account(ledger.account, ledger.company, ledger.created))
            case ["accounts", id]:
                if id != ledger.account:
                    raise missing("account", id, param="account", status=404)
                return encode(money_objects.account(ledger.account, ledger.company, ledger.created))
            case [collection]:
                kind = COLLECTIONS[collection][0]
                asked = read_list(params, FILTERS[kind], has_created=True, kind=kind)
                return self._list(ledger, kind, f"/v1/{collection}", asked)
            case [collection, id]:
                kind = COLLECTIONS[collection][0]
                return self._one(ledger, _existing(ledger, kind, id, "id"), read_one(params, kind))
            case [collection, id, segment]:
                return self._nested(ledger, collection, id, segment, params)
            case [collection, id, segment, nested_id]:
                kind = BELOW[collection, segment][0]
                parent = _existing(ledger, COLLECTIONS[collection][0], id, COLLECTIONS[collection][0])
                record = _existing(ledger, kind, nested_id, "id")
                if getattr(record, parent.KIND) != parent.id:
                    raise missing(kind, nested_id, param="id", status=404)
                return self._one(ledger, record, read_one(params, kind))
        raise _unrecognized(method, path)

    def _one(self, ledger: Ledger, record: Any, expand: tuple[tuple[str, ...], ...]) -> bytes:
        if not expand:
            return ledger.blob(record)
        return encode(_expanded(ledger, ledger.render(record), expand))

    def _nested(self, ledger: Ledger, collection: str, key: str, segment: str, params: dict[str, Any]) -> bytes:
        kind, _, has_created = BELOW[collection, segment]
        parent = _existing(ledger, COLLECTIONS[collection][0], key, COLLECTIONS[collection][0])
        filters: Mapping[str, Filter] = FILTERS[kind] if has_created else {}
        asked = read_list(params, filters, has_created=has_created, kind=kind)
        url = f"/v1/{collection}/{key}/{segment}"
        if kind in ("refund", "customer_balance_transaction"):
            return self._list(ledger, kind, url, asked, ledger.rows(kind, **{parent.KIND: key}))
        low, high, more = _slice([line.id for line in parent.lines], asked, kind)
        write = billing_objects.invoice_line if kind == "line_item" else billing_objects.credit_note_line
        return _envelope([encode(write(line, parent)) for line in parent.lines[low:high]], more, url)

    def _list(self, ledger: Ledger, kind: str, url: str, asked: Asked, rows: list[Any] | None = None) -> bytes:
        """One page, newest first. Where a filter has a ready-made group, only that group is looked through."""
        keep: list[tuple[Filter, Any]] = []
        for name, chosen, value in asked.filters:
            if chosen.names is not None and ledger.find(chosen.names, value) is None:
                raise missing(chosen.names, value, param=name, status=400)
            if name == "payout" and not ledger.render(ledger.one("payout", value))["automatic"]:
                message = "Balance transaction history can only be filtered on automatic transfers, not manual."
                raise StripeError(400, message)
            if rows is None and chosen.group is not None:
                rows = ledger.rows(kind, **{chosen.group: value})
            else:
                keep.append((chosen, value))
        if rows is None:
            rows = ledger.rows(kind)
        low, high = between(rows, asked.created.low, asked.created.high)
        backwards = asked.before is not None
        cursor = asked.before or asked.after
        if cursor is not None:
            position = _position(ledger, kind, rows, cursor, "ending_before" if backwards else "starting_after")
            if backwards:
                low = max(low, position + (rows[position : position + 1] == [ledger.one(kind, cursor)]))
            else:
                high = min(high, position)
        picked: list[Any] = []
        indexes = range(low, high) if backwards else range(high - 1, low - 1, -1)
        for index in indexes:
            record = rows[index]
            if all(chosen.keep(record, value) for chosen, value in keep):
                picked.append(record)
                if len(picked) > asked.limit:
                    break
        more = len(picked) > asked.limit
        picked = picked[: asked.limit]
        if backwards:
            picked.reverse()
        if asked.expand:
            blobs = [encode(_expanded(ledger, ledger.render(record), asked.expand)) for record in picked]
        else:
            blobs = [ledger.blob(record) for record in picked]
        return _envelope(blobs, more, url)


def _envelope(blobs: list[bytes], more: bool, url: str) -> bytes:
    return b'{"object":"list","data":[%b],"has_more":%b,"url":%b}' % (
        b",".join(blobs),
        b"true" if more else b"false",
        msgspec.json.encode(url),
    )


def _permission(parts: list[str]) -> str | None:
    """The permission behind a path, None where Stripe has no such path."""
    match parts:
        case ["balance"]:
            return "balance"
        case ["account"] | ["accounts", _]:
            return "accounts_kyc_basic"
        case [collection] | [collection, _] if collection in COLLECTIONS:
            return COLLECTIONS[collection][1]
        case [collection, _, segment] if (collection, segment) in BELOW:
            return BELOW[collection, segment][1]
        case [collection, _, segment, _] if BELOW.get((collection, segment), ("",))[0] in (
            "refund",
            "customer_balance_transaction",
        ):
            return BELOW[collection, segment][1]
    return None


def _existing(ledger: Ledger, kind: str, key: str, param: str) -> Any:
    record = ledger.find(kind, key)
    if record is None:
        raise missing(kind, key, param=param, status=404)
    return record


def _position(ledger: Ledger, kind: str, rows: list[Any], cursor: str, param: str) -> int:
    """Where a cursor stands in `rows`; a record outside of them stands where its creation time would."""
    record = ledger.find(kind, cursor)
    if record is None or getattr(record, "deleted", False):
        raise missing(kind, cursor, param=param, status=400)
    try:
        return index_of(rows, record)
    except ValueError:
        return bisect_left(rows, record.created, key=_CREATED)


def _slice(ids: list[str], asked: Asked, kind: str) -> tuple[int, int, bool]:
    """Bounds of a page in a list that keeps its own order, and whether there is more beyond it."""
    cursor = asked.after or asked.before
    if cursor is not None and cursor not in ids:
        raise missing(kind, cursor, param="starting_after" if asked.after else "ending_before", status=400)
    if asked.before is not None:
        high = ids.index(asked.before)
        low = max(0, high - asked.limit)
        return low, high, low > 0
    low = ids.index(asked.after) + 1 if asked.after else 0
    high = min(len(ids), low + asked.limit)
    return low, high, high < len(ids)


# --- expansion: https://docs.stripe.com/api/expanding_objects


def _expanded(ledger: Ledger, body: dict[str, Any], paths: tuple[tuple[str, ...], ...]) -> dict[str, Any]:
    for path in paths:
        _expand(ledger, body, list(path))
    return body


def _expand(ledger: Ledger, body: dict[str, Any], parts: list[str]) -> None:
    """Replace the ID at the head of `parts` by its object, and go on inside of it with the rest."""
    kind = body.get("object", "*")
    if kind in ("list", "*") or body.get("deleted"):
        return
    fields = EXPANDABLE.get(kind, {})
    for name, target in fields.items():
        own = name.removesuffix("[]").split(".")
        if parts[: len(own)] != own:
            continue
        rest = parts[len(own) :]
        if name.endswith("[]"):
            if target != "*" and own[0] not in body:
                body[own[0]] = _included(ledger, body["id"], target)
            for item in body.get(own[0], {}).get("data", []) if rest else []:
                _expand(ledger, item, rest[1:])
            return
        holders = [body]
        for step in own[:-1]:
            inner = [holder.get(step) for holder in holders]
            holders = [each for one in inner for each in (one if isinstance(one, list) else [one]) if each]
        for holder in holders:
            value = holder.get(own[-1])
            if isinstance(value, str):
                record = _anything(ledger, value) if target == "source" else ledger.find(target, value)
                if record is not None:
                    holder[own[-1]] = value = ledger.render(record)
            if isinstance(value, dict) and rest:
                _expand(ledger, value, rest)
        return


def _included(ledger: Ledger, key: str, target: str) -> dict[str, Any]:
    """A nested list that is left out unless asked for, newest first."""
    if target == "refund":
        rows, url = ledger.rows("refund", charge=key), f"/v1/charges/{key}/refunds"
    else:
        rows, url = ledger.rows("invoice_payment", invoice=key), f"/v1/invoice_payments?invoice={key}"
    first = [ledger.render(record) for record in list(reversed(rows))[:NESTED]]
    return nested_list(first, len(rows), url)


def _anything(ledger: Ledger, key: str) -> Any | None:
    """What a balance transaction came from."""
    for kind in ("charge", "refund", "payout", "dispute"):
        record = ledger.find(kind, key)
        if record is not None:
            return record
    return None


def _masked(secret: str) -> str:
    return secret[:8] + "*" * max(4, len(secret) - 12) + secret[-4:] if len(secret) > 12 else "*" * len(secret)


def _unrecognized(method: str, path: str) -> StripeError:
    return StripeError(
        404,
        f"Unrecognized request URL ({method}: {path}). Please see https://stripe.com/docs or we can help at "
        "https://support.stripe.com/.",
    )
