"""The description of the web app: what is checked in, whether it has every path, whether it says what is answered."""

import json

import httpx
import jsonschema_rs
import pytest
from fastapi.openapi.utils import get_openapi

from finance_os.evidence.businesses import ensure_business
from finance_os.evidence.database import Database
from finance_os.settings import Settings
from finance_os.web import pooled
from finance_os.web.app import create_app
from finance_os.web.openapi import OPENAPI, openapi, openapi_text
from finance_os_tests.web.conftest import Browse


def test_the_description_is_the_one_that_is_checked_in() -> None:
    assert OPENAPI.read_text() == openapi_text(), "finance-os artifacts write writes it anew"
    paths = json.loads(OPENAPI.read_text())["paths"]
    [deliver] = [path for path in paths if path.startswith("/webhooks/")]
    assert set(paths[deliver]) == {"post"}
    assert set(paths[deliver]["post"]["responses"]) == {"200", "400", "404", "408", "413", "503"}
    assert set(paths) == {deliver, "/readyz", "/healthz", "/page.css", "/", "/{business_id}"}
    assert all(set(operations) == {"get"} for path, operations in paths.items() if path != deliver)


def test_every_route_of_the_app_is_described(database: Database) -> None:
    served = get_openapi(title="", version="", routes=create_app(database, Settings()).routes)["paths"]
    described = openapi()["paths"]
    assert {path: set(operations) for path, operations in described.items()} == {
        path: set(operations) for path, operations in served.items()
    }


@pytest.mark.parametrize(
    ("path", "asked", "status"),
    [
        ("/healthz", "/healthz", 200),
        ("/readyz", "/readyz", 200),
        ("/page.css", "/page.css", 200),
        ("/", "/", 307),
        ("/{business_id}", "/acme", 200),
        ("/{business_id}", "/nobody", 404),
        ("/{business_id}", f"/{'x' * 101}", 422),
    ],
)
def test_what_is_answered_is_described(database: Database, browse: Browse, path: str, asked: str, status: int) -> None:
    ensure_business(database, "acme", "Acme", "UTC")
    _as_described(browse(database).get(asked, follow_redirects=False), path, status)


def test_several_businesses_are_a_page(database: Database, browse: Browse) -> None:
    for each in ("acme", "globex"):
        ensure_business(database, each, each, "UTC")
    _as_described(browse(database).get("/"), "/", 200)


def test_what_is_answered_without_a_database_is_described(browse: Browse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooled, "WAITS_SECONDS", 0.1)
    nowhere = browse(Database("postgresql://nobody@127.0.0.1:1/none"))
    for path in ("/", "/{business_id}", "/healthz", "/readyz"):
        _as_described(nowhere.get(path.format(business_id="acme")), path, 503)


def _as_described(answer: httpx.Response, path: str, status: int) -> None:
    assert answer.status_code == status
    description = openapi()
    described = description["paths"][path]["get"]["responses"][str(status)]
    media_type = answer.headers.get("content-type", "").partition(";")[0]
    assert {media_type} - {""} == set(described.get("content", {}))
    assert set(described.get("headers", {})) <= {name.title() for name in answer.headers}
    if media_type == "application/json":
        schema = described["content"][media_type]["schema"]
        jsonschema_rs.validate({**schema, "components": description["components"]}, answer.json())
