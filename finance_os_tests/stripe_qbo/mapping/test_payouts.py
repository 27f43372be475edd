"""Payouts: to the bank on the arrival date, once, and only by what they hold."""

from datetime import date
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from finance_os.evidence.extraction import Severity
from finance_os.stripe_qbo.intent import LinkKey
from finance_os.stripe_qbo.reconcile import balance_of

from .made import Made, at, codes
from .worlds import Company, rules


def with_money(amount: int = 5_000) -> Made:
    """An account whose balance was filled by a dispute that was won."""
    made = Made()
    made.moved("dispute_reversal", amount, source="dp_1", when=at(3), type="adjustment")
    return made


def deposit(realm: Company, amount: Any, day: str, account: str = "Stripe Clearing", **more: Any) -> str:
    """A deposit that someone entered by hand."""
    named = {each["Name"]: each["Id"] for each in realm.all("Account")}
    line = {"Amount": amount, "DetailType": "DepositLineDetail", "DepositLineDetail": {}}
    line["DepositLineDetail"] = {"AccountRef": {"value": named[account]}}
    body = {"DepositToAccountRef": {"value": named["Rho Checking"]}, "TxnDate": day, "Line": [line], **more}
    return realm.client.write("Deposit", body)["Id"]


def test_the_arrival_date_is_not_converted(realm: Company) -> None:
    """Stripe writes a date as midnight UTC: in New York that would be the day before."""
    made = with_money()
    payout = made.payout(5_000, arrival=at(8, 0))
    plan = made.posted(realm, rules(time_zone="America/New_York"))
    assert not plan.findings
    (held,) = [each for each in realm.all("Deposit") if payout in each["PrivateNote"]]
    assert (held["TxnDate"], held["TotalAmt"], held["DocNumber"]) == ("2026-06-08", 50, payout[-21:])
    assert realm.balance("Stripe Clearing") == 0


def test_a_payout_stands_behind_what_happened_on_the_day_before(realm: Company) -> None:
    """In New York the evening of June 7 comes after midnight UTC: who stops at that day must not stop before it."""
    made = with_money()
    made.payout(5_000, arrival=at(8, 0))
    made.moved("dispute_reversal", 700, source="dp_2", when=at(8, 1), available_on=at(12), type="adjustment")
    plan = made.plan(realm.books(), rules(time_zone="America/New_York"))
    dates = [each.dated for each in plan.intents]
    assert dates == sorted(dates)
    assert dates[-2:] == [date(2026, 6, 7), date(2026, 6, 8)]


def test_an_automatic_payout_must_sum_and_a_manual_one_need_not(realm: Company) -> None:
    made = with_money(5_000)
    wrong = made.payout(4_999)
    plan = made.plan(realm.books())
    assert [(each.code, each.subject) for each in plan.findings] == [("payout_does_not_sum", wrong)]
    assert "5000 USD" in plan.findings[0].detail
    made.one("payout", wrong)["automatic"] = False
    plan = made.posted(realm)
    assert not plan.findings
    assert realm.balance("Stripe Clearing") == Decimal("0.01")


def test_each_payout_sums_to_what_stripe_lists_for_it(realm: Company) -> None:
    """Whatever else was available: Stripe may leave some of it for a later payout."""
    made = with_money(5_000)
    second = made.moved("dispute_reversal", 700, source="dp_2", when=at(4), available_on=at(4))
    [first] = [each["id"] for each in made.objects["balance_transaction"] if each["id"] != second]
    made.payout(5_000, listed=[first])
    made.payout(700, when=at(7), arrival=at(9, 0), listed=[second])
    assert made.posted(realm).findings == ()
    assert realm.balance("Stripe Clearing") == 0


def test_a_payout_is_booked_once_stripe_says_what_it_paid_out(realm: Company) -> None:
    made = with_money()
    payout = made.payout(5_000, reconciliation_status="in_progress")
    listed = made.paid_out.pop(payout)
    plan = made.plan(realm.books())
    assert [(each.code, each.severity, each.subject) for each in plan.findings] == [
        ("waits_for_another", Severity.LOW, payout)
    ]
    made.one("payout", payout)["reconciliation_status"] = "completed"
    plan = made.plan(realm.books())
    assert [(each.code, each.subject) for each in plan.findings] == [("payout_balance_transactions_unread", payout)]
    assert f"`finance-os replay --read --object payout:{payout}`" in plan.findings[0].detail
    assert not [each for each in plan.intents if each.entity == "Deposit"]
    made.paid_out[payout] = listed
    assert made.posted(realm).findings == ()
    assert realm.balance("Stripe Clearing") == 0


def test_a_minimum_balance_is_held_back_and_released_and_books_nothing(realm: Company) -> None:
    made = with_money(5_000)
    [money] = [each["id"] for each in made.objects["balance_transaction"]]
    hold = made.moved("payout_minimum_balance_hold", -1_000, when=at(6, 1))
    made.payout(4_000, listed=[money, hold])
    plan = made.plan(realm.books())
    assert [(each.code, each.subject) for each in plan.findings] == [("waits_for_another", hold)]
    made.moved("payout_minimum_balance_release", 1_000, when=at(6, 1))
    plan = made.posted(realm)
    assert plan.findings == ()
    assert realm.balance("Stripe Clearing") == 10
    assert not [each for each in plan.intents if each.key.stripe_id == hold]


@pytest.mark.parametrize("is_stated", [False, True], ids=["whole history", "stated, hold not staged"])
def test_a_minimum_balance_that_is_released_as_the_balance_date_begins_is_in_clearing_by_the_opening(
    realm: Company, is_stated: bool
) -> None:
    """Every day's payout holds the same amount back; the first one's hold lies before the balance date."""
    made = Made()
    made.moved("fee", 10_000, when=at(3))
    for day in (5, 6, 7):
        made.moved("payout_minimum_balance_hold", -5_000, when=at(day, 0) - (day == 5))
        made.moved("payout_minimum_balance_release", 5_000, when=at(day, 0))
    chosen = rules(balance_date=date(2026, 6, 5), opening_account="Undeposited Funds")
    if is_stated:
        chosen = msgspec.structs.replace(chosen, opening_stripe_balance={"usd": "50.00"})
        moves = made.objects["balance_transaction"]
        made.objects["balance_transaction"] = [each for each in moves if each["created"] >= at(5, 0)]
    plan = made.posted(realm, chosen)
    assert plan.findings == ()
    assert [str(each.key) for each in plan.intents] == ["balance:usd:opening"]
    assert realm.balance("Stripe Clearing") == 100
    assert balance_of(made.evidence, chosen) == {"usd": 10_000}


def test_a_release_without_its_hold_is_told_on_any_later_day(realm: Company) -> None:
    made = with_money()
    released = made.moved("payout_minimum_balance_release", 1_000, when=at(6, 1))
    held = made.moved("payout_minimum_balance_hold", -1_000, when=at(7, 1))
    plan = made.plan(realm.books())
    assert [(each.code, each.subject) for each in plan.findings] == [
        ("waits_for_another", released),
        ("waits_for_another", held),
    ]


def test_money_that_was_on_its_way_for_long_still_sums(realm: Company) -> None:
    """A member from before the balance date counts, though it is not booked."""
    made = with_money(5_000)
    made.payout(5_000)
    plan = made.plan(realm.books(), rules(balance_date=date(2026, 6, 5), opening_account="Undeposited Funds"))
    assert plan.findings == ()
    assert {each.key.role for each in plan.intents} == {"opening", "payout"}


def test_a_negative_payout_comes_out_of_the_bank(realm: Company) -> None:
    made = Made()
    made.moved("dispute", -900, source="dp_1", when=at(3), type="adjustment")
    payout = made.payout(-900)
    assert made.posted(realm).findings == ()
    (entry,) = [each for each in realm.all("JournalEntry") if payout in each.get("PrivateNote", "")]
    assert entry["TxnDate"] == "2026-06-08"
    assert realm.balance("Stripe Clearing") == 0


def test_a_payout_that_is_on_its_way_or_canceled_moves_nothing(realm: Company) -> None:
    made = with_money()
    for status in ("pending", "in_transit", "canceled", "failed"):
        made.payout(5_000, status=status)
        assert [each for each in made.plan(realm.books()).intents if each.key.stripe_object == "payout"] == []
        made.objects["payout"].clear()


def test_a_payout_that_failed_after_it_was_booked_is_turned_round(realm: Company) -> None:
    made = with_money()
    bank = realm.balance("Rho Checking")
    payout = made.payout(5_000)
    realm.apply(made.plan(realm.books()))
    assert realm.balance("Rho Checking") == bank + 50
    back = made.moved("payout_reversal", 5_000, source=payout, when=at(10))
    made.one("payout", payout).update(status="failed", failure_balance_transaction=back)
    plan = made.plan(realm.books())
    assert {each.key.role for each in plan.intents if each.key.stripe_id == payout} == {"payout", "failure"}
    new = [each for each in plan.intents if str(each.key) not in realm.ids]
    realm.apply(type(plan)(tuple(new)))
    assert realm.balance("Rho Checking") == bank
    assert realm.balance("Stripe Clearing") == 50
    # The same is known from what was sent, before QuickBooks has been read again.
    untouched = type(realm.books())({**realm.books().held, "Deposit": {}}, realm.books().rates, is_multicurrency=True)
    key = LinkKey("payout", payout, "payout")
    known = made.plan(untouched, booked={key: next(each.dated for each in plan.intents if each.key == key)})
    assert {each.key.role for each in known.intents if each.key.stripe_id == payout} == {"payout", "failure"}


def test_a_deposit_of_a_payout_that_failed_after_it_was_adopted_is_raised(realm: Company) -> None:
    made = with_money()
    payout, held = made.payout(5_000), deposit(realm, 50, "2026-06-08")
    assert made.posted(realm).findings == ()
    back = made.moved("payout_reversal", 5_000, source=payout, when=at(10))
    made.one("payout", payout).update(status="failed", failure_balance_transaction=back)
    plan = made.plan(realm.books())
    assert [(each.code, each.severity, each.subject) for each in plan.findings] == [
        ("deposit_of_failed_payout", Severity.HIGH, payout)
    ]
    assert f"Deposit {held} " in plan.findings[0].detail
    # Its money goes out again with the next payout, which just that deposit may be of.
    made.payout(5_000, when=at(10, 13), arrival=at(11, 0), listed=[back])
    assert codes(made.plan(realm.books())) == ["deposit_may_be_payout"]
    made.objects["payout"].pop()
    body = next(each for each in realm.all("Deposit") if each["Id"] == held)
    realm.client.write("Deposit", {**body, "PrivateNote": f"not {payout}"})
    assert made.plan(realm.books()).findings == ()


@pytest.mark.parametrize("listed", [True, False], ids=["other ones listed", "nothing staged"])
def test_what_is_booked_of_a_payout_that_failed_is_turned_round_whatever_is_listed_of_it(
    realm: Company, listed: bool
) -> None:
    made = with_money()
    payout = made.payout(5_000)
    realm.apply(made.plan(realm.books()))
    del made.paid_out[payout]
    if listed:
        made.paid_out[payout] = [made.moved("fee", -1, when=at(9))]
    back = made.moved("payout_reversal", 5_000, source=payout, when=at(10))
    made.one("payout", payout).update(status="failed", failure_balance_transaction=back)
    plan = made.plan(realm.books())
    assert plan.findings == ()
    assert {each.key.role for each in plan.intents if each.key.stripe_id == payout} == {"payout", "failure"}


def test_an_automatic_payout_that_stripe_never_lists_is_raised(realm: Company) -> None:
    """It does not wait for anything."""
    made = with_money()
    payout = made.payout(5_000, reconciliation_status="not_applicable")
    plan = made.plan(realm.books())
    assert [(each.code, each.severity, each.subject) for each in plan.findings] == [
        ("payout_not_listed", Severity.HIGH, payout)
    ]
    assert not [each for each in plan.intents if each.entity == "Deposit"]


def test_a_deposit_that_fits_is_adopted(realm: Company) -> None:
    made = with_money()
    payout = made.payout(5_000)
    far, near = deposit(realm, 50, "2026-06-13"), deposit(realm, 50, "2026-06-09")
    plan = made.posted(realm)
    assert [(each.code, each.severity, each.subject) for each in plan.findings] == [
        ("deposit_date_differs", Severity.LOW, payout)
    ]
    assert "2026-06-09" in plan.findings[0].detail
    assert plan.adoptions[LinkKey("payout", payout, "payout")].qbo_id == near != far
    assert not [each for each in plan.intents if each.entity == "Deposit"]


def test_the_deposit_that_names_the_payout_comes_first(realm: Company) -> None:
    made = with_money()
    payout = made.payout(5_000)
    deposit(realm, 50, "2026-06-08")
    named = deposit(realm, 50, "2026-06-10", PrivateNote=f"Stripe payout {payout}")
    deposit(realm, 50, "2026-06-08", PrivateNote="Stripe payout po_another")
    assert made.plan(realm.books()).adoptions[LinkKey("payout", payout, "payout")].qbo_id == named


def test_an_adopted_deposit_from_elsewhere_is_raised(realm: Company) -> None:
    made = with_money()
    payout = made.payout(5_000)
    held = deposit(realm, 50, "2026-06-08", account="Undeposited Funds")
    plan = made.plan(realm.books())
    assert [(each.code, each.subject) for each in plan.findings] == [("deposit_not_out_of_clearing", payout)]
    assert held in plan.findings[0].detail


def test_two_payouts_do_not_share_a_deposit(realm: Company) -> None:
    made = with_money()
    made.payout(5_000, automatic=False)
    made.payout(5_000, listed=[made.moved("dispute_reversal", 5_000, source="dp_2", when=at(4))])
    deposit(realm, 50, "2026-06-08")
    plan = made.posted(realm)
    assert codes(plan) == []
    assert len(plan.adoptions) == 1
    assert len([each for each in plan.intents if each.entity == "Deposit"]) == 1
    assert realm.balance("Stripe Clearing") == 0


def test_a_deposit_of_the_arrival_date_raises_nothing(realm: Company) -> None:
    made = with_money()
    payout, held = made.payout(5_000), deposit(realm, 50, "2026-06-08")
    plan = made.posted(realm)
    assert plan.findings == ()
    assert plan.adoptions[LinkKey("payout", payout, "payout")].qbo_id == held


def test_a_date_that_differs_by_more_than_two_days_weighs_more(realm: Company) -> None:
    made = with_money()
    made.payout(5_000)
    deposit(realm, 50, "2026-06-11")
    assert [(each.code, each.severity) for each in made.posted(realm).findings] == [
        ("deposit_date_differs", Severity.MEDIUM)
    ]


@pytest.mark.parametrize("day", ["2026-06-05", "2026-06-13", "2026-07-08"], ids=["before", "five days", "thirty days"])
def test_a_deposit_that_may_be_the_payout_holds_it_until_people_say(realm: Company, day: str) -> None:
    """Dated before the payout was made though near its arrival, or too late to be it by itself."""
    made = with_money()
    payout = made.payout(5_000)
    held = deposit(realm, 50, day)
    plan = made.plan(realm.books())
    assert [(each.code, each.severity, each.subject) for each in plan.findings] == [
        ("deposit_may_be_payout", Severity.HIGH, payout)
    ]
    assert not [key for key in (*plan.adoptions, *(each.key for each in plan.intents)) if key.stripe_id == payout]
    for note, adopted in ((f"not {payout}", None), (f"It is {payout}", held)):
        body = next(each for each in realm.all("Deposit") if each["Id"] == held)
        realm.client.write("Deposit", {**body, "PrivateNote": note})
        told = made.plan(realm.books())
        found = told.adoptions.get(LinkKey("payout", payout, "payout"))
        assert (found.qbo_id if found else None) == adopted
        assert codes(told) == (["deposit_date_differs"] if adopted else [])
        assert len([each for each in told.intents if each.entity == "Deposit"]) == (adopted is None)


@pytest.mark.parametrize(
    ("day", "amount", "chosen"),
    [("2026-07-09", 50, {}), ("2026-06-04", 50, {}), ("2026-06-13", 51, {}), ("2026-06-05", 50, {"payout_days": 2})],
    ids=["too far", "before it was made and not near", "another amount", "not near by these rules"],
)
def test_other_deposits_hold_nothing(realm: Company, day: str, amount: int, chosen: dict[str, Any]) -> None:
    made = with_money()
    payout = made.payout(5_000)
    deposit(realm, amount, day)
    plan = made.posted(realm, rules(**chosen))
    assert plan.findings == ()
    assert [each.key.stripe_id for each in plan.intents if each.entity == "Deposit"] == [payout]


def test_equal_payouts_that_return_have_their_own_deposits(realm: Company) -> None:
    """One a week; who enters them is late with one, by a day more than the rules let pass: only that one is asked for,
    and the one after the last is made."""
    made = with_money(20_000)
    payouts = [
        made.payout(5_000, when=at(1 + 7 * week, 1), arrival=at(3 + 7 * week, 0), automatic=False) for week in range(4)
    ]
    for day in ("2026-06-03", "2026-06-14", "2026-06-17"):
        deposit(realm, 50, day)
    plan = made.plan(realm.books())
    assert [(each.code, each.subject) for each in plan.findings] == [("deposit_may_be_payout", payouts[1])]
    assert {key.stripe_id for key in plan.adoptions} == {payouts[0], payouts[2]}
    assert [each.key.stripe_id for each in plan.intents if each.entity == "Deposit"] == [payouts[3]]


def test_what_is_nearest_to_a_payout_before_the_balance_date_holds_none_after_it(realm: Company) -> None:
    made = with_money(10_000)
    made.payout(5_000, when=at(4), arrival=at(6, 0), automatic=False)
    later = made.payout(5_000, when=at(9), arrival=at(12, 0), automatic=False)
    deposit(realm, 50, "2026-06-10")
    chosen = rules(balance_date=date(2026, 6, 7), payout_days=1, opening_account="Undeposited Funds")
    assert codes(made.plan(realm.books(), chosen)) == ["deposit_may_be_payout"]
    deposit(realm, 50, "2026-06-09")
    plan = made.plan(realm.books(), chosen)
    assert [(each.code, each.subject) for each in plan.findings] == [("deposit_may_be_payout", later)]
