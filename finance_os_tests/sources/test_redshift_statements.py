"""The statements that may be sent to Redshift, and the URLs that lead there."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from finance_os.evidence.extraction import SourceError
from finance_os.evidence.windows import Window
from finance_os.sandbox.redshift.dialect import Dialect
from finance_os.sources import sql_queries
from finance_os.sources.redshift import QUERIES, REDSHIFT
from finance_os.sources.redshift.address import ClusterAddress, DataApiAddress, parse_address
from finance_os.sources.redshift.statements import (
    BEGIN,
    DAYS_PER_STATEMENT,
    ROLLBACK,
    SETTINGS,
    Cursor,
    ForbiddenStatement,
    Form,
    VersionedStatements,
    statement,
)
from finance_os.sources.sql_queries import MalformedQuery, SqlQuery, load_queries

CHECKSUMS = {
    ("ad_clicks", 1): "8ee1f94ec5932cfee563e7f160bf7b379b30fc3a469244539776226e93125476",
    ("campaign_publisher_spend_daily", 1): "b00a1320ac16f5a010e9ee5585079909f2a7ed61c1648c5e14301d9f97b8ee09",
    ("engine_events", 1): "67661e5cb71ca98f0aff71965501774a54489ee6bc419faaa1e8accbc474413e",
    ("publisher_spend_daily", 1): "19a2e0041cfa0902e42624da603d2db5b0cc3b3239d9f9de1204a8f05f2501f0",
    ("spend_total_daily", 1): "02a8ec5cc64d7eeda19cae54ad7d02443f49146ae965e7d9892cae86c9a37cf3",
}

GATE = VersionedStatements(QUERIES.values())
FORMS = {
    "publisher_spend_daily": (Form.SUMS, Form.ROWS),
    "campaign_publisher_spend_daily": (Form.SUMS, Form.ROWS),
    "spend_total_daily": (Form.SUMS,),
    "ad_clicks": (Form.COUNTS, Form.EVENTS),
    "engine_events": (Form.COUNTS, Form.EVENTS),
}


def windows(days: int) -> list[Window]:
    start = datetime(2026, 3, 1, tzinfo=UTC)
    return [Window(start + timedelta(days=n), start + timedelta(days=n + 1)) for n in range(days)]


def every_statement() -> Iterator[str]:
    for name, forms in FORMS.items():
        for form in forms:
            for days in range(1, 2 if form is Form.EVENTS else DAYS_PER_STATEMENT + 1):
                yield statement(QUERIES[name], form, windows(days)).text


def test_a_changed_query_has_a_new_version() -> None:
    found = {(query.name, query.version): query.checksum for query in load_queries("redshift").values()}
    for key, checksum in found.items():
        assert CHECKSUMS.get(key) == checksum, (
            f"sql/redshift/{key[0]}.sql no longer reads what its version {key[1]} read. Raise the version in the file, "
            f"and add to CHECKSUMS: {(key[0], key[1] + (key in CHECKSUMS))!r}: {checksum!r}. Keep the old entry."
        )
    assert {obj.detail.query.name for obj in REDSHIFT} < set(FORMS) == {name for name, _ in found}


def test_each_form_passes_and_holds_the_query_as_it_is() -> None:
    for text in every_statement():
        GATE.admit(text)
        GATE.admit(Cursor(12).declare(text))
        query = next(query for query in QUERIES.values() if f" {query.name} version " in text)
        assert query.text.replace(":start", ":start_0").replace(":end", ":end_0") in text
    for text in (BEGIN, ROLLBACK, *SETTINGS):
        GATE.admit(text)


def test_redshift_has_all_that_they_use() -> None:
    for text in every_statement():
        assert Dialect().complaint(text) is None
        assert len(text.encode()) < 100 * 1024, "the Data API takes statements of at most 100 KB"
    assert Dialect().complaint(Cursor(1).fetch) is None


def test_a_statement_knows_its_bounds() -> None:
    made = statement(QUERIES["ad_clicks"], Form.COUNTS, windows(3))
    assert list(made.parameters) == ["start_0", "end_0", "start_1", "end_1", "start_2", "end_2"]
    assert made.parameters["end_0"] == made.parameters["start_1"]
    assert made.text.count("UNION ALL") == 2
    assert made.what == "ad_clicks version 1"
    for days, form in ((0, Form.SUMS), (DAYS_PER_STATEMENT + 1, Form.SUMS), (2, Form.EVENTS)):
        with pytest.raises(ValueError, match="do not go into one statement"):
            statement(QUERIES["ad_clicks"], form, windows(days))


GOOD = statement(QUERIES["ad_clicks"], Form.EVENTS, windows(1)).text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "SELECT 1",
        "DELETE FROM ad_clicks",
        "BEGIN",
        "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ WRITE",
        "COMMIT",
        "SET statement_timeout TO 0",
        GOOD + "; DELETE FROM ad_clicks",
        GOOD + " ",
        GOOD.replace("ad_clicks\nWHERE", "engine_events\nWHERE"),
        GOOD.replace("version 1", "version 2"),
        GOOD.replace("events of 1", "events of 9"),
        GOOD.replace("events of 1", "rows of 1"),
        GOOD.replace("events of 1", "deletions of 1"),
        GOOD.replace(":start_0", "'2026-03-01'"),
        "DECLARE finance_os_1 CURSOR FOR\nSELECT 1",
        "DECLARE finance_os_1 CURSOR FOR\nDECLARE finance_os_2 CURSOR FOR\n" + GOOD,
        "DECLARE other CURSOR FOR\n" + GOOD,
        GOOD + "\nDECLARE finance_os_1 CURSOR FOR\n",
    ],
)
def test_nothing_else_passes(text: str) -> None:
    with pytest.raises(ForbiddenStatement) as refused:
        GATE.admit(text)
    assert (refused.value.code, refused.value.permanent) == ("write_refused", True)


def test_another_version_does_not_pass() -> None:
    newer = VersionedStatements([replace(QUERIES["ad_clicks"], version=2)])
    with pytest.raises(ForbiddenStatement):
        newer.admit(GOOD)
    altered = VersionedStatements([replace(QUERIES["ad_clicks"], text=QUERIES["ad_clicks"].text + " AND true")])
    with pytest.raises(ForbiddenStatement):
        altered.admit(GOOD)


# --- parameters of versioned queries

HEADER = "-- query: thing\n-- version: 2\n-- title: Things\n-- key: id\n"


def test_parameters_are_declared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_queries, "sql_folder", lambda: tmp_path)
    (tmp_path / "some").mkdir()
    file = tmp_path / "some" / "thing.sql"
    file.write_text(
        HEADER + "-- parameters: start, end\nSELECT id FROM t WHERE a >= :start AND b < :end AND c::int > 1"
    )
    (query,) = load_queries("some").values()
    assert query.parameters == ("start", "end")
    assert query.bound_to({"start": "$1", "end": "$2"}).endswith("a >= $1 AND b < $2 AND c::int > 1")
    for header, text in (("", "SELECT :start"), ("-- parameters: start, end\n", "SELECT :start")):
        file.write_text(HEADER + header + text)
        with pytest.raises(MalformedQuery, match="other parameters than it uses"):
            load_queries("some")


def test_a_query_without_parameters_is_as_it_was() -> None:
    query = SqlQuery("thing", 3, "Things", "SELECT '12:30' AS a, b::text FROM t", ("a",))
    assert query.bound_to({}) == query.text
    assert query.parameters == ()


# --- addresses


def test_a_url_of_a_cluster() -> None:
    found = parse_address("redshift://finance:p%40ss%2Fword@example.redshift.amazonaws.com/dev")
    assert found == ClusterAddress(
        "example.redshift.amazonaws.com", 5439, "dev", "finance", "p@ss/word", sslmode="verify-full"
    )
    assert "p@ss" not in repr(found)
    other = parse_address("redshift://u:p@h:1234/d?sslmode=disable")
    assert isinstance(other, ClusterAddress)
    assert (other.port, other.sslmode) == (1234, "disable")


def test_a_url_of_the_data_api() -> None:
    arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:reader"
    found = parse_address(f"redshift-data://analytics/dev?region=us-east-1&secret_arn={arn}")
    assert found == DataApiAddress("workgroup", "analytics", "dev", region="us-east-1", secret_arn=arn)
    assert isinstance(found, DataApiAddress)
    assert found.target == {"WorkgroupName": "analytics", "Database": "dev", "SecretArn": arn}
    cluster = parse_address("redshift-data://analytics/dev?kind=cluster&db_user=finance&endpoint=http://127.0.0.1:9/x")
    assert isinstance(cluster, DataApiAddress)
    assert cluster.target == {"ClusterIdentifier": "analytics", "Database": "dev", "DbUser": "finance"}
    assert cluster.endpoint == "http://127.0.0.1:9/x/"


@pytest.mark.parametrize(
    "url",
    [
        "hunter2",
        "postgresql://u:hunter2@h/d",
        "redshift://u:hunter2@h:5439",
        "redshift://u@h/d",
        "redshift://u:hunter2@/d",
        "redshift://u:hunter2@h:port/d",
        "redshift://u:hunter2@h/d?sslmode=require",
        "redshift://u:hunter2@h/d?sslmode=verify-full&options=x",
        "redshift://u:hunter2@[::1/d",
        "redshift-data:///dev",
        "redshift-data://analytics",
        "redshift-data://Ana_lytics/dev",
        "redshift-data://analytics/dev?kind=other",
        "redshift-data://analytics/dev?db_user=finance",
        "redshift-data://analytics/dev?region=",
        "redshift-data://analytics/dev?token=hunter2",
        "redshift-data://analytics/dev?endpoint=ftp://x",
    ],
)
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(SourceError) as refused:
        parse_address(url)
    assert (refused.value.code, refused.value.permanent) == ("invalid_url", True)
    assert "hunter2" not in str(refused.value)
