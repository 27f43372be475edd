"""The opening: what QuickBooks holds of the time before the balance date stands for what Stripe says of it.

Books nothing but, where the rules say so, what clearing lacks (`opening_clearing`). Of what bears a date before the
balance date, the invoices, credits, payments, refunds and payouts that people entered are found by number, amount and
date (a day either way, for zones differ) and adopted, so that later payments and credits lead to them and nothing is
posted twice. What is still open at the start is stated per invoice: a difference is raised and left to the accountant,
as is an open invoice that QuickBooks does not have.

Receivables at the start are what is open of the adopted invoices (a subsidiary ledger is tied to its control account
before it is taken over).
"""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from finance_os.evidence.extraction import Severity
from finance_os.stripe_qbo.books import Held
from finance_os.stripe_qbo.intent import LinkKey
from finance_os.stripe_qbo.mapping import opening_clearing
from finance_os.stripe_qbo.mapping.amounts import qbo_amount, stripe_minor
from finance_os.stripe_qbo.mapping.balances import GRANTED, Balances, goodwill_key
from finance_os.stripe_qbo.mapping.credited import outside_of
from finance_os.stripe_qbo.mapping.credits import memo_key
from finance_os.stripe_qbo.mapping.customers import Customers
from finance_os.stripe_qbo.mapping.drafts import Drafts, number_of, short_number
from finance_os.stripe_qbo.mapping.invoices import finalized, invoice_key
from finance_os.stripe_qbo.mapping.payouts import arrival, arrival_moment, payout_key
from finance_os.stripe_qbo.mapping.refunds import refund_key
from finance_os.stripe_qbo.mapping.unstaged import is_history
from finance_os.stripe_qbo.stripe_objects import Invoice

_NEAR = 1


@dataclass(frozen=True)
class Opening:
    """What one currency starts with, in minor units.

    `receivable` is what Stripe says is open of invoices before the balance date, `receivable_in_books` the same of the
    adopted ones. `clearing` is Stripe's balance of this currency at the start of the balance date, with the payouts in
    transit and what one held back just then, `clearing_in_books` what QuickBooks' clearing account had then.
    """

    currency: str
    receivable: int = 0
    receivable_in_books: int = 0
    clearing: int = 0
    clearing_in_books: int = 0


def adopt(drafts: Drafts, customers: Customers, given: Balances) -> tuple[Opening, ...]:
    """Adopt what QuickBooks holds of the time before the balance date; what each currency starts with."""
    books = _Before(drafts)
    receivable: dict[str, int] = defaultdict(int)
    in_books: dict[str, int] = defaultdict(int)
    for invoice, moment in finalized(drafts):
        if not drafts.is_ours(moment):
            still_open = _open_at_start(drafts, invoice)
            receivable[invoice.currency] += still_open
            with drafts.booking(invoice.id, moment):
                left = _adopt_invoice(drafts, customers, books, invoice, drafts.day(moment), still_open)
                in_books[invoice.currency] += stripe_minor(left, invoice.currency)
    _adopt_credits(drafts, customers, given, books)
    _adopt_money(drafts, customers, books)
    clearing = {each.currency: each for each in opening_clearing.state(drafts)}
    stated: list[Opening] = []
    for each in sorted({*receivable, *clearing}):
        held, said = (clearing[each].in_books, clearing[each].at_stripe) if each in clearing else (0, 0)
        stated.append(Opening(each, receivable[each], in_books[each], said, held))
    return tuple(stated)


def _adopt_invoice(
    drafts: Drafts, customers: Customers, books: "_Before", invoice: Invoice, day: date, still_open: int
) -> Decimal:
    """Adopt the invoice of QuickBooks, if there is one: what was open of it at the start."""
    wanted = qbo_amount(still_open, invoice.currency)
    held = books.invoice(invoice, day)
    if held is not None:
        drafts.adopt(invoice_key(invoice.id), "Invoice", held)
        if invoice.customer is not None:
            _adopt_owner(drafts, customers, invoice.customer, invoice.currency, held)
    left = books.left(held, "Invoice") if held is not None else Decimal(0)
    if held is not None and held.total_amt == 0 and invoice.status == "void":
        left = wanted  # voided since: QuickBooks does not show any more what it was
    if left != wanted:
        drafts.find(
            "opening_invoice_differs" if held is not None else "opening_invoice_missing",
            Severity.HIGH,
            invoice.id,
            drafts.rules.balance_date,
            f"Open at the start: {wanted} {invoice.currency.upper()} at Stripe, {left} in QuickBooks.",
        )
    return left


def _adopt_owner(drafts: Drafts, customers: Customers, customer: str, currency: str, held: Held) -> None:
    """Who an adopted sales form is of stands for the customer at Stripe."""
    if held.customer_ref is None:
        return
    owner = drafts.books.held.get("Customer", {}).get(held.customer_ref.value)
    if owner is None or not customers.adopt(customer, currency, owner):
        drafts.find(
            "customer_has_two",
            Severity.MEDIUM,
            customer,
            drafts.rules.balance_date,
            f"What QuickBooks holds of it is with several customers: transaction {held.id} is with another one.",
        )


def _open_at_start(drafts: Drafts, invoice: Invoice) -> int:
    """What Stripe had open of an invoice when the balance date began: what is open now, and what settled it since."""
    changes = invoice.status_transitions
    if changes.voided_at is not None and not drafts.is_ours(changes.voided_at):
        return 0
    still_open = invoice.amount_remaining
    before = sum(
        each.amount_paid or 0
        for each in drafts.stripe.payments_on.get(invoice.id, ())
        if each.status == "paid" and drafts.is_ours(each.status_transitions.paid_at or 0)
    )
    credited = sum(
        each.pre_payment_amount
        for each in drafts.stripe.notes_on.get(invoice.id, ())
        if each.status != "void" and drafts.is_ours(each.effective_at or each.created)
    )
    if invoice.status == "void":
        still_open = _total_due(drafts, invoice)
    return still_open + before + credited


def _total_due(drafts: Drafts, invoice: Invoice) -> int:
    """What was open of a voided invoice just before: its total, less credits."""
    notes = drafts.stripe.notes_on.get(invoice.id, ())
    moves = drafts.stripe.moves_on.get(invoice.id, ())
    return (
        invoice.total
        - sum(each.pre_payment_amount for each in notes if each.status != "void")
        - sum(each.amount for each in moves if each.type == "applied_to_invoice")
    )


def _adopt_credits(drafts: Drafts, customers: Customers, given: Balances, books: "_Before") -> None:
    for note in drafts.stripe.credit_note.values():
        moment = note.effective_at or note.created
        if drafts.is_ours(moment) or note.status == "void":
            continue
        with drafts.booking(note.id, moment):
            minor = note.amount - sum(each.amount_refunded for each in note.refunds if each.refund is not None)
            owner = customers.held(note.customer, note.currency)
            number = short_number(note.number) if note.number else None
            held = None
            # What was paid back outside of Stripe is in the memo, or was booked beside it.
            for over in dict.fromkeys((minor, minor - outside_of(note))):
                if held is None and over:
                    amount, day = qbo_amount(over, note.currency), drafts.day(moment)
                    held = books.sale("CreditMemo", number, amount, day, note.currency, owner=owner)
            if held is not None:
                drafts.adopt(memo_key(note.id), "CreditMemo", held)
                _adopt_owner(drafts, customers, note.customer, note.currency, held)
                left = stripe_minor(books.left(held, "CreditMemo"), note.currency)
                given.pools[note.customer, note.currency][memo_key(note.id)] = left
    for moved in drafts.stripe.customer_balance_transaction.values():
        if moved.type not in GRANTED or moved.amount >= 0 or drafts.is_ours(moved.created):
            continue
        with drafts.booking(moved.id, moved.created):
            amount, day = qbo_amount(-moved.amount, moved.currency), drafts.day(moved.created)
            owner = customers.held(moved.customer, moved.currency)
            held = books.sale("CreditMemo", None, amount, day, moved.currency, owner=owner, ending=moved.id)
            if held is not None:
                drafts.adopt(goodwill_key(moved.id), "CreditMemo", held)
                _adopt_owner(drafts, customers, moved.customer, moved.currency, held)
                left = stripe_minor(books.left(held, "CreditMemo"), moved.currency)
                given.pools[moved.customer, moved.currency][goodwill_key(moved.id)] = left


def _adopt_money(drafts: Drafts, customers: Customers, books: "_Before") -> None:
    for payment in drafts.stripe.invoice_payment.values():
        paid_at = payment.status_transitions.paid_at
        if payment.status != "paid" or paid_at is None or drafts.is_ours(paid_at):
            continue
        with drafts.booking(payment.id, paid_at):
            amount = qbo_amount(payment.amount_paid or 0, payment.currency)
            held = books.payment(invoice_key(payment.invoice), amount, drafts.day(paid_at), drafts)
            if held is not None:
                drafts.adopt(LinkKey("invoice_payment", payment.id, "payment"), "Payment", held)
    for refund in drafts.stripe.refund.values():
        moved = drafts.stripe.balance_transaction.get(refund.balance_transaction or "")
        if moved is None and (refund.balance_transaction is None or not is_history(drafts, refund.created)):
            continue
        left_at = moved.created if moved is not None else refund.created
        if drafts.is_ours(left_at):
            continue
        with drafts.booking(refund.id, left_at):
            amount = qbo_amount(refund.amount, refund.currency)
            charge = drafts.stripe.charge.get(refund.charge or "")
            payer = charge.customer if charge is not None else None
            owner = customers.held(payer, refund.currency) if payer is not None else None
            day = drafts.day(left_at)
            held = books.sale("RefundReceipt", None, amount, day, refund.currency, owner=owner, ending=refund.id)
            if held is not None:
                drafts.adopt(refund_key(refund.id), "RefundReceipt", held)
    for payout in drafts.stripe.payout.values():
        if payout.status != "paid" or arrival(payout) >= drafts.rules.balance_date:
            continue
        with drafts.booking(payout.id, arrival_moment(payout, drafts.rules.zone)):
            held = books.deposit(qbo_amount(payout.amount, payout.currency), arrival(payout), drafts.rules.payout_days)
            if held is not None:
                drafts.adopt(payout_key(payout.id), "Deposit", held)


class _Before:
    """What others entered in QuickBooks that bears a date before the balance date; each object is given out once."""

    def __init__(self, drafts: Drafts) -> None:
        self._books = drafts.books
        self._start = drafts.rules.balance_date
        self._used: set[tuple[str, str]] = set()
        self._applied: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
        self._of_amount: dict[tuple[str, Decimal], list[Held]] = defaultdict(list)
        for entity in ("Invoice", "CreditMemo", "RefundReceipt", "Payment", "Deposit"):
            for each in self._books.all(entity):
                if each.mark is None and each.txn_date is not None:
                    self._of_amount[entity, each.total_amt].append(each)
        for payment in self._books.all("Payment"):
            if payment.txn_date is not None and payment.txn_date < self._start:
                for line in payment.line:
                    for txn in line.linked_txn:
                        self._applied[txn.txn_type, txn.txn_id] += line.amount

    def _of(self, entity: str, amount: Decimal) -> Iterator[Held]:
        for each in self._of_amount.get((entity, amount), ()):
            if (entity, each.id) not in self._used:
                yield each

    def deposit(self, amount: Decimal, day: date, days: int) -> Held | None:
        """The one deposit of an amount within so many days."""
        return self._give((each for each in self._of("Deposit", amount) if self.near(each, day, days)), "Deposit")

    def near(self, held: Held, day: date, days: int = _NEAR) -> bool:
        return held.txn_date is not None and abs((held.txn_date - day).days) <= days

    def only(self, found: Iterator[Held]) -> Held | None:
        """The one object there is; none where there are several."""
        candidates = list(found)
        return candidates[0] if len(candidates) == 1 else None

    def left(self, held: Held, entity: str) -> Decimal:
        """What was open of an invoice or memo when the balance date began."""
        return held.total_amt - self._applied[entity, held.id]

    def invoice(self, invoice: Invoice, day: date) -> Held | None:
        number = short_number(invoice.number or number_of(invoice.id))
        amount = qbo_amount(invoice.total, invoice.currency)
        fitting = self._fitting("Invoice", (amount, Decimal(0)), day, invoice.currency)
        return self._give(each for each in fitting if each.doc_number.casefold() == number.casefold())

    def sale(
        self,
        entity: str,
        number: str | None,
        amount: Decimal,
        day: date,
        currency: str,
        *,
        owner: str | None,
        ending: str = "",
    ) -> Held | None:
        """A sales form of a customer by number, amount, date and currency. Where Stripe gives no number, by the ID that
        its number or reference ends like, or else as the only one that fits."""
        fitting = [
            each
            for each in self._fitting(entity, (amount,), day, currency)
            if each.customer_ref is not None
            and owner in (None, each.customer_ref.value)
            and (number is None or each.doc_number.casefold() == number.casefold())
        ]
        named = [each for each in fitting if ending and _names(each, ending)]
        # Without a known customer only what names the object is sure enough: it then tells the customer too.
        is_sure = owner is not None or number is not None
        return self._give(iter(named or (fitting if is_sure else [])), entity)

    def _fitting(self, entity: str, amounts: tuple[Decimal, ...], day: date, currency: str) -> Iterator[Held]:
        for each in (each for amount in dict.fromkeys(amounts) for each in self._of(entity, amount)):
            if each.currency in ("", currency.upper()) and self.near(each, day):
                yield each

    def _give(self, found: Iterator[Held], entity: str = "Invoice") -> Held | None:
        held = self.only(found)
        if held is not None:
            self._used.add((entity, held.id))
        return held

    def payment(self, invoice: LinkKey, amount: Decimal, day: date, drafts: Drafts) -> Held | None:
        """A payment of the adopted invoice by amount and date."""
        adopted = drafts.adoptions.get(invoice)
        if adopted is None:
            return None
        found = (
            each
            for each in self._of("Payment", amount)
            if self.near(each, day)
            and any(txn.txn_id == adopted.qbo_id for line in each.line for txn in line.linked_txn)
        )
        return self._give(found, "Payment")


def _names(held: Held, stripe_id: str) -> bool:
    """Whether a number or note holds the end of a Stripe ID."""
    tail = stripe_id[-12:]
    return tail in held.doc_number or tail in held.payment_ref_num or stripe_id in held.private_note
