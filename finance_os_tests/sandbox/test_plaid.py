"""The Plaid room, through plaid-python over a real socket: its models, its strictness, its log, the bank's cents."""

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import httpx
import plaid
import pytest
import uvicorn
from plaid.api.plaid_api import PlaidApi
from plaid.model.accounts_get_request import AccountsGetRequest
from plaid.model.country_code import CountryCode
from plaid.model.institutions_get_by_id_request import InstitutionsGetByIdRequest
from plaid.model.item_get_request import ItemGetRequest
from plaid.model.item_public_token_exchange_request import ItemPublicTokenExchangeRequest
from plaid.model.item_remove_request import ItemRemoveRequest
from plaid.model.products import Products
from plaid.model.sandbox_public_token_create_request import SandboxPublicTokenCreateRequest
from plaid.model.transactions_get_request import TransactionsGetRequest
from plaid.model.transactions_get_request_options import TransactionsGetRequestOptions
from plaid.model.transactions_sync_request import TransactionsSyncRequest
from starlette.applications import Starlette
from starlette.routing import Mount

from finance_os.sandbox.plaid import PLANTED, PlaidRoom
from finance_os.sandbox.world import World, build

START = date(2026, 10, 1)
UNTIL = datetime(2026, 11, 5, 10, tzinfo=UTC)
LAST = date(2026, 12, 31)
PREFIX = "/c0/plaid"


@dataclass
class Served:
    """A room behind a real socket, below the prefix that the sandbox would mount it at."""

    room: PlaidRoom
    world: World
    base: str

    @property
    def env(self) -> dict[str, str]:
        return self.room.env(self.base)

    @property
    def token(self) -> str:
        return self.env["FINANCE_OS_PLAID_ACCESS_TOKEN"]

    def client(self, **keys: str) -> PlaidApi:
        keys = {"clientId": self.room.client_id, "secret": self.room.secret, **keys}
        return PlaidApi(plaid.ApiClient(plaid.Configuration(host=self.base, api_key=keys)))

    def change(self, action: str, **what: Any) -> Any:
        return asyncio.run(self.room.change(action, what))

    def advance(self, **by: float) -> None:
        self.world.advance_to(self.world.when + timedelta(**by))
        self.room.follow()

    def post(self, path: str, **body: Any) -> httpx.Response:
        """Plain JSON with good credentials unless `body` says otherwise; `access_token=...` leaves it out."""
        body = {"client_id": self.room.client_id, "secret": self.room.secret, "access_token": self.token, **body}
        body = {name: value for name, value in body.items() if value is not ...}
        return httpx.post(self.base + path, json=body, trust_env=False)

    def sync(self, cursor: str = "", count: int = 100) -> tuple[dict[str, list[dict[str, Any]]], str, int]:
        """One update to its end: its changes, the cursor after it, and how many pages it took."""
        got: dict[str, list[dict[str, Any]]] = {"added": [], "modified": [], "removed": []}
        for pages in range(1, 1_000):
            answer = self.post("/transactions/sync", cursor=cursor, count=count)
            assert answer.status_code == 200, answer.text
            page = exact(answer)
            for what, changes in got.items():
                changes += page[what]
            assert sum(len(page[what]) for what in got) <= count
            cursor = page["next_cursor"]
            if not page["has_more"]:
                return got, cursor, pages
        raise AssertionError("the update has no end")

    def everything(self) -> list[dict[str, Any]]:
        """All transactions of /transactions/get, page by page, with the total proven."""
        found: list[dict[str, Any]] = []
        while True:
            page = exact(
                self.post(
                    "/transactions/get",
                    start_date=str(START),
                    end_date=str(LAST),
                    options={"count": 7, "offset": len(found)},
                )
            )
            found += page["transactions"]
            if len(found) >= page["total_transactions"]:
                assert len(found) == page["total_transactions"]
                return found


def exact(answer: httpx.Response) -> Any:
    return json.loads(answer.content, parse_float=Decimal)


def small_world(until: datetime = UNTIL, seed: int = 5) -> World:
    return build(seed=seed, start=START, until=until, size=5)


@contextmanager
def serving(world: World) -> Iterator[Served]:
    """A room of `world` on a free port."""
    room = PlaidRoom(world)
    app = Starlette(routes=[Mount(PREFIX, app=room.app)])
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    limit = time.monotonic() + 10
    while not server.started:
        assert thread.is_alive(), "the server ended"
        assert time.monotonic() < limit, "the server did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield Served(room, world, f"http://127.0.0.1:{port}{PREFIX}")
    finally:
        server.should_exit = True
        thread.join(10)
        room.close()


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    """A room that no test changes."""
    with serving(small_world()) as running:
        yield running


@pytest.fixture
def own() -> Iterator[Served]:
    """A room of the test's own, to be moved and changed."""
    with serving(small_world()) as running:
        yield running


def by_id(transactions: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    found = {each["transaction_id"]: each for each in transactions}
    assert len(found) == len(transactions)
    return found


def apply(held: dict[str, dict[str, Any]], got: dict[str, list[dict[str, Any]]]) -> None:
    """What a client does with an update: what is added must be new, what is modified or removed must be known."""
    for each in got["removed"]:
        del held[each["transaction_id"]]
    for each in got["added"]:
        assert each["transaction_id"] not in held
        held[each["transaction_id"]] = each
    for each in got["modified"]:
        assert each["transaction_id"] in held
        held[each["transaction_id"]] = each


def refused(answer: httpx.Response) -> tuple[int, str, str]:
    body = answer.json()
    assert set(body) == {
        "display_message",
        "documentation_url",
        "error_code",
        "error_message",
        "error_type",
        "request_id",
        "suggested_action",
    }
    return answer.status_code, body["error_type"], body["error_code"]


# --- the SDK


def test_every_answer_passes_the_models_of_the_sdk(served: Served) -> None:
    client, token = served.client(), served.token
    item = client.item_get(ItemGetRequest(access_token=token))["item"]
    accounts = client.accounts_get(AccountsGetRequest(access_token=token))["accounts"]
    assert [account["account_id"] for account in accounts] == [served.room.account_id]
    place = client.institutions_get_by_id(
        InstitutionsGetByIdRequest(institution_id=item["institution_id"], country_codes=[CountryCode("US")])
    )
    assert place["institution"]["institution_id"] == item["institution_id"]
    options = TransactionsGetRequestOptions(count=500, include_original_description=True)
    got = client.transactions_get(
        TransactionsGetRequest(access_token=token, start_date=START, end_date=LAST, options=options)
    )
    assert got["item"]["item_id"] == item["item_id"]
    assert len(got["transactions"]) == got["total_transactions"] > 10
    assert all(each["original_description"] for each in got["transactions"])
    synced = client.transactions_sync(TransactionsSyncRequest(access_token=token, count=500))
    assert {each["transaction_id"] for each in synced["added"]} == {e["transaction_id"] for e in got["transactions"]}
    assert all(isinstance(each["amount"], float) for each in synced["added"])
    assert (synced["has_more"], synced["modified"], synced["removed"]) == (False, [], [])
    assert str(synced["transactions_update_status"]) == "HISTORICAL_UPDATE_COMPLETE"


def test_the_sdk_understands_changes_and_refusals(own: Served) -> None:
    client, token = own.client(), own.token
    cursor = client.transactions_sync(TransactionsSyncRequest(access_token=token))["next_cursor"]
    first, second = own.change("list")[:2]
    own.change("remove_transaction", id=first)
    own.change("modify_transaction", id=second, amount="12.34")
    page = client.transactions_sync(TransactionsSyncRequest(access_token=token, cursor=cursor))
    assert [each["transaction_id"] for each in page["removed"]] == [first]
    assert [(each["transaction_id"], each["amount"]) for each in page["modified"]] == [(second, 12.34)]
    own.change("item_error", on=True)
    with pytest.raises(plaid.ApiException) as caught:
        client.transactions_sync(TransactionsSyncRequest(access_token=token))
    assert caught.value.status == 400
    assert json.loads(caught.value.body or "")["error_code"] == "ITEM_LOGIN_REQUIRED"
    error = client.item_get(ItemGetRequest(access_token=token))["item"]["error"]
    assert error["error_code"] == "ITEM_LOGIN_REQUIRED"
    own.change("item_error", on=False)
    assert client.accounts_get(AccountsGetRequest(access_token=token))["item"]["error"] is None


def test_tokens_are_exchanged_once_and_end_with_the_item(own: Served) -> None:
    client = own.client()
    request = SandboxPublicTokenCreateRequest(institution_id="ins_900001", initial_products=[Products("transactions")])
    public = client.sandbox_public_token_create(request)["public_token"]
    exchange = ItemPublicTokenExchangeRequest(public_token=public)
    made = client.item_public_token_exchange(exchange)
    assert made["item_id"] == own.room.item_id
    with pytest.raises(plaid.ApiException, match="INVALID_PUBLIC_TOKEN"):
        client.item_public_token_exchange(exchange)
    assert client.accounts_get(AccountsGetRequest(access_token=made["access_token"]))["accounts"]
    client.item_remove(ItemRemoveRequest(access_token=made["access_token"]))
    with pytest.raises(plaid.ApiException, match="ITEM_NOT_FOUND"):
        client.accounts_get(AccountsGetRequest(access_token=own.token))


# --- the same money as the bank


def test_plaid_has_the_banks_lines_to_the_cent_except_what_was_planted(own: Served) -> None:
    own.advance(hours=20)
    bank = Counter((line.posted, -line.amount, line.description, line.reference) for line in own.world.bank)
    ours = Counter(
        (
            date.fromisoformat(each["date"]),
            int(each["amount"] * 100),
            each["name"],
            each["payment_meta"]["reference_number"],
        )
        for each in own.everything()
        if not each["pending"]
    )
    planted = {each.kind: each for each in own.room.planted()}
    assert set(planted) == set(PLANTED)
    found = by_id(own.everything())
    extra = found[planted["plaid_line_without_bank_line"].id]
    late = found[planted["plaid_line_a_day_late"].id]
    only_plaid, only_bank = ours - bank, bank - ours
    assert sum(only_plaid.values()) == 2
    assert sum(only_bank.values()) == 1
    assert extra["amount"] == Decimal("7.77")
    (line,) = only_bank
    assert line[0] == date.fromisoformat(late["date"]) - timedelta(days=1)
    assert (line[1], line[3]) == (late["amount"] * 100, late["payment_meta"]["reference_number"])
    assert max(bank.values()) > 1, "the world has lines that look alike"


def test_amounts_are_numbers_with_two_decimals_and_the_balance_is_their_sum(served: Served) -> None:
    text = served.post("/transactions/get", start_date=str(START), end_date=str(LAST)).text
    amounts = [part.split(",")[0] for part in text.split('"amount":')[1:]]
    assert amounts
    assert all(len(each.split(".")[1]) == 2 for each in amounts)
    assert "15.00" in amounts  # a wire fee: money out is positive
    balances = exact(served.post("/accounts/get"))["accounts"][0]["balances"]
    posted = sum(each["amount"] for each in served.everything() if not each["pending"])
    assert balances["current"] == Decimal(250_000) - posted
    assert balances["available"] == Decimal(250_000) - sum(each["amount"] for each in served.everything())


# --- the log


def test_sync_from_nothing_is_get_over_everything(served: Served) -> None:
    got, _, _ = served.sync()
    assert by_id(got["added"]) == by_id(served.everything())
    assert (got["modified"], got["removed"]) == ([], [])


def test_pages_of_one_say_what_one_page_says_and_a_drained_cursor_stays(served: Served) -> None:
    whole, cursor, pages = served.sync(count=500)
    ones, same, many = served.sync(count=1)
    assert (ones, same, pages) == (whole, cursor, 1)
    assert many == len(whole["added"])
    assert served.sync(cursor) == ({"added": [], "modified": [], "removed": []}, cursor, 1)


def test_get_pages_from_the_newest_and_cuts_by_day(served: Served) -> None:
    found = served.everything()
    days = [each["date"] for each in found]
    assert days == sorted(days, reverse=True)
    day = days[3]
    cut = exact(served.post("/transactions/get", start_date=day, end_date=day))
    assert [each["transaction_id"] for each in cut["transactions"]] == [
        each["transaction_id"] for each in found if each["date"] == day
    ]
    beyond = exact(served.post("/transactions/get", start_date=day, end_date=day, options={"offset": 400}))
    assert (beyond["transactions"], beyond["total_transactions"]) == ([], len(cut["transactions"]))


def test_a_pending_line_posts_at_noon_under_another_id_on_another_page(own: Served) -> None:
    held: dict[str, dict[str, Any]] = {}
    got, cursor, _ = own.sync()
    apply(held, got)
    (pending,) = [each for each in held.values() if each["pending"]]
    assert pending["date"] == pending["authorized_date"] == "2026-11-05"
    own.advance(hours=3)
    first = exact(own.post("/transactions/sync", cursor=cursor, count=1))
    assert [each["transaction_id"] for each in first["removed"]] == [pending["transaction_id"]]
    assert (first["added"], first["has_more"]) == ([], True)
    second = exact(own.post("/transactions/sync", cursor=first["next_cursor"], count=1))
    (posted,) = second["added"]
    assert (posted["pending"], posted["pending_transaction_id"]) == (False, pending["transaction_id"])
    assert (posted["amount"], posted["date"]) == (pending["amount"], pending["date"])
    apply(held, own.sync(cursor)[0])
    assert held == by_id(own.everything())
    assert not any(each["pending"] for each in held.values())


def test_following_in_steps_is_following_at_once() -> None:
    def posted(room: PlaidRoom) -> list[Any]:
        return [(what, each) for what, each in room.feed.page("", 10_000).changes]

    world = small_world(datetime(2026, 10, 9, 6, tzinfo=UTC))
    stepped = PlaidRoom(world)
    seen, cursor = {}, ""
    for _ in range(90):
        world.advance_to(world.when + timedelta(hours=7))
        stepped.follow()
        page = stepped.feed.page(cursor, 10_000)
        cursor = page.cursor
        for what, each in page.changes:
            if what == "removed":
                del seen[each.id]
            else:
                seen[each.id] = each
    at_once = PlaidRoom(small_world(world.when))
    assert posted(stepped) == posted(at_once)
    assert stepped.planted() == at_once.planted()
    assert len(stepped.planted()) == len(PLANTED)
    assert seen == at_once.feed.present
    assert len(seen) > 15


def test_a_change_under_way_stops_the_update_until_it_starts_again(own: Served) -> None:
    held: dict[str, dict[str, Any]] = {}
    got, start, _ = own.sync()
    apply(held, got)
    own.change("add_transaction", date="2026-10-20", amount_cents=1999, name="LATE CARD CHARGE")
    own.change("add_transaction", date="2026-10-21", amount_cents=-5, name="REFUND")
    first = own.post("/transactions/sync", cursor=start, count=1).json()
    assert first["has_more"]
    victim = next(iter(held))
    own.change("remove_transaction", id=victim)
    wrong = own.post("/transactions/sync", cursor=first["next_cursor"], count=1)
    assert refused(wrong) == (400, "TRANSACTIONS_ERROR", "TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION")
    got, cursor, pages = own.sync(start, count=1)
    assert pages == 3
    apply(held, got)
    assert held == by_id(own.everything())
    assert victim not in held
    own.change("mutate_during_pagination", times=1)
    first = own.post("/transactions/sync", count=1).json()
    assert own.post("/transactions/sync", cursor=first["next_cursor"]).status_code == 400
    assert own.post("/transactions/sync", cursor=first["next_cursor"]).status_code == 200
    assert own.sync(cursor)[0] == {"added": [], "modified": [], "removed": []}


def test_what_comes_and_goes_between_two_looks_is_never_told(own: Served) -> None:
    _, cursor, _ = own.sync()
    made = own.change("add_transaction", date="2026-10-20", amount="3.50", name="A MISTAKE")
    own.change("modify_transaction", id=made["id"], name="AN OTHER MISTAKE")
    (added,) = own.sync(cursor)[0]["added"]
    assert (added["name"], added["amount"]) == ("AN OTHER MISTAKE", Decimal("3.50"))
    own.change("remove_transaction", id=made["id"])
    assert own.sync(cursor)[0] == {"added": [], "modified": [], "removed": []}


# --- strictness


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/item/get", {"secret": "wrong"}, "INVALID_API_KEYS"),
        ("/item/get", {"client_id": "wrong"}, "INVALID_API_KEYS"),
        ("/item/get", {"secret": ...}, "MISSING_FIELDS"),
        ("/item/get", {"access_token": ...}, "MISSING_FIELDS"),
        ("/item/get", {"access_token": ""}, "INVALID_FIELD"),
        ("/item/get", {"access_token": "nonsense"}, "INVALID_ACCESS_TOKEN"),
        ("/item/get", {"access_token": "access-sandbox-0"}, "INVALID_ACCESS_TOKEN"),
        ("/accounts/get", {"options": {"account_ids": ["other"]}}, "INVALID_ACCOUNT_ID"),
        ("/accounts/get", {"options": {"ids": []}}, "UNKNOWN_FIELDS"),
        ("/transactions/sync", {"offset": 1}, "UNKNOWN_FIELDS"),
        ("/transactions/sync", {"options": {"count": 5}}, "UNKNOWN_FIELDS"),
        ("/transactions/sync", {"count": 0}, "INVALID_FIELD"),
        ("/transactions/sync", {"count": 501}, "INVALID_FIELD"),
        ("/transactions/sync", {"count": "5"}, "INVALID_FIELD"),
        ("/transactions/sync", {"count": True}, "INVALID_FIELD"),
        ("/transactions/sync", {"cursor": 5}, "INVALID_FIELD"),
        ("/transactions/sync", {"cursor": "nonsense"}, "INVALID_FIELD"),
        ("/transactions/sync", {"cursor": "WyJ4IiwwLDAsMF0="}, "INVALID_FIELD"),
        ("/transactions/get", {"start_date": "2026-10-01"}, "MISSING_FIELDS"),
        ("/transactions/get", {"start_date": "2026-10-02", "end_date": "2026-10-01"}, "INVALID_FIELD"),
        ("/transactions/get", {"start_date": "20261001", "end_date": "2026-10-01"}, "INVALID_FIELD"),
        (
            "/transactions/get",
            {"start_date": "2026-10-01", "end_date": "2026-10-01", "options": {"offset": -1}},
            "INVALID_FIELD",
        ),
        (
            "/institutions/get_by_id",
            {"access_token": ..., "institution_id": "ins_1", "country_codes": ["US"]},
            "INVALID_INSTITUTION",
        ),
    ],
)
def test_wrong_requests_are_refused_in_plaids_words(served: Served, path: str, body: dict[str, Any], code: str) -> None:
    status, kind, found = refused(served.post(path, **body))
    assert (status, found) == (400, code)
    assert kind == ("INVALID_REQUEST" if code.endswith("FIELDS") or code == "INVALID_FIELD" else "INVALID_INPUT")


def test_bodies_paths_and_methods_that_plaid_does_not_know(served: Served) -> None:
    broken = httpx.post(f"{served.base}/item/get", content=b"{", headers={"content-type": "application/json"})
    assert refused(broken)[2] == "INVALID_BODY"
    form = httpx.post(f"{served.base}/item/get", data={"access_token": served.token})
    assert refused(form)[2] == "INVALID_BODY"
    assert refused(served.post("/transfer/create")) == (404, "INVALID_REQUEST", "NOT_FOUND")
    with pytest.raises(plaid.ApiException, match="INVALID_API_KEYS"):
        served.client(secret="wrong").item_get(ItemGetRequest(access_token=served.token))
    assert "options.count" in served.post("/transactions/sync", options={"count": 1}).json()["error_message"]


def test_tokens_and_cursors_do_not_outlive_the_sandbox_or_fit_another_item(served: Served) -> None:
    _, cursor, _ = served.sync()
    with serving(small_world()) as again, serving(small_world(seed=6)) as other:
        assert refused(again.post("/item/get", access_token=served.token))[2] == "INVALID_ACCESS_TOKEN"
        for elsewhere in (again, other):
            wrong = elsewhere.post("/transactions/sync", cursor=cursor)
            assert refused(wrong)[2] == "INVALID_FIELD"
            assert wrong.json()["error_message"] == "cursor not associated with access_token"
        assert again.everything() == served.everything()
        assert again.room.item_id == served.room.item_id != other.room.item_id
        assert not set(by_id(other.everything())) & set(by_id(served.everything()))


def test_scripted_failures_have_plaids_form(served: Served) -> None:
    expected = {
        "429": (429, "RATE_LIMIT_EXCEEDED", "TRANSACTIONS_LIMIT"),
        "500": (500, "API_ERROR", "INTERNAL_SERVER_ERROR"),
        "403": (403, "INVALID_INPUT", "UNAUTHORIZED_ROUTE_ACCESS"),
    }
    for kind, told in expected.items():
        status, headers, body = served.room.fault(kind)
        assert headers["content-type"] == "application/json"
        assert refused(httpx.Response(status, content=body)) == told


@pytest.mark.parametrize(
    ("action", "what"),
    [
        ("burn", {}),
        ("remove_transaction", {"id": "unknown"}),
        ("remove_transaction", {}),
        ("modify_transaction", {"id": "first"}),
        ("modify_transaction", {"id": "first", "amount": "1.005"}),
        ("modify_transaction", {"id": "first", "amount": "much"}),
        ("modify_transaction", {"id": "first", "amount": "1", "day": "2026-10-01"}),
        ("add_transaction", {"date": "2026-13-01", "amount": "1", "name": "x"}),
        ("add_transaction", {"date": "2026-10-01", "name": "x"}),
        ("list", {"of": "names"}),
    ],
)
def test_controls_that_make_no_sense_say_so(served: Served, action: str, what: dict[str, Any]) -> None:
    before = served.change("list")
    what = {name: before[0] if value == "first" else value for name, value in what.items()}
    with pytest.raises(ValueError, match=r"\w+ \w+"):
        served.change(action, **what)
    assert served.change("list") == before
