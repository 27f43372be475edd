"""Refunds: refund receipts out of clearing, on the day of their balance transaction, each booked once.

- Dr the refund item's account (for a credit note: the credit item's), Cr Stripe clearing. QuickBooks' refund receipt is
  a sale the other way round and leaves receivables alone, which is right: the invoice stays paid
  (https://developer.intuit.com/app/developer/qbo/docs/api/accounting/all-entities/refundreceipt).
- A refund that is all of a credit note with tax has the note's lines and its tax, so that the tax is not owed any more.
- A refund whose charge is not staged waits for it: whose it is, the charge says.
- Failed or canceled (https://docs.stripe.com/refunds#failed-refunds): Stripe puts the money back by a balance
  transaction of its own; on its day a journal entry (`movements`) turns the receipt's own lines round: Dr Stripe
  clearing, Cr the account of each line's item, so that tax is owed again too. Where the refund belonged to a credit
  note, the customer is still owed the money, which is raised.
"""

from decimal import Decimal
from typing import Any

from finance_os.evidence.extraction import Severity
from finance_os.stripe_qbo.books import Held
from finance_os.stripe_qbo.intent import LinkKey
from finance_os.stripe_qbo.mapping.amounts import qbo_amount, rate_between
from finance_os.stripe_qbo.mapping.customers import Customers
from finance_os.stripe_qbo.mapping.drafts import Drafts, Rank, number_of
from finance_os.stripe_qbo.mapping.refusals import NotBooked
from finance_os.stripe_qbo.mapping.sale_lines import sale_line, sale_lines
from finance_os.stripe_qbo.mapping.unstaged import is_history, not_staged
from finance_os.stripe_qbo.stripe_objects import BalanceTransaction, CreditNote, Refund


def refund_key(refund: str) -> LinkKey:
    return LinkKey("refund", refund, "refund_receipt")


def item_of(drafts: Drafts, refund: str) -> Held:
    """The item that a refund is booked with. Raises `NotBooked`."""
    is_credit = refund in drafts.stripe.note_of_refund
    return drafts.item(drafts.rules.credit_item if is_credit else drafts.rules.refund_item)


def book(drafts: Drafts, customers: Customers) -> None:
    """Book every refund that left Stripe's balance from the balance date on."""
    for refund in drafts.stripe.refund.values():
        if refund.balance_transaction is None:
            continue
        moved = drafts.stripe.balance_transaction.get(refund.balance_transaction)
        if moved is None and is_history(drafts, refund.created):
            continue
        if moved is None:
            drafts.find(
                "refund_waits",
                Severity.LOW,
                refund.id,
                drafts.day(refund.created),
                "Its balance transaction is not staged yet: it is booked once it is.",
            )
        elif drafts.is_ours(moved.created):
            with drafts.booking(refund.id, moved.created):
                _book(drafts, customers, refund, moved)


def _book(drafts: Drafts, customers: Customers, refund: Refund, moved: BalanceTransaction) -> None:
    amount = qbo_amount(refund.amount, refund.currency)
    reached = qbo_amount(-moved.amount, moved.currency)
    currency = drafts.in_currency(refund.currency)
    if moved.currency != refund.currency:
        if moved.currency.upper() != drafts.books.home:
            raise NotBooked("settled_in_third_currency", "It was settled in neither its own nor the home currency.")
        currency["ExchangeRate"] = rate_between(amount, reached, moved.exchange_rate)
    else:
        if refund.currency.upper() != drafts.books.home:
            currency = drafts.in_currency(refund.currency, drafts.day(moved.created))
        if amount != reached:
            raise NotBooked("refund_differs_from_movement", "Its amount is not that of its balance transaction.")
    charge = drafts.stripe.charge.get(refund.charge or "")
    if charge is None and refund.charge is not None:
        raise not_staged("Its charge", "charge", refund.charge)
    note = drafts.stripe.note_of_refund.get(refund.id)
    payload = {
        "DocNumber": number_of(refund.id),
        **currency,
        "DepositToAccountRef": drafts.clearing(moved.currency),
        "PaymentRefNum": number_of(refund.id),
        "Line": _lines(drafts, refund, note),
    }
    if charge is not None and charge.customer is not None:
        payload["CustomerRef"] = customers.need(charge.customer, refund.currency, moved.created)
    drafts.create(
        refund_key(refund.id),
        "RefundReceipt",
        payload,
        moment=moved.created,
        rank=Rank.REFUND,
        note=f"Stripe refund {refund.id}" + (f" for credit note {note.id}" if note is not None else ""),
        evidence=(f"refund:{refund.id}", f"balance_transaction:{moved.id}"),
    )
    drafts.reached_clearing[moved.id] = -reached


def turned_round(drafts: Drafts, moved: BalanceTransaction) -> list[tuple[dict[str, str], Decimal]]:
    """What a refund's receipt debited, to be credited as its money comes back: accounts with negative amounts.

    Raises `NotBooked`.
    """
    refund = drafts.stripe.refund.get(moved.source or "")
    if refund is None:
        raise not_staged("Its refund", "refund", moved.source or "")
    paid = drafts.stripe.balance_transaction.get(refund.balance_transaction or "")
    if paid is not None and drafts.is_ours(paid.created):
        drafts.need(refund_key(refund.id))
    amount = qbo_amount(moved.amount, moved.currency)
    lines = _lines(drafts, refund, drafts.stripe.note_of_refund.get(refund.id))
    if len(lines) == 1:
        return [(_account(drafts, lines[0]), -amount)]
    if moved.currency != refund.currency or sum(each["Amount"] for each in lines) != amount:
        raise NotBooked(
            "refund_to_be_reversed_by_hand",
            f"Refund {refund.id} came back, and its receipt has several lines which do not come to {amount} "
            f"{moved.currency.upper()}: enter a journal entry that debits clearing, and credits what the receipt "
            "debited.",
        )
    sums: dict[str, Decimal] = {}
    for line in lines:
        account = _account(drafts, line)["value"]
        sums[account] = sums.get(account, Decimal(0)) - line["Amount"]
    return [({"value": account}, debit) for account, debit in sums.items()]


def _account(drafts: Drafts, line: dict[str, Any]) -> dict[str, str]:
    """The account that a line is posted to: its item's."""
    if "SalesItemLineDetail" not in line:
        raise NotBooked(
            "refund_to_be_reversed_by_hand",
            "A refund came back whose receipt has a discount, and QuickBooks alone knows the account of that: enter a "
            "journal entry that debits clearing, and credits what the receipt debited.",
        )
    item = drafts.books.held["Item"][line["SalesItemLineDetail"]["ItemRef"]["value"]]
    if item.income_account_ref is None:
        raise NotBooked("item_without_account", "The item of its refund has no income account.")
    return {"value": item.income_account_ref.value}


def _lines(drafts: Drafts, refund: Refund, note: CreditNote | None) -> list[dict[str, Any]]:
    item = item_of(drafts, refund.id)
    if note is not None and note.amount == refund.amount and any(each.amount for each in note.total_taxes or ()):
        return sale_lines(
            drafts,
            item,
            note.lines.data,
            note.currency,
            total=note.amount,
            discount=note.discount_amount,
            taxes=note.total_taxes or (),
        )
    return [sale_line(drafts, item, f"Refund of {refund.charge}", refund.amount, refund.currency)]
