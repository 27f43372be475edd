"""The pages as a browser gets them."""

import re

import httpx
import psycopg
import pytest
from lxml import html

from finance_os.evidence.businesses import Connection, ensure_business
from finance_os.evidence.database import Database
from finance_os.readiness.page import panels
from finance_os.readiness.plan import source_sync_plan
from finance_os.sources.registry import SOURCES
from finance_os_tests.evidence.staged import page, record, stage
from finance_os_tests.readiness.seed_state import BUSINESS, plant_seed_state
from finance_os_tests.web.conftest import DAGSTER, Browse

HOSTILE = "<script>alert(1)</script>\"'&`<img src=x>`"


@pytest.fixture
def acme_page(database: Database, acme: Connection, browse: Browse) -> httpx.Client:
    """The app over one business."""
    return browse(database)


def parsed(client: httpx.Client, path: str, status: int = 200) -> html.HtmlElement:
    response = client.get(path)
    assert response.status_code == status, response.text
    return html.fromstring(response.text.replace("<wbr>", ""))


def text_of(element: html.HtmlElement) -> str:
    return " ".join(element.text_content().split())


def test_the_only_business_is_where_one_begins(acme_page: httpx.Client) -> None:
    response = acme_page.get("/")
    assert (response.status_code, response.headers["location"]) == (307, "/acme")


def test_several_businesses_are_listed(
    database: Database, acme: Connection, globex: Connection, browse: Browse
) -> None:
    client = browse(database)
    found = parsed(client, "/")
    assert [link.get("href") for link in found.xpath("//ul[@class='businesses']//a")] == ["/acme", "/globex"]
    assert found.xpath("//footer//a")[0].get("href") == f"{DAGSTER}/"
    assert "Globex" in text_of(parsed(client, "/globex"))
    assert parsed(client, "/acme").xpath("//header//a[@href='/']")


def test_no_business_is_no_error(database: Database, browse: Browse) -> None:
    assert "No business is recorded yet" in text_of(parsed(browse(database), "/"))


def test_every_panel_is_on_the_page_with_its_words(database: Database, browse: Browse) -> None:
    plant_seed_state(database)
    shown = parsed(browse(database), f"/{BUSINESS}")
    expected = panels(source_sync_plan(database, SOURCES, BUSINESS))
    assert [section.get("id") for section in shown.xpath("//main//section")] == [panel.key for panel in expected]
    for section, panel in zip(shown.xpath("//main//section"), expected, strict=True):
        said = text_of(section)
        assert panel.title in said
        assert panel.sentence.replace("`", "") in said
        for tile in panel.tiles:
            assert all(words in said for words in (tile.label, tile.value, tile.note, *tile.more))
        rows = section.xpath(".//tbody/tr")
        assert len(rows) == (len(panel.table.rows) if panel.table else 0)
        for row, cells in zip(rows, panel.table.rows if panel.table else (), strict=True):
            assert len(row) == len(cells)
            for shown_cell, cell in zip(row, cells, strict=True):
                in_cell = text_of(shown_cell)
                assert all(line.replace("`", "") in in_cell for line in (cell.text, *cell.below))


def test_every_blocked_line_shows_blocker_hash_and_remedy(database: Database, browse: Browse) -> None:
    plant_seed_state(database)
    shown = parsed(browse(database), f"/{BUSINESS}")
    plan = source_sync_plan(database, SOURCES, BUSINESS)
    blocked = [line for each in plan.assessment.standings.values() for line in each.evaluation.blocked]
    rows = [
        row for row in shown.xpath("//table[@class='of-check']/tbody/tr") if row[1].text_content().strip() == "blocked"
    ]
    assert len(rows) == len(blocked) > 15
    for row in rows:
        line = next(line for line in blocked if line.key in text_of(row[0]) and (line.blocker or "") in text_of(row[3]))
        assert text_of(row[2]) == (line.evidence_hash or "n/a")
        assert (line.remedy or "?").replace("`", "") in text_of(row[3])


def test_it_is_a_document_that_can_be_read_aloud(database: Database, browse: Browse) -> None:
    plant_seed_state(database)
    shown = parsed(browse(database), f"/{BUSINESS}")
    assert shown.get("lang") == "en"
    assert len(shown.xpath("//main")) == len(shown.xpath("//h1")) == 1
    ids = [element.get("id") for element in shown.xpath("//*[@id]")]
    assert len(ids) == len(set(ids))
    for reference in shown.xpath("//@aria-labelledby"):
        assert reference in ids
    for anchor in shown.xpath("//a[starts-with(@href, '#')]/@href"):
        assert anchor[1:] in ids
    for table in shown.xpath("//table"):
        headings = [text_of(each) for each in table.xpath(".//thead//th[@scope='col']")]
        assert headings
        for row in table.xpath(".//tbody/tr"):
            assert [cell.get("data-label") for cell in row] == headings
            assert row[0].tag == "th"
            assert row[0].get("scope") == "row"
    for time in shown.xpath("//time"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", time.get("datetime") or "")


def test_nothing_runs_and_nothing_comes_from_elsewhere(acme_page: httpx.Client) -> None:
    response = acme_page.get("/acme")
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "script-src" not in policy
    shown = html.fromstring(response.text)
    assert not shown.xpath("//script | //iframe | //object | //embed | //form | //img | //style | //base")
    assert not shown.xpath("//@style | //@*[starts-with(name(), 'on')]")
    loaded = [each.get("href") or "" for each in shown.xpath("//link")]
    assert loaded[0] == "data:,"
    assert re.fullmatch(r"/page\.css\?v=[0-9a-f]{12}", loaded[1])
    assert len(loaded) == 2
    css = acme_page.get(loaded[1])
    assert css.headers["content-type"].startswith("text/css")
    assert "immutable" in css.headers["cache-control"]
    assert "prefers-color-scheme: dark" in css.text
    assert not re.search(r"url\(|@import|@font-face", css.text)


@pytest.mark.parametrize("path", ["/", "/acme", "/nobody", "/healthz", "/page.css"])
def test_every_answer_has_its_headers(acme_page: httpx.Client, path: str) -> None:
    headers = acme_page.get(path).headers
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert path == "/page.css" or headers["cache-control"] == "no-store"
    assert acme_page.head(path).status_code == acme_page.get(path).status_code


@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_nothing_can_be_done(acme_page: httpx.Client, method: str) -> None:
    assert getattr(acme_page, method)("/acme").status_code == 405
    for path in ("/docs", "/openapi.json", "/redoc"):
        assert acme_page.get(path).status_code == 404


def test_evidence_is_shown_and_never_interpreted(database: Database, acme: Connection, browse: Browse) -> None:
    stage(database, acme, page(record(f"in_{HOSTILE}")))
    ensure_business(database, "acme", HOSTILE, "UTC")
    response = browse(database).get("/acme")
    assert "<script" not in response.text
    assert "<img" not in response.text
    shown = html.fromstring(response.text.replace("<wbr>", ""))
    assert f"in_{HOSTILE}" in text_of(shown.get_element_by_id("recent_records"))
    assert HOSTILE in text_of(shown.xpath("//header/p[@class='where']/strong")[0])


def test_an_unknown_business_is_not_found(acme_page: httpx.Client) -> None:
    assert "There is no business nobody" in text_of(parsed(acme_page, "/nobody", 404))
    assert "<b>" not in acme_page.get("/%3Cb%3E").text
    assert acme_page.get("/favicon.ico").status_code == 404


def test_another_name_for_this_machine_is_refused(acme_page: httpx.Client) -> None:
    assert acme_page.get("/acme", headers={"host": "rebound.example"}).status_code == 400
    assert acme_page.get("/acme", headers={"host": "localhost:3001"}).status_code == 200


def test_assets_and_runs_lead_into_the_dagster_ui(database: Database, browse: Browse) -> None:
    plant_seed_state(database)
    links = {link.get("href") for link in parsed(browse(database), f"/{BUSINESS}").xpath("//main//a")}
    assert f"{DAGSTER}/assets/readiness/production_hardening" in links
    assert f"{DAGSTER}/assets/gravity/gravity_campaign_advertiser" in links
    assert f"{DAGSTER}/runs/quickbooks-1" in links


@pytest.mark.parametrize("url", [None, "javascript:alert(1)", "ftp://dagster.example"])
def test_without_an_address_of_dagster_there_is_no_link(
    database: Database, acme: Connection, browse: Browse, url: str | None
) -> None:
    shown = parsed(browse(database, dagster_url=url), "/acme")
    assert not [link for link in shown.xpath("//a") if not (link.get("href") or "").startswith(("#", "/"))]


def test_the_page_is_read_as_the_reader(database: Database, acme: Connection, browse: Browse) -> None:
    """Where the reader may not look, there is nothing to be seen: no other role is behind the page."""
    client = browse(database)
    assert client.get("/acme").status_code == 200
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("REVOKE SELECT ON finance_os.businesses FROM finance_os_reader")
    assert client.get("/acme").status_code == 503


def test_a_schema_that_is_behind_says_what_to_run(database: Database, acme: Connection, browse: Browse) -> None:
    client = browse(database)
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute("DELETE FROM finance_os._yoyo_migration WHERE migration_id LIKE '0009%'")
    for path in ("/", "/acme"):
        said = text_of(parsed(client, path, 503))
        assert "raw_record_staging_schema_not_at_head" in said
        assert "finance-os db migrate" in said
    assert client.get("/healthz").json() == {"status": "schema not current"}


def test_a_database_that_does_not_answer_is_said_without_its_address(
    browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finance_os.web.pooled.WAITS_SECONDS", 0.3)
    client = browse(Database("postgresql://login:s3cret@127.0.0.1:9/nothing"))
    for path in ("/", "/acme", "/healthz"):
        response = client.get(path)
        assert response.status_code == 503
        assert "s3cret" not in response.text
        assert "127.0.0.1:9" not in response.text
    said = text_of(parsed(client, "/acme", 503))
    assert "raw_record_staging_unreachable" in said
    assert "FINANCE_OS_DATABASE_URL" in said


def test_health_is_that_of_the_database(acme_page: httpx.Client) -> None:
    response = acme_page.get("/healthz")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})
