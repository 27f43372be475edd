"""What stands in QuickBooks: it follows the world however the clock moves, and agrees with it to the cent."""

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finance_os.sandbox import states
from finance_os.sandbox.quickbooks import PLANTED, QuickBooksRoom
from finance_os.sandbox.quickbooks.entries import Entry
from finance_os.sandbox.quickbooks.formats import from_minor
from finance_os.sandbox.quickbooks.settling import open_amount
from finance_os.sandbox.world import World, build

from .test_quickbooks import START, UNTIL, change, world

LATER = date(2026, 12, 1)


def everything(room: QuickBooksRoom) -> dict[str, Any]:
    """All that can be seen of a company."""
    realm = room.realm
    return {
        "objects": {kind: [entry.body() for entry in held.values()] for kind, held in realm.entries.items()},
        "gone": [each.body() for each in realm.gone],
        "planted": room.planted(),
    }


@pytest.fixture(scope="module")
def full() -> QuickBooksRoom:
    """Nearly three months, all of Stripe mirrored. Only to be looked at."""
    return QuickBooksRoom(world(days=82, size=10, seed=13), books_until=LATER)


@pytest.fixture(scope="module")
def half() -> QuickBooksRoom:
    """Nearly three months, Stripe mirrored for the first 30 days only. Only to be looked at."""
    return QuickBooksRoom(world(days=82, size=10, seed=13))


# --- following the world


@settings(max_examples=8, deadline=None)
@given(
    seed=st.integers(0, 50),
    size=st.integers(1, 5),
    steps=st.lists(st.integers(1, 15 * 86_400), min_size=1, max_size=5),
)
def test_following_in_steps_gives_the_same_books_as_at_once(seed: int, size: int, steps: list[int]) -> None:
    stepwise = World(seed=seed, start=START, size=size)
    room = QuickBooksRoom(stepwise)
    moment = stepwise.when
    for step in steps:
        moment += timedelta(seconds=step)
        stepwise.advance_to(moment)
        room.follow()
    at_once = QuickBooksRoom(build(seed=seed, start=START, until=moment, size=size))
    assert everything(room) == everything(at_once)


def test_the_world_is_only_looked_at() -> None:
    def seen(of: World) -> Any:
        ledger = of.stripe
        return [ledger.blob(r) for table in ledger.tables.values() for r in table.rows], of.bank, of.planted, of.now

    assert seen(QuickBooksRoom(world()).world) == seen(world())


def test_following_twice_does_nothing_more(full: QuickBooksRoom) -> None:
    before = everything(full)
    full.follow()
    assert everything(full) == before


@pytest.mark.parametrize("seed", [3, 7, 11])
def test_the_bookkeeper_never_fails(seed: int) -> None:
    room = QuickBooksRoom(world(days=82, size=6, seed=seed), books_until=LATER)
    assert room.bookkeeper.desk.given_up == []


def test_what_api_clients_write_stays_and_ids_go_on() -> None:
    days = world(days=20)
    room = QuickBooksRoom(days)
    made = change(room, "create", entity="Customer", body={"DisplayName": "From the export"})
    invoice = change(
        room,
        "create",
        entity="Invoice",
        body={
            "CustomerRef": {"value": made["Id"]},
            "Line": [{"Amount": 10.5, "DetailType": "SalesItemLineDetail", "SalesItemLineDetail": {}}],
        },
    )
    days.advance_to(UNTIL)
    room.follow()
    kept = room.realm.one("Invoice", invoice["Id"])
    assert kept.body()["Balance"] == Decimal("10.5")
    key, entry = next(iter(room.realm.entries["Bill"].items()))
    change(room, "delete", entity="Bill", body={"Id": key})
    days.advance_to(UNTIL + timedelta(days=20))
    room.follow()
    assert room.realm.find("Bill", key) is None
    alone = QuickBooksRoom(build(seed=7, start=START, until=UNTIL + timedelta(days=20), size=5))
    ours, theirs = ({each.fields["DocNumber"] for each in r.realm.all("Bill")} for r in (room, alone))
    assert theirs - ours == {entry.fields["DocNumber"]}
    assert not ours - theirs
    kinds = ("Invoice", "Bill", "Deposit", "Payment", "BillPayment")
    ids = [each.id for kind in kinds for each in room.realm.all(kind)]
    assert len(ids) == len(set(ids))


def test_a_bill_that_was_deleted_is_not_paid() -> None:
    days = world(days=7)
    room = QuickBooksRoom(days)
    while not room.realm.entries["Bill"]:
        days.advance_to(days.now + 3_600)
        room.follow()
    for key in list(room.realm.entries["Bill"]):
        change(room, "delete", entity="Bill", body={"Id": key})
    days.advance_to(days.now + 5 * 86_400)
    room.follow()
    assert room.realm.entries["BillPayment"] == {}


# --- agreement with Stripe


def entry_of(room: QuickBooksRoom, outside: str) -> Entry:
    found = room.bookkeeper.desk.find(outside)
    assert found is not None, outside
    return found


def settled(room: QuickBooksRoom, happened: int | None) -> bool:
    """Whether something happened long enough ago to have been entered."""
    return happened is not None and happened < room.world.now - 5 * 86_400


def test_every_invoice_stands_as_at_stripe(full: QuickBooksRoom) -> None:
    ledger = full.world.stripe
    recent = {p.invoice for p in ledger.rows("invoice_payment") if p.paid_at and not settled(full, p.paid_at)}
    recent |= {n.invoice for n in ledger.rows("credit_note") if not settled(full, n.created)}
    kinds: Counter[str] = Counter()
    for invoice in ledger.rows("invoice"):
        if not settled(full, invoice.finalized_at) or invoice.id in recent:
            continue
        if invoice.voided_at and not settled(full, invoice.voided_at):
            continue
        entry = entry_of(full, invoice.id)
        assert entry.fields["DocNumber"] == invoice.number
        assert entry.fields["CurrencyRef"]["value"] == invoice.currency.upper()
        assert entry.fields["TxnDate"] == datetime.fromtimestamp(invoice.finalized_at, UTC).date().isoformat()
        assert entry.total == (0 if invoice.status == "void" else from_minor(invoice.total, invoice.currency))
        remaining = 0 if invoice.status in ("void", "paid") else from_minor(invoice.amount_remaining, invoice.currency)
        assert open_amount(full.realm, entry) == remaining, invoice.id
        kinds[invoice.status] += 1
        kinds[invoice.currency] += 1
    assert kinds.keys() >= {"paid", "open", "void", "usd", "eur", "jpy", "bhd"}


def test_every_payment_and_refund_is_stripes(full: QuickBooksRoom) -> None:
    ledger = full.world.stripe
    count = 0
    for payment in ledger.rows("invoice_payment"):
        if settled(full, payment.paid_at):
            charge = ledger.one("payment_intent", payment.payment_intent).latest_charge
            entry = entry_of(full, charge)
            assert entry.total == from_minor(payment.amount_paid, payment.currency)
            assert entry.fields["PaymentRefNum"] == charge[-21:]
            count += 1
    assert count > 40
    voided = 0
    for refund in ledger.rows("refund"):
        if settled(full, refund.created):
            entry = entry_of(full, refund.id)
            if refund.status != "failed":
                assert entry.total == from_minor(refund.amount, refund.currency)
            elif settled(full, ledger.one("balance_transaction", refund.failure_balance_transaction).created):
                assert (entry.total, entry.fields["PrivateNote"]) == (0, f"Voided - Stripe {refund.id}")
                voided += 1
    assert voided
    memos = {n.number: n for n in ledger.rows("credit_note") if n.refund is None and settled(full, n.created)}
    for entry in full.realm.all("CreditMemo"):
        note = memos.pop(entry.fields["DocNumber"], None)
        if note is not None:
            assert entry.total == from_minor(note.amount, note.currency)
    assert memos == {}


def test_every_paid_payout_is_a_deposit_and_empties_what_waited(full: QuickBooksRoom) -> None:
    ledger = full.world.stripe
    slips = {p.id for p in full.planted() if p.kind == "qbo_deposit_transposed_digits"}
    count = 0
    for payout in ledger.rows("payout"):
        if payout.status == "paid" and settled(full, payout.arrival_date):
            entry = entry_of(full, payout.id)
            arrived = datetime.fromtimestamp(payout.arrival_date, UTC).date().isoformat()
            assert entry.fields["TxnDate"] == arrived
            assert (entry.total == payout.amount) == (entry.id not in slips)
            count += 1
    assert count > 20
    realm = full.realm
    waiting = sum(
        each.total
        for each in realm.all("Payment")
        if each.fields["DepositToAccountRef"]["value"] == realm.chart.id("undeposited")
        and realm.links.deposit_of(each.id) is None
    )
    assert realm.balances.home(realm.chart.id("undeposited")) == waiting


def test_stripe_fees_are_stripes_fees(full: QuickBooksRoom) -> None:
    ledger, realm = full.world.stripe, full.realm
    paid = {p.id for p in ledger.rows("payout") if full.bookkeeper.desk.find(p.id)}
    fees = 0
    for payout in paid:
        fees += sum(moved.fee for moved in full.bookkeeper.stripe._held_by(payout))  # pyright: ignore[reportPrivateUsage]
    slip = sum(entry_of(full, key).total - ledger.one("payout", key).amount for key in paid)
    assert realm.balances.home(realm.chart.id("stripe_fees")) == fees - slip


def test_after_the_last_day_nothing_of_stripe_is_entered(half: QuickBooksRoom, full: QuickBooksRoom) -> None:
    end = datetime.combine(half.books_until + timedelta(days=1), datetime.min.time(), UTC).timestamp()
    assert half.books_until == START + timedelta(days=30)
    ledger = half.world.stripe
    numbers = {each.fields["DocNumber"] for each in half.realm.all("Invoice")}
    expected = {i.number for i in ledger.rows("invoice") if i.finalized_at and i.finalized_at < end}
    assert numbers == expected
    assert len(numbers) < len(full.realm.entries["Invoice"])
    for kind in ("Invoice", "Payment", "CreditMemo", "RefundReceipt"):
        assert max(each.fields["TxnDate"] for each in half.realm.all(kind)) <= half.books_until.isoformat()
    late = [p for p in ledger.rows("payout") if p.status == "paid" and p.arrival_date >= end]
    assert late
    assert all(half.bookkeeper.desk.find(each.id) is None for each in late)
    assert max(each.fields["TxnDate"] for each in half.realm.all("Bill")) > half.books_until.isoformat()
    open_invoices = [e for e in half.realm.all("Invoice") if open_amount(half.realm, e)]
    stripe_paid = {i.number for i in ledger.rows("invoice") if i.status == "paid"}
    assert any(each.fields["DocNumber"] in stripe_paid for each in open_invoices), "nothing left for the export"


# --- agreement with the bank


def test_the_bank_account_holds_what_the_bank_posted(full: QuickBooksRoom) -> None:
    """Line by line: every posting of Rho Checking has its bank line of the same day, but for what is planted."""
    realm, bank = full.realm, full.realm.chart.id("bank")
    until = datetime.fromtimestamp(full.world.now - 5 * 86_400, UTC).date()
    booked: Counter[tuple[str, int]] = Counter()
    for kind in ("Deposit", "Purchase", "BillPayment", "Transfer"):
        for entry in realm.all(kind):
            if entry.fields["TxnDate"] <= until.isoformat():
                sign = 1 if kind == "Deposit" else -1
                booked[entry.fields["TxnDate"], sign * entry.total] += 1
    posted = Counter((line.posted.isoformat(), line.amount) for line in full.world.bank if line.posted <= until)
    planted = {p.kind: p for p in full.world.planted} | {p.kind: p for p in full.planted()}
    ledger = full.world.stripe

    def arrived(key: str) -> str:
        return datetime.fromtimestamp(ledger.one("payout", key).arrival_date, UTC).date().isoformat()

    only_booked, only_posted = booked - posted, posted - booked
    off, missing = planted["rho_amount_one_cent_off"].id, planted["rho_payout_missing"].id
    slipped = entry_of(
        full,
        next(
            k
            for k, v in full.bookkeeper.desk.objects.items()
            if v == ("Deposit", planted["qbo_deposit_transposed_digits"].id)
        ),
    )
    slipped_payout = slipped.fields["PrivateNote"].removeprefix("Stripe payout ")
    assert only_booked == Counter(
        [
            (arrived(off), ledger.one("payout", off).amount),
            (arrived(missing), ledger.one("payout", missing).amount),
            (arrived(slipped_payout), slipped.total),
        ]
    )
    assert only_posted == Counter(
        [
            (arrived(off), ledger.one("payout", off).amount + 1),
            (arrived(slipped_payout), ledger.one("payout", slipped_payout).amount),
        ]
    )
    assert realm.balances.home(bank) == sum(
        (1 if kind == "Deposit" else -1) * entry.total
        for kind in ("Deposit", "Purchase", "BillPayment")
        for entry in realm.all(kind)
    )


def test_publishers_are_billed_what_they_are_paid(full: QuickBooksRoom) -> None:
    realm = full.realm
    for publisher in full.world.publishers:
        vendor = entry_of(full, publisher.id)
        paid = -sum(line.amount for line in full.world.bank if line.reference == publisher.id)
        bills = [each for each in realm.all("Bill") if each.fields["VendorRef"]["value"] == vendor.id]
        assert sum(bill.total for bill in bills) == paid > 0
    owing = [each for each in realm.all("Vendor") if realm.balances.owed(each.key)]
    assert [each.name for each in owing] == [f"{full.world.publishers[1].name} LLC"]


# --- what is planted, and what happens later


def test_planted_disagreements_are_where_they_say(full: QuickBooksRoom) -> None:
    planted = {each.kind: each for each in full.planted()}
    assert planted.keys() == PLANTED.keys()
    assert len(full.planted()) == len(planted)
    again = full.realm.one("Vendor", planted["qbo_vendor_twice"].id)
    first = entry_of(full, full.world.publishers[1].id)
    assert again.name == f"{first.name} LLC"
    assert again.fields["PrimaryEmailAddr"] == first.fields["PrimaryEmailAddr"]
    twice = full.realm.one("Bill", planted["qbo_bill_entered_twice"].id)
    assert twice.fields["VendorRef"]["value"] == again.id
    assert open_amount(full.realm, twice) == twice.total
    (twin,) = [
        each
        for each in full.realm.all("Bill")
        if each.fields["DocNumber"] == twice.fields["DocNumber"].removesuffix("-A")
    ]
    assert (twin.total, open_amount(full.realm, twin)) == (twice.total, 0)
    slip = planted["qbo_deposit_transposed_digits"]
    wrong, right = (int(word) for word in slip.detail.replace(" instead of ", " ").split()[:2])
    assert wrong != right
    assert sorted(str(wrong)) == sorted(str(right))
    assert full.realm.one("Deposit", slip.id).total == wrong


def test_objects_change_after_they_were_made(full: QuickBooksRoom) -> None:
    realm = full.realm
    edited = [each for each in realm.all("Bill") if "checked" in each.fields.get("PrivateNote", "")]
    assert 0 < len(edited) < len(realm.entries["Bill"]) / 2
    for entry in edited:
        assert entry.sync >= 2
        assert entry.updated > entry.created
    paid = [each for each in realm.all("Invoice") if realm.links.payers(each.key)]
    assert all(each.sync and each.updated > each.created for each in paid)
    retired = [each for each in realm.all("Vendor") if not each.fields["Active"]]
    assert [each.name for each in retired] == ["Print Partners LLC (deleted)"]
    assert [each.kind.name for each in realm.gone] == ["JournalEntry"]
    assert START < datetime.fromtimestamp(realm.gone[0].at, UTC).date() < UNTIL.date()


def test_everything_is_dated_by_a_working_day_of_the_world(full: QuickBooksRoom) -> None:
    first = datetime.combine(START, datetime.min.time(), UTC).timestamp()
    for held in full.realm.entries.values():
        for entry in held.values():
            assert first <= entry.created <= entry.updated <= full.world.now
            assert entry.created == first or datetime.fromtimestamp(entry.created, UTC).weekday() < 5


# --- the books balance


def rooms() -> Iterator[str]:
    yield from ("full", "half")


@pytest.mark.parametrize("which", rooms())
def test_debits_equal_credits(which: str, request: pytest.FixtureRequest) -> None:
    realm = request.getfixturevalue(which).realm
    assert sum(realm.balances.home(each.id) for each in realm.all("Account")) == 0
    assert any(realm.balances.home(each.id) for each in realm.all("Account"))


def test_clearing_holds_what_stripe_still_has(full: QuickBooksRoom) -> None:
    """Foreign money and refunds that no entered payout has settled yet."""
    realm, ledger = full.realm, full.world.stripe
    held = {
        moved.id
        for payout in ledger.rows("payout")
        if full.bookkeeper.desk.find(payout.id)
        for moved in full.bookkeeper.stripe._held_by(payout.id)  # pyright: ignore[reportPrivateUsage]
    }
    expected = 0
    for moved in ledger.rows("balance_transaction"):
        if moved.id in held:
            continue
        source: states.Record | None = ledger.find("charge", moved.source) or ledger.find("refund", moved.source)
        entry = full.bookkeeper.desk.find(moved.source)
        if source is None or entry is None or moved.type not in ("charge", "payment", "refund", "payment_refund"):
            continue
        if moved.type in ("charge", "payment") and moved.source_currency == "usd":
            continue
        expected += moved.amount if entry.total else 0
    returned = sum(m.amount for m in ledger.rows("balance_transaction") if m.type == "refund_failure" and m.id in held)
    voided = sum(
        m.amount
        for m in ledger.rows("balance_transaction")
        if m.type == "refund" and m.id in held and getattr(full.bookkeeper.desk.find(m.source), "total", 1) == 0
    )
    assert realm.balances.home(realm.chart.id("clearing")) == expected - returned - voided
