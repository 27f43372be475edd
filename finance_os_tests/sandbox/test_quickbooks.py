"""The QuickBooks room behind a real socket: OAuth 2 with Intuit's own client, the gateway's refusals, and reads.

`served` puts a room behind a socket and `Client` asks it; the other QuickBooks tests use them too.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import msgspec
import pytest
import uvicorn
from intuitlib.client import AuthClient
from intuitlib.exceptions import AuthClientError
from starlette.applications import Starlette
from starlette.routing import Mount

from finance_os.sandbox.quickbooks import QuickBooksRoom
from finance_os.sandbox.world import World, build

START = date(2026, 6, 9)
UNTIL = datetime(2026, 7, 19, 12, 30, tzinfo=UTC)
PREFIX = "/c0/quickbooks"
_JSON = msgspec.json.Decoder(float_hook=Decimal)


def world(days: int | None = None, size: int = 5, seed: int = 7) -> World:
    until = UNTIL if days is None else datetime.combine(START, datetime.min.time(), UTC) + timedelta(days=days)
    return build(seed=seed, start=START, until=until, size=size)


@contextmanager
def served(room: QuickBooksRoom) -> Iterator[str]:
    """A room mounted as in the sandbox; gives its base URL."""
    app = Starlette(routes=[Mount(PREFIX, app=room.app)])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < deadline, "the server did not start in time"
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}{PREFIX}"
    finally:
        server.should_exit = True
        thread.join(10)


def change(room: QuickBooksRoom, action: str, **what: Any) -> Any:
    return asyncio.run(room.change(action, what))


@dataclass
class Client:
    """Asks one room as an app would: a bearer token from Intuit's client, JSON with exact numbers."""

    room: QuickBooksRoom
    base: str
    http: httpx.Client = field(default_factory=lambda: httpx.Client(trust_env=False, timeout=10))
    token: str = ""

    def sign_in(self) -> AuthClient:
        env = self.room.env(self.base)
        auth = AuthClient(
            env["FINANCE_OS_QUICKBOOKS_CLIENT_ID"],
            env["FINANCE_OS_QUICKBOOKS_CLIENT_SECRET"],
            "https://localhost/callback",
            env["FINANCE_OS_QUICKBOOKS_DISCOVERY_URL"],
            refresh_token=env["FINANCE_OS_QUICKBOOKS_REFRESH_TOKEN"],
            realm_id=env["FINANCE_OS_QUICKBOOKS_REALM_ID"],
        )
        auth.refresh()
        self.token = str(auth.access_token)
        return auth

    def ask(self, method: str, path: str, *, realm: str | None = None, **more: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.token}", "accept": "application/json", **more.pop("headers", {})}
        url = f"{self.base}/v3/company/{realm or self.room.realm_id}/{path}"
        return self.http.request(method, url, headers=headers, **more)

    def get(self, path: str, **params: str) -> dict[str, Any]:
        answer = self.ask("GET", path, params={"minorversion": "75", **params})
        assert answer.status_code == 200, answer.text
        return _JSON.decode(answer.content)

    def query(self, statement: str) -> dict[str, Any]:
        return self.get("query", query=statement)["QueryResponse"]

    def fault(self, path: str, **params: str) -> dict[str, Any]:
        return error(self.ask("GET", path, params=params))

    def post(self, path: str, body: Any, **params: str) -> httpx.Response:
        content = msgspec.json.Encoder(decimal_format="number").encode(body)
        return self.ask("POST", path, content=content, params=params, headers={"content-type": "application/json"})

    def write(self, entity: str, body: Any, **params: str) -> dict[str, Any]:
        """The object that a write answers with."""
        answer = self.post(entity.lower(), body, **params)
        assert answer.status_code == 200, answer.text
        return _JSON.decode(answer.content)[entity]

    def refused(self, entity: str, body: Any, **params: str) -> dict[str, Any]:
        return error(self.post(entity.lower(), body, **params))


def error(answer: httpx.Response, status: int = 400) -> dict[str, Any]:
    """The one error of a fault of the accounting service."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body.keys() == {"Fault", "time"}
    assert body["Fault"]["type"] == ("ValidationFault" if status < 500 else "SystemFault")
    (only,) = body["Fault"]["Error"]
    assert only.keys() == {"Message", "Detail", "code", "element"}
    return only


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    room = QuickBooksRoom(world())
    with served(room) as base:
        client = Client(room, base)
        client.sign_in()
        yield client
        client.http.close()


# --- OAuth 2


class Ticking:
    """Real time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Ticking:
    return Ticking()


@pytest.fixture
def own(clock: Ticking) -> Iterator[Client]:
    """A small room of the test's own."""
    room = QuickBooksRoom(world(days=3, size=1), clock=clock)
    with served(room) as base:
        yield Client(room, base)


def refresh(client: Client, token: str) -> AuthClient:
    auth = client.sign_in()
    auth.refresh(token)
    return auth


def test_intuits_client_finds_its_way_by_the_discovery_document(own: Client) -> None:
    auth = own.sign_in()
    assert auth.token_endpoint == f"{own.base}/oauth2/v1/tokens/bearer"
    assert (auth.expires_in, auth.x_refresh_token_expires_in) == (3_600, 8_726_400)
    assert own.get("companyinfo/" + own.room.realm_id)["CompanyInfo"]["CompanyName"] == "Sandbox Ads 7"


def test_every_refresh_rotates_the_refresh_token(own: Client) -> None:
    first = own.room.connection.refresh_token
    auth = own.sign_in()
    assert auth.refresh_token not in (first, None)
    assert own.room.env(own.base)["FINANCE_OS_QUICKBOOKS_REFRESH_TOKEN"] == auth.refresh_token


def test_the_hard_expiry_is_told_to_those_who_ask(own: Client) -> None:
    auth = own.sign_in()
    assert auth.x_refresh_token_hard_expires_in is None
    auth.include_refresh_token_hard_expires_in = True
    auth.refresh()
    assert auth.x_refresh_token_hard_expires_in == 157_680_000


def test_a_superseded_token_works_until_its_successor_was_used(own: Client) -> None:
    lost = own.room.connection.refresh_token
    auth = own.sign_in()
    auth.refresh(lost)  # the first answer never arrived: asking again is allowed
    kept = auth.refresh_token
    auth.refresh(kept)
    with pytest.raises(AuthClientError) as refused:
        auth.refresh(lost)
    assert refused.value.status_code == 400
    assert msgspec.json.decode(refused.value.content)["error"] == "invalid_grant"
    auth.refresh(kept)


def test_a_superseded_token_dies_after_24_hours(own: Client, clock: Ticking) -> None:
    old = own.room.connection.refresh_token
    auth = own.sign_in()
    clock.now += 86_399
    auth.refresh(old)
    newest = auth.refresh_token
    clock.now += 1
    with pytest.raises(AuthClientError):
        auth.refresh(old)
    auth.refresh(newest)


def test_a_refresh_token_that_nobody_uses_dies_after_101_days(own: Client, clock: Ticking) -> None:
    auth = own.sign_in()
    clock.now += 8_726_400
    with pytest.raises(AuthClientError):
        auth.refresh()


def test_an_access_token_lives_an_hour(own: Client, clock: Ticking) -> None:
    own.sign_in()
    clock.now += 3_599
    assert own.ask("GET", "preferences").status_code == 200
    clock.now += 1
    answer = own.ask("GET", "preferences")
    assert answer.status_code == 401
    assert answer.json()["fault"]["error"][0]["code"] == "3200"
    assert answer.json()["fault"]["type"] == "AUTHENTICATION"
    assert "message=AuthenticationFailed; errorCode=003200; statusCode=401" in answer.text
    own.sign_in()
    assert own.ask("GET", "preferences").status_code == 200
    assert change(own.room, "expire_access_tokens") == {"expired": 1}
    assert own.ask("GET", "preferences").status_code == 401


def test_revoking_disconnects_the_app_for_good(own: Client) -> None:
    auth = own.sign_in()
    assert auth.revoke() is True
    assert own.ask("GET", "preferences").status_code == 401
    with pytest.raises(AuthClientError):
        auth.refresh()
    with pytest.raises(AuthClientError):
        auth.revoke()
    token = change(own.room, "reconnect")["refresh_token"]
    auth.refresh(token)
    change(own.room, "revoke")
    with pytest.raises(AuthClientError):
        auth.refresh()


def test_the_token_endpoint_wants_the_app_and_a_known_grant(own: Client) -> None:
    own.sign_in()
    url = f"{own.base}/oauth2/v1/tokens/bearer"
    form = {"grant_type": "refresh_token", "refresh_token": own.room.connection.refresh_token}
    wrong = own.http.post(url, data=form, auth=("AB", "wrong"))
    assert (wrong.status_code, wrong.json()["error"]) == (401, "invalid_client")
    assert own.http.post(url, data=form).json()["error"] == "invalid_client"
    app = (own.room.connection.client_id, own.room.connection.client_secret)
    for data, why in (
        ({}, "invalid_request"),
        ({"grant_type": "refresh_token"}, "invalid_request"),
        ({"grant_type": "password"}, "unsupported_grant_type"),
        ({"grant_type": "authorization_code", "code": "x"}, "invalid_grant"),
    ):
        answer = own.http.post(url, data=data, auth=app)
        assert (answer.status_code, answer.json()["error"]) == (400, why)
    assert own.http.post(url, json=form, auth=app).json()["error"] == "invalid_request"
    assert own.http.post(url, data=form, auth=app).status_code == 200
    assert own.http.get(url).status_code == 405


def test_two_companies_share_no_credentials() -> None:
    one, other = (QuickBooksRoom(build(seed=seed, start=START, until=UNTIL, size=1)) for seed in (1, 2))
    assert not set(one.env("http://x").values()) & set(other.env("http://y").values())
    again = QuickBooksRoom(build(seed=1, start=START, until=UNTIL, size=1)).env("http://x")
    changed = {name for name, value in one.env("http://x").items() if again[name] != value}
    # After a restart everything issued before is void, so it must not look the same.
    assert changed == {"FINANCE_OS_QUICKBOOKS_REFRESH_TOKEN"}


# --- the gateway


def test_another_realm_is_forbidden(client: Client) -> None:
    answer = client.ask("GET", "preferences", realm="9341450000000000")
    assert answer.status_code == 403
    assert "message=ApplicationAuthorizationFailed; errorCode=003100; statusCode=403" in answer.text


def test_who_has_no_token_is_asked_for_one(client: Client) -> None:
    answer = client.ask("GET", "preferences", headers={"authorization": "Basic abc"})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


def test_limits_are_off_until_a_test_sets_them(own: Client, clock: Ticking) -> None:
    own.sign_in()
    assert all(own.ask("GET", "preferences").status_code == 200 for _ in range(15))
    change(own.room, "rate_limits", per_second=10, per_minute=25)
    answers = [own.ask("GET", "preferences").status_code for _ in range(11)]
    assert answers == [200] * 10 + [429]
    throttled = own.ask("GET", "preferences")
    assert throttled.json()["fault"]["error"][0]["code"] == "3001"
    assert "message=ThrottleExceeded; errorCode=003001; statusCode=429" in throttled.text
    for _ in range(15):
        clock.now += 1
        assert own.ask("GET", "preferences").status_code == 200
    clock.now += 1
    assert own.ask("GET", "preferences").status_code == 429
    clock.now += 60
    assert own.ask("GET", "preferences").status_code == 200
    change(own.room, "rate_limits", batches_per_minute=1)
    batch = {"BatchItemRequest": [{"bId": "1", "Query": "select * from Preferences"}]}
    assert [own.post("batch", batch).status_code for _ in range(2)] == [200, 429]
    change(own.room, "rate_limits")
    assert own.post("batch", batch).status_code == 200


def test_only_json_is_served(client: Client) -> None:
    assert error(client.ask("GET", "preferences", headers={"accept": "application/xml"}))["code"] == "1050"


def test_answers_carry_the_gateways_headers_and_the_worlds_time(client: Client) -> None:
    answer = client.ask("GET", "preferences")
    assert answer.headers["content-type"] == "application/json;charset=UTF-8"
    assert answer.headers["intuit_tid"] != client.ask("GET", "preferences").headers["intuit_tid"]
    assert datetime.fromisoformat(answer.json()["time"]) == UNTIL
    assert answer.json()["time"] == "2026-07-19T05:30:00.000-07:00"


@pytest.mark.parametrize(
    ("path", "params", "code"),
    [
        ("nonsense", {}, "500"),
        ("invoice/999999", {}, "610"),
        ("preferences", {"minorversion": "new"}, "2010"),
        ("preferences", {"requestID": "x"}, "2010"),
        ("companyinfo/12", {}, "610"),
        ("exchangerate", {}, "2020"),
        ("exchangerate", {"sourcecurrencycode": "XXX"}, "2170"),
        ("exchangerate", {"sourcecurrencycode": "EUR", "asofdate": "today"}, "2010"),
        ("exchangerate/1", {}, "500"),
    ],
)
def test_reads_that_make_no_sense(client: Client, path: str, params: dict[str, str], code: str) -> None:
    assert client.fault(path, **params)["code"] == code


def test_fault_bodies_are_those_of_real_answers(client: Client) -> None:
    status, headers, body = client.room.fault("429")
    assert (status, msgspec.json.decode(body)["fault"]["error"][0]["code"]) == (429, "3001")
    assert headers["content-type"].startswith("application/json")
    status, _, body = client.room.fault("403")
    assert (status, msgspec.json.decode(body)["fault"]["error"][0]["code"]) == (403, "3100")
    status, _, body = client.room.fault("500")
    assert (status, msgspec.json.decode(body)["Fault"]["Error"][0]["code"]) == (500, "10000")
    with pytest.raises(ValueError, match="no fault 418"):
        client.room.fault("418")


# --- reads


def test_a_query_pages_through_everything_once(client: Client) -> None:
    total = client.query("select count(*) from Bill")["totalCount"]
    assert total == len(client.room.realm.entries["Bill"]) > 5
    seen: list[str] = []
    start = 1
    while page := client.query(f"select * from Bill ORDERBY Id STARTPOSITION {start} MAXRESULTS 4"):
        assert (page["startPosition"], page["maxResults"]) == (start, len(page["Bill"]))
        seen += [bill["Id"] for bill in page["Bill"]]
        start += 4
    assert seen == sorted(seen, key=int)
    assert len(set(seen)) == total


def test_a_page_has_100_objects_unless_told_otherwise(client: Client) -> None:
    for number in range(101):
        change(client.room, "create", entity="Customer", body={"DisplayName": f"Page {number:03d}"})
    found = client.query("select * from Customer where DisplayName like 'Page%'")
    assert (found["maxResults"], len(found["Customer"])) == (100, 100)
    assert client.query("select * from Customer where DisplayName like 'Page%' maxresults 1000")["maxResults"] == 101
    assert client.query("select count(*) from Customer where DisplayName like 'Page%'") == {"totalCount": 101}


def test_a_query_may_be_posted(client: Client) -> None:
    answer = client.ask(
        "POST",
        "query",
        content=b"select * from CompanyInfo",
        headers={"content-type": "application/text"},
    )
    assert answer.json()["QueryResponse"]["CompanyInfo"][0]["Id"] == "1"
    assert error(client.post("query", "select * from CompanyInfo"))["code"] == "1050"


def test_inactive_names_are_hidden_unless_asked_for(client: Client) -> None:
    active = {each["DisplayName"] for each in client.query("select * from Vendor maxresults 1000")["Vendor"]}
    asked = client.query("select * from Vendor where Active in (true, false) maxresults 1000")["Vendor"]
    (hidden,) = [each for each in asked if each["DisplayName"] not in active]
    assert (hidden["DisplayName"], hidden["Active"]) == ("Print Partners LLC (deleted)", False)
    assert client.query("select count(*) from Vendor where Active = false") == {"totalCount": 1}
    assert client.query("select count(*) from Vendor")["totalCount"] == len(active)
    assert client.get(f"vendor/{hidden['Id']}")["Vendor"] == hidden


def test_one_object_is_the_same_however_it_is_read(client: Client) -> None:
    bill = client.query("select * from Bill maxresults 1")["Bill"][0]
    assert client.get(f"bill/{bill['Id']}")["Bill"] == bill
    assert client.query(f"select * from Bill where Id = '{bill['Id']}'")["Bill"] == [bill]
    since = (UNTIL - timedelta(days=29)).isoformat()
    answered = client.get("cdc", entities="Bill", changedSince=since)
    assert bill in answered["CDCResponse"][0]["QueryResponse"][0]["Bill"]


def test_rates_of_the_companys_currencies(client: Client) -> None:
    rate = client.get("exchangerate", sourcecurrencycode="JPY", asofdate="2026-07-01")["ExchangeRate"]
    assert (rate["Rate"], rate["TargetCurrencyCode"]) == (Decimal("0.006712"), "USD")
    assert client.get("exchangerate", sourcecurrencycode="EUR")["ExchangeRate"]["Rate"] == Decimal("1.0834")
    found = client.query("select * from exchangerate where sourcecurrencycode in ('EUR', 'BHD')")["ExchangeRate"]
    assert {each["SourceCurrencyCode"] for each in found} == {"EUR", "BHD"}
    assert client.get("exchangerate", sourcecurrencycode="USD")["ExchangeRate"]["Rate"] == 1


# --- changes since a moment


def changed(client: Client, entities: str, since: str) -> list[dict[str, Any]]:
    return client.get("cdc", entities=entities, changedSince=since)["CDCResponse"][0]["QueryResponse"]


def test_changes_come_by_entity_with_the_deleted_ones_last(client: Client) -> None:
    entry, bill, nothing = changed(client, "JournalEntry,Bill,Transfer", "2026-06-25T00:00:00-07:00")
    *rest, deleted = entry["JournalEntry"]
    assert deleted["status"] == "Deleted"
    assert deleted.keys() == {"status", "domain", "Id", "MetaData"}
    assert deleted["MetaData"].keys() == {"LastUpdatedTime"}
    assert all("status" not in each for each in rest)
    assert client.fault(f"journalentry/{deleted['Id']}")["code"] == "610"
    times = [datetime.fromisoformat(each["MetaData"]["LastUpdatedTime"]) for each in bill["Bill"]]
    assert times == sorted(times)
    assert bill["maxResults"] == len(bill["Bill"]) > 1
    assert nothing == {}


def test_changes_hold_what_was_changed_and_nothing_else(client: Client) -> None:
    since = "2026-07-10"
    (found,) = changed(client, "Bill", since)
    moment = datetime.fromisoformat("2026-07-10T00:00:00-07:00")
    expected = {
        each["Id"]
        for each in client.query("select * from Bill maxresults 1000")["Bill"]
        if datetime.fromisoformat(each["MetaData"]["LastUpdatedTime"]) >= moment
    }
    assert {each["Id"] for each in found["Bill"]} == expected
    assert 0 < len(expected) < len(client.room.realm.entries["Bill"])
    by_query = client.query(f"select * from Bill where MetaData.LastUpdatedTime >= '{since}T00:00:00-07:00'")
    assert {each["Id"] for each in by_query["Bill"]} == expected


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"changedSince": "2026-07-10"}, "2020"),
        ({"entities": "Bill"}, "2020"),
        ({"entities": "Bill", "changedSince": "yesterday"}, "2010"),
        ({"entities": "Bill", "changedSince": "2026-06-19T00:00:00Z"}, "500"),
        ({"entities": "TaxCode", "changedSince": "2026-07-10"}, "500"),
        ({"entities": "Bill,Nonsense", "changedSince": "2026-07-10"}, "500"),
        ({"entities": "Bill", "changedSince": "2026-07-10", "startPosition": "2"}, "2010"),
    ],
)
def test_changes_that_cannot_be_told(client: Client, params: dict[str, str], code: str) -> None:
    assert client.fault("cdc", **params)["code"] == code


def test_changes_end_at_1000_objects(own: Client) -> None:
    own.sign_in()
    for number in range(1_005):
        own.room.realm.create("Vendor", {"DisplayName": f"Vendor {number}"})
    own.room.realm.create("Customer", {"DisplayName": "Beyond"})
    vendors, customers = changed(own, "Vendor,Customer", START.isoformat())
    assert (vendors["maxResults"], customers) == (1_000, {})
    reverse = changed(own, "Customer,Vendor", START.isoformat())
    assert sum(each["maxResults"] for each in reverse) == 1_000


# --- what a user does


def test_a_users_change_shows_at_once(own: Client) -> None:
    own.sign_in()
    made = change(own.room, "create", entity="Vendor", body={"DisplayName": "By hand"})
    edited = change(own.room, "update", entity="Vendor", body={"Id": made["Id"], "AcctNum": "7"})
    assert (edited["SyncToken"], edited["AcctNum"], edited["DisplayName"]) == ("1", "7", "By hand")
    assert own.get(f"vendor/{made['Id']}")["Vendor"]["AcctNum"] == "7"
    account = own.query("select * from Account where AcctNum = '6110'")["Account"][0]["Id"]
    line = {
        "Amount": 12.34,
        "DetailType": "AccountBasedExpenseLineDetail",
        "AccountBasedExpenseLineDetail": {"AccountRef": {"value": account}},
    }
    bill = change(own.room, "create", entity="Bill", body={"VendorRef": {"value": made["Id"]}, "Line": [line]})
    assert own.get(f"vendor/{made['Id']}")["Vendor"]["Balance"] == Decimal("12.34")
    assert change(own.room, "delete", entity="Bill", body={"Id": bill["Id"]})["status"] == "Deleted"
    assert own.get(f"vendor/{made['Id']}")["Vendor"]["Balance"] == 0


@pytest.mark.parametrize(
    ("action", "what", "why"),
    [
        ("dance", {}, "cannot dance"),
        ("create", {"entity": "Nonsense", "body": {}}, "needs an entity"),
        ("create", {"entity": "Vendor"}, "needs an entity"),
        ("delete", {"entity": "Vendor", "body": {"Id": "1"}}, "cannot delete a Vendor"),
        ("update", {"entity": "Bill", "body": {"Id": "77777"}}, "no Bill 77777"),
        ("create", {"entity": "Vendor", "body": {"DisplayName": "a:b"}}, "2040"),
        ("rate_limits", {"per_hour": 1}, "per_hour"),
        ("close_books", {"date": "soon"}, "not a date"),
    ],
)
def test_nonsense_is_refused_in_words(own: Client, action: str, what: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        change(own.room, action, **what)
