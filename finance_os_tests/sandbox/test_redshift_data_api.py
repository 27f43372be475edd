"""The Redshift Data API: boto3 over a real socket, answers in the form of the service's own model."""

import asyncio
import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import botocore.session
import httpx
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from botocore.validate import ParamValidator

from finance_os.sandbox.redshift.room import NAME, REGION
from finance_os_tests.sources.redshift_served import Served, served

MODEL = botocore.session.get_session().get_service_model("redshift-data")


@dataclass
class Clock:
    """Seconds that pass only when told to."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def site(server_url: str, clock: Clock) -> Iterator[Served]:
    with served(server_url, clock=clock) as site:
        yield site


@pytest.fixture(autouse=True)
def calm(site: Served) -> Iterator[None]:
    yield
    site.room.data_api.delay, site.room.data_api.rows_per_page = 0.0, 1_000


def client_of(site: Served, key_id: str | None = None, secret: str | None = None) -> Any:
    return boto3.Session(
        aws_access_key_id=key_id or site.room.access_key_id,
        aws_secret_access_key=secret or site.room.secret_access_key,
        region_name=REGION,
    ).client(
        "redshift-data", endpoint_url=site.base + "/", config=Config(retries={"total_max_attempts": 1}, read_timeout=40)
    )


@pytest.fixture(scope="module")
def client(site: Served) -> Any:
    return client_of(site)


def place(site: Served) -> dict[str, str]:
    return {"WorkgroupName": NAME, "Database": site.room.warehouse.database, "SecretArn": site.room.secret_arn}


def run(client: Any, site: Served, sql: str, **more: Any) -> dict[str, Any]:
    """Run a statement to its end; its description."""
    where = {} if "SessionId" in more else place(site)
    submitted = client.execute_statement(Sql=sql, **where, **more)
    return described(client, submitted["Id"])


def described(client: Any, identity: str) -> dict[str, Any]:
    for _ in range(200):
        found = client.describe_statement(Id=identity, WaitTimeSeconds=1)
        if found["Status"] in ("FINISHED", "FAILED", "ABORTED"):
            return found
    raise AssertionError(f"{identity} does not end")


def code(refused: pytest.ExceptionInfo[ClientError]) -> str:
    return refused.value.response.get("Error", {}).get("Code", "")


def message(refused: pytest.ExceptionInfo[ClientError]) -> str:
    return refused.value.response.get("Error", {}).get("Message", "")


def test_a_statement_is_submitted_run_and_read(client: Any, site: Served) -> None:
    site.room.data_api.delay = 0.3
    submitted = client.execute_statement(Sql="SELECT COUNT(*) AS n FROM ad_clicks", **place(site))
    statuses = [client.describe_statement(Id=submitted["Id"])["Status"]]
    with pytest.raises(ClientError) as early:
        client.get_statement_result(Id=submitted["Id"])
    assert (code(early), "does not have result" in message(early)) == ("ResourceNotFoundException", True)
    statuses.append(described(client, submitted["Id"])["Status"])
    assert statuses == ["SUBMITTED", "FINISHED"]
    result = client.get_statement_result(Id=submitted["Id"])
    with site.owner() as owner:
        assert owner.execute("SELECT count(*) FROM ad_clicks").fetchone() == (result["Records"][0][0]["longValue"],)
    assert result["ColumnMetadata"][0]["name"] == "n"


def test_waiting_for_a_statement_saves_asking(client: Any, site: Served) -> None:
    site.room.data_api.delay = 0.3
    answer = client.execute_statement(Sql="SELECT 1 AS one", WaitTimeSeconds=5, **place(site))
    assert (answer["Status"], answer["HasResultSet"]) == ("FINISHED", True)
    site.room.data_api.delay = 2.0
    began = time.monotonic()
    answer = client.execute_statement(Sql="SELECT 1 AS one", WaitTimeSeconds=1, **place(site))
    assert answer["Status"] == "SUBMITTED"
    assert 0.9 < time.monotonic() - began < 1.9


def test_values_come_as_their_kind(client: Any, site: Served) -> None:
    told = run(
        client,
        site,
        "SELECT 1 AS i, 'a' AS t, CAST(1.50 AS numeric(9, 2)) AS n, CAST(NULL AS int) AS nothing, true AS b, "
        "CAST(0.1 AS float8) AS f, CAST('2026-03-01 04:05:06' AS timestamp) AS at, CAST(7 AS bigint) AS big",
    )
    result = client.get_statement_result(Id=told["Id"])
    assert result["Records"] == [
        [
            {"longValue": 1},
            {"stringValue": "a"},
            {"stringValue": "1.50"},
            {"isNull": True},
            {"booleanValue": True},
            {"doubleValue": 0.1},
            {"stringValue": "2026-03-01 04:05:06"},
            {"longValue": 7},
        ]
    ]
    names = [column["typeName"] for column in result["ColumnMetadata"]]
    assert names == ["int4", "text", "numeric", "int4", "bool", "float8", "timestamp", "int8"]


def test_results_are_paged(client: Any, site: Served) -> None:
    site.room.data_api.rows_per_page = 40
    told = run(client, site, "SELECT click_id FROM ad_clicks ORDER BY click_id")
    sizes: list[int] = []
    seen: list[str] = []
    for page in client.get_paginator("get_statement_result").paginate(Id=told["Id"]):
        sizes.append(len(page["Records"]))
        seen += [record[0]["stringValue"] for record in page["Records"]]
        assert page["TotalNumRows"] == told["ResultRows"]
    assert sizes[:-1] == [40] * (len(sizes) - 1)
    assert len(sizes) > 2
    assert len(seen) == len(set(seen)) == told["ResultRows"]
    other = run(client, site, "SELECT click_id FROM ad_clicks")
    token = client.get_statement_result(Id=told["Id"])["NextToken"]
    for identity, wrong in ((other["Id"], token), (told["Id"], "nonsense")):
        with pytest.raises(ClientError) as refused:
            client.get_statement_result(Id=identity, NextToken=wrong)
        assert code(refused) == "ValidationException"


def test_parameters_are_values(client: Any, site: Served) -> None:
    sql = (
        "SELECT ':day' AS quoted, COUNT(*) AS n FROM ad_impressions "
        "WHERE occurred_at >= CAST(:day AS timestamp) AND publisher_id LIKE :like "
        "AND ingested_at >= CAST(:day AS timestamp)"
    )
    day = {"name": "day", "value": "2026-03-05"}
    told = run(client, site, sql, Parameters=[day, {"name": "like", "value": "pub%"}])
    assert told["Status"] == "FINISHED", told
    assert client.get_statement_result(Id=told["Id"])["Records"][0][0] == {"stringValue": ":day"}
    assert told["QueryParameters"] == [day, {"name": "like", "value": "pub%"}]
    for parameters in ([day], [day, day], [day, {"name": "like", "value": "x"}, {"name": "more", "value": "x"}]):
        with pytest.raises(ClientError) as refused:
            client.execute_statement(Sql=sql, Parameters=parameters, **place(site))
        assert code(refused) == "ValidationException"


def test_a_session_is_one_connection(client: Any, site: Served, clock: Clock) -> None:
    opened = client.execute_statement(
        Sql="BEGIN READ ONLY", SessionKeepAliveSeconds=60, WaitTimeSeconds=5, **place(site)
    )
    session = {"SessionId": opened["SessionId"]}
    first = run(client, site, "SELECT COUNT(*) AS n FROM ad_clicks", **session)
    assert first["RedshiftPid"] == opened["RedshiftPid"]
    write = run(client, site, "DELETE FROM ad_clicks", **session)
    assert (write["Status"], write["Error"]) == ("FAILED", "ERROR: cannot execute DELETE in a read-only transaction")
    assert run(client, site, "SELECT 1 AS one", **session)["Status"] == "FAILED"
    assert run(client, site, "ROLLBACK", **session)["Status"] == "FINISHED"
    with pytest.raises(ClientError) as both:
        client.execute_statement(Sql="SELECT 1", **session, Database=site.room.warehouse.database)
    assert code(both) == "ValidationException"
    clock.now += 61
    with pytest.raises(ClientError) as late:
        client.execute_statement(Sql="SELECT 1", **session)
    assert (code(late), message(late)) == ("ValidationException", "Session is not available")
    with pytest.raises(ClientError) as unknown:
        client.execute_statement(Sql="SELECT 1", SessionId=str(uuid.uuid4()))
    assert message(unknown).startswith("Session with Id:")


def test_a_session_does_one_thing_at_a_time(client: Any, site: Served) -> None:
    opened = client.execute_statement(Sql="SELECT 1", SessionKeepAliveSeconds=60, WaitTimeSeconds=5, **place(site))
    site.room.data_api.delay = 0.5
    client.execute_statement(Sql="SELECT 2", SessionId=opened["SessionId"])
    with pytest.raises(ClientError) as busy:
        client.execute_statement(Sql="SELECT 3", SessionId=opened["SessionId"])
    assert message(busy) == "Session is not available"


def test_without_keeping_it_a_session_ends_with_its_statement(client: Any, site: Served) -> None:
    told = client.execute_statement(Sql="SELECT 1", WaitTimeSeconds=5, **place(site))
    assert "SessionId" not in told
    session = described(client, told["Id"])["SessionId"]
    with pytest.raises(ClientError) as ended:
        client.execute_statement(Sql="SELECT 2", SessionId=session)
    assert message(ended) == "Session is not available"


def test_a_running_statement_can_be_cancelled(client: Any, site: Served) -> None:
    long = "SELECT COUNT(*) AS n FROM ad_impressions a, ad_impressions b, ad_impressions c"
    submitted = client.execute_statement(Sql=long, WaitTimeSeconds=1, **place(site))
    assert submitted["Status"] == "STARTED"
    assert client.cancel_statement(Id=submitted["Id"])["Status"] is True
    assert described(client, submitted["Id"])["Status"] == "ABORTED"
    with pytest.raises(ClientError) as over:
        client.cancel_statement(Id=submitted["Id"])
    assert "ABORTED" in message(over)


def test_a_repeated_request_runs_once(client: Any, site: Served) -> None:
    token = uuid.uuid4().hex
    answers = [
        client.execute_statement(Sql="SELECT 1 AS one", ClientToken=token, **place(site))["Id"] for _ in range(2)
    ]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("sql", "error"),
    [
        ("SELECT * FROM nowhere", 'ERROR: relation "nowhere" does not exist'),
        ("DELETE FROM ad_clicks", "ERROR: permission denied for table ad_clicks"),
        ("SELECT 1; SELECT 2", "ERROR: cannot insert multiple commands into a prepared statement"),
        ("SELECT COUNT(*) FILTER (WHERE true) FROM ad_clicks", 'ERROR: syntax error at or near "redshift"'),
    ],
)
def test_a_statement_that_fails(client: Any, site: Served, sql: str, error: str) -> None:
    told = run(client, site, sql)
    assert (told["Status"], told["Error"], told["HasResultSet"]) == ("FAILED", error, False)
    with pytest.raises(ClientError) as refused:
        client.get_statement_result(Id=told["Id"])
    assert code(refused) == "ResourceNotFoundException"


# --- what a request must be


def raw(site: Served, target: str, body: Any, **headers: str) -> httpx.Response:
    """A signed request that no SDK has looked over."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    given = {"x-amz-target": target, "content-type": "application/x-amz-json-1.1"}
    request = AWSRequest("POST", site.base + "/", data=content, headers=given)
    keys = Credentials(site.room.access_key_id, site.room.secret_access_key)
    SigV4Auth(keys, "redshift-data", REGION).add_auth(request)
    return httpx.post(site.base + "/", content=content, headers={**dict(request.headers), **headers})


@pytest.mark.parametrize(
    ("operation", "change", "expected"),
    [
        ("ExecuteStatement", {"Sql": None}, "'sql' failed to satisfy constraint: Member must not be null"),
        ("ExecuteStatement", {"Sql": " "}, "Sql is empty"),
        ("ExecuteStatement", {"Sql": "SELECT 1 -- " + "x" * 102_400}, "limit is 100 KB"),
        ("ExecuteStatement", {"Sqls": ["SELECT 1"]}, "Unknown parameter Sqls"),
        ("ExecuteStatement", {"WorkgroupName": None}, "either ClusterIdentifier or WorkgroupName"),
        ("ExecuteStatement", {"ClusterIdentifier": NAME}, "either ClusterIdentifier or WorkgroupName"),
        ("ExecuteStatement", {"WorkgroupName": "somewhere-else"}, "endpoint doesn't exist in this region"),
        ("ExecuteStatement", {"WorkgroupName": "No"}, "greater than or equal to 3"),
        ("ExecuteStatement", {"Database": None}, "Database is required"),
        ("ExecuteStatement", {"Database": "nowhere"}, 'database "nowhere" does not exist'),
        ("ExecuteStatement", {"SecretArn": "arn:aws:secretsmanager:other"}, "can't find the specified secret"),
        ("ExecuteStatement", {"DbUser": "me"}, "DbUser can't be specified"),
        ("ExecuteStatement", {"WaitTimeSeconds": 31}, "less than or equal to 30"),
        ("ExecuteStatement", {"SessionKeepAliveSeconds": 86_401}, "less than or equal to 86400"),
        ("ExecuteStatement", {"ResultFormat": "XML"}, "enum value set"),
        ("ExecuteStatement", {"Parameters": []}, "greater than or equal to 1"),
        ("ExecuteStatement", {"Parameters": [{"name": "a b", "value": "x"}]}, "regular expression pattern"),
        ("DescribeStatement", {"Id": "nonsense"}, "regular expression pattern"),
    ],
)
def test_a_request_is_held_against_the_model(
    site: Served, operation: str, change: dict[str, Any], expected: str
) -> None:
    whole = {"Sql": "SELECT 1", **place(site)} if operation == "ExecuteStatement" else {}
    body = {name: value for name, value in {**whole, **change}.items() if value is not None}
    answer = raw(site, f"RedshiftData.{operation}", body)
    assert answer.status_code == 400
    told = answer.json()
    assert told["__type"] == "ValidationException"
    assert expected in told["Message"]


def test_what_is_no_request_of_the_service(site: Served) -> None:
    found = {
        raw(site, "RedshiftData.DropEverything", {}).json()["__type"],
        raw(site, "DynamoDB.ListTables", {}).json()["__type"],
    }
    assert found == {"UnknownOperationException"}
    assert raw(site, "RedshiftData.ListTables", {}).json()["__type"] == "AccessDeniedException"
    assert raw(site, "RedshiftData.ExecuteStatement", b"{").json()["__type"] == "SerializationException"
    unknown = raw(site, "RedshiftData.DescribeStatement", {"Id": str(uuid.uuid4())})
    assert unknown.json()["__type"] == "ResourceNotFoundException"


def test_only_a_signature_opens(site: Served) -> None:
    unsigned = httpx.post(site.base + "/", json={}, headers={"x-amz-target": "RedshiftData.ListSessions"})
    assert (unsigned.status_code, unsigned.json()["__type"]) == (403, "MissingAuthenticationTokenException")
    assert httpx.get(site.base + "/").status_code == 403
    for wrong, expected in (
        ({"secret": "another"}, "InvalidSignatureException"),
        ({"key_id": "AKIA0000000000000000"}, "UnrecognizedClientException"),
    ):
        with pytest.raises(ClientError) as refused:
            client_of(site, **wrong).describe_statement(Id=str(uuid.uuid4()))
        assert code(refused) == expected
    changed = raw(site, "RedshiftData.DescribeStatement", {}, **{"x-amz-date": "20200101T000000Z"})
    assert changed.json()["__type"] == "InvalidSignatureException"
    garbled = raw(site, "RedshiftData.DescribeStatement", {}, authorization="Bearer me")
    assert garbled.json()["__type"] == "IncompleteSignatureException"


# --- what an answer must be


def test_answers_have_the_shape_of_the_model(client: Any, site: Served) -> None:
    """As botocore's model declares it: every member known, of its type, in its pattern; none missing."""
    seen: set[str] = set()

    def check(http_response: Any = None, parsed: Any = None, model: Any = None, **_: Any) -> None:
        told = {name: value for name, value in parsed.items() if name != "ResponseMetadata"}
        assert http_response.headers["content-type"] == "application/x-amz-json-1.1"
        report = ParamValidator().validate(told, model.output_shape)
        assert not report.has_errors(), report.generate_report()
        assert set(json.loads(http_response.content)) == set(told), "an answer has members that the model has not"
        seen.add(model.name)

    client.meta.events.register("after-call.redshift-data", check)
    try:
        opened = client.execute_statement(
            Sql="SELECT 1 AS one", SessionKeepAliveSeconds=30, WaitTimeSeconds=5, **place(site)
        )
        run(client, site, "SELECT CAST(:n AS int) AS n", SessionId=opened["SessionId"], Parameters=[_n()])
        run(client, site, "SELECT nothing FROM nowhere")
        site.room.data_api.rows_per_page = 100
        told = run(client, site, "SELECT * FROM engine_events")
        token = client.get_statement_result(Id=told["Id"])["NextToken"]
        client.get_statement_result(Id=told["Id"], NextToken=token)
        site.room.data_api.delay = 0.5
        cancelled = client.execute_statement(Sql="SELECT 1 AS one", **place(site))
        client.cancel_statement(Id=cancelled["Id"])
        by_user = {"ClusterIdentifier": NAME, "DbUser": site.room.warehouse.reader}
        client.execute_statement(Sql="SELECT 1", Database=site.room.warehouse.database, **by_user)
    finally:
        client.meta.events.unregister("after-call.redshift-data", check)
    assert seen == {"ExecuteStatement", "DescribeStatement", "GetStatementResult", "CancelStatement"}


def _n() -> dict[str, str]:
    return {"name": "n", "value": "5"}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("429", (400, "ThrottlingException")),
        ("500", (500, "InternalServerException")),
        ("403", (400, "AccessDeniedException")),
    ],
)
def test_faults_are_the_services_own(site: Served, kind: str, expected: tuple[int, str]) -> None:
    status, headers, body = site.room.fault(kind)
    assert (status, json.loads(body)["__type"]) == expected
    assert headers["content-type"] == "application/x-amz-json-1.1"


def test_sessions_can_be_lost(client: Any, site: Served) -> None:
    opened = client.execute_statement(Sql="SELECT 1", SessionKeepAliveSeconds=60, WaitTimeSeconds=5, **place(site))
    assert asyncio.run(site.room.change("lose_sessions", {}))["lost"] >= 1
    with pytest.raises(ClientError) as lost:
        client.execute_statement(Sql="SELECT 2", SessionId=opened["SessionId"])
    assert message(lost) == "Session is not available"
