"""What of open credits and debits is free: what applications and payments that are written take of them stays theirs.

Evidence that comes late must not unsettle what QuickBooks has applied already. Each application is given again what it
took when it was written, as far as that is still there, and each invoice the debits that its payments paid with it;
until their turn comes, nobody else gets them.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from finance_os.stripe_qbo.intent import REFERENCE, LinkKey
from finance_os.stripe_qbo.mapping.amounts import stripe_minor
from finance_os.stripe_qbo.mapping.drafts import Drafts
from finance_os.stripe_qbo.mapping.payments import payment_key
from finance_os.stripe_qbo.written import Written

PUT_OFF = ("invoice_too_small", "invoice_too_large")
"""The types of movements by which an invoice stays open until a later one collects it."""

Open = dict[LinkKey, int]
"""What is left of objects, in minor units, the oldest first."""


@dataclass
class Reserved:
    """What written applications and payments take, until each is released."""

    drafts: Drafts

    @cached_property
    def _kept(self) -> Counter[LinkKey]:
        """What of which memo or debit written applications and payments take that are still to come."""
        found: Counter[LinkKey] = Counter()
        for each in self._paid.values():
            found.update(each)
        for key in self.drafts.written:
            is_use = (key.stripe_object, key.role) == ("customer_balance_transaction", "application")
            if is_use and not self.drafts.is_void(key):
                found.update(self.before(key))
        return found

    @cached_property
    def _paid(self) -> dict[str, Counter[LinkKey]]:
        """By invoice: what its written payments pay of debits that it collects."""
        found: dict[str, Counter[LinkKey]] = defaultdict(Counter)
        for each in self.drafts.stripe.invoice_payment.values():
            written = self.drafts.made(payment_key(each.id))
            if written is not None and each.status == "paid":
                for key, minor in _linked(written):
                    if key.role == "debit" or self._is_put_off(key):
                        found[each.invoice][key] += minor
        return found

    def _is_put_off(self, key: LinkKey) -> bool:
        """Whether a later invoice is to collect what is due of an invoice."""
        moves = self.drafts.stripe.moves_on.get(key.stripe_id, ())
        return key.stripe_object == "invoice" and any(each.type in PUT_OFF for each in moves)

    def collected(self, debts: Open, invoice: str, wanted: int) -> tuple[Open, int]:
        """What of which debit an invoice collects that makes up `wanted`, and how much none does: what its payments
        were written to pay, then the oldest that are free, then the oldest."""
        before = self._paid.pop(invoice, Counter())
        self._kept.subtract(before)
        return _picked((before, self.free(debts), debts), debts, wanted)

    def release(self, use: LinkKey) -> Counter[LinkKey]:
        """The turn of an application has come, and nothing is kept for it any more: what it took `before`."""
        before = self.before(use)
        if not self.drafts.is_void(use):
            self._kept.subtract(before)
        return before

    def before(self, use: LinkKey) -> Counter[LinkKey]:
        """What of which memo, and of which debit, an application takes, as it was written; nothing where it was not."""
        written = self.drafts.made(use)
        return Counter(dict(_linked(written))) if written is not None else Counter()

    def free(self, open_: Open) -> Open:
        """What is left of each that nothing written takes."""
        return {key: max(0, left - self._kept[key]) for key, left in open_.items()}

    def parts(self, pool: Open, wanted: int, before: Counter[LinkKey]) -> tuple[Open, int]:
        """What of which credit makes up `wanted`, and how much none does: what was written `before` as far as it is
        still there, then the oldest of what nothing else that is written takes, then the oldest."""
        there = {key: left for key, left in pool.items() if key.role == "payment" or self.drafts.has(key)}
        return _picked((before, self.free(there), there), there, wanted)

    def owed(self, debts: Open, wanted: int, before: Counter[LinkKey]) -> Open:
        """The same of debits: those that were written `before`, then the oldest that are free."""
        return _picked((before, self.free(debts)), debts, wanted)[0]


def _picked(sources: tuple[Mapping[LinkKey, int], ...], open_: Open, wanted: int) -> tuple[Open, int]:
    """What makes up `wanted` of what is `open_`, out of one source after the other, and how much nothing does."""
    found: Open = {}
    for source in sources:
        for key, left in source.items():
            part = min(left, wanted, open_.get(key, 0) - found.get(key, 0))
            if part > 0:
                found[key] = found.get(key, 0) + part
                wanted -= part
    return found, wanted


def taken(held: Open, wanted: int) -> tuple[Open, int]:
    """What of each, the oldest first, makes up `wanted`, and how much none does."""
    found: Open = {}
    for key, left in held.items():
        part = min(left, wanted)
        if part > 0:
            found[key] = part
            wanted -= part
    return found, wanted


def _linked(written: Written) -> Iterator[tuple[LinkKey, int]]:
    """The memos that a written payment of nothing uses and what it settles, with how much of each."""
    currency = written.now.get("CurrencyRef", {}).get("value", "usd")
    for line in written.now["Line"]:
        (linked,) = line["LinkedTxn"]
        yield LinkKey.parse(linked["TxnId"][REFERENCE]), stripe_minor(Decimal(line["Amount"]), currency)
