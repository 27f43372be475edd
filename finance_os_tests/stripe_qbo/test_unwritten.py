"""How far clearing will still move: at any moment of writing, that and what is in the books are Stripe's balance."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from finance_os.stripe_qbo.intent import Intent, LinkKey, Operation
from finance_os.stripe_qbo.mapping.amounts import qbo_amount
from finance_os.stripe_qbo.planning import Plan, plan_of
from finance_os.stripe_qbo.reconcile import balance_of
from finance_os.stripe_qbo.unwritten import MOVES_MONEY, NotExact, Unwritten, unwritten
from finance_os.stripe_qbo.written import Written, after
from finance_os_tests.stripe_qbo.books import DAY
from finance_os_tests.stripe_qbo.mapping.worlds import Company, company, evidence, living, rules

CLEARING, BANK, FEES = "35", "36", "37"
SALE, DISCOUNT = "SalesItemLineDetail", "DiscountLineDetail"


@pytest.fixture(params=[(25, 4, 39), (20, 8, 5)], ids=["of few", "of many"])
def lived(request: pytest.FixtureRequest) -> Iterator[tuple[Plan, Decimal, Company]]:
    """A plan of everything in a world, Stripe's balance, and books in which nothing of it is written."""
    days, size, seed = request.param
    world = living(days, size, seed)
    with company(world) as realm:
        stripe = evidence(world)
        plan = plan_of(stripe, realm.books(), rules())
        moving = [each for each in plan.intents if each.entity in MOVES_MONEY]
        assert any("ExchangeRate" in each.payload for each in moving)
        yield plan, qbo_amount(balance_of(stripe, rules())["usd"], "usd"), realm


def test_with_the_books_it_is_always_stripes_balance(lived: tuple[Plan, Decimal, Company]) -> None:
    """The plan is written in five parts: before, between and after them."""
    plan, at_stripe, realm = lived
    assert {"Payment", "RefundReceipt", "Deposit", "JournalEntry"} <= {each.entity for each in plan.intents}
    held = realm.books().account("Stripe Clearing")
    assert held is not None
    part, left, amounts = -(-len(plan.intents) // 5), list(plan.intents), set[Decimal]()
    while True:
        written = after(plan.intents[: len(plan.intents) - len(left)])
        found = unwritten(plan.intents, written, held.id, "usd")
        amounts.add(found.amount)
        assert realm.balance("Stripe Clearing") + found.amount == at_stripe
        if not left:
            break
        realm.apply(Plan(tuple(left[:part]), adoptions=plan.adoptions if len(left) == len(plan.intents) else {}))
        left = left[part:]
    assert found == Unwritten(Decimal(0), 0)
    assert len(amounts) > 3


def made(entity: str, payload: Mapping[str, Any], name: str = "x", operation: Operation = Operation.CREATE) -> Intent:
    return Intent(LinkKey("thing", name, "thing"), operation, entity, payload, DAY, f"stripe:{name}", {})


def ref(account: str) -> dict[str, str]:
    return {"value": account}


def line(kind: str, amount: str, **detail: Any) -> dict[str, Any]:
    return {"Amount": Decimal(amount), "DetailType": kind, kind: detail}


def entry(account: str, amount: str, posting: str = "Credit") -> dict[str, Any]:
    return line("JournalEntryLineDetail", amount, PostingType=posting, AccountRef=ref(account))


PAYMENT = {"TotalAmt": Decimal("120.50"), "DepositToAccountRef": ref(CLEARING), "Line": []}
RECEIPT = {"DepositToAccountRef": ref(CLEARING), "Line": [line(SALE, "30.10"), line(DISCOUNT, "5.05")]}
DEPOSIT = {
    "DepositToAccountRef": ref(BANK),
    "Line": [line("DepositLineDetail", "80.00", AccountRef=ref(CLEARING))],
}
JOURNAL = {"Line": [entry(CLEARING, "3.20"), entry(FEES, "3.20", "Debit")]}
EUROS = {"CurrencyRef": ref("EUR"), "ExchangeRate": Decimal("1.0834")}


@pytest.mark.parametrize(
    ("entity", "payload", "account", "amount"),
    [
        ("Payment", PAYMENT, CLEARING, "120.50"),
        ("Payment", PAYMENT, BANK, "0"),
        ("Payment", {"TotalAmt": Decimal(0), "Line": []}, CLEARING, "0"),
        ("Payment", {**PAYMENT, **EUROS}, CLEARING, "130.55"),
        ("Payment", {**PAYMENT, "CurrencyRef": ref("USD")}, CLEARING, "120.50"),
        ("RefundReceipt", RECEIPT, CLEARING, "-25.05"),
        ("RefundReceipt", {**RECEIPT, **EUROS}, CLEARING, "-27.14"),
        ("Deposit", DEPOSIT, CLEARING, "-80.00"),
        ("Deposit", DEPOSIT, BANK, "80.00"),
        ("JournalEntry", JOURNAL, CLEARING, "-3.20"),
        ("JournalEntry", JOURNAL, FEES, "3.20"),
        ("Invoice", {"Line": [line(SALE, "30.10")]}, CLEARING, "0"),
    ],
    ids=[
        "payment",
        "payment elsewhere",
        "payment of nothing",
        "foreign payment",
        "payment in the currency",
        "refund",
        "foreign refund",
        "payout",
        "payout at the bank",
        "fee",
        "fee account",
        "invoice",
    ],
)
def test_each_entity_posts_what_its_payload_says(
    entity: str, payload: Mapping[str, Any], account: str, amount: str
) -> None:
    found = unwritten([made(entity, payload)], {}, account, "usd")
    assert found == Unwritten(Decimal(amount), int(entity != "Invoice"))
    void = made(entity, {}, operation=Operation.VOID)
    assert unwritten([made(entity, payload), void], {}, account, "usd").amount == 0
    assert unwritten([void], after([made(entity, payload)]), account, "usd").amount == -Decimal(amount)


def test_a_change_counts_by_what_it_changes() -> None:
    create = made("Payment", PAYMENT)
    update = made("Payment", {"TotalAmt": Decimal(100), "PaymentRefNum": "ch_1"}, operation=Operation.UPDATE)
    before = after([create])
    assert unwritten([create, update], {}, CLEARING, "usd") == Unwritten(Decimal(100), 2)
    assert unwritten([create, update], before, CLEARING, "usd") == Unwritten(Decimal("-20.50"), 1)
    assert unwritten([create, update], after([update], before), CLEARING, "usd") == Unwritten(Decimal(0), 0)
    of_text = made("Payment", {"PaymentRefNum": "ch_1"}, operation=Operation.UPDATE)
    assert unwritten([create, of_text], before, CLEARING, "usd") == Unwritten(Decimal(0), 1)


UNKNOWN = {key: replace(each, is_settled=False) for key, each in after([made("Payment", PAYMENT)]).items()}
HALF = {**PAYMENT, "TotalAmt": Decimal("0.01"), "CurrencyRef": ref("EUR"), "ExchangeRate": Decimal("0.5")}


@pytest.mark.parametrize(
    ("intent", "written", "told"),
    [
        (made("Payment", PAYMENT), UNKNOWN, "of 1 writes that move money nobody knows whether they arrived"),
        (made("Payment", HALF), {}, "in EUR comes to in USD is not known to the cent"),
        (made("Payment", {**PAYMENT, "CurrencyRef": ref("EUR")}), {}, "is not known to the cent"),
        (made("Payment", {}, operation=Operation.VOID), {}, "Payment thing:x:thing was adopted, and is to be changed"),
        (made("RefundReceipt", {**RECEIPT, "Line": [line("GroupLineDetail", "1")]}), {}, "a line of another kind"),
        (made("Transfer", {"Amount": Decimal(1)}), {}, "a Transfer is to be written"),
    ],
    ids=["unknown", "half a cent", "no rate", "adopted", "group", "transfer"],
)
def test_what_cannot_be_summed_to_the_cent_is_not(
    intent: Intent, written: Mapping[LinkKey, Written], told: str
) -> None:
    with pytest.raises(NotExact, match=told):
        unwritten([intent], written, CLEARING, "usd")


def test_an_answer_that_moves_no_money_is_no_matter() -> None:
    invoice = {key: replace(each, entity="Invoice") for key, each in UNKNOWN.items()}
    assert unwritten([made("Payment", PAYMENT, "other")], invoice, CLEARING, "usd").amount == Decimal("120.50")
