"""Redshift over the Data API: guarded, patient, read-only, and honest about what did not come."""

import asyncio
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any
from urllib.parse import urlencode

import pytest

from finance_os.evidence.extraction import RemoteCount, SourceError
from finance_os.sandbox.faults import Rule
from finance_os.sources.credentials import Credentials
from finance_os.sources.guard import ForbiddenRequest
from finance_os.sources.redshift import (
    ACCESS_KEY_ID,
    QUERIES,
    REDSHIFT,
    SECRET_ACCESS_KEY,
    URL,
    data_api,
    extract,
    reader_of,
    statements,
)
from finance_os.sources.redshift.data_api import DataApiReader
from finance_os.sources.redshift.statements import BEGIN, ForbiddenStatement, VersionedStatements
from finance_os_tests.sources.redshift_served import NOW, Served, a_request, records, served

DAY = date(2026, 3, 10)
CLICKS = REDSHIFT.object("ad_clicks")


@pytest.fixture(scope="module")
def site(server_url: str) -> Iterator[Served]:
    with served(server_url) as site:
        yield site


@pytest.fixture(autouse=True)
def calm(site: Served) -> Iterator[None]:
    site.room.data_api.statements.clear()
    yield
    site.rules.clear()
    site.room.data_api.delay, site.room.data_api.rows_per_page = 0.0, 1_000


def reader(
    site: Served, values: dict[str, str] | None = None, gate: VersionedStatements | None = None
) -> DataApiReader:
    """A reader; `values` are credentials other than the room's."""
    given = {**site.room.data_api_env(site.base), **(values or {})}
    made = reader_of(Credentials(given), gate or VersionedStatements(QUERIES.values()))
    assert isinstance(made, DataApiReader)
    return made


def url(site: Served, name: str = "finance-os-sandbox", database: str | None = None, **changes: str) -> str:
    given = {"region": "us-east-1", "secret_arn": site.room.secret_arn, "endpoint": site.base, **changes}
    kept = {key: value for key, value in given.items() if value}
    return f"redshift-data://{name}/{database or site.room.warehouse.database}?{urlencode(kept)}"


def failure(site: Served, values: dict[str, str] | None = None) -> SourceError:
    """What reading clicks fails with; it tells no secret."""
    client = reader(site, values)
    with pytest.raises(SourceError) as refused:
        list(extract(client, CLICKS, a_request(DAY)))
    shown = "".join(traceback.format_exception(refused.value)) + repr(refused.value) + repr(client)
    for secret in (site.room.secret_access_key, site.room.warehouse.password, "a-wrong-secret"):
        assert secret not in shown
    return refused.value


def sent(site: Served) -> list[str]:
    return [each.sql for each in site.room.data_api.statements.values()]


# --- reading only


def test_a_read_is_one_read_only_transaction_in_one_session(site: Served) -> None:
    found = records(extract(reader(site), CLICKS, a_request(DAY)))
    assert found
    told = list(site.room.data_api.statements.values())
    assert len({each.session for each in told}) == len({each.pid for each in told}) == 1
    assert [each.sql for each in told[:3]] == [*statements.SETTINGS, BEGIN]
    assert told[-1].sql == "ROLLBACK"
    assert {each.status for each in told} == {"FINISHED"}
    assert told[3].parameters == [
        {"name": "start_0", "value": "2026-03-10 04:00:00.000000"},
        {"name": "end_0", "value": "2026-03-11 04:00:00.000000"},
    ]


class Anything(VersionedStatements):
    """Lets every statement through, to look at what lies beneath."""

    def __init__(self) -> None:
        super().__init__(())

    def admit(self, text: str) -> None:
        """Pass."""


@pytest.mark.parametrize("write", ["DELETE FROM ad_clicks", "CREATE TABLE mine (x int)", "TRUNCATE ad_clicks"])
def test_its_transaction_cannot_write(site: Served, write: str) -> None:
    with reader(site, gate=Anything()).snapshot(lambda: NOW) as snapshot, pytest.raises(SourceError) as refused:
        snapshot.run(write, "a write")
    assert (refused.value.code, refused.value.permanent) == ("write_refused", True)
    assert "25006" in refused.value.message
    (told,) = [each for each in site.room.data_api.statements.values() if each.sql == write]
    assert "read-only transaction" in (told.error or "")


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("execute_statement", {"Sql": "DELETE FROM ad_clicks"}),
        ("execute_statement", {"Sql": "SELECT 1"}),
        ("execute_statement", {"Sql": f"{BEGIN}; DELETE FROM ad_clicks"}),
    ],
)
def test_what_is_no_versioned_query_is_not_sent(site: Served, operation: str, arguments: dict[str, Any]) -> None:
    client = reader(site)
    with pytest.raises(ForbiddenStatement):
        getattr(client.client(), operation)(**arguments, WorkgroupName="finance-os-sandbox", Database="x")
    assert sent(site) == []


@pytest.mark.parametrize(
    ("operation", "arguments"),
    [
        ("batch_execute_statement", {"Sqls": [BEGIN]}),
        ("list_tables", {"Database": "x"}),
        ("list_statements", {}),
        ("list_sessions", {}),
    ],
)
def test_other_operations_are_not_sent(site: Served, operation: str, arguments: dict[str, Any]) -> None:
    client = reader(site)
    with pytest.raises(ForbiddenRequest):
        getattr(client.client(), operation)(**arguments)
    assert client.sent() == {}


def test_another_host_is_not_asked(site: Served) -> None:
    """Whatever changes where a request goes, after it was made."""
    client = reader(site)
    boto = client.client()

    def elsewhere(request: Any, **_: Any) -> None:
        request.url = request.url.replace("127.0.0.1", "localhost")

    boto.meta.events.register_first("before-send.redshift-data", elsewhere)
    with pytest.raises(ForbiddenRequest, match="localhost"):
        boto.describe_statement(Id="d9b6c0c9-0747-4bf4-b142-e8883122f766")


# --- waiting and paging


def test_it_waits_for_slow_statements(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_api, "_WAIT", 1)
    monkeypatch.setattr(data_api, "SETTINGS", ())
    site.room.data_api.delay = 1.1
    extraction = extract(reader(site), CLICKS, a_request(date(2026, 3, 21)))
    assert list(extraction) == [RemoteCount({})]
    assert extraction.requested()["POST 127.0.0.1"] == 2 * len(sent(site))


def test_without_long_polls_it_asks_now_and_then(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where others wait already, the service lets nobody wait any more."""
    client = reader(site)
    boto = client.client()
    asked: list[bool] = []
    describe, wait = boto.describe_statement, data_api._WAIT
    assert wait

    def crowded(**arguments: Any) -> Any:
        asked.append("WaitTimeSeconds" in arguments)
        if asked[-1]:
            raise boto.exceptions.ActiveWaitingRequestsExceededException(
                {"Error": {"Code": "ActiveWaitingRequestsExceededException"}}, "DescribeStatement"
            )
        return describe(**arguments)

    monkeypatch.setattr(boto, "describe_statement", crowded)
    monkeypatch.setattr(data_api, "_WAIT", 1)
    monkeypatch.setattr(data_api, "SETTINGS", ())
    site.room.data_api.delay = 1.1
    assert list(extract(client, CLICKS, a_request(date(2026, 3, 21)))) == [RemoteCount({})]
    assert asked[0]
    assert asked.count(True) == 1


def test_a_statement_that_never_ends_is_cancelled(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_api, "_WAIT", 1)
    monkeypatch.setattr(data_api, "STATEMENT_TIMEOUT", data_api.STATEMENT_TIMEOUT * 0)
    clock = time.monotonic
    monkeypatch.setattr(data_api.time, "monotonic", lambda: 100 * clock())
    query = replace(
        QUERIES["ad_clicks"],
        text="SELECT 'x' AS click_id, '' AS clicked_at FROM ad_impressions a, ad_impressions b, ad_impressions c "
        "WHERE CAST(:start AS timestamp) < CAST(:end AS timestamp)",
    )
    obj = replace(CLICKS, detail=replace(CLICKS.detail, query=query))
    with pytest.raises(SourceError) as slow:
        list(extract(reader(site, gate=VersionedStatements([query])), obj, a_request(DAY)))
    assert (slow.value.code, slow.value.permanent) == ("timeout", False)
    assert [each.status for each in site.room.data_api.statements.values()][3] == "ABORTED"


def test_every_page_of_a_result_is_read(site: Served) -> None:
    whole = records(extract(reader(site), CLICKS, a_request(date(2026, 3, 3), DAY)))
    site.room.data_api.rows_per_page = 3
    paged = extract(reader(site), CLICKS, a_request(date(2026, 3, 3), DAY))
    assert records(paged) == whole
    assert paged.requested()["POST 127.0.0.1"] > len(whole) // 3


@pytest.mark.parametrize("change", [{"TotalNumRows": 1_000_000}, {"Records": []}, {"NextToken": "again"}])
def test_a_result_that_is_not_whole_is_refused(
    site: Served, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = reader(site)
    boto = client.client()
    real = boto.get_statement_result

    def tampered(**arguments: Any) -> Any:
        arguments.pop("NextToken", None)
        return {**real(**arguments), **change}

    monkeypatch.setattr(boto, "get_statement_result", tampered)
    with pytest.raises(SourceError, match=r"incomplete_read|unreadable_answer"):
        list(extract(client, CLICKS, a_request(DAY)))


# --- faults


@pytest.mark.parametrize("kind", ["429", "500", "drop_connection", "truncated"])
@pytest.mark.parametrize("on", [1, 4, 6])
def test_a_passing_fault_is_overcome(site: Served, kind: Any, on: int) -> None:
    expected = records(extract(reader(site), CLICKS, a_request(DAY)))
    site.rules[:] = [Rule("*/redshift/", kind, on=on)]
    assert records(extract(reader(site), CLICKS, a_request(DAY))) == expected


@pytest.mark.parametrize(
    ("kind", "code", "permanent"),
    [("429", "rate_limited", False), ("500", "vendor_error", False), ("403", "permission_denied", True)],
)
def test_a_lasting_fault_has_a_code(
    site: Served, kind: Any, code: str, permanent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)
    site.rules[:] = [Rule("*/redshift/", kind, on=4, times=1_000)]
    refused = failure(site)
    assert (refused.code, refused.permanent) == (code, permanent)


def test_a_repeated_answer_is_not_taken_for_a_new_one(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    client = reader(site)
    boto = client.client()
    execute, answers = boto.execute_statement, []

    def repeated(**arguments: Any) -> Any:
        answers.append(execute(**arguments))
        return answers[min(len(answers), 4) - 1]

    monkeypatch.setattr(boto, "execute_statement", repeated)
    with pytest.raises(SourceError) as refused:
        list(extract(client, CLICKS, a_request(DAY)))
    assert (refused.value.code, refused.value.permanent) == ("unreadable_answer", False)


def test_a_session_that_is_lost_has_a_code(site: Served) -> None:
    items = iter(extract(reader(site), REDSHIFT.object("engine_events"), a_request(date(2026, 3, 3), DAY)))
    next(items)
    asyncio.run(site.room.change("lose_sessions", {}))
    with pytest.raises(SourceError) as lost:
        list(items)
    assert (lost.value.code, lost.value.permanent) == ("session_lost", False)


def test_a_read_that_is_abandoned_ends_its_transaction(site: Served) -> None:
    items = extract(reader(site), CLICKS, a_request(DAY)).items
    assert isinstance(items, Iterator)
    next(items)
    items.close()  # pyright: ignore[reportAttributeAccessIssue]
    assert sent(site)[-1] == "ROLLBACK"


def test_failures_have_codes_and_tell_no_secrets(site: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    for values, code in (
        ({SECRET_ACCESS_KEY: "a-wrong-secret"}, "unauthorized"),
        ({ACCESS_KEY_ID: "AKIAUNKNOWNUNKNOWN00"}, "unauthorized"),
        ({URL: url(site, database="nowhere")}, "unknown_database"),
        ({URL: url(site, kind="cluster", secret_arn="", db_user="stranger")}, "unauthorized"),
        ({URL: url(site, name="somewhere-else")}, "query_failed"),
        ({URL: url(site, secret_arn="arn:aws:secretsmanager:other")}, "query_failed"),
    ):
        refused = failure(site, values)
        assert (refused.code, refused.permanent) == (code, True), values
    monkeypatch.setattr("botocore.retries.standard.ExponentialBackoff.delay_amount", lambda *_: 0.01)
    gone = failure(site, {URL: url(site, endpoint="http://127.0.0.1:1/")})
    assert (gone.code, gone.permanent) == ("unreachable", False)


def test_a_cluster_is_asked_as_a_workgroup_is(site: Served) -> None:
    user = site.room.warehouse.reader
    client = reader(site, {URL: url(site, kind="cluster", secret_arn="", db_user=user)})
    assert records(extract(client, CLICKS, a_request(DAY)))
    assert client.host == "cluster finance-os-sandbox"


@pytest.mark.parametrize(
    ("query", "code", "permanent"),
    [
        ("SELECT click_id, clicked_at FROM nowhere", "query_failed", True),
        ("SELECT rolname AS click_id, rolpassword AS clicked_at FROM pg_authid", "permission_denied", True),
        ("SELECT 1 / 0 AS click_id, 'x' AS clicked_at", "query_failed", False),
    ],
)
def test_a_statement_that_fails_has_a_code(site: Served, query: str, code: str, permanent: bool) -> None:
    text = f"SELECT * FROM ({query}) AS t WHERE CAST(:start AS timestamp) < CAST(:end AS timestamp)"
    broken = replace(QUERIES["ad_clicks"], text=text)
    obj = replace(CLICKS, detail=replace(CLICKS.detail, query=broken))
    with pytest.raises(SourceError) as refused:
        list(extract(reader(site, gate=VersionedStatements([broken])), obj, a_request(DAY)))
    assert (refused.value.code, refused.value.permanent) == (code, permanent)
    if code == "permission_denied":
        assert "may not read pg_authid" in refused.value.message


# --- AWS


def test_without_an_identity_or_a_region(site: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    client = reader_of(Credentials({URL: url(site)}), VersionedStatements(QUERIES.values()))
    with pytest.raises(SourceError) as nobody:
        list(extract(client, CLICKS, a_request(DAY)))
    assert (nobody.value.code, nobody.value.permanent) == ("unauthorized", True)
    with pytest.raises(SourceError, match="AWS region") as nowhere:
        list(extract(reader(site, {URL: url(site, region="", endpoint="")}), CLICKS, a_request(DAY)))
    assert (nowhere.value.code, nowhere.value.permanent) == ("invalid_url", True)
    # As boto3 finds it: from the environment, for example.
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", site.room.access_key_id)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", site.room.secret_access_key)
    found = reader_of(Credentials({URL: url(site)}), VersionedStatements(QUERIES.values()))
    assert records(extract(found, CLICKS, a_request(DAY)))


def test_half_a_key_is_none(site: Served) -> None:
    given = {URL: url(site), ACCESS_KEY_ID: "AKIA"}
    with pytest.raises(SourceError, match="invalid_credentials"):
        reader_of(Credentials(given), VersionedStatements(()))


def test_by_itself_it_asks_aws(site: Served) -> None:
    client = reader(site, {URL: "redshift-data://analytics/dev?region=eu-central-1"})
    assert client.client().meta.endpoint_url == "https://redshift-data.eu-central-1.amazonaws.com"


def test_two_read_side_by_side(site: Served) -> None:
    """Each has a session of its own."""
    site.room.data_api.delay = 0.02
    found: dict[str, int] = {}

    def read(object_type: str) -> None:
        found[object_type] = len(records(extract(reader(site), REDSHIFT.object(object_type), a_request(DAY))))

    threads = [threading.Thread(target=read, args=(obj.object_type,)) for obj in REDSHIFT]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(found[obj.object_type] for obj in REDSHIFT)
    assert len({each.session for each in site.room.data_api.statements.values()}) == len(REDSHIFT.objects)
