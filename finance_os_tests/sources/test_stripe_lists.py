"""Whole lists as targets: what an automatic payout paid out, and what moved a customer's balance."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest

from finance_os.evidence.extraction import Kind, Notice, Page, SourceError
from finance_os.evidence.windows import Days
from finance_os.sandbox.process import Running, running_sandbox
from finance_os.sources.stripe import client
from finance_os_tests.sources.test_stripe import Account

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
TODAY = Days(date(2026, 11, 20), date(2026, 11, 20))
MOVED, CREDITED = "stripe_balance_transaction", "stripe_customer_balance_transaction"
PAID = "stripe_invoice_payment"
PAID_OUT = "stripe_payout_balance_transaction"


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Running]:
    with running_sandbox(until=NOW, days=40, size=5) as sandbox:
        yield sandbox


@pytest.fixture
def account(sandbox: Running) -> Account:
    return Account(sandbox.env, now=NOW)


def read(account: Account, object_type: str, *targets: str) -> tuple[list[Page], list[str]]:
    items = list(account.items(object_type, TODAY, kind=Kind.TARGETED, targets=targets))
    pages = [item for item in items if isinstance(item, Page)]
    return pages, [item.text for item in items if isinstance(item, Notice)]


def payloads(pages: list[Page]) -> list[Any]:
    """What was read; a rate as the float that `plain` makes of it."""
    found = [record.payload or {} for page in pages for record in page.records]
    return [
        {name: float(value) if isinstance(value, Decimal) else value for name, value in each.items()} for each in found
    ]


def test_a_payout_is_read_to_the_last_of_its_members(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAGE_SIZE", 2)
    payouts = [item for item in account.plain("/v1/payouts") if item["status"] == "paid"]
    assert payouts
    for payout in payouts:
        expected = account.plain("/v1/balance_transactions", payout=payout["id"])
        pages, notices = read(account, MOVED, f"payout:{payout['id']}")
        assert payloads(pages) == expected
        assert len(pages) == -(-len(expected) // 2)
        assert payout["balance_transaction"] in {item["id"] for item in expected}
        assert sum(item["net"] for item in expected) == 0
        assert notices == []
        assert {record.day for page in pages for record in page.records} == {TODAY.first}
    assert max(len(account.plain("/v1/balance_transactions", payout=each["id"])) for each in payouts) > 4


def test_a_payouts_own_record_of_its_members_is_read_as_a_list_only(account: Account) -> None:
    payout = account.plain("/v1/payouts")[-1]["id"]
    expected = [f"{payout}/{item['id']}" for item in account.plain("/v1/balance_transactions", payout=payout)]
    pages, notices = read(account, PAID_OUT, f"payout:{payout}")
    assert [record.source_id for page in pages for record in page.records] == expected
    assert notices == []
    with pytest.raises(SourceError) as refused:
        read(account, PAID_OUT, expected[0])
    assert "payout:po_…" in refused.value.message


def test_a_read_that_broke_off_within_what_a_payout_paid_out_reads_that_payout_anew(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "PAGE_SIZE", 2)
    days = Days(date(2026, 11, 5), date(2026, 11, 20))
    pages = account.pages(PAID_OUT, days)
    sequence = [record.source_id for page in pages for record in page.records]
    repeated = 0
    for place, page in enumerate(pages):
        head = [record.source_id for each in pages[: place + 1] for record in each.records]
        rest = [record.source_id for record in account.records(PAID_OUT, days, resume=page.resume)]
        again = len(head) + len(rest) - len(sequence)
        assert sequence[: len(head)] + rest[again:] == sequence
        assert len({source_id.partition("/")[0] for source_id in rest[:again]}) <= 1
        repeated += again > 0
    assert repeated > 2


def test_lists_stand_beside_single_objects_and_are_read_anew_after_a_crash(account: Account) -> None:
    payout = account.plain("/v1/payouts")[-1]["id"]
    [other, *_] = [item["id"] for item in account.plain("/v1/balance_transactions") if item["type"] == "charge"]
    targets = (other, f"payout:{payout}", other)
    pages, _ = read(account, MOVED, *targets)
    members = [item["id"] for item in account.plain("/v1/balance_transactions", payout=payout)]
    assert [each["id"] for each in payloads(pages)] == [other, *members, other]
    resumed = account.pages(MOVED, TODAY, kind=Kind.TARGETED, targets=targets, resume=pages[1].resume)
    assert [each["id"] for each in payloads(resumed)] == [*members, other]


def test_members_that_do_not_sum_are_told_of(account: Account, sandbox: Running) -> None:
    payout = account.plain("/v1/payouts")[0]
    [member, *_] = [
        item for item in account.plain("/v1/balance_transactions", payout=payout["id"]) if item["type"] != "payout"
    ]
    sandbox.change("update", id=member["id"], values={"net": member["net"] + 7}, silent=True)
    try:
        pages, [notice] = read(account, MOVED, f"payout:{payout['id']}")
    finally:
        sandbox.change("update", id=member["id"], values={"net": member["net"]}, silent=True)
    assert pages, "what is listed is kept all the same"
    assert f"lists for {payout['id']} come to 7, not 0" in notice


def test_a_manual_payout_cannot_be_listed(account: Account, sandbox: Running) -> None:
    payout = account.plain("/v1/payouts")[0]["id"]
    sandbox.change("update", id=payout, values={"automatic": False}, silent=True)
    try:
        with pytest.raises(SourceError) as refused:
            read(account, MOVED, f"payout:{payout}")
    finally:
        sandbox.change("update", id=payout, values={"automatic": True}, silent=True)
    assert (refused.value.code, refused.value.permanent) == ("invalid_request", True)


def test_a_payout_that_is_not_there_is_an_error(account: Account) -> None:
    with pytest.raises(SourceError) as missing:
        read(account, MOVED, "payout:po_none")
    assert missing.value.code == "missing"


def test_a_customers_balance_is_read_to_its_end(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAGE_SIZE", 1)
    found = 0
    for customer in account.plain("/v1/customers"):
        expected = account.plain(f"/v1/customers/{customer['id']}/balance_transactions")
        pages, notices = read(account, CREDITED, f"customer:{customer['id']}")
        assert payloads(pages) == expected
        assert notices == []
        found = max(found, len(expected))
    assert found > 1


@pytest.mark.parametrize(
    ("object_type", "target"),
    [(CREDITED, "customer:cus_none"), (PAID, "invoice:in_none"), ("stripe_credit_note", "invoice:in_none")],
)
def test_what_has_been_deleted_lists_nothing_and_says_so(account: Account, object_type: str, target: str) -> None:
    pages, notices = read(account, object_type, target)
    assert (pages, notices) == ([], [f"{target} has been deleted: Stripe no longer lists what belonged to it."])


def test_an_invoice_is_read_with_all_that_settles_it(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "PAGE_SIZE", 1)
    paid = credited = 0
    for invoice in account.plain("/v1/invoices"):
        for object_type, path in ((PAID, "/v1/invoice_payments"), ("stripe_credit_note", "/v1/credit_notes")):
            found = payloads(read(account, object_type, f"invoice:{invoice['id']}")[0])
            expected = account.plain(path, invoice=invoice["id"])
            assert [each["id"] for each in found] == [each["id"] for each in expected]
            assert not [each for each in found if each.get("lines", {}).get("has_more")], "all lines are read"
            paid += len(found) if object_type == PAID else 0
            credited += len(found) if object_type != PAID else 0
    assert paid > 1
    assert credited > 1


def test_a_payment_is_read_with_the_invoices_that_it_pays(account: Account) -> None:
    found = 0
    for intent in account.plain("/v1/payment_intents"):
        items = payloads(read(account, PAID, f"payment_intent:{intent['id']}")[0])
        assert {item["payment"]["payment_intent"] for item in items} <= {intent["id"]}
        found += len(items)
    everything = account.plain("/v1/invoice_payments")
    assert found == len([item for item in everything if item["payment"]["type"] == "payment_intent"]) > 1


@pytest.mark.parametrize(
    ("object_type", "target"),
    [(MOVED, "customer:cus_1"), (CREDITED, "payout:po_1"), ("stripe_invoice", "payout:po_1"), (MOVED, "payout:")],
)
def test_there_are_no_other_lists(account: Account, object_type: str, target: str) -> None:
    with pytest.raises(SourceError, match="has no list"):
        read(account, object_type, target)


@pytest.mark.parametrize("fault", ["500", "truncated", "duplicate_page"])
def test_a_fault_at_any_page_changes_nothing(
    account: Account, sandbox: Running, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setattr(client, "PAGE_SIZE", 2)
    payout = max(
        account.plain("/v1/payouts"),
        key=lambda each: len(account.plain("/v1/balance_transactions", payout=each["id"])),
    )["id"]
    expected = payloads(read(account, MOVED, f"payout:{payout}")[0])
    sandbox.script({"path": "*/v1/balance_transactions", "kind": fault, "on": 2})
    try:
        assert payloads(read(account, MOVED, f"payout:{payout}")[0]) == expected
    finally:
        sandbox.clear_faults()
