"""The synthetic company: deterministic, growing, and of one mind about money except where that is planted."""

from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finance_os.sandbox import rho
from finance_os.sandbox.company import PLANTED_KINDS
from finance_os.sandbox.currency import EXPONENTS, to_micros, to_minor
from finance_os.sandbox.world import World, build

from .conftest import START, UNTIL


def everything(world: World) -> dict[str, Any]:
    """All that can be seen of a world."""
    return {
        "stripe": {kind: [world.stripe.blob(r) for r in table.rows] for kind, table in world.stripe.tables.items()},
        "balance": world.stripe.balance(),
        "gravity": world.gravity.rows,
        "bank": world.bank,
        "planted": world.planted,
    }


def planted(world: World, kind: str) -> str:
    return next(p.id for p in world.planted if p.kind == kind)


@settings(max_examples=12)
@given(
    seed=st.integers(0, 50),
    size=st.integers(1, 8),
    steps=st.lists(st.integers(1, 20 * 86_400), min_size=1, max_size=6),
)
def test_moving_the_clock_in_steps_gives_the_same_world_as_at_once(seed: int, size: int, steps: list[int]) -> None:
    stepwise = World(seed=seed, start=START, size=size)
    moment = stepwise.when
    for step in steps:
        moment += timedelta(seconds=step)
        stepwise.advance_to(moment)
        for kind, table in stepwise.stripe.tables.items():
            for record in table.rows[-3:]:
                assert stepwise.stripe.blob(record), kind
    assert everything(stepwise) == everything(build(seed=seed, start=START, until=moment, size=size))


def test_another_seed_is_another_company_under_the_same_identifiers() -> None:
    until = datetime(2026, 7, 20, tzinfo=UTC)
    first, second = (build(seed=seed, start=START, until=until, size=4) for seed in (1, 2))
    shared = first.stripe.tables["invoice"].by_id.keys() & second.stripe.tables["invoice"].by_id.keys()
    assert len(shared) > 10
    same = [key for key in shared if first.stripe.one("invoice", key).total == second.stripe.one("invoice", key).total]
    assert len(same) < len(shared) / 4
    assert first.stripe.account != second.stripe.account


def test_the_clock_does_not_go_back(world: World) -> None:
    with pytest.raises(ValueError, match="does not go back"):
        world.advance_to(UNTIL - timedelta(seconds=1))


def test_the_world_holds_every_kind_of_thing(world: World) -> None:
    ledger = world.stripe
    assert {c.currency for c in ledger.rows("invoice")} == set(EXPONENTS)
    assert {i.status for i in ledger.rows("invoice")} >= {"open", "paid", "void", "uncollectible"}
    assert {c.status for c in ledger.rows("charge")} >= {"succeeded", "failed", "pending"}
    assert {p.status for p in ledger.rows("invoice_payment")} == {"open", "paid", "canceled"}
    assert {n.type for n in ledger.rows("credit_note")} == {"pre_payment", "post_payment"}
    assert {t.type for t in ledger.rows("balance_transaction")} >= {
        "charge",
        "payment",
        "refund",
        "payout",
        "adjustment",
    }
    assert {t.type for t in ledger.rows("customer_balance_transaction")} >= {
        "adjustment",
        "applied_to_invoice",
        "credit_note",
    }
    assert max(len(i.lines) for i in ledger.rows("invoice")) == 250
    assert max(len(c.refunds) for c in ledger.rows("charge")) > 10
    assert any(c.deleted for c in ledger.tables["customer"].by_id.values())
    partial = Counter(p.invoice for p in ledger.rows("invoice_payment") if p.status == "paid")
    assert max(partial.values()) > 1
    amounts = [c.amount for c in ledger.rows("charge") if c.currency == "bhd"]
    assert amounts
    assert all(amount % 10 == 0 for amount in amounts)
    invoices = ledger.rows("invoice")
    drafts = ledger._counts["invoice"] - len(invoices)  # pyright: ignore[reportPrivateUsage]
    assert drafts > 0, "no draft was deleted"


# --- Stripe within itself


def test_invoices_add_up(world: World) -> None:
    paid: dict[str, int] = defaultdict(int)
    for payment in world.stripe.rows("invoice_payment"):
        paid[payment.invoice] += payment.amount_paid or 0
    credited: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for note in world.stripe.rows("credit_note"):
        assert sum(line.amount for line in note.lines) == note.amount
        credited[note.invoice][note.type] += note.amount
    for invoice in world.stripe.rows("invoice"):
        assert invoice.total == sum(line.amount for line in invoice.lines)
        assert invoice.amount_paid == paid[invoice.id]
        assert invoice.pre_payment_credit_notes_amount == credited[invoice.id]["pre_payment"]
        assert invoice.post_payment_credit_notes_amount == credited[invoice.id]["post_payment"]
        used = (invoice.ending_balance or 0) - invoice.starting_balance if invoice.status != "draft" else 0
        assert invoice.amount_due == invoice.total - used - invoice.pre_payment_credit_notes_amount
        if invoice.status != "void":
            assert invoice.amount_remaining == invoice.amount_due - invoice.amount_paid
        assert (invoice.status == "paid") == (invoice.paid_at is not None)


def test_customer_balances_are_the_sum_of_their_transactions(world: World) -> None:
    for customer in world.stripe.tables["customer"].by_id.values():
        balance = 0
        for transaction in world.stripe.rows("customer_balance_transaction", customer=customer.id):
            balance += transaction.amount
            assert transaction.ending_balance == balance
        assert customer.balance == balance


def test_charges_know_what_was_refunded(world: World) -> None:
    refunded: dict[str, int] = defaultdict(int)
    for refund in world.stripe.rows("refund"):
        refunded[refund.charge] += refund.amount if refund.status != "failed" else 0
    for charge in world.stripe.rows("charge"):
        assert charge.amount_refunded == refunded[charge.id] <= charge.amount


def test_payouts_take_every_available_cent_once(world: World) -> None:
    transactions = world.stripe.rows("balance_transaction")
    by_payout: dict[str | None, int] = defaultdict(int)
    for transaction in transactions:
        by_payout[transaction.payout] += transaction.net
    rest = by_payout.pop(None)
    assert set(by_payout) == {payout.id for payout in world.stripe.rows("payout")}
    assert set(by_payout.values()) == {0}
    assert sum(world.stripe.balance()) == rest
    for transaction in transactions:
        if transaction.payout and transaction.type != "payout":
            assert transaction.available_on <= world.stripe.one("payout", transaction.payout).created


# --- across the systems, to the cent


def test_gravity_bills_what_stripe_invoices(world: World) -> None:
    rows = {row["stripe_invoice_id"]: row for row in world.gravity.rows["advertiser_billing"].values()}
    assert set(rows) == {invoice.id for invoice in world.stripe.rows("invoice")}
    off = {}
    for invoice in world.stripe.rows("invoice"):
        row = rows[invoice.id]
        difference = row["billed_microdollars"] - to_micros(invoice.total, invoice.currency)
        if difference:
            off[invoice.id] = difference
        assert row["paid_microdollars"] == to_micros(invoice.amount_paid, invoice.currency)
        assert row["state"].replace("partially_paid", "open") == invoice.status
        assert abs(row["spend_microdollars"] - to_micros(invoice.total, invoice.currency)) <= len(
            invoice.lines
        ) * to_micros(10, invoice.currency)
    key = planted(world, "billed_one_unit_off")
    assert set(off) == {key}
    assert off[key] == to_micros(
        10 if world.stripe.one("invoice", key).currency == "bhd" else 1, world.stripe.one("invoice", key).currency
    )


def test_campaign_spend_is_billed_once(world: World) -> None:
    """What campaigns spent, day by day, is on an invoice line or not billed yet."""
    until = UNTIL.date()
    billed: dict[str, list[int]] = defaultdict(list)
    for invoice in world.stripe.rows("invoice"):
        for line in invoice.lines:
            billed[line.reference].append(line.amount)
    for advertiser in world.advertisers:
        step = to_micros(10 if advertiser.currency == "bhd" else 1, advertiser.currency)
        for campaign in advertiser.campaigns:
            days = (until - START).days
            spent = sum(campaign.spend(world.seed, START + timedelta(days=n)) for n in range(days))
            lines = [to_micros(amount, advertiser.currency) for amount in billed[campaign.id]]
            assert abs(spent - sum(lines) - campaign.unbilled) <= step * max(1, len(lines))


def test_adjustments_stand_for_credits_in_stripe(world: World) -> None:
    expected: dict[str, int] = {}
    with_note = {note.refund for note in world.stripe.rows("credit_note")}
    for note in world.stripe.rows("credit_note"):
        expected[note.id] = to_micros(note.amount, note.currency)
    for refund in world.stripe.rows("refund"):
        if refund.id not in with_note:
            expected[refund.id] = to_micros(refund.amount, refund.currency)
    for transaction in world.stripe.rows("customer_balance_transaction"):
        if transaction.type == "adjustment":
            expected[transaction.id] = -to_micros(transaction.amount, transaction.currency)
    rows = world.gravity.rows["billing_adjustments"]
    booked = {row["stripe_reference"]: -row["amount_microdollars"] for row in rows.values() if row["stripe_reference"]}
    without = [key for key, row in rows.items() if row["stripe_reference"] is None]
    assert [str(key) for key in without] == [planted(world, "adjustment_without_credit_note")]
    assert expected.keys() - booked.keys() == {planted(world, "credit_note_without_adjustment")}
    assert booked == {key: expected[key] for key in booked}
    failed = {refund.id for refund in world.stripe.rows("refund") if refund.status == "failed"}
    assert failed == {row["stripe_reference"] for row in rows.values() if row["state"] == "reversed"}


def test_paid_payouts_arrive_at_the_bank(world: World) -> None:
    deposits = {line.payout: line for line in world.bank if line.payout}
    paid = {payout.id: payout for payout in world.stripe.rows("payout") if payout.status == "paid"}
    assert paid.keys() - deposits.keys() == {planted(world, "rho_payout_missing")}
    assert deposits.keys() <= paid.keys()
    off = {key: deposits[key].amount - paid[key].amount for key in deposits if deposits[key].amount != paid[key].amount}
    assert off == {planted(world, "rho_amount_one_cent_off"): 1}
    for key, line in deposits.items():
        assert line.posted == datetime.fromtimestamp(paid[key].arrival_date, UTC).date()
        assert line.reference == paid[key].trace_id
    unexplained = [line.transaction_id for line in world.bank if line.counterparty == "Stripe" and not line.payout]
    assert unexplained == [planted(world, "rho_deposit_without_payout")]


def test_all_that_is_planted_is_documented(world: World) -> None:
    assert sorted(p.kind for p in world.planted) == sorted(PLANTED_KINDS)


# --- events


def test_what_changes_without_an_event_is_known() -> None:
    """Day after day, whatever reads differently was created or has an event, but for what Stripe leaves silent."""
    world = World(seed=11, start=START, size=8)
    seen: dict[str, dict[str, Any]] = {}
    events = 0
    for day in range(1, 75):
        since = world.now
        world.advance_to(datetime(START.year, START.month, START.day, 12, tzinfo=UTC) + timedelta(days=day))
        told = set()
        for event in world.stripe.rows("event"):
            if event.created > since:
                told.add(world.stripe.render(event)["data"]["object"]["id"])
                events += 1
        for kind, table in world.stripe.tables.items():
            if kind == "event":
                continue
            for record in list(table.by_id.values()):
                before, after = seen.get(record.id), world.stripe.render(record)
                seen[record.id] = after
                if before is None or before == after or record.id in told:
                    continue
                changed = {name for name in after if before.get(name) != after[name]}
                allowed = {
                    "balance_transaction": {"status"},
                    "payment_intent": {"amount"},
                    "invoice_payment": {"amount_requested", "status", "status_transitions"},
                }.get(kind, set())
                assert changed <= allowed, (kind, record.id, changed)
    assert events > 500


def test_every_step_logs_stripes_event(world: World) -> None:
    told = {event.type for event in world.stripe.rows("event")}
    assert told >= {
        "charge.failed",
        "charge.pending",
        "charge.refunded",
        "charge.succeeded",
        "charge.updated",
        "credit_note.created",
        "customer.updated",
        "invoice.created",
        "invoice.finalized",
        "invoice.paid",
        "invoice.payment_failed",
        "invoice.sent",
        "invoice.updated",
        "invoice_payment.paid",
        "payment_intent.created",
        "payment_intent.payment_failed",
        "payment_intent.processing",
        "payment_intent.succeeded",
        "payout.created",
        "payout.paid",
        "payout.reconciliation_completed",
        "payout.updated",
        "refund.created",
    }


def test_events_live_thirty_days(world: World) -> None:
    oldest = world.stripe.rows("event")[0]
    assert UNTIL.timestamp() - 30 * 86_400 <= oldest.created < UNTIL.timestamp() - 29 * 86_400


def test_a_balance_change_is_told_with_what_it_was(world: World) -> None:
    told = 0
    for event in world.stripe.rows("event"):
        if event.type != "customer.updated":
            continue
        body = world.stripe.render(event)["data"]
        if "balance" in body["previous_attributes"]:
            told += 1
            moved = [
                t
                for t in world.stripe.rows("customer_balance_transaction", customer=body["object"]["id"])
                if t.created == event.created
            ]
            assert any(t.ending_balance - t.amount == body["previous_attributes"]["balance"] for t in moved)
    assert told > 5


# --- numbers and files


@given(st.sampled_from(sorted(EXPONENTS)), st.integers(-(10**15), 10**15))
def test_rounding_is_to_the_nearest_chargeable_unit(currency: str, micros: int) -> None:
    step = 10 if EXPONENTS[currency] == 3 else 1
    minor = to_minor(micros, currency)
    assert minor % step == 0
    assert abs(to_micros(minor, currency) - micros) * 2 <= to_micros(step, currency)


def test_halves_go_to_the_even_unit() -> None:
    cases = {4_999: 0, 5_000: 0, 5_001: 1, 14_999: 1, 15_000: 2, -5_000: 0, -5_001: -1, -15_000: -2}
    assert {micros: to_minor(micros, "usd") for micros in cases} == cases
    assert to_minor(15_001, "bhd") == 20
    assert to_minor(1_500_000, "jpy") == 2


@given(st.integers(-(10**12), 10**12))
def test_dollars_are_exact(cents: int) -> None:
    text = rho.dollars(cents)
    sign = -1 if text.startswith("-") else 1
    whole, _, rest = text.lstrip("-").partition(".")
    assert sign * (int(whole) * 100 + int(rest)) == cents
    assert len(rest) == 2


def test_payouts_leave_the_minimum_balance_at_stripe() -> None:
    kept = 250_000
    world = build(seed=3, start=START, until=UNTIL, size=6, minimum_balance=kept)
    moved = world.stripe.rows("balance_transaction")
    payouts = world.stripe.rows("payout")
    assert len(payouts) > 5
    for payout in payouts:
        listed = world.stripe.rows("balance_transaction", payout=payout.id)
        assert sum(each.net for each in listed) == 0
        [held] = [each for each in listed if each.type == "payout_minimum_balance_hold"]
        [released] = [
            each for each in moved if each.type == "payout_minimum_balance_release" and each.source == payout.id
        ]
        assert (held.net, released.net, released.created) == (-kept, kept, payout.created)
        assert released.payout != payout.id
        until = [each for each in moved if each.created <= payout.created]
        left = sum(each.net for each in until if each.available_on <= payout.created or each.type == "payout")
        assert left >= kept
