"""What a bookkeeper mirrored from Stripe by hand, until the day on which an export was to take over.

Invoices bear Stripe's number; payments in dollars wait in Undeposited Funds for the payout that brings them to the
bank, those in other currencies are settled through Stripe Clearing; credit notes and goodwill are credit memos, used
by a payment of nothing; refunds are refund receipts out of Stripe Clearing; a payout is a deposit of all that it
holds, less fees. Amounts are Stripe's to the cent.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from .. import states
from ..books import seconds
from .desk import Desk, sitting
from .entries import Entry
from .formats import HOME, currency_ref, from_minor, number
from .settling import open_amount

if TYPE_CHECKING:
    from ..world import World

LINES_BY_HAND = 5


class StripeBooks:
    """Plans an entry for everything that happened at Stripe until the end of `until` (UTC)."""

    def __init__(self, world: "World", desk: Desk, until: date) -> None:
        self.world = world
        self.desk = desk
        self.realm = desk.realm
        self._end = seconds(until + timedelta(days=1))
        self._complete = False
        self._deposits = 0

    def plan(self, now: int) -> None:
        """Look through Stripe's records for what is new. Once the last day is over there is nothing new."""
        if self._complete:
            return
        self._complete = now >= self._end
        ledger, plan = self.world.stripe, self.desk.plan
        for advertiser in self.world.advertisers:
            customer: states.Customer = ledger.one("customer", advertiser.customer)
            if self._counts(customer.created):
                plan(sitting(customer.created, 15, customer.id), customer.id, self._customer, customer)
        for invoice in ledger.rows("invoice"):
            if self._counts(invoice.finalized_at):
                plan(sitting(invoice.finalized_at, 16, invoice.id), invoice.id, self._invoice, invoice)
            if self._counts(invoice.voided_at):
                moment = sitting(invoice.voided_at, 20, invoice.id)
                plan(moment, f"{invoice.id} voided", self.desk.amend, invoice.id, "void")
        for note in ledger.rows("credit_note"):
            if self._counts(note.created) and note.refund is None:
                plan(sitting(note.created, 17, note.id), note.id, self._credit_note, note)
                if note.type == "pre_payment":
                    use = (note.created, note.invoice, note.amount, [note.id])
                    plan(sitting(note.created, 18, note.id), f"{note.id} used", self._use_credit, *use)
        for moved in ledger.rows("customer_balance_transaction"):
            if not self._counts(moved.created):
                continue
            if moved.type == "adjustment" and moved.amount < 0:
                plan(sitting(moved.created, 17, moved.id), moved.id, self._goodwill, moved)
            elif moved.type == "applied_to_invoice" and moved.amount > 0:
                moment = sitting(moved.created, 18, moved.id)
                plan(moment, moved.id, self._use_credit, moved.created, moved.invoice, moved.amount, None)
        for payment in ledger.rows("invoice_payment"):
            if self._counts(payment.paid_at):
                plan(sitting(payment.paid_at, 19, payment.id), payment.id, self._payment, payment)
        for refund in ledger.rows("refund"):
            if self._counts(refund.created):
                plan(sitting(refund.created, 19, refund.id), refund.id, self._refund, refund)
            if refund.failure_balance_transaction is not None:
                failed = ledger.one("balance_transaction", refund.failure_balance_transaction).created
                if self._counts(failed):
                    plan(sitting(failed, 20, refund.id), f"{refund.id} failed", self.desk.amend, refund.id, "void")
        for payout in ledger.rows("payout"):
            if payout.status == "paid" and self._counts(payout.arrival_date):
                plan(sitting(payout.arrival_date, 21, payout.id), payout.id, self._deposit, payout)

    def _counts(self, happened: int | None) -> bool:
        return happened is not None and happened < self._end

    # --- customers and invoices

    def _customer(self, customer: states.Customer) -> None:
        self.desk.enter(
            "Customer",
            {
                "DisplayName": customer.name,
                "CompanyName": customer.name,
                "PrimaryEmailAddr": {"Address": f"billing@{customer.email.split('@')[1]}"},
                "CurrencyRef": currency_ref(customer.currency.upper()),
                "BillAddr": {
                    "Line1": customer.line1,
                    "City": customer.city,
                    "PostalCode": customer.postal_code,
                    "Country": customer.country,
                },
            },
            customer.id,
        )

    def _sale(self, record: Any, day: int, lines: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
        """What every form that names a customer begins with."""
        return {
            "CustomerRef": self.desk.ref(record.customer),
            "CurrencyRef": currency_ref(record.currency.upper()),
            "TxnDate": _day(day),
            "Line": lines,
            **more,
        }

    def _line(self, item: str, minor: int, currency: str, description: str) -> dict[str, Any]:
        amount = number(from_minor(minor, currency))
        entry = next(each for each in self.realm.all("Item") if each.name == item)
        return {
            "Amount": amount,
            "Description": description,
            "DetailType": "SalesItemLineDetail",
            "SalesItemLineDetail": {
                "ItemRef": {"value": entry.id, "name": entry.name},
                "Qty": 1,
                "UnitPrice": amount,
                "TaxCodeRef": {"value": "NON"},
            },
        }

    def _invoice(self, invoice: states.Invoice) -> None:
        if len(invoice.lines) <= LINES_BY_HAND:
            lines = [self._line("Ad Spend", e.amount, invoice.currency, e.description) for e in invoice.lines]
        else:
            summary = f"Ad spend, {len(invoice.lines)} campaigns"
            lines = [self._line("Ad Spend", invoice.total, invoice.currency, summary)]
        finalized = invoice.finalized_at or invoice.created
        due = _day(invoice.due_date) if invoice.due_date else _day(finalized)
        body = self._sale(invoice, finalized, lines, DocNumber=invoice.number, DueDate=due)
        self.desk.enter("Invoice", body, invoice.id)

    # --- credits

    def _credit_note(self, note: states.CreditNote) -> None:
        lines = [self._line("Make-good", note.amount, note.currency, note.memo or "Credit")]
        self.desk.enter("CreditMemo", self._sale(note, note.created, lines, DocNumber=note.number), note.id)

    def _goodwill(self, moved: states.CustomerBalanceTransaction) -> None:
        lines = [self._line("Goodwill", -moved.amount, moved.currency, moved.description or "Goodwill credit")]
        body = self._sale(moved, moved.created, lines, DocNumber=f"GW-{moved.id[-12:]}")
        self.desk.enter("CreditMemo", body, moved.id)

    def _use_credit(self, day: int, invoice: str, minor: int, notes: list[str] | None) -> None:
        """Settle an invoice with credit memos: those named, else the customer's open ones, oldest first."""
        target = self.desk.find(invoice)
        if target is None:
            return
        if notes is None:
            memos = [memo for memo in self.realm.all("CreditMemo") if memo.party == target.party]
        else:
            memos = [memo for memo in map(self.desk.find, notes) if memo is not None]
        wanted = min(from_minor(minor, target.currency.lower()), open_amount(self.realm, target))
        lines: list[dict[str, Any]] = []
        used = 0
        for memo in memos:
            part = min(open_amount(self.realm, memo), wanted - used)
            if part > 0:
                lines.append(_linked(memo, part))
                used += part
        if used:
            self.desk.enter(
                "Payment",
                {
                    "CustomerRef": target.fields["CustomerRef"],
                    "CurrencyRef": target.fields["CurrencyRef"],
                    "TxnDate": _day(day),
                    "TotalAmt": 0,
                    "Line": [_linked(target, used), *lines],
                },
            )

    # --- money

    def _payment(self, payment: states.InvoicePayment) -> None:
        intent: states.PaymentIntent = self.world.stripe.one("payment_intent", payment.payment_intent)
        invoice = self.desk.find(payment.invoice)
        cents = from_minor(payment.amount_paid or 0, payment.currency)
        applied = min(cents, open_amount(self.realm, invoice)) if invoice is not None else 0
        code = payment.currency.upper()
        self.desk.enter(
            "Payment",
            {
                "CustomerRef": self.desk.ref(intent.customer or ""),
                "CurrencyRef": currency_ref(code),
                "TxnDate": _day(payment.paid_at or payment.created),
                "TotalAmt": number(cents),
                "DepositToAccountRef": self.realm.chart.ref("undeposited" if code == HOME else "clearing"),
                "PaymentRefNum": (intent.latest_charge or "")[-21:],
                "PrivateNote": f"Stripe {intent.latest_charge}",
                "Line": [_linked(invoice, applied)] if invoice is not None and applied else [],
            },
            intent.latest_charge,
        )

    def _refund(self, refund: states.Refund) -> None:
        note = next((each for each in self.world.stripe.rows("credit_note") if each.refund == refund.id), None)
        lines = [self._line("Refund", refund.amount, refund.currency, f"Refund of {refund.charge}")]
        body = self._sale(
            refund,
            refund.created,
            lines,
            DocNumber=note.number if note is not None else f"RF-{refund.id[-12:]}",
            DepositToAccountRef=self.realm.chart.ref("clearing"),
            PaymentRefNum=refund.id[-21:],
            PrivateNote=f"Stripe {refund.id}",
        )
        self.desk.enter("RefundReceipt", body, refund.id)

    def _deposit(self, payout: states.Payout) -> None:
        """A payout as it reached the bank: what it holds, less Stripe's fees."""
        chart = self.realm.chart
        lines: list[dict[str, Any]] = []
        fees = 0
        for moved in self._held_by(payout.id):
            fees += moved.fee
            payment = self.desk.find(moved.source) if moved.type in ("charge", "payment") else None
            if payment is not None and payment.currency == HOME and payment.total == moved.amount:
                lines.append(_linked(payment, moved.amount))
            else:
                role = "chargebacks" if moved.type == "adjustment" else "clearing"
                lines.append(_deposited(chart.ref(role), moved.amount, f"Stripe {moved.type} {moved.source}"))
        self._deposits += 1
        slip = _swapped(payout.amount) - payout.amount if self._deposits == 2 else 0
        if slip - fees:
            lines.append(_deposited(chart.ref("stripe_fees"), slip - fees, "Stripe fees"))
        entry = self.desk.enter(
            "Deposit",
            {
                "DepositToAccountRef": chart.ref("bank"),
                "TxnDate": _day(payout.arrival_date),
                "PrivateNote": f"Stripe payout {payout.id}",
                "Line": lines,
            },
            payout.id,
        )
        if slip:
            detail = f"{payout.amount + slip} instead of {payout.amount} cents of {payout.id}"
            self.desk.plant("qbo_deposit_transposed_digits", entry.id, detail)

    def _held_by(self, payout: str) -> Iterator[states.BalanceTransaction]:
        """The balance transactions that a payout brings; of a failed one that came back, those that it held."""
        for moved in self.world.stripe.rows("balance_transaction", payout=payout):
            if moved.type == "payout_failure":
                yield from self._held_by(moved.source)
            elif moved.type != "payout":
                yield moved


def _day(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).date().isoformat()


def _linked(entry: Entry, cents: int) -> dict[str, Any]:
    return {"Amount": number(cents), "LinkedTxn": [{"TxnId": entry.id, "TxnType": entry.kind.name}]}


def _deposited(account: dict[str, Any], cents: int, description: str) -> dict[str, Any]:
    return {
        "Amount": number(cents),
        "Description": description,
        "DetailType": "DepositLineDetail",
        "DepositLineDetail": {"AccountRef": account},
    }


def _swapped(cents: int) -> int:
    """A total with the last two neighbouring digits swapped that differ; the total itself where none do."""
    digits = str(cents)
    for at in range(len(digits) - 1, 0, -1):
        if digits[at] != digits[at - 1]:
            return int(digits[: at - 1] + digits[at] + digits[at - 1] + digits[at + 1 :])
    return cents
