"""Redshift: the same evidence over the wire protocol and the Data API, exact, proven and from one snapshot."""

import asyncio
import hashlib
import itertools
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from finance_os.evidence.businesses import Connection, ensure_business, ensure_connection
from finance_os.evidence.canonical import canonical_json, decode, payload_hash
from finance_os.evidence.database import Database
from finance_os.evidence.exceptions import open_exceptions
from finance_os.evidence.extraction import Extraction, Finding, Kind, Page, Record, RemoteCount, Request, SourceError
from finance_os.evidence.reading import perform
from finance_os.evidence.sync_runs import Origin, Read, Trigger
from finance_os.evidence.windows import Days, day_of, start_of_day, window_of
from finance_os.sources.redshift import REDSHIFT, connect, events, extract, statements
from finance_os.sources.redshift.days import day_windows
from finance_os.sources.redshift.spend import microdollars
from finance_os.sources.sql_queries import load_query
from finance_os_tests.sources.redshift_served import (
    NEW_YORK,
    NOW,
    WAYS,
    Held,
    Served,
    a_request,
    a_world,
    counted,
    pages,
    records,
    served,
)

OBJECTS = [obj.object_type for obj in REDSHIFT]
SPEND = OBJECTS[:2]
EVENTS = OBJECTS[2:]
TODAY = date(2026, 3, 20)
FIRST, LAST = date(2026, 3, 3), TODAY


@pytest.fixture(scope="module")
def site(server_url: str) -> Iterator[Served]:
    """A warehouse that no test changes."""
    with served(server_url) as site:
        yield site


@pytest.fixture
def own(server_url: str) -> Iterator[Served]:
    """A warehouse of the test's own: five days."""
    with served(server_url, a_world(until=datetime(2026, 3, 6, 15, tzinfo=UTC), size=2)) as site:
        yield site


def read(site: Served, way: str, object_type: str, request: Request) -> Extraction:
    return extract(site.reader(way), REDSHIFT.object(object_type), request)


def warehouse_sums(site: Served, zone: ZoneInfo, by: str) -> dict[tuple[Any, ...], tuple[int, int]]:
    """(key…, local day) -> microdollars and impressions, summed up here, row by row."""
    found: dict[tuple[Any, ...], list[Any]] = defaultdict(lambda: [Decimal(0), 0])
    with site.owner() as owner:
        for *keys, occurred, price in owner.execute(f"SELECT {by}, occurred_at, price FROM ad_impressions".encode()):
            assert isinstance(occurred, datetime)
            total = found[*keys, day_of(occurred.replace(tzinfo=UTC), zone)]
            total[0] += price
            total[1] += 1
    return {key: (int(spend * 1_000_000), impressions) for key, (spend, impressions) in found.items()}


def test_the_declaration_is_whole() -> None:
    assert OBJECTS == ["publisher_spend_daily", "campaign_publisher_spend_daily", "ad_clicks", "engine_events"]
    assert (REDSHIFT.order, REDSHIFT.title, REDSHIFT.trailing_days) == (7, "Redshift", 7)
    assert [obj.label for obj in REDSHIFT] == OBJECTS


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("object_type", OBJECTS)
def test_every_column_is_read_and_documented(site: Served, way: str, object_type: str) -> None:
    obj = REDSHIFT.object(object_type)
    found = records(read(site, way, object_type, a_request(FIRST, LAST)))
    assert found
    documented = [column.name for column in obj.columns]
    assert set(obj.shown) <= set(documented)
    for record in found:
        assert record.payload is not None
        assert list(record.payload) == documented
        assert payload_hash(decode(canonical_json(record.payload))) == payload_hash(record.payload)
        assert "203.0.113" not in canonical_json(record.payload).decode()


@pytest.mark.parametrize("object_type", OBJECTS)
def test_both_ways_give_the_same_evidence(site: Served, object_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "ROWS_PER_STATEMENT", 50)
    monkeypatch.setattr(events, "ROWS_PER_PAGE", 20)
    site.room.data_api.rows_per_page = 13
    request = a_request(FIRST, LAST)
    by_way = {way: list(read(site, way, object_type, request)) for way in WAYS}
    site.room.data_api.rows_per_page = 1_000
    assert by_way["connector"] == by_way["data-api"]
    hashes = {
        way: [payload_hash(record.payload) for item in items if isinstance(item, Page) for record in item.records]
        for way, items in by_way.items()
    }
    assert hashes["connector"] == hashes["data-api"]
    assert len(hashes["connector"]) > 20


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", "Pacific/Apia"])
@pytest.mark.parametrize("object_type", SPEND)
def test_spend_is_the_sum_of_prices_by_business_day(site: Served, object_type: str, zone: str) -> None:
    local = ZoneInfo(zone)
    keys = "publisher_id" if object_type == SPEND[0] else "campaign_id, publisher_id"
    expected = warehouse_sums(site, local, keys)
    days = {key[-1] for key in expected}
    request = a_request(min(days), max(days), zone=local, now=NOW + timedelta(days=2))
    found = records(read(site, "connector", object_type, request))
    told: dict[tuple[Any, ...], tuple[int, int]] = {}
    for record in found:
        payload = record.payload or {}
        day = date.fromisoformat(payload["spend_date"])
        ids = [payload[name.strip()] for name in keys.split(",")]
        assert record.source_id == ":".join([*ids, day.isoformat()])
        assert (record.day, payload["currency"], type(payload["spend_microdollars"])) == (day, "usd", int)
        told[*ids, day] = (payload["spend_microdollars"], payload["impressions"])
    assert told == expected


def test_the_clocks_going_forward_make_a_day_of_23_hours(own: Served) -> None:
    with own.owner() as owner:
        owner.execute("DELETE FROM ad_impressions")
        owner.execute(
            "INSERT INTO ad_impressions SELECT 'i' || n, 'c', 'p', 'a', at, at, 0.000001 FROM "
            "(SELECT n, timestamp '2026-03-08 04:30' + n * interval '30 minutes' AS at FROM generate_series(0, 95) n) s"
        )
    expected: Counter[date] = Counter()
    for n in range(96):
        moment = datetime(2026, 3, 8, 4, 30, tzinfo=UTC) + timedelta(minutes=30 * n)
        expected[moment.astimezone(NEW_YORK).date()] += 1
    for way in WAYS:
        request = a_request(date(2026, 3, 7), date(2026, 3, 10))
        found = {
            record.day: (record.payload or {})["spend_microdollars"]
            for record in records(read(own, way, "publisher_spend_daily", request))
        }
        assert found == expected
        assert found[date(2026, 3, 8)] == 46


def test_the_windows_of_days_follow_each_other() -> None:
    zone = ZoneInfo("Pacific/Apia")  # had no 30 December in 2011
    request = a_request(date(2011, 12, 28), date(2012, 1, 2), zone=zone, now=datetime(2012, 1, 1, 11, tzinfo=UTC))
    found = day_windows(request)
    assert [each.day.day for each in found] == [28, 29, 31, 1, 2]
    for earlier, later in itertools.pairwise(found):
        assert earlier.window.end == later.window.start
    assert found[-1].window.end == datetime(2012, 1, 1, 11, tzinfo=UTC)
    assert day_windows(a_request(date(2026, 3, 21))) == []


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("object_type", OBJECTS)
def test_counts_are_of_the_rows_by_day(site: Served, way: str, object_type: str) -> None:
    items = list(read(site, way, object_type, a_request(FIRST, LAST)))
    assert isinstance(items[0], RemoteCount)
    by_day = Counter(record.day for item in items if isinstance(item, Page) for record in item.records)
    assert counted(items) == by_day  # pyright: ignore[reportArgumentType]
    assert set(by_day) == set(Days(FIRST, LAST))


def test_today_ends_at_the_present(site: Served) -> None:
    for object_type in EVENTS:
        noon = datetime(2026, 3, 20, 12, tzinfo=UTC)
        found = records(read(site, "connector", object_type, a_request(TODAY, now=noon)))
        assert found
        assert all(record.created_at and record.created_at < noon for record in found)
        assert min(record.created_at for record in found if record.created_at) >= start_of_day(TODAY, NEW_YORK)


@pytest.mark.parametrize("object_type", EVENTS)
def test_events_are_rows_by_their_own_time(site: Served, object_type: str) -> None:
    column = "clicked_at" if object_type == "ad_clicks" else "occurred_at"
    key = "click_id" if object_type == "ad_clicks" else "event_id"
    with site.owner() as owner:
        stored = owner.execute(f"SELECT {key}, {column}, ingested_at FROM {object_type}".encode()).fetchall()
    expected = {
        identity: (at.replace(tzinfo=UTC), ingested.replace(tzinfo=UTC))
        for identity, at, ingested in stored
        if isinstance(at, datetime) and isinstance(ingested, datetime)
    }
    request = a_request(date(2026, 2, 28), LAST)
    found = records(read(site, "connector", object_type, request))
    assert {record.source_id: (record.created_at, record.updated_at) for record in found} == expected
    for record in found:
        at, ingested = expected[record.source_id]
        assert record.day == day_of(at, NEW_YORK)
        assert (record.payload or {})[column] == at.isoformat(timespec="microseconds")[:-6] + "Z"
        assert record.version == int(ingested.timestamp()) * 1_000_000 + ingested.microsecond
    moments = [record.created_at for record in found if record.created_at]
    assert moments == sorted(moments)


def test_a_page_tells_how_it_came_about(site: Served) -> None:
    extraction = read(site, "connector", "publisher_spend_daily", a_request(FIRST, LAST))
    query = load_query("redshift", "publisher_spend_daily")
    found = pages(extraction)
    assert [page.records[0].day for page in found] == list(Days(FIRST, LAST))
    for page in found:
        day = page.records[0].day
        assert page.provenance is not None
        lines = b"".join(canonical_json(record.payload) + b"\n" for record in page.records)
        end = min(start_of_day(day + timedelta(days=1), NEW_YORK), NOW)
        assert page.provenance == {
            "query": "publisher_spend_daily",
            "version": 1,
            "checksum": query.checksum,
            "window": {
                "start": f"{start_of_day(day, NEW_YORK):%Y-%m-%dT%H:%M:%S.%fZ}",
                "end": f"{end:%Y-%m-%dT%H:%M:%S.%fZ}",
            },
            "rows": len(page.records),
            "aggregate_hash": hashlib.sha256(lines).hexdigest(),
        }
        ids = [record.source_id for record in page.records]
        assert ids == sorted(ids)
        assert (page.requested_at, page.resume) == (NOW, None)
    assert (extraction.query_name, extraction.query_version) == ("publisher_spend_daily", "1")


def test_what_was_sent_is_counted(site: Served) -> None:
    connector = read(site, "connector", "publisher_spend_daily", a_request(FIRST, FIRST + timedelta(days=8)))
    list(connector)
    assert connector.requested() == {"READ-ONLY-SESSION 127.0.0.1": 1, "SELECT 127.0.0.1": 3 * 2 + 2}
    data_api = read(site, "data-api", "publisher_spend_daily", a_request(FIRST))
    list(data_api)
    # Two settings, the beginning and the end of the transaction; three sums and the rows, each with its result.
    assert data_api.requested() == {"POST 127.0.0.1": 4 + 2 * 4}


def test_nothing_is_read_of_days_that_have_not_begun(site: Served) -> None:
    for object_type in OBJECTS:
        assert list(read(site, "connector", object_type, a_request(date(2026, 3, 21)))) == [RemoteCount({})]


@pytest.mark.parametrize("kind", [Kind.SNAPSHOT, Kind.TARGETED, Kind.DROP])
def test_only_windows_are_read(site: Served, kind: Kind) -> None:
    for object_type in (SPEND[0], EVENTS[0]):
        with pytest.raises(ValueError, match=str(kind)):
            list(read(site, "connector", object_type, replace(a_request(FIRST), kind=kind)))


# --- spend is proven


@pytest.mark.parametrize("way", WAYS)
def test_one_snapshot_while_rows_are_being_inserted(own: Served, way: str) -> None:
    """The three sums and the rows agree on every day, however many impressions are added between them."""
    first, last = date(2026, 3, 1), date(2026, 3, 6)
    stop = threading.Event()
    added = 0

    def insert() -> None:
        nonlocal added
        while not stop.is_set():
            for day in Days(date(2026, 3, 2), date(2026, 3, 5)):
                own.room.late_impressions(day=day, publisher="pub_00001", microdollars=7)
                added += 1

    own.room.data_api.delay = 0.02
    writer = threading.Thread(target=insert)
    writer.start()
    try:
        totals = []
        for object_type in SPEND * 2:
            request = a_request(first, last, now=datetime(2026, 3, 6, 15, tzinfo=UTC))
            found = records(read(own, way, object_type, request))
            totals.append(sum((record.payload or {})["spend_microdollars"] for record in found))
    finally:
        stop.set()
        writer.join()
    assert totals == sorted(totals)
    assert totals[0] < totals[-1], "nothing was inserted meanwhile"
    assert added


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("object_type", SPEND)
def test_sums_that_disagree_are_refused(
    own: Served, way: str, object_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without one snapshot, an impression that comes between two of the sums makes them disagree."""
    weak = "BEGIN TRANSACTION READ ONLY"
    for module in ("connector", "data_api", "statements"):
        monkeypatch.setattr(f"finance_os.sources.redshift.{module}.BEGIN", weak)
    monkeypatch.setattr(statements, "_SURROUNDING", statements._SURROUNDING | {weak})
    between = _between(own, 2)
    with pytest.raises(SourceError) as refused, between(monkeypatch):
        list(read(own, way, object_type, a_request(date(2026, 3, 1), date(2026, 3, 5))))
    assert (refused.value.code, refused.value.permanent) == ("aggregate_mismatch", False)
    assert "2026-03-03" in refused.value.message
    with between(monkeypatch), pytest.raises(SourceError, match="aggregate_mismatch"):
        list(read(own, way, object_type, a_request(date(2026, 3, 3))))


@pytest.mark.parametrize("statement", [1, 2, 3])
def test_with_one_snapshot_it_does_not_matter(own: Served, statement: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with _between(own, statement)(monkeypatch):
        assert list(read(own, "connector", SPEND[0], a_request(date(2026, 3, 1), date(2026, 3, 5))))


def _between(site: Served, number: int) -> Callable[[pytest.MonkeyPatch], Any]:
    """Adds an impression of 3 March after the `number`-th statement of a read has been made."""

    @contextmanager
    def adding(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        from finance_os.sources.redshift import spend

        made = 0

        def make(*arguments: Any) -> Any:
            nonlocal made
            made += 1
            if made == number + 1:
                site.room.late_impressions(day=date(2026, 3, 3), publisher="pub_00001")
            return statements.statement(*arguments)

        monkeypatch.setattr(spend, "statement", make)
        yield
        monkeypatch.setattr(spend, "statement", statements.statement)
        assert made > number

    return adding


@pytest.mark.parametrize("way", WAYS)
def test_rows_that_do_not_add_up_to_their_own_sum_are_refused(
    own: Served, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weak = "BEGIN TRANSACTION READ ONLY"
    for module in ("connector", "data_api"):
        monkeypatch.setattr(f"finance_os.sources.redshift.{module}.BEGIN", weak)
    monkeypatch.setattr(statements, "_SURROUNDING", statements._SURROUNDING | {weak})
    with _between(own, 3)(monkeypatch), pytest.raises(SourceError, match="aggregate_mismatch: 2026-03-03: the"):
        list(read(own, way, SPEND[0], a_request(date(2026, 3, 3))))


def put(site: Served, *prices: str | None, publisher: str | None = "pub_x", campaign: str | None = "cmp_x") -> None:
    """Impressions at noon UTC of 4 March."""
    with site.owner() as owner:
        owner.execute("ALTER TABLE ad_impressions ALTER COLUMN price TYPE numeric(38, 12)")
        for number, price in enumerate(prices):
            owner.execute(
                "INSERT INTO ad_impressions VALUES (%s, %s, %s, 'adv_x', '2026-03-04 12:00', '2026-03-04 12:00', %s)",
                (f"imp_x_{number}", campaign, publisher, price),
            )


FOURTH = date(2026, 3, 4)


@pytest.mark.parametrize("way", WAYS)
def test_a_sum_that_is_no_whole_number_of_microdollars_is_refused(own: Served, way: str) -> None:
    put(own, "0.0000005", "0.0000005", "12345678901234567890.000001")
    (record,) = [
        record for record in records(read(own, way, SPEND[0], a_request(FOURTH))) if "pub_x" in record.source_id
    ]
    assert (record.payload or {})["spend_microdollars"] == 12_345_678_901_234_567_890_000_002
    put(own, "0.0000001")
    with pytest.raises(SourceError) as refused:
        list(read(own, way, SPEND[0], a_request(FOURTH)))
    assert (refused.value.code, refused.value.permanent) == ("inexact_spend", True)
    assert str(FOURTH) in refused.value.message


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("0.000000", 0),
        ("1", 1_000_000),
        ("-1.5", -1_500_000),
        ("0.000001000", 1),
        ("99999999999999999999999999999999.999999", 99_999_999_999_999_999_999_999_999_999_999_999_999),
    ],
)
def test_dollars_become_microdollars(text: str, expected: int) -> None:
    assert microdollars(text, load_query("redshift", SPEND[0]), "something") == expected


@pytest.mark.parametrize("text", ["", "NaN", "1e3", "1,5", "0.0000001"])
def test_dollars_that_do_not(text: str) -> None:
    with pytest.raises(SourceError, match=r"unreadable_value|inexact_spend"):
        microdollars(text, load_query("redshift", SPEND[0]), "something")


@pytest.mark.parametrize("way", WAYS)
def test_impressions_without_a_price_are_found(own: Served, way: str) -> None:
    put(own, "0.25", None, None)
    items = list(read(own, way, SPEND[1], a_request(FOURTH)))
    (finding,) = [item for item in items if isinstance(item, Finding)]
    assert (finding.code, finding.subject, finding.day) == ("unpriced_impressions", f"cmp_x:pub_x:{FOURTH}", FOURTH)
    assert finding.detail.startswith("2 of 3 impressions")
    (record,) = [
        record
        for item in items
        if isinstance(item, Page)
        for record in item.records
        if record.source_id == finding.subject
    ]
    assert ((record.payload or {})["spend_microdollars"], (record.payload or {})["impressions"]) == (250_000, 3)


@pytest.mark.parametrize("way", WAYS)
def test_impressions_that_nobody_showed_are_refused(own: Served, way: str) -> None:
    put(own, "0.25", publisher=None)
    for object_type in SPEND:
        with pytest.raises(SourceError) as refused:
            list(read(own, way, object_type, a_request(FOURTH)))
        assert (refused.value.code, refused.value.permanent) == ("unidentified_row", True)
        assert f"{FOURTH} have no publisher_id" in refused.value.message


def test_ids_that_could_be_mistaken_for_others_are_refused(own: Served) -> None:
    put(own, "0.25", publisher="pub:x")
    with pytest.raises(SourceError, match="ambiguous_id"):
        list(read(own, "connector", SPEND[1], a_request(FOURTH)))


def days_of_own(held: Held | None = None) -> Request:
    """Five days, and the sixth so far."""
    return a_request(date(2026, 3, 1), date(2026, 3, 6), now=datetime(2026, 3, 6, 15, tzinfo=UTC), held=held)


def repeat_clicks(
    site: Served,
    count: int,
    *,
    click_id: str = "click_id",
    campaign_id: str = "campaign_id",
    clicked_at: str = "clicked_at",
    ingested_at: str = "ingested_at",
) -> list[str]:
    """Insert the first clicks of `days_of_own` once more, changed by these expressions; their IDs."""
    with site.owner() as owner:
        owner.execute("ALTER TABLE ad_clicks ALTER COLUMN click_id DROP NOT NULL")
        owner.execute("ALTER TABLE ad_clicks ALTER COLUMN ingested_at DROP NOT NULL")
        found = owner.execute(
            "WITH first AS (SELECT * FROM ad_clicks WHERE clicked_at >= '2026-03-01 05:00' "
            f"ORDER BY clicked_at, click_id LIMIT {count}), again AS ("
            f"INSERT INTO ad_clicks SELECT {click_id}, impression_id, {campaign_id}, publisher_id, advertiser_id, "
            f"{clicked_at}, {ingested_at} FROM first) SELECT click_id FROM first ORDER BY 1".encode()
        ).fetchall()
    return [str(source_id) for (source_id,) in found]


@pytest.mark.parametrize("way", WAYS)
def test_events_without_an_id_are_refused(own: Served, way: str) -> None:
    repeat_clicks(own, 1, click_id="NULL")
    with pytest.raises(SourceError) as refused:
        list(read(own, way, "ad_clicks", days_of_own()))
    assert (refused.value.code, refused.value.permanent) == ("unidentified_row", True)


@pytest.mark.parametrize("way", WAYS)
def test_an_event_that_is_there_several_times_is_one_record_and_a_finding(own: Served, way: str) -> None:
    before = records(read(own, way, "ad_clicks", days_of_own()))
    repeated = repeat_clicks(own, 3)
    repeat_clicks(own, 1)
    items = list(read(own, way, "ad_clicks", days_of_own()))
    after = [record for item in items if isinstance(item, Page) for record in item.records]
    by_id = {record.source_id: record for record in before}
    assert {record.source_id: record for record in after} == by_id
    assert len(after) == len(before)
    assert counted(list(items)) == Counter(record.day for record in before)
    found = [item for item in items if isinstance(item, Finding)]
    assert [finding.subject for finding in found] == repeated
    for finding in found:
        assert (finding.code, finding.severity) == ("redshift_duplicate_event", "medium")
        assert finding.day == by_id[finding.subject].day
    assert sorted(finding.detail[:1] for finding in found) == ["2", "2", "3"]
    assert all("are the same" in finding.detail for finding in found)


def test_of_rows_that_differ_the_last_one_stands(own: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "ROWS_PER_STATEMENT", 7)  # the rows of an event lie in different spans
    before = {record.source_id: record for record in records(read(own, "connector", "ad_clicks", days_of_own()))}
    later = repeat_clicks(
        own, 2, campaign_id="'corrected'", clicked_at="clicked_at + interval '3 hours'",
        ingested_at="ingested_at + interval '1 day'",
    )  # fmt: skip
    items = list(read(own, "connector", "ad_clicks", days_of_own()))
    after = [record for item in items if isinstance(item, Page) for record in item.records]
    assert len(after) == len(before)
    changed = {record.source_id: record for record in after if record != before[record.source_id]}
    assert sorted(changed) == later
    for source_id, record in changed.items():
        assert (record.payload or {})["campaign_id"] == "corrected"
        old, new = before[source_id].version, record.version
        assert old is not None
        assert new == old + 86_400_000_000
    found = [item for item in items if isinstance(item, Finding)]
    assert [finding.subject for finding in found] == later
    assert all("differ" in finding.detail for finding in found)
    # A still earlier one changes nothing.
    repeat_clicks(own, 1, campaign_id="'wrong'", ingested_at="ingested_at - interval '1 day'")
    again = records(read(own, "connector", "ad_clicks", days_of_own()))
    assert sorted(map(repr, again)) == sorted(map(repr, after))


@pytest.mark.parametrize("ingested_at", ["ingested_at", "NULL"])
def test_rows_that_differ_without_a_last_one_are_refused(own: Served, ingested_at: str) -> None:
    (source_id,) = repeat_clicks(own, 1, campaign_id="'other'", ingested_at=ingested_at)
    with pytest.raises(SourceError) as refused:
        list(read(own, "connector", "ad_clicks", days_of_own()))
    assert (refused.value.code, refused.value.permanent) == ("duplicate_row", True)
    assert source_id in refused.value.message


def test_a_load_that_ran_twice_is_told_in_few_findings(own: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "MOST_FINDINGS", 2)
    before = records(read(own, "connector", "ad_clicks", days_of_own()))
    repeat_clicks(own, 10_000)
    items = list(read(own, "connector", "ad_clicks", days_of_own()))
    found = [item for item in items if isinstance(item, Finding)]
    by_day: defaultdict[date, list[str]] = defaultdict(list)
    for record in before:
        by_day[record.day].append(record.source_id)
    expected = [
        subject
        for day, ids in sorted(by_day.items())
        for subject in [*sorted(ids)[:2], *([f"ad_clicks:{day}"] if len(ids) > 2 else [])]
    ]
    assert [finding.subject for finding in found] == expected
    rest = next(finding for finding in found if ":" in finding.subject)
    assert rest.detail.startswith(f"{len(by_day[rest.day]) - 2} more events")


def test_an_event_that_was_never_ingested_has_no_version(own: Served) -> None:
    with own.owner() as owner:
        owner.execute("ALTER TABLE ad_clicks ALTER COLUMN ingested_at DROP NOT NULL")
        owner.execute("UPDATE ad_clicks SET ingested_at = NULL")
    found = records(read(own, "connector", "ad_clicks", a_request(date(2026, 3, 2), date(2026, 3, 5))))
    assert found
    assert {(record.version, record.updated_at) for record in found} == {(None, None)}


# --- read again


def test_what_is_no_longer_there_is_a_removal(own: Served) -> None:
    for way, object_type in zip(WAYS, SPEND, strict=True):
        request = a_request(date(2026, 3, 2), date(2026, 3, 5))
        before = records(read(own, way, object_type, request))
        held = Held({record.source_id: (record.payload or {})["spend_date"] for record in before})
        held.dates["pub_00001:2026-02-28"] = "2026-02-28"
        day = date(2026, 3, 3) if way == "connector" else date(2026, 3, 4)
        with own.owner() as owner:
            owner.execute(
                "DELETE FROM ad_impressions "
                "WHERE publisher_id = 'pub_00002' AND occurred_at >= %s AND occurred_at < %s",
                (
                    start_of_day(day, NEW_YORK).replace(tzinfo=None),
                    start_of_day(day + timedelta(days=1), NEW_YORK).replace(tzinfo=None),
                ),
            )
        after = records(read(own, way, object_type, replace(request, held=held)))
        gone = {record.source_id for record in after if record.payload is None}
        expected = {
            record.source_id
            for record in before
            if record.day == day and (record.payload or {})["publisher_id"] == "pub_00002"
        }
        assert gone == expected
        assert {record.day for record in after if record.payload is None} == {day}
        assert len(after) == len(before)


def held_clicks(found: list[Record]) -> Held:
    return Held({record.source_id: (record.payload or {})["clicked_at"] for record in found}, "clicked_at")


@pytest.mark.parametrize("rows", [200_000, 5])
def test_events_that_are_no_longer_there_are_removals(own: Served, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(events, "ROWS_PER_STATEMENT", rows)
    before = records(read(own, "connector", "ad_clicks", days_of_own()))
    held = held_clicks(before)
    held.dates["of another day"] = "2026-02-28T12:00:00.000000Z"
    held.dates["still to come"] = "2026-03-06T15:00:00.000000Z"
    some = {record.source_id for record in before if record.day == date(2026, 3, 3)}
    emptied = {record.source_id for record in before if record.day == date(2026, 3, 4)}
    assert len(some) > 1
    assert emptied
    deleted = {min(some), *emptied}
    with own.owner() as owner:
        owner.execute("DELETE FROM ad_clicks WHERE click_id = ANY(%s)", (list(deleted),))
    for way in WAYS:
        after = records(read(own, way, "ad_clicks", days_of_own(held)))
        gone = {record.source_id: record.day for record in after if record.payload is None}
        assert gone == {record.source_id: record.day for record in before if record.source_id in deleted}
        assert len(after) == len(before)


@pytest.mark.parametrize("rows", [200_000, 5])
@pytest.mark.parametrize("by", ["3 hours", "-3 hours", "2 days", "-2 days"])
def test_an_event_whose_time_was_corrected_is_still_there(
    own: Served, monkeypatch: pytest.MonkeyPatch, rows: int, by: str
) -> None:
    monkeypatch.setattr(events, "ROWS_PER_STATEMENT", rows)
    before = records(read(own, "connector", "ad_clicks", days_of_own()))
    third = [record.source_id for record in before if record.day == date(2026, 3, 3)]
    moved, deleted = third[len(third) // 2], third[0]
    assert moved != deleted
    with own.owner() as owner:
        owner.execute(
            f"UPDATE ad_clicks SET clicked_at = clicked_at + interval '{by}' WHERE click_id = %s".encode(), (moved,)
        )
        owner.execute("DELETE FROM ad_clicks WHERE click_id = %s", (deleted,))
    after = records(read(own, "connector", "ad_clicks", days_of_own(held_clicks(before))))
    assert [record.source_id for record in after if record.payload is None] == [deleted]
    assert [record.source_id for record in after if record.source_id == moved] == [moved]


def test_a_read_that_is_not_whole_removes_nothing(own: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    before = records(read(own, "connector", "ad_clicks", days_of_own()))
    original = events._records

    def short(*what: Any) -> Iterator[list[Record]]:
        for page in original(*what):
            yield page[1:]

    monkeypatch.setattr(events, "_records", short)
    found: list[Record] = []

    def draw() -> None:
        for item in read(own, "connector", "ad_clicks", days_of_own(held_clicks(before))):
            found.extend(item.records if isinstance(item, Page) else [])

    with pytest.raises(SourceError, match="incomplete_read"):
        draw()
    assert found
    assert all(record.payload for record in found)


@dataclass
class Staged:
    """A connection in the finance database that reads a served Redshift."""

    database: Database
    connection: Connection
    site: Served
    way: str

    def read(self, object_type: str, days: Days) -> dict[str, Any]:
        obj = REDSHIFT.object(object_type)

        @contextmanager
        def opened(request: Request) -> Iterator[Extraction]:
            with connect(self.site.credentials(self.way)) as reader:
                yield extract(reader, obj, request)

        window = window_of(days, self.connection.zone)
        read = Read(self.connection, object_type, Kind.WINDOW, days, window, {}, opened, obj.volatile_paths)
        return perform(self.database, read, Origin(Trigger.MANUAL), chunk_rows=500)

    def current(self) -> set[str]:
        rows = self.database.fetch(
            "SELECT source_id FROM finance_os.raw_record_heads WHERE business_id = %s AND NOT removed",
            (self.connection.business_id,),
        )
        return {row["source_id"] for row in rows}

    def spend(self) -> dict[str, int]:
        """Source ID -> microdollars of what is current."""
        rows = self.database.fetch(
            """
            SELECT source_id, (payload ->> 'spend_microdollars')::bigint AS spend
            FROM finance_os.raw_record_heads AS head
            JOIN finance_os.raw_source_records AS record USING (record_id, business_id, source_id)
            WHERE head.business_id = %s AND NOT head.removed
            """,
            (self.connection.business_id,),
        )
        return {row["source_id"]: row["spend"] for row in rows}


def test_staged_again_nothing_changes_but_what_did(database: Database, own: Served) -> None:
    ensure_business(database, "acme", "Acme", "America/New_York")
    staged = Staged(database, ensure_connection(database, "acme", "redshift"), own, "connector")
    days = Days(date(2026, 3, 2), date(2026, 3, 4))
    first = staged.read("publisher_spend_daily", days)
    assert (first["status"], first["rows_new"]) == ("succeeded", 3 * len(own.room.world.publishers))
    assert first["remote_count"] == first["rows_extracted"]
    before = staged.spend()
    # The other way: the same versions.
    again = replace(staged, way="data-api").read("publisher_spend_daily", days)
    assert (again["rows_new"], again["rows_changed"]) == (0, 0)
    assert again["rows_unchanged"] == first["rows_extracted"]
    assert again["batch_hash"] == first["batch_hash"]
    # A late impression, and a publisher's day that is gone.
    asyncio.run(
        own.room.change("late_impressions", {"day": "2026-03-03", "publisher": "pub_00001", "microdollars": 5_000})
    )
    with own.owner() as owner:
        owner.execute(
            "DELETE FROM ad_impressions WHERE publisher_id = 'pub_00002' "
            "AND occurred_at >= '2026-03-04 05:00' AND occurred_at < '2026-03-05 05:00'"
        )
    third = staged.read("publisher_spend_daily", days)
    assert (third["rows_new"], third["rows_changed"], third["rows_removed"]) == (0, 1, 1)
    after = staged.spend()
    assert before.pop("pub_00002:2026-03-04")
    before["pub_00001:2026-03-03"] += 5_000
    assert after == before


def test_staged_events_that_are_repeated_and_deleted(database: Database, own: Served) -> None:
    ensure_business(database, "acme", "Acme", "America/New_York")
    staged = Staged(database, ensure_connection(database, "acme", "redshift"), own, "connector")
    days = Days(date(2026, 3, 2), date(2026, 3, 4))
    repeated = repeat_clicks(own, 200)
    first = staged.read("ad_clicks", days)
    assert first["remote_count"] == first["rows_extracted"] == first["rows_new"] == len(staged.current())
    open_now = [each.subject for each in open_exceptions(database, "acme")]
    assert sorted(open_now) == sorted(set(repeated) & staged.current())
    assert open_now
    deleted = min(staged.current() - set(repeated))
    with own.owner() as owner:
        owner.execute("DELETE FROM ad_clicks WHERE click_id = %s", (deleted,))
        owner.execute(
            "DELETE FROM ad_clicks WHERE ctid IN "
            "(SELECT max(ctid) FROM ad_clicks GROUP BY click_id HAVING count(*) > 1)"
        )
    before = staged.current()
    second = staged.read("ad_clicks", days)
    assert (second["rows_new"], second["rows_changed"], second["rows_removed"]) == (0, 0, 1)
    assert staged.current() == before - {deleted}
    assert open_exceptions(database, "acme") == []


def test_a_run_whose_sums_disagree_fails(database: Database, own: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_business(database, "acme", "Acme", "America/New_York")
    staged = Staged(database, ensure_connection(database, "acme", "redshift"), own, "connector")
    weak = "BEGIN TRANSACTION READ ONLY"
    monkeypatch.setattr("finance_os.sources.redshift.connector.BEGIN", weak)
    with _between(own, 1)(monkeypatch), pytest.raises(SourceError, match="aggregate_mismatch"):
        staged.read("publisher_spend_daily", Days(date(2026, 3, 3), date(2026, 3, 3)))
    (run,) = database.fetch("SELECT status, error_code FROM finance_os.source_sync_runs")
    assert (run["status"], run["error_code"]) == ("failed", "aggregate_mismatch")
    assert staged.spend() == {}
