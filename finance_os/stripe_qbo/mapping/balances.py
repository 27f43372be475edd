"""The customer's balance at Stripe: what is owed to a customer, what a customer owes beside its invoices, and its use.

Stripe keeps one balance a customer and currency, and a ledger of what moved it, by type
(https://docs.stripe.com/billing/customer/balance#types). In QuickBooks it is the customer's open credit memos and
unapplied payments, less the open invoices that stand for debits; of both there is never something at once, for credits
are applied to debits as soon as both are there. Which credit was used Stripe does not say: the oldest.

- `adjustment`, credit: a credit memo with the goodwill item; it was granted by hand.
- `initial` and `migration`, what a customer came with: a credit memo, or an invoice, with the rules' migration item,
  whose account is the other side of it; without one it is raised.
- `adjustment`, debit: an invoice. With the goodwill item where it only takes back what was granted, which is how Stripe
  undoes a credit; where the customer comes to owe it, with the rules' debit item, and without one not at all.
- `applied_to_invoice`, debit: the credit is used. A payment of nothing settles the invoice with memos; an unapplied
  payment is applied itself.
- `applied_to_invoice`, credit, of an invoice below zero: the credit memo that this invoice is, open for the next one.
- `applied_to_invoice`, credit, of another: the invoice collects debits. What pays it pays them with it (`payments`).
- `invoice_too_small`, `invoice_too_large`, debits: the invoice itself stays open until a later one collects it.
- `invoice_overpaid`, credit: what the last payments brought beyond the invoice is not applied yet.
- `credit_note`, credit: booked by `credits`.
- `unapplied_from_invoice`: its invoice was voided. What it had used is free again, what it collected is owed again.

What comes from elsewhere (`unspent_receiver_credit`, checkout sessions) has no object that says what it is for: it is
raised.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from finance_os.evidence.extraction import Severity
from finance_os.stripe_qbo.intent import LinkKey
from finance_os.stripe_qbo.mapping.customers import Customers
from finance_os.stripe_qbo.mapping.drafts import Drafts, Rank, number_of
from finance_os.stripe_qbo.mapping.invoices import (
    apply_credit,
    correction_key,
    invoice_key,
    is_corrected,
    negative_key,
    take_back,
)
from finance_os.stripe_qbo.mapping.payments import payment_key
from finance_os.stripe_qbo.mapping.refusals import NotBooked
from finance_os.stripe_qbo.mapping.reserved import Open, Reserved, taken
from finance_os.stripe_qbo.mapping.sale_lines import sale_line
from finance_os.stripe_qbo.mapping.unstaged import if_older, not_staged
from finance_os.stripe_qbo.stripe_objects import CustomerBalanceTransaction, Invoice

Owner = tuple[str, str]
"""A customer and a currency."""


GRANTED = ("adjustment", "initial", "migration")
"""The types of credits that are a credit memo of their own."""


def goodwill_key(moved: str) -> LinkKey:
    return LinkKey("customer_balance_transaction", moved, "credit_memo")


def debit_key(moved: str) -> LinkKey:
    return LinkKey("customer_balance_transaction", moved, "debit")


def use_key(moved: str) -> LinkKey:
    return LinkKey("customer_balance_transaction", moved, "application")


@dataclass
class Balances:
    """`pools` are the credits and `debts` the debits that are open; `collected` are debits that an invoice collects.

    `applied` are what unapplied payments are applied to, `surplus` what each of these brought beyond its invoice, and
    `paid` what each payment settles of its own.
    """

    drafts: Drafts
    customers: Customers
    pools: dict[Owner, Open] = field(default_factory=lambda: defaultdict(dict))
    debts: dict[Owner, Open] = field(default_factory=lambda: defaultdict(dict))
    collected: dict[str, Open] = field(default_factory=lambda: defaultdict(dict))
    applied: dict[LinkKey, list[tuple[LinkKey, int]]] = field(default_factory=lambda: defaultdict(list))
    surplus: dict[LinkKey, int] = field(default_factory=dict)
    paid: dict[LinkKey, int] = field(default_factory=dict)
    reserved: Reserved = field(init=False)
    _used: dict[str, list[tuple[Owner, LinkKey, int]]] = field(default_factory=lambda: defaultdict(list))

    def __post_init__(self) -> None:
        self.reserved = Reserved(self.drafts)

    def moved(self, moved: CustomerBalanceTransaction) -> None:
        """Book one movement. Raises `NotBooked`."""
        invoice = self.drafts.stripe.invoice.get(moved.invoice or "")
        if moved.invoice is not None and invoice is None:
            raise not_staged("Its invoice", "invoice", moved.invoice)
        match moved.type:
            case "adjustment" if moved.amount < 0:
                self._goodwill(moved)
            case "adjustment" if moved.amount > 0:
                self._debit(moved)
            case "initial" | "migration" if moved.amount:
                self._brought(moved)
            case "applied_to_invoice" if moved.amount > 0:
                self._use(moved)
                return
            case "applied_to_invoice" if moved.amount < 0 and invoice is not None:
                self._applied_below_zero(moved, invoice)
            case "invoice_too_small" | "invoice_too_large" if moved.amount > 0 and invoice is not None:
                self._put_off(moved, invoice)
            case "invoice_overpaid" if moved.amount < 0 and invoice is not None:
                self._overpaid(moved, invoice)
            case "credit_note" | "unapplied_from_invoice":
                pass
            case _ if moved.amount:
                raise NotBooked(
                    "customer_balance_unknown",
                    f"No rule knows a customer balance transaction of type {moved.type} over {moved.amount} "
                    f"{moved.currency.upper()} (minor units): enter it in QuickBooks by hand.",
                )
        self._net(moved)

    # --- what comes

    def _goodwill(self, moved: CustomerBalanceTransaction) -> None:
        self._credited(moved, self.drafts.rules.goodwill_item, "Credit granted")

    def _debit(self, moved: CustomerBalanceTransaction) -> None:
        item = self.drafts.rules.goodwill_item if moved.ending_balance <= 0 else self.drafts.rules.debit_item
        if item is None:
            raise NotBooked(
                "customer_debited",
                f"{moved.amount} {moved.currency.upper()} (minor units) were charged to its balance by hand, and the "
                "rules name no debit item that says what for: name one, or enter it in QuickBooks by hand.",
            )
        self._debited(moved, item, "Debit to the customer's balance")

    def _brought(self, moved: CustomerBalanceTransaction) -> None:
        item, text = self.drafts.rules.migration_item, "Balance that the customer came with"
        if item is None:
            raise NotBooked(
                "customer_balance_unknown",
                f"A customer balance transaction of type {moved.type} over {moved.amount} {moved.currency.upper()} "
                "(minor units) says what the customer came with, and the rules name no item for that "
                "(`migration_item`): name one, or enter it in QuickBooks by hand.",
            )
        if moved.amount < 0:
            self._credited(moved, item, text)
        else:
            self._debited(moved, item, text)

    def _credited(self, moved: CustomerBalanceTransaction, item: str, text: str) -> None:
        key = goodwill_key(moved.id)
        self._form(moved, key, "CreditMemo", item, text, -moved.amount, Rank.CREDIT)
        self.pools[_owner(moved)][key] = -moved.amount

    def _debited(self, moved: CustomerBalanceTransaction, item: str, text: str) -> None:
        key = debit_key(moved.id)
        self._form(moved, key, "Invoice", item, text, moved.amount, Rank.SALE)
        self.debts[_owner(moved)][key] = moved.amount

    def _form(
        self,
        moved: CustomerBalanceTransaction,
        key: LinkKey,
        entity: str,
        item: str,
        text: str,
        minor: int,
        rank: Rank,
    ) -> None:
        self.drafts.create(
            key,
            entity,
            {
                "DocNumber": number_of(moved.id),
                **self._common(moved),
                "Line": [sale_line(self.drafts, self.drafts.item(item), text, minor, moved.currency)],
            },
            moment=moved.created,
            rank=rank,
            note=f"Stripe customer balance transaction {moved.id}",
            evidence=(f"customer_balance_transaction:{moved.id}",),
        )

    def _applied_below_zero(self, moved: CustomerBalanceTransaction, invoice: Invoice) -> None:
        owner = _owner(moved)
        if invoice.total < 0:
            if moved.amount != invoice.total or not self.drafts.has(negative_key(invoice.id)):
                raise NotBooked("credit_not_in_books", f"The credit of invoice {invoice.id} is not booked as one.")
            self.pools[owner][negative_key(invoice.id)] = -moved.amount
            return
        parts, wanting = self.reserved.collected(self.debts[owner], invoice.id, -moved.amount)
        if wanting:
            self.drafts.waiting.add(invoice.id)
            raise NotBooked("debit_not_in_books", f"{wanting} of what the invoice collects are in no debit.")
        for key, part in parts.items():
            self.debts[owner][key] -= part
            self.collected[invoice.id][key] = self.collected[invoice.id].get(key, 0) + part

    def _put_off(self, moved: CustomerBalanceTransaction, invoice: Invoice) -> None:
        """What is due of an invoice is owed by itself, beside the debits that it was to collect."""
        debts, left = self.debts[_owner(moved)], moved.amount
        for key, part in self.collected.pop(invoice.id, {}).items():
            debts[key] = debts.get(key, 0) + part
            left -= part
        debts[invoice_key(invoice.id)] = left

    def _overpaid(self, moved: CustomerBalanceTransaction, invoice: Invoice) -> None:
        """What was paid too much is with the payments that came last."""
        left = -moved.amount
        paid = [each for each in self.drafts.stripe.payments_on.get(invoice.id, ()) if each.status == "paid"]
        for each in sorted(paid, key=lambda each: (each.status_transitions.paid_at or 0, each.id), reverse=True):
            part = min(left, each.amount_paid or 0)
            if part:
                self.pools[_owner(moved)][payment_key(each.id)] = self.surplus[payment_key(each.id)] = part
                left -= part
        if left:
            raise NotBooked("credit_not_in_books", f"{left} of what was overpaid came with no payment.")

    # --- what is used

    def _use(self, moved: CustomerBalanceTransaction) -> None:
        if moved.invoice is None:
            raise NotBooked("customer_balance_unknown", "It was applied to an invoice that it does not name.")
        before = self.reserved.release(use_key(moved.id))
        parts, wanting = self.reserved.parts(self.pools[_owner(moved)], moved.amount, before)
        if wanting:
            self.drafts.waiting.add(moved.invoice)
            raise NotBooked(
                "credit_not_in_books",
                f"{wanting} of the credit that was used are in no credit memo."
                + if_older(self.drafts, "it is a credit"),
            )
        self._settle(moved, parts, {invoice_key(moved.invoice): moved.amount})
        self._used[moved.invoice] += [(_owner(moved), key, part) for key, part in parts.items()]
        if moved.invoice in self.drafts.open_amounts:
            self.drafts.open_amounts[moved.invoice] -= moved.amount

    def _net(self, moved: CustomerBalanceTransaction) -> None:
        """Apply open credits to open debits, where both are there now."""
        pool, debts = self.pools[_owner(moved)], self.debts[_owner(moved)]
        before = self.reserved.release(use_key(moved.id))
        both = min(sum(self.reserved.free(pool).values()), sum(self.reserved.free(debts).values()))
        if both > 0:
            parts, _ = self.reserved.parts(pool, both, before)
            owed = self.reserved.owed(debts, sum(parts.values()), before)
            self._settle(moved, parts, owed)
            for key, part in owed.items():
                debts[key] -= part
                if key.stripe_object == "invoice" and key.stripe_id in self.drafts.open_amounts:
                    self.drafts.open_amounts[key.stripe_id] -= part

    def _settle(self, moved: CustomerBalanceTransaction, parts: Open, owed: Open) -> None:
        """Settle `owed` with `parts` of credits: unapplied payments by themselves, memos by a payment of nothing."""
        owed, pool = dict(owed), self.pools[_owner(moved)]
        lines: list[tuple[LinkKey, str, int]] = []
        for key, part in parts.items():
            pool[key] -= part
            if key.role == "payment":
                settled, _ = taken(owed, part)
                for each, minor in settled.items():
                    owed[each] -= minor
                    self.applied[key].append((each, minor))
            else:
                lines.append((key, "CreditMemo", part))
        if lines and not self._is_undone(moved):
            settles = f"invoice {moved.invoice} by " if moved.invoice is not None else ""
            apply_credit(
                self.drafts,
                use_key(moved.id),
                self._common(moved),
                (*((key, "Invoice", part) for key, part in owed.items() if part), *lines),
                moved.currency,
                moved.created,
                f"Stripe credit applied to {settles}{moved.id}",
                (f"customer_balance_transaction:{moved.id}",),
            )

    def _is_undone(self, moved: CustomerBalanceTransaction) -> bool:
        """Whether a void has undone a use since, and it was not written before: then it need not be written at all."""
        invoice = self.drafts.stripe.invoice.get(moved.invoice or "")
        if invoice is None or invoice.status != "void" or moved.type != "applied_to_invoice":
            return False
        return not self.drafts.was_booked(use_key(moved.id)) and not is_corrected(self.drafts, invoice.id)

    def _common(self, moved: CustomerBalanceTransaction) -> dict[str, object]:
        return {
            **self.drafts.in_currency(moved.currency, self.drafts.day(moved.created)),
            "CustomerRef": self.customers.need(moved.customer, moved.currency, moved.created),
        }

    def give_back(self, invoice: str) -> None:
        """What a voided invoice had used of credits is free again, and what it collected is owed again.

        In a closed period the memo that takes the invoice back holds it. Raises `NotBooked`.
        """
        held, used = self.drafts.stripe.invoice[invoice], self._used.pop(invoice, [])
        if self.drafts.has(invoice_key(invoice)) and is_corrected(self.drafts, invoice):
            for owner, _, part in used:
                pool = self.pools[owner]
                pool[correction_key(invoice)] = pool.get(correction_key(invoice), 0) + part
            returned = sum(part for _, _, part in used)
            take_back(self.drafts, self.customers, held, held.status_transitions.voided_at or 0, returned)
        else:
            for owner, key, part in used:
                self.pools[owner][key] += part
                self.applied[key] = [each for each in self.applied[key] if each[0] != invoice_key(invoice)]
        for key, part in self.collected.pop(invoice, {}).items():
            debts = self.debts[held.customer or "", held.currency]
            debts[key] = debts.get(key, 0) + part

    # --- at the end

    def owed_of(self, invoice: str) -> int:
        """What of an invoice is not due with it any more, but owed until a later one collects it."""
        key = invoice_key(invoice)
        kept = sum(debts.get(key, 0) for debts in self.debts.values())
        return kept + sum(open_.get(key, 0) for open_ in self.collected.values())

    def collects(self, invoice: str) -> int:
        """What of the debits that an invoice collects is not paid yet."""
        return sum(self.collected[invoice].values()) if invoice in self.collected else 0

    def check(self) -> None:
        """Find the customers whose balance in QuickBooks is not the one that Stripe keeps for them."""
        last = {_owner(each): each for each in self.drafts.stripe.customer_balance_transaction.values()}
        for owner, moved in last.items():
            left = sum(self.pools[owner].values()) if owner in self.pools else 0
            left -= sum(self.debts[owner].values()) if owner in self.debts else 0
            if self.drafts.is_ours(moved.created) and left != -moved.ending_balance:
                self.drafts.find(
                    "customer_credit_differs",
                    Severity.MEDIUM,
                    moved.customer,
                    self.drafts.day(moved.created),
                    f"Its open credits come to {left} {moved.currency.upper()} (minor units), and its balance at "
                    f"Stripe to {-moved.ending_balance}.",
                )


def _owner(moved: CustomerBalanceTransaction) -> Owner:
    return moved.customer, moved.currency
