"""Payments: one in QuickBooks for each Stripe invoice payment, on the day that the money reached Stripe's balance.

- Dr Stripe clearing, Cr Accounts Receivable, for the gross amount; the fee is booked by `movements`. The day is that
  of the charge's balance transaction: the same as `paid_at`, but for the seconds around midnight, where the balance
  decides, so that clearing equals Stripe's balance on every day
  (https://docs.stripe.com/api/balance_transactions/object).
- A charge in another currency than the balance reaches clearing at the rate that gives the balance transaction's
  amount; QuickBooks posts the difference to the invoice's rate as exchange gain or loss (ASC 830-20: at settlement).
- A charge without an invoice, and what a charge brought beyond its invoices, is a payment that is not applied to
  anything: Cr Accounts Receivable as a credit of the customer. It is raised, for nobody but the accountant knows for
  what it is.
- What such a payment turns out to have paid, once its invoice payments are staged, is applied from it: it was booked
  once, and no second payment is made beside it.
- A bank debit that is pending may still fail, and pays no invoice until it has succeeded: it is told, not booked.
- A bank debit that was in Stripe's balance before the balance date, and paid its invoice after it, is in clearing by
  the opening: a payment that someone entered against the invoice is adopted, and without one it is told.
- A charge without an invoice that has no customer either is booked to the rules' guest customer, or not at all.
- Paid outside of Stripe, and only recorded there (a payment record, https://docs.stripe.com/api/payment-record): Dr the
  rules' account for that, such as Undeposited Funds, where QuickBooks keeps what was received until it is matched with
  a deposit, Cr Accounts Receivable, on the day of the record. A payment that someone entered in QuickBooks against the
  invoice, of this amount, is adopted instead. Without an account in the rules it is told.
- Nothing is booked before the balance transaction is there.
"""

from typing import TYPE_CHECKING

from finance_os.evidence.extraction import Severity
from finance_os.stripe_qbo.books import Held
from finance_os.stripe_qbo.intent import LinkKey
from finance_os.stripe_qbo.mapping.amounts import at_rate, qbo_amount, rate_between
from finance_os.stripe_qbo.mapping.customers import Customers
from finance_os.stripe_qbo.mapping.drafts import Drafts, Rank, number_of
from finance_os.stripe_qbo.mapping.invoices import invoice_key, linked
from finance_os.stripe_qbo.mapping.refusals import NotBooked
from finance_os.stripe_qbo.mapping.unstaged import if_older, is_history, not_staged
from finance_os.stripe_qbo.stripe_objects import BalanceTransaction, Charge, InvoicePayment

if TYPE_CHECKING:
    from finance_os.stripe_qbo.mapping.balances import Balances

CHARGED = "charge"
NOT_CAPTURED = "partial_capture_reversal"
RECORDED = "payment_record"
_DAY = 86_400


def payment_key(payment: str) -> LinkKey:
    return LinkKey("invoice_payment", payment, "payment")


def book(drafts: Drafts, customers: Customers, balances: "Balances") -> None:
    """Book everything that charges brought from the balance date on."""
    for charge in drafts.stripe.charge.values():
        moved = movement(drafts, charge.id, CHARGED)
        if charge.status == "pending" and moved is not None and drafts.is_ours(moved.created):
            drafts.find(
                "payment_pending",
                Severity.LOW,
                charge.id,
                drafts.day(moved.created),
                f"{moved.amount} {moved.currency.upper()} (minor units) are in Stripe's balance for it, and it may "
                "still fail: it is booked on its day once it has succeeded, and clearing lacks it until then.",
            )
        if charge.status != "succeeded":
            continue
        paid = _paid_by(drafts, charge)
        if moved is None and is_history(drafts, charge.created):
            _adopt_paid_since(drafts, balances, paid)
        elif moved is None:
            for each in paid:
                drafts.waiting.add(each.invoice)
            if paid and drafts.is_ours(charge.created):
                drafts.find(
                    "payment_waits",
                    Severity.LOW,
                    charge.id,
                    drafts.day(charge.created),
                    "Its balance transaction is not staged yet: the payment is booked once it is.",
                )
        elif drafts.is_ours(moved.created):
            with drafts.booking(charge.id, moved.created):
                _book(drafts, customers, balances, charge, moved, paid)
        else:
            _adopt_paid_since(drafts, balances, paid)


def _adopt_paid_since(drafts: Drafts, balances: "Balances", paid: list[InvoicePayment]) -> None:
    """What was paid since the balance date with money that Stripe's balance held before."""
    for each in paid:
        paid_at, key = each.status_transitions.paid_at, payment_key(each.id)
        if paid_at is None or not drafts.is_ours(paid_at) or key in drafts.adoptions:
            continue
        with drafts.booking(each.id, paid_at):
            held = _entered_by_hand(drafts, each)
            if held is None:
                drafts.waiting.add(each.invoice)
                amount = qbo_amount(each.amount_paid or 0, each.currency)
                raise NotBooked(
                    "payment_of_money_from_before",
                    f"{amount} {each.currency.upper()} were in Stripe's balance before the balance date, and so are in "
                    "clearing by the opening: enter the payment in QuickBooks against its invoice, out of the account "
                    "that the opening came from.",
                    Severity.MEDIUM,
                )
            drafts.adopt(key, "Payment", held)
            settled_by(drafts, balances, each)


def _entered_by_hand(drafts: Drafts, payment: InvoicePayment) -> Held | None:
    """A payment of this amount that someone entered in QuickBooks against the invoice, and that stands for no other."""
    entered = drafts.books.paid_by_hand.get(drafts.qbo_id(invoice_key(payment.invoice)) or "")
    if not entered:
        return None
    adopted = {each.qbo_id for each in drafts.adoptions.values() if each.entity == "Payment"}
    amount = qbo_amount(payment.amount_paid or 0, payment.currency)
    return next((each for each in entered if each.total_amt == amount and each.id not in adopted), None)


def book_outside(drafts: Drafts, customers: Customers, balances: "Balances") -> None:
    """Book what was paid outside of Stripe from the balance date on."""
    for each in drafts.stripe.invoice_payment.values():
        paid_at = each.status_transitions.paid_at
        if each.payment.type == RECORDED and each.status == "paid" and paid_at is not None and drafts.is_ours(paid_at):
            with drafts.booking(each.id, paid_at):
                try:
                    _outside(drafts, customers, balances, each, paid_at)
                except NotBooked:
                    drafts.waiting.add(each.invoice)
                    raise


def _outside(
    drafts: Drafts,
    customers: Customers,
    balances: "Balances",
    payment: InvoicePayment,
    moment: int,
) -> None:
    invoice, key = drafts.stripe.invoice.get(payment.invoice), payment_key(payment.id)
    if invoice is None or invoice.customer is None:
        raise not_staged("Its invoice", "invoice", payment.invoice)
    amount, day = qbo_amount(payment.amount_paid or 0, payment.currency), drafts.day(moment)
    held = _entered_by_hand(drafts, payment)
    if held is not None and not drafts.was_booked(key):
        drafts.adopt(key, "Payment", held)
        settled_by(drafts, balances, payment)
        return
    account = drafts.rules.outside_account
    if account is None:
        raise NotBooked(
            "paid_outside",
            f"{amount} {payment.currency.upper()} were paid outside of Stripe: enter the payment in QuickBooks against "
            "its invoice, or name an account for such payments in the rules.",
            Severity.MEDIUM,
        )
    settles = settled_by(drafts, balances, payment)
    drafts.create(
        key,
        "Payment",
        {
            **drafts.in_currency(payment.currency, day),
            "CustomerRef": customers.need(invoice.customer, payment.currency, moment),
            "TotalAmt": amount,
            "DepositToAccountRef": drafts.account(account),
            "PaymentRefNum": number_of(payment.payment.payment_record or payment.id),
            "Line": [linked(drafts, (settled, "Invoice", part), payment.currency) for settled, part in settles],
        },
        moment=moment,
        rank=Rank.PAYMENT,
        note=f"Stripe payment {payment.id}, paid outside of Stripe",
        evidence=(f"invoice_payment:{payment.id}",),
    )


def movement(drafts: Drafts, source: str, category: str) -> BalanceTransaction | None:
    """The balance transaction of a category that a source caused."""
    found = drafts.stripe.movements_of.get(source, ())
    return next((each for each in found if each.reporting_category == category), None)


def brought_by(drafts: Drafts, moved: BalanceTransaction) -> int:
    """What a charge brought, in minor units of the balance: all that was authorized, less what was not captured of it
    (https://docs.stripe.com/reports/reporting-categories, "partial-capture reversals")."""
    others = drafts.stripe.movements_of.get(moved.source or "", ())
    return moved.amount + sum(each.amount for each in others if each.reporting_category == NOT_CAPTURED)


def _paid_by(drafts: Drafts, charge: Charge) -> list[InvoicePayment]:
    """The invoice payments that a charge paid."""
    named = (charge.payment_intent, charge.id)
    return [each for name in named if name for each in drafts.stripe.payments_of.get(name, ()) if each.status == "paid"]


def _book(
    drafts: Drafts,
    customers: Customers,
    balances: "Balances",
    charge: Charge,
    moved: BalanceTransaction,
    paid: list[InvoicePayment],
) -> None:
    rest = (charge.amount_captured or charge.amount) - sum(each.amount_paid or 0 for each in paid)
    once = LinkKey("charge", charge.id, "payment")
    later: list[InvoicePayment] = []
    settled: list[tuple[LinkKey, int]] = []
    try:
        for each in paid:
            invoice = drafts.stripe.invoice.get(each.invoice)
            if invoice is None or invoice.customer is None:
                raise not_staged("Its invoice", "invoice", each.invoice)
            key = payment_key(each.id)
            settles = settled_by(drafts, balances, each)
            if drafts.was_booked(once) and not drafts.was_booked(key):
                later.append(each)
                settled += settles
            else:
                _payment(drafts, customers, charge, moved, key, invoice.customer, each.amount_paid or 0, settles)
        if later:
            payer = drafts.stripe.invoice[later[0].invoice].customer or ""
            minor = rest + sum(each.amount_paid or 0 for each in later)
            _payment(drafts, customers, charge, moved, once, charge.customer or payer, minor, settled)
    except NotBooked:
        drafts.waiting.update(each.invoice for each in paid)
        drafts.refused.update(each.id for each in paid)
        raise
    if rest > 0:
        _unapplied(drafts, customers, charge, moved, rest, is_surplus=bool(paid), is_booked=bool(later))


def settled_by(drafts: Drafts, balances: "Balances", payment: InvoicePayment) -> list[tuple[LinkKey, int]]:
    """What a payment settles, in minor units: the debits that its invoice collects, for they are the older, then the
    invoice; and what it brought beyond them, whatever that was applied to later. Takes it off what is open of each."""
    key = payment_key(payment.id)
    left = (payment.amount_paid or 0) - balances.surplus.get(key, 0)
    found: list[tuple[LinkKey, int]] = []
    collected = balances.collected.get(payment.invoice, {})
    for debit, owed in list(collected.items()):
        part = min(left, owed)
        if part > 0:
            found.append((debit, part))
            left -= part
            collected[debit] -= part
            if debit.stripe_object == "invoice" and debit.stripe_id in drafts.open_amounts:
                drafts.open_amounts[debit.stripe_id] -= part
    still_open = drafts.open_amounts.get(payment.invoice)
    part = left if still_open is None else min(left, max(0, still_open))
    if part > 0:
        found.append((invoice_key(payment.invoice), part))
        balances.paid[key] = part
        left -= part
        if still_open is not None:
            drafts.open_amounts[payment.invoice] = still_open - part
    if left and payment.invoice not in drafts.waiting:
        drafts.find(
            "invoice_overpaid",
            Severity.HIGH,
            payment.id,
            drafts.day(payment.status_transitions.paid_at or payment.created),
            f"{left} {payment.currency.upper()} (minor units) of it are more than was open of {payment.invoice}, and "
            "no movement of the customer's balance tells of them: they stay unapplied, for the accountant to decide.",
        )
    return found + balances.applied.get(key, [])


def _unapplied(
    drafts: Drafts,
    customers: Customers,
    charge: Charge,
    moved: BalanceTransaction,
    minor: int,
    *,
    is_surplus: bool,
    is_booked: bool,
) -> None:
    known = [name for name in (charge.payment_intent, charge.id) if name in drafts.stripe.payments_of]
    if not is_surplus and (known or moved.created > drafts.stripe.latest - _DAY):
        # Its invoice payment may be staged later than the charge: a day of evidence beyond it must have none.
        raise NotBooked("payment_waits", "What it pays is not staged yet.", Severity.LOW)
    if not is_booked:
        key = LinkKey("charge", charge.id, "payment")
        _payment(drafts, customers, charge, moved, key, charge.customer, minor, [])
    drafts.find(
        "payment_unapplied",
        Severity.MEDIUM,
        charge.id,
        drafts.day(moved.created),
        f"{minor} {charge.currency.upper()} (minor units) of it pay no invoice: booked as a payment that is not "
        f"applied, for the accountant to decide about.{if_older(drafts, 'it paid an invoice')}",
    )


def _payment(
    drafts: Drafts,
    customers: Customers,
    charge: Charge,
    moved: BalanceTransaction,
    key: LinkKey,
    customer: str | None,
    minor: int,
    applied: list[tuple[LinkKey, int]],
) -> None:
    amount = qbo_amount(minor, charge.currency)
    lines = [linked(drafts, (settled, "Invoice", part), charge.currency) for settled, part in applied]
    currency = drafts.in_currency(charge.currency)
    reached = amount
    gross, brought = charge.amount_captured or charge.amount, brought_by(drafts, moved)
    if moved.currency != charge.currency:
        if moved.currency.upper() != drafts.books.home:
            raise NotBooked("settled_in_third_currency", "It was settled in neither its own nor the home currency.")
        rate = rate_between(
            qbo_amount(gross, charge.currency), qbo_amount(brought, moved.currency), moved.exchange_rate
        )
        currency["ExchangeRate"] = rate
        at_home = at_rate(amount, rate)
        if at_home is None:
            raise NotBooked("no_exchange_rate", "The home value of this part of it depends on how halves are rounded.")
        reached = at_home
    elif gross != brought:
        raise NotBooked(
            "payment_differs_from_movement", "What was captured is not what its balance transaction brought."
        )
    elif charge.currency.upper() != drafts.books.home:
        currency = drafts.in_currency(charge.currency, drafts.day(moved.created))
    drafts.create(
        key,
        "Payment",
        {
            **currency,
            "CustomerRef": (
                customers.need(customer, charge.currency, moved.created)
                if customer is not None
                else customers.guest(charge.currency)
            ),
            "TotalAmt": amount,
            "DepositToAccountRef": drafts.clearing(moved.currency),
            "PaymentRefNum": number_of(charge.id),
            "Line": lines,
        },
        moment=moved.created,
        rank=Rank.PAYMENT,
        note=f"Stripe charge {charge.id}",
        evidence=(f"{key.stripe_object}:{key.stripe_id}", f"charge:{charge.id}", f"balance_transaction:{moved.id}"),
    )
    drafts.reached_clearing[moved.id] = drafts.reached_clearing.get(moved.id, 0 * reached) + reached
