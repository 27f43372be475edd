"""QuickBooks Online over HTTP: one company's accounting API, and the OAuth 2 endpoints before it.

https://developer.intuit.com/app/developer/qbo/docs/learn/rest-api-features
"""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..ids import letters
from . import faults, reads
from .entities import BY_PATH, KINDS
from .faults import Fault, Refusal, fault_body, gateway_body
from .fields import Kind
from .formats import answer_time
from .journal import Asked
from .oauth import Connection, OAuthError, discovery
from .realm import Realm

MAX_BATCH = 30
MAX_REQUEST_ID = 50
THROTTLED = "The request limit was reached.  Try again later"
_DECODER = msgspec.json.Decoder(float_hook=Decimal)
_ENCODER = msgspec.json.Encoder(decimal_format="number")


@dataclass(slots=True)
class Throttle:
    """The limits of a realm: requests a minute and a second, batches a minute; None is no limit.

    Intuit: 500 requests a minute and 10 a second for a realm, 40 batches a minute.
    """

    per_minute: int | None = None
    per_second: int | None = None
    batches_per_minute: int | None = None
    _seen: deque[float] = field(default_factory=deque)
    _batches: deque[float] = field(default_factory=deque)

    def take(self, now: float, is_batch: bool) -> bool:
        """Whether one more request may pass at `now`; one that may not does not count."""
        for seen in (self._seen, self._batches):
            while seen and seen[0] <= now - 60:
                seen.popleft()
        last_second = sum(1 for each in self._seen if each > now - 1)
        if (
            (self.per_minute is not None and len(self._seen) >= self.per_minute)
            or (self.per_second is not None and last_second >= self.per_second)
            or (is_batch and self.batches_per_minute is not None and len(self._batches) >= self.batches_per_minute)
        ):
            return False
        self._seen.append(now)
        if is_batch:
            self._batches.append(now)
        return True


class QuickBooksApp:
    """Answers for one realm. `before` is called ahead of every answer and sets the realm's clock.

    `keep` is given each request that may change something, ahead of its answer.
    """

    def __init__(
        self,
        realm: Realm,
        realm_id: str,
        connection: Connection,
        before: Callable[[], None],
        clock: Callable[[], float],
    ) -> None:
        self.realm = realm
        self.realm_id = realm_id
        self.connection = connection
        self.throttle = Throttle()
        self._before = before
        self._clock = clock
        self._requests = 0
        self._answered: dict[str, tuple[Asked, bytes]] = {}
        self.keep: Callable[[Asked], None] = lambda _: None
        discovered = [
            Route(f"/.well-known/{name}{slash}", self._discovery, methods=["GET"])
            for name in ("openid_sandbox_configuration", "openid_configuration")
            for slash in ("", "/")
        ]
        self.starlette = Starlette(
            routes=[
                *discovered,
                Route("/oauth2/v1/tokens/bearer", _oauth(self._token), methods=["POST"]),
                Route("/v2/oauth2/tokens/revoke", _oauth(self._revoke), methods=["POST"]),
                Route("/op/v1/jwks", self._jwks, methods=["GET"]),
                Route("/v1/openid_connect/userinfo", self._user_info, methods=["GET"]),
                Route("/v3/company/{realm}/{rest:path}", self._company, methods=["GET", "POST"]),
            ]
        )

    # --- OAuth 2

    async def _discovery(self, request: Request) -> Response:
        root = request.scope.get("root_path", "").rstrip("/")
        return _json(200, msgspec.json.encode(discovery(f"{request.url.scheme}://{request.url.netloc}{root}")))

    async def _token(self, request: Request) -> Any:
        self.connection.check_client(request.headers.get("authorization", ""))
        if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            raise OAuthError(400, "invalid_request", "Content-Type must be application/x-www-form-urlencoded")
        form = dict(parse_qsl((await request.body()).decode("utf-8", "replace"), keep_blank_values=True))
        return self.connection.token(form, request.headers)

    async def _revoke(self, request: Request) -> Any:
        self.connection.check_client(request.headers.get("authorization", ""))
        try:
            token = msgspec.json.decode(await request.body(), type=dict[str, str])["token"]
        except (msgspec.MsgspecError, KeyError):
            raise OAuthError(400, "invalid_request", "The request is missing a required parameter: token") from None
        self.connection.revoke(token)
        return None

    async def _jwks(self, _: Request) -> Response:
        return _json(200, b'{"keys":[]}')

    async def _user_info(self, _: Request) -> Response:
        return _json(401, b'{"error":"insufficient_scope","error_description":"The scope openid was not granted"}')

    # --- the gateway

    async def _company(self, request: Request) -> Response:
        self._before()
        self._requests += 1
        headers = {
            "intuit_tid": "1-" + letters(f"tid:{self.realm_id}:{self._requests}", 32).lower(),
            "qbo-version": "1986.112",
        }
        try:
            asked = await self._admitted(request)
            status, body = 200, self.answer(asked)
        except Refusal as refusal:
            status, body = refusal.status, gateway_body(refusal.status, refusal.detail, self.realm.now)
            if status == 401:
                headers["www-authenticate"] = 'Bearer realm="Intuit", error="invalid_token"'
        except Fault as fault:
            status, body = fault.status, fault_body(fault, answer_time(self.realm.now))
        return _json(status, body, headers)

    async def _admitted(self, request: Request) -> Asked:
        why_not = self.connection.check_access(request.headers.get("authorization", ""))
        if why_not is not None:
            raise Refusal(401, why_not)
        if request.path_params["realm"] != self.realm_id:
            raise Refusal(403, None)
        parts = tuple(part for part in request.path_params["rest"].split("/") if part)
        if not self.throttle.take(self._clock(), parts == ("batch",)):
            raise Refusal(429, THROTTLED)
        accepted = request.headers.get("accept", "")
        if "application/json" not in accepted:  # QuickBooks would answer in XML
            raise faults.invalid_content_type(accepted)
        params = dict(request.query_params)
        if len(params) != len(request.query_params.multi_items()):
            raise faults.unsupported_property("a query parameter that is given twice")
        return Asked(request.method, parts, params, request.headers.get("content-type", ""), await request.body())

    # --- the accounting service

    def answer(self, asked: Asked) -> bytes:
        """The body of the answer. Raises `Fault`."""
        version = asked.params.get("minorversion", "75")
        if not version.isdigit() or int(version) < 1:
            raise faults.unsupported_property("minorversion")
        request_id = asked.params.get("requestid")
        if asked.method == "GET" or asked.parts == ("query",):
            return self._encode(self._route(asked))
        if request_id is None:
            self.keep(asked)
            return self._encode(self._route(asked))
        if not 0 < len(request_id) <= MAX_REQUEST_ID:
            raise faults.wrong_length("requestid", MAX_REQUEST_ID, len(request_id))
        before = self._answered.get(request_id)
        if before is not None:
            if before[0] != asked:
                raise faults.duplicate_request()
            return before[1]
        self.keep(asked)
        body = self._encode(self._route(asked))
        self._answered[request_id] = (asked, body)
        return body

    def _encode(self, body: Mapping[str, Any]) -> bytes:
        return _ENCODER.encode({**body, "time": answer_time(self.realm.now)})

    def _route(self, asked: Asked) -> dict[str, Any]:
        allowed = {"minorversion", "requestid"}
        match (asked.method, asked.parts):
            case ("GET", ("query",)):
                _only(asked, allowed | {"query"})
                return reads.query(self.realm, asked.params.get("query", ""))
            case ("POST", ("query",)):
                _only(asked, allowed)
                if not asked.content_type.startswith(("application/text", "text/plain")):
                    raise faults.invalid_content_type(asked.content_type)
                return reads.query(self.realm, asked.body.decode("utf-8", "replace"))
            case ("GET", ("cdc",)):
                _only(asked, allowed | {"entities", "changedSince"})
                return reads.changes(self.realm, asked.params)
            case ("GET", ("preferences",)):
                _only(asked, allowed)
                return reads.one(self.realm, KINDS["Preferences"], "1")
            case ("GET", ("companyinfo", key)):
                _only(asked, allowed)
                return reads.one(self.realm, KINDS["CompanyInfo"], "1" if key == self.realm_id else key)
            case ("GET", ("exchangerate",)):
                _only(asked, allowed | {"sourcecurrencycode", "asofdate"})
                return reads.exchange_rate(self.realm, asked.params)
            case ("POST", ("batch",)):
                _only(asked, allowed)
                return self._batch(_object(asked))
            case ("GET", (path, key)) if path in BY_PATH:
                _only(asked, allowed)
                return reads.one(self.realm, BY_PATH[path], key)
            case ("POST", (path,)) if path in BY_PATH:
                _only(asked, allowed | {"operation", "include"})
                return self._write(BY_PATH[path], _object(asked), _operation(asked.params))
        raise faults.unsupported_operation("/".join(asked.parts) or "(none)")

    def _write(self, kind: Kind, body: Mapping[str, Any], operation: str | None) -> dict[str, Any]:
        if operation is None:
            is_single = kind.series in ("company", "preferences", "rate")
            operation = "update" if is_single or body.get("Id") is not None else "create"
        if operation not in kind.operations:
            raise faults.unsupported_operation(f"{operation} of {kind.name}")
        if kind.name == "ExchangeRate":
            return {kind.name: self.realm.set_rate(body).body()}
        if operation == "delete":
            gone = self.realm.delete(kind.name, body)
            return {kind.name: {"domain": "QBO", "status": "Deleted", "Id": gone.id}}
        change = {"create": self.realm.create, "update": self.realm.update, "void": self.realm.void}[operation]
        return {kind.name: change(kind.name, body).body()}

    def _batch(self, body: Mapping[str, Any]) -> dict[str, Any]:
        items = body.get("BatchItemRequest")
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise faults.missing("BatchItemRequest")
        if len(items) > MAX_BATCH:
            raise faults.batch_too_large(MAX_BATCH)
        answers: list[dict[str, Any]] = []
        try:
            for item in items:
                try:
                    answer = self._batch_item(item)
                except Fault as fault:
                    answer = {"Fault": fault.body}
                answers.append({**answer, "bId": item.get("bId", "")})
        finally:
            self.realm.hidden.clear()
        return {"BatchItemResponse": answers}

    def _batch_item(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """One operation of a batch. What one creates is not there for another."""
        if not isinstance(item.get("bId"), str):
            raise faults.missing("bId")
        if "Query" in item:
            return reads.query(self.realm, str(item["Query"]))
        named = [name for name in item if name in KINDS]
        if len(named) != 1 or not isinstance(item[named[0]], dict):
            raise faults.missing("BatchItemRequest")
        operation = item.get("operation")
        if operation not in ("create", "update", "delete"):
            raise faults.unsupported_operation(f"{operation}")
        if item.get("optionsData") == "void":
            operation = "void"
        answer = self._write(KINDS[named[0]], item[named[0]], operation)
        if operation == "create":
            self.realm.hidden.add((named[0], answer[named[0]]["Id"]))
        return answer


def _operation(params: Mapping[str, str]) -> str | None:
    """`operation=delete`, `operation=void`, `operation=update`, `operation=update&include=void`."""
    operation, include = params.get("operation"), params.get("include")
    if include is not None:
        if (operation, include) != ("update", "void"):
            raise faults.unsupported_operation(f"{operation} with include={include}")
        return "void"
    if operation not in (None, "create", "update", "delete", "void"):
        raise faults.unsupported_operation(operation or "")
    return operation


def _only(asked: Asked, allowed: set[str]) -> None:
    """QuickBooks overlooks parameters that it does not know; here a misspelt `requestid` must not go unnoticed."""
    unknown = sorted(asked.params.keys() - allowed)
    if unknown:
        raise faults.unsupported_property(unknown[0])


def _object(asked: Asked) -> dict[str, Any]:
    if not asked.content_type.startswith("application/json"):
        raise faults.invalid_content_type(asked.content_type)
    try:
        body = _DECODER.decode(asked.body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise faults.unsupported_property("failed to parse json object; a property") from None
    if not isinstance(body, dict):
        raise faults.unsupported_property("failed to parse json object; a property")
    return body


def _json(status: int, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status, {"content-type": "application/json;charset=UTF-8", **(headers or {})})


def _oauth(work: Callable[[Request], Awaitable[Any]]) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        try:
            body = await work(request)
        except OAuthError as error:
            return _json(error.status, msgspec.json.encode(error.body))
        return Response(status_code=200) if body is None else _json(200, msgspec.json.encode(body))

    return answer
