"""The webhook receiver: takes a signed body, and answers once it is durably kept.

An answer says nothing of what is kept, and a refusal nothing of why but a code.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated

import psycopg
from fastapi import APIRouter, Request
from fastapi import Path as InPath
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Receive, Scope, Send

from finance_os.evidence.database import Database, SchemaNotCurrent, require_current_schema
from finance_os.web.together import Together, TooManyWait
from finance_os.webhooks.events import SYSTEMS
from finance_os.webhooks.receive import (
    SIGNATURE_HEADERS,
    Accepted,
    Refused,
    accepted,
    count_refusals,
    find_connection,
    remembered_connection,
    stranger,
    verified,
)
from finance_os.webhooks.settings import MAX_BODY_BYTES, WebhookSettings
from finance_os.webhooks.storing import Delivery, Stored, count_again, store_all

webhooks = APIRouter()

PLACE = "/webhooks/"
PUBLIC = ("/readyz", "/healthz")
"""What answers to the receiver's own names beside the receiver."""


class Kept(BaseModel):
    """A delivery that is durably kept."""

    stored: int = Field(description="Events that are new.")
    known: int = Field(description="Events that came before: they are kept once.")
    unknown_realm: int = Field(description="Events of QuickBooks companies that are not connected: not kept.")


class Refusal(BaseModel):
    """A delivery that is not kept."""

    error: str = Field(description="A code: signature_wrong, signature_old, body_too_large …")


class Readiness(BaseModel):
    """Whether deliveries can be kept."""

    status: str = Field(description="ready, or what is missing.")


_REFUSALS: Mapping[int, str] = {
    400: "The signature is missing, malformed, wrong or too old, or the address leads to no active connection, which "
    "looks the same. Nothing is kept but a count.",
    404: "No webhooks come from such a source system.",
    408: "The body did not arrive in time.",
    413: f"The body is larger than {MAX_BODY_BYTES:,} bytes.",
    503: "It cannot be verified or kept now: send it again later.",
}

_BODY = {"required": True, "content": {"application/json": {"schema": {}}}}
_HEADERS = [
    {
        "name": name,
        "in": "header",
        "required": False,
        "schema": {"type": "string"},
        "description": f"The signature of a delivery from {system}.",
    }
    for system, name in sorted(SIGNATURE_HEADERS.items())
]


@webhooks.post(
    PLACE + "{business_id}/{source_system}/{connection_id}",
    operation_id="deliver",
    summary="Take a delivery",
    response_model=Kept,
    responses={status: {"model": Refusal, "description": why} for status, why in _REFUSALS.items()},
    openapi_extra={"requestBody": _BODY, "parameters": _HEADERS},
)
async def deliver(
    request: Request,
    business_id: Annotated[str, InPath(description="The business.")],
    source_system: Annotated[str, InPath(description=f"One of {', '.join(SYSTEMS)}.")],
    connection_id: Annotated[
        str,
        InPath(description="The connection that it is signed for.", json_schema_extra={"type": "integer"}),
    ],
) -> Response:
    """Verify the signature over the raw body, keep each event once, and answer after the commit."""
    number = (
        int(connection_id) if connection_id.isascii() and connection_id.isdecimal() and len(connection_id) < 19 else 0
    )
    receiving: Receiving = request.app.state.receiving
    try:
        try:
            taken = await receiving.take(request, business_id, source_system, number)
        except Refused as refused:
            await receiving.refusals.do(refused)
            return _refusal(refused.status, refused.said)
    except ClientDisconnect:
        return _refusal(400, "disconnected")  # nobody reads it
    except TooManyWait:
        return _refusal(503, "busy")
    except psycopg.Error:
        return _refusal(503, "database_unreachable")
    return JSONResponse({"stored": taken.stored, "known": taken.known, "unknown_realm": taken.unknown_realm})


STORING_LANES = 3
"""Commits at a time. Of the receiver's connections some are left for what is looked up and counted."""


class Receiving:
    """The receiver over a database: those who wait at the same time are kept in one commit, and answered after it.

    What is new waits for nothing else: that known events came again, and what was refused, is counted beside it.
    """

    def __init__(self, database: Database, settings: WebhookSettings) -> None:
        self.database = database
        self.settings = settings
        self.stores = Together(
            partial(store_all, database), _is_everybodys, lambda delivery: len(delivery.body), STORING_LANES
        )
        self.repeats = Together(partial(_count_again, database), _is_everybodys)
        self.refusals = Together(partial(count_refusals, database), _is_everybodys)

    async def take(self, request: Request, business_id: str, source_system: str, number: int) -> Accepted:
        """Keep a delivery. Raises `Refused`, `TooManyWait` and what the database raises."""
        if source_system not in SYSTEMS:
            raise Refused(404, "unknown_source_system")
        database = self.database
        connection = remembered_connection(database, business_id, source_system, number)
        if connection is None:
            connection = await run_in_threadpool(find_connection, database, business_id, source_system, number)
        try:
            async with asyncio.timeout(self.settings.body_seconds):
                body = await _body(request)
        except TimeoutError:
            raise Refused(408, "body_too_slow", connection) from None
        if body is None:
            raise Refused(413, "body_too_large", connection)
        header = request.headers.get(SIGNATURE_HEADERS[source_system])
        if connection is None:
            raise stranger(source_system, header, body)
        of = await run_in_threadpool(verified, database, connection, header, body)
        if of.strangers:
            await self.refusals.do(Refused(200, "unknown_realm", connection, times=of.strangers))
        stored = await self.stores.do(of.delivery)
        if stored.again:
            await self.repeats.do(stored)
        return accepted(of, stored)


def _weight(delivery: Delivery) -> int:
    return len(delivery.body)


def _count_again(database: Database, stored: Sequence[Stored]) -> list[None]:
    count_again(database, stored)
    return [None] * len(stored)


def _is_everybodys(error: Exception) -> bool:
    """Whether the database cannot be reached: then nobody's delivery can be kept."""
    return isinstance(error, psycopg.OperationalError) and error.sqlstate is None


async def _body(request: Request) -> bytes | None:
    """The raw body; `None` for one that is too large, of which no more than that is read."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:20]) > MAX_BODY_BYTES:
        return None
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


def _refusal(status: int, reason: str) -> Response:
    return JSONResponse({"error": reason}, status, headers={"Connection": "close"} if status in (408, 413) else None)


@webhooks.head("/readyz", include_in_schema=False)
@webhooks.get(
    "/readyz",
    operation_id="readyz",
    summary="Whether deliveries can be kept",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "They cannot."}},
)
def readyz(request: Request) -> Response:
    """200 if the database takes deliveries and its schema is the one that this program needs, else 503."""
    database: Database = request.app.state.receiving.database
    try:
        require_current_schema(database)
        [row] = database.fetch(
            """
            SELECT has_table_privilege('finance_os.webhook_events', 'INSERT') AND NOT pg_is_in_recovery()
                   AND current_setting('transaction_read_only') = 'off' AS writable
            """
        )
    except SchemaNotCurrent:
        return JSONResponse({"status": "schema not current"}, 503)
    except psycopg.Error:
        return JSONResponse({"status": "database unreachable"}, 503)
    if not row["writable"]:
        return JSONResponse({"status": "database read-only"}, 503)
    return JSONResponse({"status": "ready"})


class NamedHosts:
    """Refuses requests for names that the app does not answer to.

    The receiver answers to `receiver` too, which is public; the pages, which have no login, do not.
    """

    def __init__(self, app: ASGIApp, pages: list[str], receiver: list[str]) -> None:
        self._pages = TrustedHostMiddleware(app, allowed_hosts=pages, www_redirect=False)
        self._receiver = TrustedHostMiddleware(app, allowed_hosts=[*pages, *receiver], www_redirect=False)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        public = path.startswith(PLACE) or path in PUBLIC
        await (self._receiver if public else self._pages)(scope, receive, send)
