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
- Nothing is booked before the balance transaction is there. What an invoice was paid outside of Stripe leaves none: see
  `invoices.check_open`.
"""

from finance_os.evidence.extraction import Severity
from finance_os.stripe_qbo.intent import LinkKey
from finance_os.stripe_qbo.mapping.amounts import at_rate, qbo_amount, rate_between
from finance_os.stripe_qbo.mapping.customers import Customers
from finance_os.stripe_qbo.mapping.drafts import Drafts, Rank, number_of
from finance_os.stripe_qbo.mapping.invoices import invoice_key, linked
from finance_os.stripe_qbo.mapping.refusals import NotBooked
from finance_os.stripe_qbo.stripe_evidence import BalanceTransaction, Charge, InvoicePayment

CHARGED = "charge"
_DAY = 86_400


def book(drafts: Drafts, customers: Customers) -> None:
    """Book everything that charges brought from the balance date on."""
    for charge in drafts.stripe.charge.values():
        if charge.status != "succeeded":
            continue
        moved = movement(drafts, charge.id, CHARGED)
        paid = _paid_by(drafts, charge)
        if moved is None:
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
                _book(drafts, customers, charge, moved, paid)


def movement(drafts: Drafts, source: str, category: str) -> BalanceTransaction | None:
    """The balance transaction of a category that a source caused."""
    found = drafts.stripe.movements_of.get(source, ())
    return next((each for each in found if each.reporting_category == category), None)


def _paid_by(drafts: Drafts, charge: Charge) -> list[InvoicePayment]:
    """The invoice payments that a charge paid."""
    named = (charge.payment_intent, charge.id)
    return [each for name in named if name for each in drafts.stripe.payments_of.get(name, ()) if each.status == "paid"]


def _book(
    drafts: Drafts, customers: Customers, charge: Charge, moved: BalanceTransaction, paid: list[InvoicePayment]
) -> None:
    rest = (charge.amount_captured or charge.amount) - sum(each.amount_paid or 0 for each in paid)
    try:
        for each in paid:
            invoice = drafts.stripe.invoice.get(each.invoice)
            if invoice is None or invoice.customer is None:
                raise NotBooked("waits_for_another", f"Its invoice {each.invoice} is not staged.", Severity.MEDIUM)
            minor = each.amount_paid or 0
            applied = (invoice_key(invoice.id), "Invoice", minor)
            key = LinkKey("invoice_payment", each.id, "payment")
            _payment(drafts, customers, charge, moved, key, invoice.customer, minor, applied)
            if invoice.id in drafts.open_amounts:
                drafts.open_amounts[invoice.id] -= minor
    except NotBooked:
        drafts.waiting.update(each.invoice for each in paid)
        raise
    if rest > 0:
        _unapplied(drafts, customers, charge, moved, rest, is_surplus=bool(paid))


def _unapplied(
    drafts: Drafts, customers: Customers, charge: Charge, moved: BalanceTransaction, minor: int, *, is_surplus: bool
) -> None:
    known = [name for name in (charge.payment_intent, charge.id) if name in drafts.stripe.payments_of]
    if not is_surplus and (known or moved.created > drafts.stripe.latest - _DAY):
        # Its invoice payment may be staged later than the charge: a day of evidence beyond it must have none.
        raise NotBooked("payment_waits", "What it pays is not staged yet.", Severity.LOW)
    if charge.customer is None:
        raise NotBooked("payment_without_customer", "It has neither an invoice nor a customer.")
    key = LinkKey("charge", charge.id, "payment")
    _payment(drafts, customers, charge, moved, key, charge.customer, minor, None)
    drafts.find(
        "payment_unapplied",
        Severity.MEDIUM,
        charge.id,
        drafts.day(moved.created),
        f"{minor} {charge.currency.upper()} (minor units) of it pay no invoice: booked as a payment that is not "
        "applied, for the accountant to decide about.",
    )


def _payment(
    drafts: Drafts,
    customers: Customers,
    charge: Charge,
    moved: BalanceTransaction,
    key: LinkKey,
    customer: str,
    minor: int,
    applied: tuple[LinkKey, str, int] | None,
) -> None:
    amount = qbo_amount(minor, charge.currency)
    lines = [linked(drafts, applied, charge.currency)] if applied is not None and minor else []
    currency = drafts.in_currency(charge.currency)
    reached = amount
    if moved.currency != charge.currency:
        if moved.currency.upper() != drafts.books.home:
            raise NotBooked("settled_in_third_currency", "It was settled in neither its own nor the home currency.")
        gross = charge.amount_captured or charge.amount
        rate = rate_between(
            qbo_amount(gross, charge.currency), qbo_amount(moved.amount, moved.currency), moved.exchange_rate
        )
        currency["ExchangeRate"] = rate
        at_home = at_rate(amount, rate)
        if at_home is None:
            raise NotBooked("no_exchange_rate", "The home value of this part of it depends on how halves are rounded.")
        reached = at_home
    elif charge.currency.upper() != drafts.books.home:
        currency = drafts.in_currency(charge.currency, drafts.day(moved.created))
    drafts.create(
        key,
        "Payment",
        {
            **currency,
            "CustomerRef": customers.need(customer, charge.currency, moved.created),
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
