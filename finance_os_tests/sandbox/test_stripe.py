"""The Stripe side as the real SDK and plain HTTP see it: forms, pages, filters, expansion, errors, keys."""

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import stripe

from finance_os.sandbox.process import Running
from finance_os.sandbox.stripe import COLLECTIONS
from finance_os.sandbox.stripe_params import EXPANDABLE, FILTERS
from finance_os.sandbox.world import World

from . import stripe_schemas
from .conftest import connect, http


def pages(raw: httpx.Client, path: str, **params: Any) -> Iterator[dict[str, Any]]:
    """Every page of a list, 100 to a page."""
    after: dict[str, str] = {}
    while True:
        body = raw.get(path, params={"limit": 100, **params, **after}).raise_for_status().json()
        yield body
        if not body["has_more"]:
            return
        after = {"starting_after": body["data"][-1]["id"]}


def ids(raw: httpx.Client, path: str, **params: Any) -> list[str]:
    return [item["id"] for page in pages(raw, path, **params) for item in page["data"]]


def refused(answer: httpx.Response, status: int, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """The error of an answer, which must be of Stripe's form."""
    body = answer.json()
    assert answer.status_code == status, body
    assert stripe_schemas.error_faults(body) == []
    assert body["error"].get("code") == code, body
    assert body["error"].get("param") == param, body
    assert answer.headers["request-id"].startswith("req_")
    return body["error"]


# --- forms


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_every_object_of_every_list_is_of_the_sdks_form(raw: httpx.Client, collection: str, world: World) -> None:
    kind = COLLECTIONS[collection][0]
    seen: list[str] = []
    for page in pages(raw, f"/v1/{collection}"):
        assert stripe_schemas.list_faults(kind, page) == []
        assert page["url"] == f"/v1/{collection}"
        seen += [item["id"] for item in page["data"]]
        created = [item["created"] for item in page["data"]]
        assert created == sorted(created, reverse=True)
    assert seen == [record.id for record in reversed(world.stripe.rows(kind))]


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_an_object_is_retrieved_as_it_was_listed(raw: httpx.Client, collection: str) -> None:
    kind = COLLECTIONS[collection][0]
    for item in raw.get(f"/v1/{collection}", params={"limit": 20}).json()["data"]:
        answer = raw.get(f"/v1/{collection}/{item['id']}")
        body = answer.json()
        assert stripe_schemas.object_faults(body) == []
        assert answer.headers["stripe-version"] == "2026-10-28.endive"
        for volatile in ("hosted_invoice_url", "invoice_pdf", "receipt_url", "pdf"):
            item.pop(volatile, None)
            body.pop(volatile, None)
        assert body == item, kind


def test_balance_and_account_are_of_the_sdks_form(raw: httpx.Client, world: World) -> None:
    balance, account = raw.get("/v1/balance").json(), raw.get("/v1/account").json()
    assert stripe_schemas.object_faults(balance) == stripe_schemas.object_faults(account) == []
    assert (balance["available"][0]["amount"], balance["pending"][0]["amount"]) == world.stripe.balance()
    assert raw.get(f"/v1/accounts/{account['id']}").json() == account
    refused(raw.get("/v1/accounts/acct_other"), 404, "resource_missing", "account")


def test_the_schemas_can_fail(raw: httpx.Client) -> None:
    invoice = raw.get("/v1/invoices", params={"status": "paid", "limit": 1}).json()["data"][0]
    assert stripe_schemas.object_faults(invoice) == []
    del invoice["currency"]
    invoice |= {"total": "1", "status": "opened", "colour": "red"}
    invoice["lines"]["data"][0]["amount"] = 1.5
    faults = stripe_schemas.object_faults(invoice)
    assert len(faults) == 5, faults


def test_links_change_on_every_read_and_nothing_else_does(raw: httpx.Client, world: World) -> None:
    key = next(i.id for i in world.stripe.rows("invoice") if i.status == "paid")
    first, second = (raw.get(f"/v1/invoices/{key}").json() for _ in range(2))
    assert {name for name in first if first[name] != second[name]} == {"hosted_invoice_url", "invoice_pdf"}


# --- pages


def test_auto_paging_yields_every_object_once(client: stripe.StripeClient, world: World) -> None:
    for kind, service in (("invoice", client.v1.invoices), ("charge", client.v1.charges), ("event", client.v1.events)):
        found = [item.id for item in service.list({"limit": 37}).auto_paging_iter()]
        assert found == [record.id for record in reversed(world.stripe.rows(kind))]


def test_pages_go_backwards_too(raw: httpx.Client) -> None:
    all_of_them = ids(raw, "/v1/charges")
    middle = 57
    body = raw.get("/v1/charges", params={"limit": 20, "ending_before": all_of_them[middle]}).json()
    assert [item["id"] for item in body["data"]] == all_of_them[middle - 20 : middle]
    assert body["has_more"] is True
    body = raw.get("/v1/charges", params={"limit": 100, "ending_before": all_of_them[middle]}).json()
    assert [item["id"] for item in body["data"]] == all_of_them[:middle]
    assert body["has_more"] is False


def test_ten_to_a_page_unless_said_otherwise(raw: httpx.Client) -> None:
    body = raw.get("/v1/customers").json()
    assert len(body["data"]) == 10
    assert body["has_more"] is True


def test_a_list_that_just_fits_a_page_has_no_more(raw: httpx.Client, world: World) -> None:
    count = len(world.stripe.rows("refund"))
    assert 2 < count <= 100
    for limit, more in ((count - 1, True), (count, False)):
        body = raw.get("/v1/refunds", params={"limit": limit}).json()
        assert (len(body["data"]), body["has_more"]) == (limit, more)


def test_objects_of_the_same_second_are_all_found(raw: httpx.Client) -> None:
    """Events come several to a second: pages of one must still pass each of them exactly once."""
    events = ids(raw, "/v1/events")[:60]
    found: list[str] = []
    while len(found) < len(events):
        after = {"starting_after": found[-1]} if found else {}
        found += [item["id"] for item in raw.get("/v1/events", params={"limit": 1, **after}).json()["data"]]
    assert found == events


def test_nested_lists_say_where_the_rest_is(raw: httpx.Client, world: World) -> None:
    invoice = next(i for i in world.stripe.rows("invoice") if len(i.lines) == 250)
    lines = raw.get(f"/v1/invoices/{invoice.id}").json()["lines"]
    assert (len(lines["data"]), lines["has_more"], lines["url"]) == (10, True, f"/v1/invoices/{invoice.id}/lines")
    found = list(pages(raw, lines["url"]))
    assert [stripe_schemas.list_faults("line_item", page) for page in found] == [[], [], []]
    items = [item for page in found for item in page["data"]]
    assert [item["id"] for item in items] == [line.id for line in invoice.lines]
    assert items[:10] == lines["data"]
    back = raw.get(lines["url"], params={"ending_before": items[120]["id"], "limit": 5}).json()
    assert [item["id"] for item in back["data"]] == [item["id"] for item in items[115:120]]

    charge = next(c for c in world.stripe.rows("charge") if len(c.refunds) > 10)
    url = f"/v1/charges/{charge.id}/refunds"
    refunds = raw.get(f"/v1/charges/{charge.id}", params={"expand[]": "refunds"}).json()["refunds"]
    assert (len(refunds["data"]), refunds["has_more"], refunds["url"]) == (10, True, url)
    assert sorted(ids(raw, url)) == sorted(charge.refunds)
    one = raw.get(f"{url}/{charge.refunds[0]}").json()
    assert one == raw.get(f"/v1/refunds/{charge.refunds[0]}").json()
    other = next(c for c in world.stripe.rows("charge") if c.id != charge.id)
    refused(raw.get(f"/v1/charges/{other.id}/refunds/{charge.refunds[0]}"), 404, "resource_missing", "id")

    note = next(n for n in world.stripe.rows("credit_note") if len(n.lines) > 10)
    body = raw.get(f"/v1/credit_notes/{note.id}").json()["lines"]
    assert body["has_more"] is True
    [page] = pages(raw, body["url"])
    assert stripe_schemas.list_faults("credit_note_line_item", page) == []
    assert sum(item["amount"] for item in page["data"]) == note.amount


def test_customer_balance_transactions_are_found_under_their_customer(raw: httpx.Client, world: World) -> None:
    found: list[str] = []
    for customer in world.stripe.tables["customer"].by_id:
        for page in pages(raw, f"/v1/customers/{customer}/balance_transactions"):
            assert stripe_schemas.list_faults("customer_balance_transaction", page) == []
            found += [item["id"] for item in page["data"]]
    assert sorted(found) == sorted(world.stripe.tables["customer_balance_transaction"].by_id)
    some = world.stripe.one("customer_balance_transaction", found[0])
    url = f"/v1/customers/{some.customer}/balance_transactions"
    assert raw.get(f"{url}/{some.id}").json()["id"] == some.id
    assert ids(raw, url, **{"created[lte]": some.created, "created[gte]": some.created}) == [some.id]


# --- filters


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_created_bounds_are_exact(raw: httpx.Client, collection: str, world: World) -> None:
    rows = world.stripe.rows(COLLECTIONS[collection][0])
    low, high = rows[len(rows) // 3].created, rows[2 * len(rows) // 3].created
    path = f"/v1/{collection}"

    def expected(keep: Any) -> list[str]:
        return [record.id for record in reversed(rows) if keep(record.created)]

    assert ids(raw, path, **{"created[gte]": low, "created[lt]": high}) == expected(lambda t: low <= t < high)
    assert ids(raw, path, **{"created[gt]": low, "created[lte]": high}) == expected(lambda t: low < t <= high)
    assert ids(raw, path, created=low) == expected(lambda t: t == low)


def test_filters_keep_what_they_name(raw: httpx.Client, world: World) -> None:
    ledger = world.stripe
    invoice = next(i for i in ledger.rows("invoice") if i.status == "paid" and i.due_date)
    charge = ledger.rows("charge")[40]
    payout = ledger.rows("payout")[3]
    refund = ledger.rows("refund")[0]
    dispute = ledger.rows("dispute")[0]
    note = ledger.rows("credit_note")[0]
    customer = ledger.rows("customer")[2]
    cases: list[tuple[str, dict[str, Any], Any]] = [
        ("invoices", {"status": "open"}, lambda r: r.status == "open"),
        ("invoices", {"customer": invoice.customer}, lambda r: r.customer == invoice.customer),
        (
            "invoices",
            {"customer": invoice.customer, "status": "paid"},
            lambda r: r.customer == invoice.customer and r.status == "paid",
        ),
        ("invoices", {"collection_method": "send_invoice"}, lambda r: r.collection_method == "send_invoice"),
        ("invoices", {"due_date[lte]": invoice.due_date}, lambda r: (r.due_date or 1 << 60) <= invoice.due_date),
        ("customers", {"email": customer.email}, lambda r: r.email == customer.email),
        ("charges", {"payment_intent": charge.payment_intent}, lambda r: r.payment_intent == charge.payment_intent),
        ("charges", {"customer": charge.customer}, lambda r: r.customer == charge.customer),
        ("payment_intents", {"customer": charge.customer}, lambda r: r.customer == charge.customer),
        ("balance_transactions", {"payout": payout.id}, lambda r: r.payout == payout.id),
        ("balance_transactions", {"source": charge.id}, lambda r: r.source == charge.id),
        ("balance_transactions", {"type": "refund"}, lambda r: r.type == "refund"),
        (
            "balance_transactions",
            {"payout": payout.id, "type": "charge"},
            lambda r: r.payout == payout.id and r.type == "charge",
        ),
        ("credit_notes", {"invoice": note.invoice}, lambda r: r.invoice == note.invoice),
        ("refunds", {"charge": refund.charge}, lambda r: r.charge == refund.charge),
        ("payouts", {"status": "paid"}, lambda r: r.status == "paid"),
        ("payouts", {"arrival_date": payout.arrival_date}, lambda r: r.arrival_date == payout.arrival_date),
        ("disputes", {"charge": dispute.charge}, lambda r: r.charge == dispute.charge),
        ("invoice_payments", {"invoice": invoice.id}, lambda r: r.invoice == invoice.id),
        ("invoice_payments", {"status": "open"}, lambda r: r.status == "open"),
        (
            "invoice_payments",
            {"payment[type]": "payment_intent", "payment[payment_intent]": charge.payment_intent},
            lambda r: r.payment_intent == charge.payment_intent,
        ),
        ("events", {"type": "invoice.paid"}, lambda r: r.type == "invoice.paid"),
        ("events", {"type": "invoice.*"}, lambda r: r.type.startswith("invoice.")),
        (
            "events",
            {"types[0]": "customer.updated", "types[1]": "payout.*"},
            lambda r: r.type == "customer.updated" or r.type.startswith("payout."),
        ),
    ]
    for collection, params, keep in cases:
        kind = COLLECTIONS[collection][0]
        expected = [record.id for record in reversed(ledger.rows(kind)) if keep(record)]
        assert expected, (collection, params)
        assert ids(raw, f"/v1/{collection}", **params) == expected, (collection, params)


def test_every_filter_of_the_sdk_is_taken_and_no_other() -> None:
    """The endpoints' parameters are those of the SDK's own list parameters."""
    modules = {kind: f"_{kind}_list_params" for kind in FILTERS}
    common = {"limit", "starting_after", "ending_before", "expand", "created"}
    for kind, module in modules.items():
        name = "".join(part.title() for part in kind.split("_")) + "ListParams"
        declared = vars(__import__(f"stripe.params.{module}", fromlist=[name]))[name].__annotations__
        options = set(stripe.RequestOptions.__annotations__)
        assert set(declared) - options == set(FILTERS[kind]) | common, kind


# --- expansion


@pytest.mark.parametrize(
    ("path", "expand", "reach"),
    [
        ("/v1/invoices", "data.customer", lambda i: i["customer"]),
        ("/v1/invoices", "data.payments", lambda i: i["payments"]["data"][0]),
        ("/v1/charges", "data.balance_transaction.source", lambda i: i["balance_transaction"]["source"]),
        (
            "/v1/charges",
            "data.refunds.data.balance_transaction",
            lambda i: i["refunds"]["data"][0]["balance_transaction"],
        ),
        ("/v1/charges", "data.payment_intent.latest_charge", lambda i: i["payment_intent"]["latest_charge"]),
        ("/v1/balance_transactions", "data.source", lambda i: i["source"]),
        ("/v1/credit_notes", "data.refunds.refund", lambda i: i["refunds"][0]["refund"]),
        ("/v1/credit_notes", "data.customer_balance_transaction", lambda i: i["customer_balance_transaction"]),
        ("/v1/invoice_payments", "data.payment.payment_intent", lambda i: i["payment"]["payment_intent"]),
        ("/v1/disputes", "data.charge.customer", lambda i: i["charge"]["customer"]),
        ("/v1/payouts", "data.balance_transaction", lambda i: i["balance_transaction"]),
        ("/v1/refunds", "data.charge", lambda i: i["charge"]),
    ],
)
def test_expansion_puts_the_object_in_place_of_its_id(raw: httpx.Client, path: str, expand: str, reach: Any) -> None:
    reached = 0
    for item in raw.get(path, params={"limit": 100, "expand[]": expand}).raise_for_status().json()["data"]:
        assert stripe_schemas.object_faults(item) == []
        try:
            found = reach(item)
        except (TypeError, IndexError, KeyError):
            continue
        if found is not None:
            assert isinstance(found, dict)
            assert stripe_schemas.object_faults(found) == []
            reached += 1
    assert reached > 0


def test_a_deleted_customer_is_a_stub(raw: httpx.Client, world: World) -> None:
    gone = next(c for c in world.stripe.tables["customer"].by_id.values() if c.deleted)
    assert raw.get(f"/v1/customers/{gone.id}").json() == {"id": gone.id, "object": "customer", "deleted": True}
    assert gone.id not in ids(raw, "/v1/customers")
    refused(raw.get("/v1/customers", params={"starting_after": gone.id}), 400, "resource_missing", "starting_after")


def test_every_expandable_field_exists() -> None:
    """What may be expanded is a field that the SDK marks as expandable, or a list that it knows."""
    definitions = stripe_schemas._deriver().definitions  # pyright: ignore[reportPrivateUsage]
    for kind, fields in EXPANDABLE.items():
        if kind not in stripe_schemas.SERVED:
            continue
        schema = definitions[".".join(stripe_schemas.SERVED[kind])]
        properties = schema.get("else", schema)["properties"]
        assert {name.removesuffix("[]").split(".")[0] for name in fields} <= set(properties), kind


# --- errors


@pytest.mark.parametrize(
    ("path", "params", "code", "param"),
    [
        ("/v1/customers", {"foo": "1"}, "parameter_unknown", "foo"),
        ("/v1/customers", {"status": "open"}, "parameter_unknown", "status"),
        ("/v1/events", {"customer": "cus_1"}, "parameter_unknown", "customer"),
        ("/v1/customers", {"created[after]": "1"}, "parameter_unknown", "created[after]"),
        ("/v1/customers", {"limit": "0"}, "parameter_invalid_integer", "limit"),
        ("/v1/customers", {"limit": "101"}, "parameter_invalid_integer", "limit"),
        ("/v1/customers", {"limit": "ten"}, "parameter_invalid_integer", "limit"),
        ("/v1/customers", {"created[gte]": "soon"}, "parameter_invalid_integer", "created[gte]"),
        ("/v1/customers", {"starting_after": "cus_nobody"}, "resource_missing", "starting_after"),
        ("/v1/customers", {"starting_after": ""}, "parameter_invalid_empty", "starting_after"),
        ("/v1/customers", {"starting_after": "a", "ending_before": "b"}, None, None),
        ("/v1/invoices", {"customer": "cus_nobody"}, "resource_missing", "customer"),
        ("/v1/invoices", {"status": "unpaid"}, None, "status"),
        ("/v1/invoices", {"expand[]": "customer"}, None, "expand"),
        ("/v1/invoices", {"expand[]": "data.total"}, None, "expand"),
        ("/v1/charges", {"expand[]": "data.payment_intent.latest_charge.balance_transaction.source"}, None, "expand"),
        ("/v1/invoice_payments", {"payment[payment_intent]": "pi_1"}, "parameter_missing", "payment[type]"),
        ("/v1/balance", {"limit": "3"}, "parameter_unknown", "limit"),
    ],
)  # fmt: skip
def test_what_stripe_would_refuse_is_refused(
    raw: httpx.Client, path: str, params: dict[str, str], code: str | None, param: str | None
) -> None:
    refused(raw.get(path, params=params), 400, code, param)


def test_refunds_of_a_charge_take_no_created(raw: httpx.Client, world: World) -> None:
    path = f"/v1/charges/{world.stripe.rows('charge')[0].id}/refunds"
    refused(raw.get(path, params={"created[gte]": 1}), 400, "parameter_unknown", "created")


def test_missing_objects_and_unknown_paths(raw: httpx.Client) -> None:
    refused(raw.get("/v1/charges/ch_nothing"), 404, "resource_missing", "id")
    refused(raw.get("/v1/invoices/in_nothing/lines"), 404, "resource_missing", "invoice")
    assert "Unrecognized request URL" in refused(raw.get("/v1/unicorns"), 404)["message"]
    refused(raw.get("/v2/customers"), 404)
    refused(raw.get("/v1/charges/ch_1/lines"), 404)


def test_keys(sandbox: Running, raw: httpx.Client) -> None:
    anonymous = httpx.Client(base_url=sandbox.base, trust_env=False)
    assert "You did not provide an API key" in refused(anonymous.get("/v1/customers"), 401)["message"]
    wrong = anonymous.get("/v1/customers", headers={"authorization": "Bearer rk_test_wrongwrongwrong"})
    assert "wrongwrong" not in refused(wrong, 401)["message"]
    key = sandbox.env["FINANCE_OS_STRIPE_API_KEY"]
    basic = base64.b64encode(f"{key}:".encode()).decode()
    answer = anonymous.get("/v1/customers", headers={"authorization": f"Basic {basic}"})
    assert answer.json() == raw.get("/v1/customers").json()
    anonymous.close()


def test_another_api_version_is_refused(raw: httpx.Client) -> None:
    error = refused(raw.get("/v1/customers", headers={"stripe-version": "2020-08-27"}), 400)
    assert "2020-08-27" in error["message"]


@pytest.mark.parametrize("method", ["POST", "DELETE", "PUT", "PATCH"])
def test_a_reading_key_cannot_write(raw: httpx.Client, world: World, method: str) -> None:
    customer = world.stripe.rows("customer")[0].id
    error = refused(raw.request(method, f"/v1/customers/{customer}", content=b"name=x"), 403)
    assert "rak_customer_write" in error["message"]
    refused(raw.request(method, "/v1/unicorns"), 404)


def test_a_key_reads_only_what_it_may(sandbox: Running) -> None:
    key = sandbox.call("POST", "/keys", {"permissions": ["customer", "event"]})["api_key"]
    with http(sandbox, key) as limited:
        assert limited.get("/v1/customers").status_code == 200
        assert limited.get("/v1/events").status_code == 200
        error = refused(limited.get("/v1/charges"), 403)
    assert "'rak_charge_read'" in error["message"]
    assert key not in error["message"]
    with pytest.raises(RuntimeError, match="unknown permissions"):
        sandbox.call("POST", "/keys", {"permissions": ["everything"]})


def test_errors_are_the_sdks_own_exceptions(sandbox: Running, client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError, match="No such charge") as missing:
        client.v1.charges.retrieve("ch_nothing")
    assert (missing.value.code, missing.value.http_status) == ("resource_missing", 404)
    with pytest.raises(stripe.InvalidRequestError, match="unknown parameter"):
        client.v1.customers.list({"colour": "red"})  # pyright: ignore[reportArgumentType]
    with pytest.raises(stripe.PermissionError):
        client.v1.customers.create({"name": "Nobody"})
    stranger = connect({**sandbox.env, "FINANCE_OS_STRIPE_API_KEY": "rk_test_stranger0000"})
    with pytest.raises(stripe.AuthenticationError):
        stranger.v1.balance.retrieve()


def test_the_sdk_filters_and_expands(client: stripe.StripeClient, world: World) -> None:
    since = world.stripe.rows("invoice")[-30].created
    found = list(
        client.v1.invoices.list(
            {"created": {"gte": since}, "status": "open", "expand": ["data.customer"], "limit": 100}
        ).auto_paging_iter()
    )
    assert found
    assert all(invoice.created >= since and invoice.status == "open" for invoice in found)
    assert all(isinstance(invoice.customer, stripe.Customer) for invoice in found)


# --- two accounts


def test_two_companies_share_identifiers_and_nothing_else(sandbox: Running) -> None:
    [second] = sandbox.others
    with http(sandbox) as ours, http(sandbox, second["FINANCE_OS_STRIPE_API_KEY"]) as theirs:
        for path in ("/v1/customers", "/v1/invoices", "/v1/charges", "/v1/balance_transactions"):
            here = {item["id"]: item for page in pages(ours, path) for item in page["data"]}
            there = {item["id"]: item for page in pages(theirs, path) for item in page["data"]}
            shared = here.keys() & there.keys()
            assert len(shared) > 10
            assert all(here[key] != there[key] for key in shared)
        assert ours.get("/v1/account").json()["id"] != theirs.get("/v1/account").json()["id"]


# --- speed
