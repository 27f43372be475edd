"""The Redshift Data API: statements are submitted by signed requests, run in the background and paged.

Requests are held against the service's own model, botocore's, and answered in its form (AWS JSON 1.1).
https://docs.aws.amazon.com/redshift-data/latest/APIReference/Welcome.html
"""

import asyncio
import base64
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from .model import Refused, check_request, service_model
from .sessions import Session, Statement, parameters_in
from .signatures import NotSigned, check_signature

_TARGET = "RedshiftData."
_CONTENT = "application/x-amz-json-1.1"
_WHERE = ("ClusterIdentifier", "WorkgroupName", "Database", "SecretArn", "DbUser")
_LARGEST_STATEMENT = 100 * 1024
_MOST_SESSIONS = 500
_MOST_ROWS = 1_000_000
_FINAL = ("FINISHED", "FAILED", "ABORTED")
_RUNTIME_STATUS = {"InternalServerException": 500}


@dataclass(frozen=True)
class Place:
    """What can be asked: one cluster and one workgroup of the same name, one database, one secret."""

    name: str
    database: str
    secret_arn: str
    user: str


class DataApi:
    """The service for one warehouse. `address` is how PostgreSQL is reached, `keys` are AWS secrets by access key ID.

    `rows_per_page` cuts results into pages; `delay` is how many seconds a statement waits before it is picked up.
    `statements` are those that were submitted, in order.
    """

    def __init__(
        self, address: str, place: Place, keys: Mapping[str, str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.place = place
        self.rows_per_page = 1_000
        self.delay = 0.0
        self.statements: dict[str, Statement] = {}
        self._address = address
        self._keys = keys
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._tokens: dict[str, str] = {}
        self._operations = {
            "ExecuteStatement": self._execute,
            "DescribeStatement": self._describe,
            "GetStatementResult": self._result,
            "CancelStatement": self._cancel,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            request = Request(scope, receive)
            await (await self._answer(request))(scope, receive, send)

    def close(self) -> None:
        for session in self._sessions.values():
            session.cancel()
            session.close()

    def lose_sessions(self) -> int:
        """End every session, as the service does now and then; how many there were."""
        alive = [session for session in self._sessions.values() if not session.closed]
        for session in alive:
            session.cancel()
            session.close()
        return len(alive)

    async def _answer(self, request: Request) -> Response:
        status, body = 200, {}
        try:
            body = await self._operate(request)
        except Refused as refused:
            status, body = _RUNTIME_STATUS.get(refused.code, 400), refused.body
        except NotSigned as refused:
            status, body = 403, {"__type": refused.code, "message": refused.message}
        headers = {"x-amzn-requestid": str(uuid.uuid4()), "content-type": _CONTENT}
        return Response(msgspec.json.encode(body), status, headers)

    async def _operate(self, request: Request) -> dict[str, Any]:
        raw = await request.body()
        path = request.scope.get("raw_path", request.scope["path"].encode()).decode()
        headers = {name.lower(): value for name, value in request.headers.items()}
        check_signature(request.method, path, headers, raw, keys=self._keys, service="redshift-data")
        target = headers.get("x-amz-target", "")
        operation = target.removeprefix(_TARGET)
        if request.method != "POST" or not target.startswith(_TARGET) or headers.get("content-type") != _CONTENT:
            raise Refused("UnknownOperationException", "")
        if operation not in service_model().operation_names:
            raise Refused("UnknownOperationException", "")
        if operation not in self._operations:
            raise Refused("AccessDeniedException", f"User is not authorized to perform: redshift-data:{operation}")
        try:
            body = msgspec.json.decode(raw)
        except msgspec.DecodeError:
            raise Refused("SerializationException", "Unexpected end of the request") from None
        check_request(operation, body)
        self._sweep()
        return await self._operations[operation](body)

    def _sweep(self) -> None:
        for session in self._sessions.values():
            if session.expired and not session.closed:
                session.close()

    # --- operations

    async def _execute(self, body: dict[str, Any]) -> dict[str, Any]:
        token = body.get("ClientToken", "")
        if self._tokens.get(token) in self.statements:  # a repetition of a request whose answer was lost
            statement = self.statements[self._tokens[token]]
        else:
            statement = self._submitted(body)
            if token:
                self._tokens[token] = statement.id
        answer = {
            "Id": statement.id,
            "CreatedAt": statement.created,
            "DbUser": self.place.user,
            "DbGroups": [],
            **statement.place,
            "SessionId": statement.session,
        }
        if "SessionKeepAliveSeconds" not in body and "SessionId" not in body:
            del answer["SessionId"]
        await _wait(statement, body)
        if "WaitTimeSeconds" in body:
            answer |= {"Status": statement.status, "RedshiftPid": statement.pid}
            answer["HasResultSet"] = statement.columns is not None
        return answer

    def _submitted(self, body: dict[str, Any]) -> Statement:
        if len(body["Sql"].encode()) > _LARGEST_STATEMENT:
            raise Refused("ValidationException", "Sql statement is too long; the limit is 100 KB.")
        if not body["Sql"].strip():
            raise Refused("ValidationException", "Sql is empty.")
        parameters = body.get("Parameters", [])
        names = [each["name"] for each in parameters]
        if len(set(names)) < len(names) or (names and set(names) != parameters_in(body["Sql"])):
            raise Refused("ValidationException", "Parameters do not match those of the SQL statement.")
        session = self._session(body)
        self._forget()
        now = time.time()
        statement = Statement(
            str(uuid.uuid4()), body["Sql"], parameters, session.id, session.place, created=now, updated=now
        )
        self.statements[statement.id] = statement
        session.submit(statement, self.delay)
        return statement

    def _forget(self) -> None:
        """Drop the oldest results once there are too many rows of them; the service drops them after a day."""
        rows = sum(len(statement.rows) for statement in self.statements.values())
        for identity, statement in list(self.statements.items()):
            if rows <= _MOST_ROWS:
                return
            if statement.status in _FINAL:
                rows -= len(statement.rows)
                del self.statements[identity]

    def _session(self, body: dict[str, Any]) -> Session:
        if wanted := body.get("SessionId"):
            if given := [name for name in _WHERE if name in body]:
                raise Refused("ValidationException", f"{given[0]} can't be specified with SessionId.")
            session = self._sessions.get(wanted)
            if session is None:
                raise Refused("ValidationException", f"Session with Id: {wanted} is invalid")
            if session.closed or session.running is not None:
                raise Refused("ValidationException", "Session is not available")
            return session
        place = {name: body[name] for name in _WHERE if name in body}
        if ("ClusterIdentifier" in place) == ("WorkgroupName" in place):
            raise Refused("ValidationException", "Specify either ClusterIdentifier or WorkgroupName.")
        if "Database" not in place:
            raise Refused("ValidationException", "Database is required.")
        if "ClusterIdentifier" not in place and "DbUser" in place:
            raise Refused("ValidationException", "DbUser can't be specified with WorkgroupName.")
        if self.place.name not in (place.get("ClusterIdentifier"), place.get("WorkgroupName")):
            raise Refused("ValidationException", "Redshift endpoint doesn't exist in this region.")
        if place.get("SecretArn", self.place.secret_arn) != self.place.secret_arn:
            raise Refused("ValidationException", "Secrets Manager can't find the specified secret.")
        if place.get("DbUser", self.place.user) != self.place.user:
            raise Refused("ValidationException", f'FATAL: user "{place["DbUser"]}" does not exist')
        if place["Database"] != self.place.database:
            raise Refused("ValidationException", f'FATAL: database "{place["Database"]}" does not exist')
        if sum(not session.closed for session in self._sessions.values()) >= _MOST_SESSIONS:
            raise Refused("ActiveSessionsExceededException", "The maximum number of sessions is open.")
        session = Session(self._address, place, body.get("SessionKeepAliveSeconds", 0), self._clock)
        self._sessions[session.id] = session
        return session

    async def _describe(self, body: dict[str, Any]) -> dict[str, Any]:
        statement = self._found(body)
        await _wait(statement, body)
        answer = {
            "Id": statement.id,
            **statement.place,
            "CreatedAt": statement.created,
            "UpdatedAt": statement.updated,
            "Duration": statement.duration,
            "HasResultSet": statement.columns is not None,
            "QueryString": statement.sql,
            "RedshiftPid": statement.pid,
            "RedshiftQueryId": -1 if statement.status not in _FINAL else abs(hash(statement.id)) % 10**9,
            "ResultFormat": "JSON",
            "ResultRows": statement.affected,
            "ResultSize": -1 if statement.columns is None else 64 * len(statement.columns) * len(statement.rows),
            "SessionId": statement.session,
            "Status": statement.status,
        }
        if statement.parameters:
            answer["QueryParameters"] = statement.parameters
        if statement.error is not None:
            answer["Error"] = statement.error
        return answer

    async def _result(self, body: dict[str, Any]) -> dict[str, Any]:
        statement = self._found(body)
        await _wait(statement, body)
        if statement.status != "FINISHED" or statement.columns is None:
            raise Refused(
                "ResourceNotFoundException",
                "Query does not have result. Please check query status with DescribeStatement.",
                ResourceId=statement.id,
            )
        start = _position(statement, body["NextToken"]) if "NextToken" in body else 0
        end = start + self.rows_per_page
        answer: dict[str, Any] = {
            "ColumnMetadata": statement.columns,
            "Records": [[_field(value) for value in row] for row in statement.rows[start:end]],
            "TotalNumRows": len(statement.rows),
        }
        if end < len(statement.rows):
            answer["NextToken"] = _token(statement, end)
        return answer

    async def _cancel(self, body: dict[str, Any]) -> dict[str, Any]:
        statement = self._found(body)
        if statement.status in _FINAL:
            raise Refused(
                "ValidationException",
                f"Could not cancel a query that is already in {statement.status} state with ID: {statement.id}",
            )
        await asyncio.to_thread(self._sessions[statement.session].cancel)
        await _wait(statement, {"WaitTimeSeconds": 5})
        return {"Status": statement.status == "ABORTED"}

    def _found(self, body: dict[str, Any]) -> Statement:
        statement = self.statements.get(body["Id"])
        if statement is None:
            raise Refused("ResourceNotFoundException", "Query does not exist.", ResourceId=body["Id"])
        return statement


async def _wait(statement: Statement, body: Mapping[str, Any]) -> None:
    """Wait for a statement as long as a request asks to, or until it is over."""
    if seconds := body.get("WaitTimeSeconds"):
        await asyncio.wait([asyncio.wrap_future(statement.done)], timeout=seconds)


def _field(value: Any) -> dict[str, Any]:
    """https://docs.aws.amazon.com/redshift-data/latest/APIReference/API_Field.html"""
    match value:
        case None:
            return {"isNull": True}
        case bool():
            return {"booleanValue": value}
        case int():
            return {"longValue": value}
        case float():
            return {"doubleValue": value}
        case bytes():
            return {"blobValue": base64.b64encode(value).decode()}
        case Decimal():
            return {"stringValue": format(value, "f")}
    return {"stringValue": str(value)}


def _token(statement: Statement, start: int) -> str:
    return base64.urlsafe_b64encode(f"{statement.id}:{start}".encode()).decode()


def _position(statement: Statement, token: str) -> int:
    try:
        identity, _, start = base64.urlsafe_b64decode(token).decode().rpartition(":")
        position = int(start)
    except ValueError:
        identity, position = "", -1
    if identity != statement.id or not 0 < position < len(statement.rows):
        raise Refused("ValidationException", "NextToken is invalid.")
    return position
