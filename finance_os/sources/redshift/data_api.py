"""Redshift over the Redshift Data API, by boto3: statements are submitted, waited for, and their results paged.

A batch of statements is one transaction, but none that can be made read-only: its `BEGIN` is the service's own. So a
session (one connection that stays open between statements) gets a `BEGIN … READ ONLY`, the queries one after the
other, and a `ROLLBACK`; AWS's own Redshift MCP server does the same. Results outlive the transaction.
https://docs.aws.amazon.com/redshift/latest/mgmt/data-api.html
https://docs.aws.amazon.com/redshift-data/latest/APIReference/API_ExecuteStatement.html
"""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from finance_os.evidence.extraction import SourceError
from finance_os.sources.guard import Post, ReadOnlyGuard
from finance_os.sources.redshift.address import URL, DataApiAddress
from finance_os.sources.redshift.connector import timestamp_text
from finance_os.sources.redshift.failures import server_failure, state_of, unreachable
from finance_os.sources.redshift.snapshot import Row, rows_of, unique_columns
from finance_os.sources.redshift.statements import (
    BEGIN,
    ROLLBACK,
    SETTINGS,
    STATEMENT_TIMEOUT,
    Statement,
    VersionedStatements,
)

READS = tuple(
    Post("/", action=f"RedshiftData.{operation}")
    for operation in ("ExecuteStatement", "DescribeStatement", "GetStatementResult", "CancelStatement")
)

SESSION_KEPT = timedelta(minutes=10)
"""How long the service keeps a session that nothing is sent to: longer than a page takes to be staged."""

# The service's longest wait for a statement is 30 s; the HTTP client waits longer than that for an answer.
_WAIT, _HTTP_TIMEOUT = 20, 60
_PAUSES = (0.05, 2.0)
_OVER = ("FINISHED", "FAILED", "ABORTED")
# What a field may hold; doubles and blobs are not exact. `isNull` is there, and true, for a null.
_VALUES = ("stringValue", "longValue", "booleanValue")

_UNAUTHORIZED = {
    "ExpiredTokenException",
    "IncompleteSignature",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
_BUSY = {
    "ActiveSessionsExceededException",
    "ActiveStatementsExceededException",
    "ActiveWaitingRequestsExceededException",
    "LimitExceededException",
    "RequestLimitExceeded",
    "ThrottlingException",
    "TooManyRequestsException",
}


@dataclass(frozen=True)
class AwsKeys:
    """An AWS access key of its own; without one, boto3 finds the identity as it always does."""

    access_key_id: str
    secret_access_key: str


class DataApiSnapshot:
    """A transaction in a session of the Data API. Made by `DataApiReader.snapshot`."""

    def __init__(self, reader: "DataApiReader", client: Any) -> None:
        self._reader = reader
        self._client = client
        self._session: str | None = None
        self._running: str | None = None
        self._ran: set[str] = set()
        self._wait = _WAIT
        self.requested_at = datetime.min.replace(tzinfo=UTC)

    def begin(self, now: Callable[[], datetime]) -> None:
        """Open the session and the transaction."""
        for setting in SETTINGS:
            self.run(setting, "the login")
        self.requested_at = now()
        self.run(BEGIN, "the beginning of a transaction")

    def end(self) -> None:
        """Stop what is running and end the transaction, so far as that is still possible. The session ends itself."""
        with suppress(Exception):
            if self._running:
                self._client.cancel_statement(Id=self._running)
        if self._session is not None:
            with suppress(Exception):
                self.run(ROLLBACK, "the end of a transaction")

    def read(self, statement: Statement) -> Iterator[list[Row]]:
        """See `Snapshot.read`."""
        parameters = [{"name": name, "value": timestamp_text(moment)} for name, moment in statement.parameters.items()]
        identity = self.run(statement.text, statement.what, Parameters=parameters)
        yield from self._result(identity, statement.what)

    def run(self, sql: str, what: str, **arguments: Any) -> str:
        """Run a statement in the session; its ID, once it has finished."""
        # A follow-up names its session and nothing else of where it runs.
        place: dict[str, Any] = {"SessionId": self._session}
        if self._session is None:
            kept = int(SESSION_KEPT.total_seconds())
            place = {**self._reader.address.target, "SessionKeepAliveSeconds": kept}
        with self._reader.explained(what):
            # With its token, a request that is repeated because its answer was unreadable runs nothing twice.
            arguments = {"Sql": sql, "WaitTimeSeconds": _WAIT, "ClientToken": uuid.uuid4().hex, **place, **arguments}
            answer = _ask(self._client.execute_statement, "Id", **arguments)
            identity = answer["Id"]
            if identity in self._ran:
                raise SourceError("unreadable_answer", f"{what}: {self._reader.host} answered for another statement")
            self._running = identity
            self._session = self._session or answer["SessionId"]
            self._finish(identity, answer, what)
        self._running = None
        self._ran.add(identity)
        return identity

    def _finish(self, identity: str, answer: dict[str, Any], what: str) -> None:
        """Wait until a statement is over; raise what it failed with."""
        pause, longest = _PAUSES
        over = time.monotonic() + STATEMENT_TIMEOUT.total_seconds() + 60
        while (status := answer.get("Status", "SUBMITTED")) not in _OVER:
            if time.monotonic() > over:
                raise SourceError("timeout", f"{what} took too long at {self._reader.host}")
            time.sleep(pause)
            pause = min(2 * pause, longest)
            answer = self._describe(identity)
        if status == "FINISHED":
            return
        message = str((answer if "Error" in answer else self._describe(identity)).get("Error", ""))
        self._running = None
        if status == "ABORTED":
            raise SourceError("timeout", f"{what} was cancelled at {self._reader.host}")
        raise server_failure(state_of(message), message, self._reader.host, what)

    def _describe(self, identity: str) -> dict[str, Any]:
        try:
            wait = {"WaitTimeSeconds": self._wait} if self._wait else {}
            answer = _ask(self._client.describe_statement, "Id", Id=identity, **wait)
        except self._client.exceptions.ActiveWaitingRequestsExceededException:
            self._wait = 0  # too many wait already: ask now and then instead
            answer = _ask(self._client.describe_statement, "Id", Id=identity)
        if answer["Id"] != identity:
            raise LookupError(identity)
        return answer

    def _result(self, identity: str, what: str) -> Iterator[list[Row]]:
        """The pages of a result, to the last, all of its rows."""
        token: dict[str, str] = {}
        columns: tuple[str, ...] = ()
        received = 0
        while True:
            with self._reader.explained(what):
                answer = _ask(self._client.get_statement_result, "Records", Id=identity, **token)
                names = tuple(each["name"] for each in answer.get("ColumnMetadata", ()))
                columns = columns or unique_columns(names, what)
                rows = rows_of(columns, ([_value(field) for field in record] for record in answer["Records"]), what)
                total = answer.get("TotalNumRows")
            received += len(rows)
            if rows:
                yield rows
            if not answer.get("NextToken"):
                break
            if token.get("NextToken") == answer["NextToken"]:
                raise SourceError("unreadable_answer", f"{what}: a page of its result leads to itself")
            token = {"NextToken": answer["NextToken"]}
        if total is not None and received != total:
            raise SourceError("incomplete_read", f"{what}: {received} rows came of {total}")


class DataApiReader:
    """Reads through one cluster's or workgroup's Data API; a session for each snapshot."""

    def __init__(self, address: DataApiAddress, statements: VersionedStatements, keys: AwsKeys | None = None) -> None:
        self.address = address
        self._statements = statements
        self._keys = keys
        self._client: Any = None
        self._guard = ReadOnlyGuard((), "")
        self.host = f"{address.kind} {address.name}"

    def __repr__(self) -> str:
        return f"DataApiReader({self.host})"

    def sent(self) -> dict[str, int]:
        """How many requests were sent so far, by `"POST host"`."""
        return self._guard.sent()

    @contextmanager
    def snapshot(self, now: Callable[[], datetime]) -> Iterator[DataApiSnapshot]:
        """See `RedshiftReader.snapshot`."""
        snapshot = DataApiSnapshot(self, self.client())
        try:
            snapshot.begin(now)
            yield snapshot
        finally:
            snapshot.end()

    def client(self) -> Any:
        """The guarded boto3 client."""
        if self._client is None:
            import boto3
            import botocore.exceptions
            from botocore.config import Config

            keys = self._keys
            try:
                session = boto3.Session(
                    aws_access_key_id=keys.access_key_id if keys else None,
                    aws_secret_access_key=keys.secret_access_key if keys else None,
                    region_name=self.address.region,
                )
                client = session.client(
                    "redshift-data",
                    endpoint_url=self.address.endpoint,
                    # Patient, because the quotas are an account's, shared with whatever else uses the Data API.
                    config=Config(
                        retries={"mode": "standard", "total_max_attempts": 8},
                        connect_timeout=10,
                        read_timeout=_HTTP_TIMEOUT,
                    ),
                )
            except botocore.exceptions.BotoCoreError:
                raise SourceError(
                    "invalid_url", f"{URL} names no AWS region, and the AWS configuration none either", permanent=True
                ) from None
            self._guard = ReadOnlyGuard(READS, client.meta.endpoint_url)
            client.meta.events.register("before-send.redshift-data", self._admit)
            self._client = client
        return self._client

    def _admit(self, request: Any, **_: Any) -> None:
        """Ask the guard before each attempt of each request, and the versioned statements about its SQL."""
        action = request.headers.get("X-Amz-Target", "")
        self._guard.admit(request.method, request.url, action if isinstance(action, str) else action.decode())
        body = msgspec.json.decode(request.body or b"{}")
        if "Sql" in body:
            self._statements.admit(body["Sql"])

    @contextmanager
    def explained(self, what: str) -> Iterator[None]:
        """Raise what botocore raises as a `SourceError`, without its text."""
        import botocore.exceptions
        import botocore.parsers

        try:
            yield
        except botocore.exceptions.ClientError as error:
            raise _explanation(error.response, self.host, what) from None
        except (
            botocore.exceptions.NoCredentialsError,
            botocore.exceptions.PartialCredentialsError,
            botocore.exceptions.CredentialRetrievalError,
        ):
            raise SourceError("unauthorized", f"no AWS identity was found for {self.host}", permanent=True) from None
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.HTTPClientError):
            raise unreachable(self.host, what) from None
        except (botocore.parsers.ResponseParserError, LookupError, TypeError, AttributeError):
            raise SourceError(
                "unreadable_answer", f"{what}: the answer of {self.host} is not in the Data API's form"
            ) from None


def _ask(operation: Callable[..., dict[str, Any]], needed: str, **arguments: Any) -> dict[str, Any]:
    """The answer of an operation, with the member that it always has.

    botocore tries again what failed, but takes an answer that was cut off for one without any members.
    """
    import stamina
    from botocore.parsers import ResponseParserError

    for attempt in stamina.retry_context(on=(ResponseParserError, _CutOff), attempts=3, wait_initial=0.2):
        with attempt:
            answer = operation(**arguments)
            if needed not in answer:
                raise _CutOff(needed)
            return answer
    raise AssertionError("stamina raises what the last attempt raised")


class _CutOff(LookupError):
    """An answer without a member that it always has."""


def _value(field: dict[str, Any]) -> Any:
    """The value of a field; for doubles and blobs, one that no row may hold."""
    if field.get("isNull"):
        return None
    for kind in _VALUES:
        if kind in field:
            return field[kind]
    return next(iter(field.values()))


def _explanation(response: dict[str, Any], host: str, what: str) -> SourceError:
    """https://docs.aws.amazon.com/redshift-data/latest/APIReference/CommonErrors.html"""
    code = str(response.get("Error", {}).get("Code", ""))
    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if code in _UNAUTHORIZED:
        return SourceError("unauthorized", f"AWS refused the identity with which {host} was asked", permanent=True)
    if code in ("AccessDeniedException", "AccessDenied"):
        return SourceError("permission_denied", f"{what}: the AWS identity may not ask {host} for it", permanent=True)
    if code in _BUSY or status == 429:
        return SourceError("rate_limited", f"{what}: {host} has too much to do")
    if code == "ResourceNotFoundException":
        return SourceError("not_found", f"{what}: there is no {host}, or its result is gone", permanent=True)
    if code == "ValidationException":
        message = str(response.get("Error", {}).get("Message", ""))
        if message.startswith("Session"):
            return SourceError("session_lost", f"{what}: {host} ended the session before it was read to its end")
        return server_failure(state_of(message) or "42000", message, host, what)
    if status >= 500:
        return SourceError("vendor_error", f"{what}: {host} failed (HTTP {status})")
    return SourceError("query_failed", f"{what}: {host} refused it (HTTP {status})", permanent=True)
