"""Invoices: receivables from the day that Stripe's invoice bears, and what follows when it is voided or given up.

- Finalized: Dr Accounts Receivable, Cr income (by the item), in the invoice's currency at QuickBooks' rate of the day.
  Revenue is earned when it is billed, whatever is paid later (accrual basis, ASC 606: the right to consideration is
  unconditional, so it is a receivable).
- Voided (https://docs.stripe.com/invoicing/overview#void): the QuickBooks invoice is voided, which takes its postings
  back on its own date. The payments of nothing that had applied credits to it are voided before it, so that these are
  free again, and credit memos that had only reduced this invoice with it. In a closed period nothing is changed:
  a credit memo in the open one takes the receivable back, and what credits had settled of it, which stays open in this
  memo for the customer's next invoice.
- Uncollectible: by `losses`.
- Below zero (a downgrade's proration gives more back than it charges): a credit memo with its lines turned round, which
  Stripe adds to the customer's balance (https://docs.stripe.com/billing/customer/balance).

At the end, what is open of every invoice booked here must be Stripe's `amount_remaining`, less debits of the customer's
balance that the invoice collects, which are open by themselves.
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from finance_os.evidence.extraction import Severity
from finance_os.stripe_qbo.intent import LinkKey
from finance_os.stripe_qbo.mapping.amounts import qbo_amount, stripe_minor
from finance_os.stripe_qbo.mapping.customers import Customers
from finance_os.stripe_qbo.mapping.drafts import Drafts, Rank, number_of, short_number
from finance_os.stripe_qbo.mapping.refusals import NotBooked
from finance_os.stripe_qbo.mapping.sale_lines import sale_line, sale_lines
from finance_os.stripe_qbo.stripe_objects import Invoice

if TYPE_CHECKING:
    from finance_os.stripe_qbo.mapping.balances import Balances


def invoice_key(invoice: str) -> LinkKey:
    return LinkKey("invoice", invoice, "invoice")


def negative_key(invoice: str) -> LinkKey:
    """The key of the credit memo that an invoice below zero is."""
    return LinkKey("invoice", invoice, "credit_memo")


def correction_key(invoice: str) -> LinkKey:
    """The key of the credit memo that takes an invoice back whose period is closed."""
    return LinkKey("invoice", invoice, "void_correction")


def is_corrected(drafts: Drafts, invoice: str) -> bool:
    """Whether a void takes an invoice back by a credit memo, because its period is closed."""
    if drafts.was_booked(correction_key(invoice)):
        return True
    closed, stands_on = drafts.books.closed_until, drafts.stands_on(invoice_key(invoice))
    is_closed = closed is not None and stands_on is not None and stands_on <= closed
    return is_closed and not drafts.is_void(invoice_key(invoice))


def finalized(drafts: Drafts) -> Iterator[tuple[Invoice, int]]:
    """Finalized invoices with the moment of their date, in its order."""
    dated = [(each.dated, each.id, each) for each in drafts.stripe.invoice.values() if each.status != "draft"]
    for moment, _, invoice in sorted(each for each in dated if each[0] is not None):
        assert moment is not None
        yield invoice, moment


def book(drafts: Drafts, customers: Customers) -> None:
    """Book every invoice that bears a date from the balance date on; earlier ones are the opening's."""
    for invoice, moment in finalized(drafts):
        if drafts.is_ours(moment) and invoice_key(invoice.id) not in drafts.adoptions:
            with drafts.booking(invoice.id, moment):
                _book(drafts, customers, invoice, moment)


def _book(drafts: Drafts, customers: Customers, invoice: Invoice, moment: int) -> None:
    if invoice.customer is None:
        raise NotBooked("invoice_without_customer", "It has no customer.")
    if invoice.lines.has_more:
        raise NotBooked("lines_not_staged", "Not all of its lines are staged.")
    day, is_negative = drafts.day(moment), invoice.total < 0
    key, entity = (negative_key(invoice.id), "CreditMemo") if is_negative else (invoice_key(invoice.id), "Invoice")
    lines = sale_lines(
        drafts,
        drafts.item(drafts.rules.sales_item),
        invoice.lines.data,
        invoice.currency,
        total=invoice.total,
        discount=sum(each.amount for each in invoice.total_discount_amounts or ()),
        taxes=invoice.total_taxes or (),
        shipping=invoice.amount_shipping,
        sign=-1 if is_negative else 1,
    )
    number = short_number(invoice.number or number_of(invoice.id))
    require_free(drafts, key, entity, number)
    due = drafts.day(invoice.due_date) if invoice.due_date is not None else day
    drafts.create(
        key,
        entity,
        {
            "DocNumber": number,
            **({} if is_negative else {"DueDate": due.isoformat()}),
            **drafts.in_currency(invoice.currency, day),
            "CustomerRef": customers.need(invoice.customer, invoice.currency, moment),
            "Line": lines,
        },
        moment=moment,
        rank=Rank.SALE,
        note=f"Stripe invoice {invoice.id}",
        evidence=(f"invoice:{invoice.id}",),
    )
    if not is_negative:
        drafts.open_amounts[invoice.id] = invoice.total


def require_free(drafts: Drafts, key: LinkKey, entity: str, number: str) -> None:
    """A form of someone else with the same number may be this very one, entered by hand: that is for people to say.

    Raises `NotBooked`.
    """
    for each in drafts.books.numbered.get((entity, number.casefold()), ()):
        if each.mark != key:
            code = "invoice_number_taken" if entity == "Invoice" else "credit_number_taken"
            raise NotBooked(code, f"QuickBooks has another one of its number: {entity} {each.id}.")


def void(drafts: Drafts) -> None:
    """Void what was voided, once everything else of the invoices is booked."""
    for invoice in drafts.stripe.invoice.values():
        changes = invoice.status_transitions
        if not drafts.has(invoice_key(invoice.id)):
            continue
        if invoice.status == "void" and changes.voided_at is not None and drafts.is_ours(changes.voided_at):
            with drafts.booking(invoice.id, changes.voided_at):
                _void(drafts, invoice, changes.voided_at)


def take_back(drafts: Drafts, customers: Customers, invoice: Invoice, moment: int, returned: int) -> None:
    """Take a voided invoice of a closed period back; `returned` of it credits had settled. Raises `NotBooked`."""
    still_open, is_lost = drafts.open_amounts.get(invoice.id), invoice.status_transitions.marked_uncollectible_at
    if still_open is None or (is_lost is not None and drafts.rules.bad_debt_item is not None):
        drafts.waiting.add(invoice.id)
        raise NotBooked("void_in_closed_period", "It was voided; QuickBooks' invoice lies in a closed period.")
    dated = drafts.day(invoice.dated or invoice.created)
    settle_by_memo(
        drafts,
        customers,
        invoice,
        correction_key(invoice.id),
        still_open,
        moment,
        drafts.rules.sales_item,
        f"Takes back invoice {invoice.id} of {dated}, whose period is closed; voided at Stripe.",
        beside=returned,
    )


def _void(drafts: Drafts, invoice: Invoice, moment: int) -> None:
    key = invoice_key(invoice.id)
    if is_corrected(drafts, invoice.id):
        return  # taken back with the credits that it had used
    if not _is_void_already(drafts, key, invoice):
        for moved in drafts.stripe.moves_on.get(invoice.id, ()):
            application = LinkKey("customer_balance_transaction", moved.id, "application")
            drafts.release(application, moment=moment, evidence=(f"customer_balance_transaction:{moved.id}",))
        drafts.void(key, "Invoice", moment=moment, evidence=(f"invoice:{invoice.id}",))
        for note in drafts.stripe.notes_on.get(invoice.id, ()):
            memo = LinkKey("credit_note", note.id, "credit_memo")
            if note.pre_payment_amount and note.status != "void" and drafts.has(memo):
                application = LinkKey("credit_note", note.id, "application")
                drafts.release(application, moment=moment, evidence=(f"credit_note:{note.id}",))
                drafts.void(memo, "CreditMemo", moment=moment, evidence=(f"credit_note:{note.id}",))
    drafts.open_amounts[invoice.id] = 0


def _is_void_already(drafts: Drafts, key: LinkKey, invoice: Invoice) -> bool:
    """Whether an adopted invoice has been voided by hand."""
    adopted = drafts.adoptions.get(key)
    held = drafts.books.held["Invoice"].get(adopted.qbo_id) if adopted is not None else None
    return held is not None and held.total_amt == 0 != invoice.total


def settle_by_memo(
    drafts: Drafts,
    customers: Customers,
    invoice: Invoice,
    key: LinkKey,
    minor: int,
    moment: int,
    item: str,
    note: str,
    *,
    beside: int = 0,
) -> None:
    """A credit memo over `minor` that settles so much of the invoice, and over `beside` that stays open in it."""
    if minor < 0 or not minor + beside or invoice.customer is None:
        return
    day = drafts.day(moment)
    suffix = "-VOID" if key.role == "void_correction" else f"-WO{key.role.removeprefix('write_off').replace('_', '')}"
    common = {
        **drafts.in_currency(invoice.currency, day),
        "CustomerRef": customers.need(invoice.customer, invoice.currency, moment),
    }
    evidence = (f"invoice:{invoice.id}",)
    drafts.create(
        key,
        "CreditMemo",
        {
            "DocNumber": short_number(f"{invoice.number or number_of(invoice.id)}{suffix}"),
            **common,
            "Line": [sale_line(drafts, drafts.item(item), note, minor + beside, invoice.currency)],
        },
        moment=moment,
        rank=Rank.CREDIT,
        note=note,
        evidence=evidence,
    )
    if not minor:
        return
    parts = ((invoice_key(invoice.id), "Invoice", minor), (key, "CreditMemo", minor))
    apply_credit(drafts, application_of(key), common, parts, invoice.currency, moment, note, evidence)
    drafts.open_amounts[invoice.id] = drafts.open_amounts.get(invoice.id, minor) - minor


def application_of(memo: LinkKey) -> LinkKey:
    return LinkKey(memo.stripe_object, memo.stripe_id, f"{memo.role}_application")


def apply_credit(
    drafts: Drafts,
    key: LinkKey,
    common: dict[str, Any],
    parts: tuple[tuple[LinkKey, str, int], ...],
    currency: str,
    moment: int,
    note: str,
    evidence: tuple[str, ...],
) -> None:
    """A payment of nothing that settles an invoice with credit memos: how QuickBooks applies a credit."""
    drafts.create(
        key,
        "Payment",
        {**common, "TotalAmt": qbo_amount(0, currency), "Line": [linked(drafts, each, currency) for each in parts]},
        moment=moment,
        rank=Rank.APPLICATION,
        note=note,
        evidence=evidence,
    )


def linked(drafts: Drafts, part: tuple[LinkKey, str, int], currency: str) -> dict[str, Any]:
    """A payment's line: so much of another transaction. Raises `NotBooked` where that is not there."""
    key, entity, minor = part
    return {
        "Amount": qbo_amount(minor, currency),
        "LinkedTxn": [{"TxnId": drafts.need(key), "TxnType": entity}],
    }


def check_open(drafts: Drafts, balances: "Balances") -> None:
    """Find the invoices of which QuickBooks will show another open amount than Stripe does."""
    for invoice_id, still_open in drafts.open_amounts.items():
        invoice = drafts.stripe.invoice[invoice_id]
        written_off = drafts.rules.bad_debt_item is not None and invoice.status == "uncollectible"
        wanted = 0 if invoice.status == "void" or written_off else invoice.amount_remaining
        if wanted:
            wanted -= balances.collects(invoice_id)
        wanted += balances.owed_of(invoice_id)
        by_hand = drafts.books.settled_by_hand(drafts.qbo_id(invoice_key(invoice_id)) or "")
        if still_open - wanted in (0, stripe_minor(by_hand, invoice.currency)):
            continue
        if invoice_id not in drafts.waiting:
            drafts.find(
                "open_amount_differs",
                Severity.HIGH,
                invoice_id,
                datetime.fromtimestamp(invoice.dated or invoice.created, UTC).astimezone(drafts.rules.zone).date(),
                f"What is booked of it leaves {still_open} {invoice.currency.upper()} (minor units) open, and Stripe "
                f"says {wanted}: it was settled in a way that leaves no trace at Stripe. Enter the payment in "
                "QuickBooks against it.",
            )
