"""One QuickBooks company as a store of objects, with the rules by which they may be changed.

Every change goes through `create`, `update`, `delete` and `void`, whoever makes it. After it, the links and postings
of all transactions concerned are worked out anew and carried to accounts, customers and vendors; whatever shows
something else than before gets a new SyncToken and LastUpdatedTime.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any

from . import faults
from .balances import Balances, Effects, effects, shown
from .entities import KINDS
from .entries import Entry, Gone, Key, credits_used, link, paid
from .fields import Kind
from .formats import HOME, currency_ref, local_day, number
from .lines import emptied
from .links import Links
from .postings import total
from .roles import Chart
from .settling import open_amount
from .validation import clean

_AMOUNTS = ("TotalAmt", "CustomerRef", "DepositToAccountRef", "TxnDate", "CurrencyRef", "ExchangeRate")


class Realm:
    """The company. `now` is set by who drives it: the moment, in seconds, at which a change happens."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.entries: dict[str, dict[str, Entry]] = {name: {} for name in KINDS}
        self.gone: list[Gone] = []
        self.chart = Chart()
        self.links = Links()
        self.balances = Balances()
        self.hidden: set[Key] = set()
        self._series: dict[str, int] = defaultdict(int)
        self._names: dict[tuple[str, str], Key] = {}
        self._numbers: dict[tuple[str, str], str] = {}

    # --- looking

    def find(self, kind: str, key: str) -> Entry | None:
        return self.entries[kind].get(key)

    def one(self, kind: str, key: str) -> Entry:
        return self.entries[kind][key]

    def all(self, kind: str) -> Iterable[Entry]:
        return self.entries[kind].values()

    def is_hidden(self, kind: str, key: str) -> bool:
        """Whether an object is one of the running batch, whose operations must not depend on one another."""
        return (kind, key) in self.hidden

    def today(self) -> date:
        return local_day(self.now)

    @property
    def closed_until(self) -> str:
        """The last day of the closed books, from the preferences; empty where they are open."""
        preferences = self.find("Preferences", "1")
        return "" if preferences is None else preferences.fields["AccountingInfoPrefs"].get("BookCloseDate", "")

    def currencies(self) -> set[str]:
        return {HOME} | {each.fields["Code"] for each in self.all("CompanyCurrency") if each.fields["Active"]}

    def rate_entry(self, code: str, day: str) -> Entry | None:
        """The newest rate of a currency that is not later than a day, or the first that there is."""
        known = sorted(
            (each for each in self.all("ExchangeRate") if each.fields["SourceCurrencyCode"] == code),
            key=lambda each: each.fields["AsOfDate"],
        )
        fitting = [each for each in known if each.fields["AsOfDate"] <= day]
        return (fitting[-1:] or known[:1] or [None])[0]

    def rate(self, code: str, day: str) -> Decimal | int:
        """Home currency for one unit; QuickBooks takes 1 where it knows no rate."""
        entry = self.rate_entry(code, day)
        return entry.fields["Rate"] if entry is not None and code != HOME else 1

    def named(self, kind: Kind, name: str) -> Entry | None:
        """The active object that bears a name: customers and vendors share theirs."""
        key = self._names.get((kind.series, name.casefold()))
        return self.entries[key[0]].get(key[1]) if key else None

    def default_item(self) -> dict[str, Any]:
        first = next(iter(self.all("Item")))
        return {"value": first.id, "name": first.name}

    def receivable(self, code: str) -> dict[str, Any]:
        return self._control("Accounts Receivable", "Accounts Receivable (A/R)", code)

    def payable(self, code: str) -> dict[str, Any]:
        return self._control("Accounts Payable", "Accounts Payable (A/P)", code)

    def _control(self, kind: str, name: str, code: str) -> dict[str, Any]:
        """The account of a currency's open invoices or bills; QuickBooks adds it with the first of them."""
        for each in self.all("Account"):
            if each.fields["AccountType"] == kind and each.currency == code:
                return {"value": each.id, "name": each.name}
        entry = self.create(
            "Account",
            {
                "Name": f"{name} - {code}",
                "AccountType": kind,
                "AccountSubType": kind.replace(" ", ""),
                "CurrencyRef": currency_ref(code),
            },
        )
        return {"value": entry.id, "name": entry.name}

    # --- changing

    def create(self, name: str, body: Mapping[str, Any], *, free: bool = False, key: str | None = None) -> Entry:
        """A new object. `free` is for users of QuickBooks itself, whom a closing date only warns."""
        kind = KINDS[name]
        fields = clean(self, kind, body, None)
        self._check_number(kind, fields, None)
        self._check_period(kind, fields, free)
        targets = self._targets(kind, fields, None)
        if key is None:
            self._series[kind.series] += 1
            key = str(self._series[kind.series])
        entry = Entry(kind, key, fields, self.now, self.now)
        self.entries[name][key] = entry
        self._settle(entry, targets)
        return entry

    def update(self, name: str, body: Mapping[str, Any], *, free: bool = False) -> Entry:
        """A full or sparse update."""
        entry = self._current(name, body)
        before = entry.fields
        self._check_period(entry.kind, before, free)
        fields = clean(self, entry.kind, body, before)
        self._check_period(entry.kind, fields, free)
        self._check_number(entry.kind, fields, entry)
        if self._is_deposited(entry) and any(before.get(each) != fields.get(each) for each in _AMOUNTS):
            raise faults.deposited()
        targets = self._targets(entry.kind, fields, entry)
        self._forget_names(entry)
        entry.fields, entry.sync, entry.updated = fields, entry.sync + 1, self.now
        self._settle(entry, targets)
        return entry

    def delete(self, name: str, body: Mapping[str, Any], *, free: bool = False) -> Gone:
        """Take a transaction out of the books; what it was linked with is open again."""
        entry = self._current(name, body)
        self._check_period(entry.kind, entry.fields, free)
        if self._is_deposited(entry):
            raise faults.deposited()
        released, concerned = self._release(entry)
        concerned |= self.links.clear(entry)
        self._forget_names(entry)
        del self.entries[name][entry.id]
        gone = Gone(entry.kind, entry.id, self.now)
        self.gone.append(gone)
        self._refresh(concerned | {entry.key}, released)
        return gone

    def void(self, name: str, body: Mapping[str, Any], *, free: bool = False) -> Entry:
        """Set a transaction's amounts to nothing and free what it was linked with."""
        entry = self._current(name, body)
        self._check_period(entry.kind, entry.fields, free)
        if self._is_deposited(entry):
            raise faults.deposited()
        released, concerned = self._release(entry)
        concerned |= self.links.clear(entry)
        note = entry.fields.get("PrivateNote")
        amounts = (
            {"TotalAmt": 0, "Line": []}
            if "TotalAmt" in entry.fields
            else {"Line": [emptied(line) for line in entry.fields["Line"]]}
        )
        entry.fields = {**entry.fields, **amounts, "PrivateNote": f"Voided - {note}" if note else "Voided"}
        entry.total, entry.sync, entry.updated = 0, entry.sync + 1, self.now
        self._refresh(concerned | {entry.key}, released | {entry.key})
        return entry

    def set_rate(self, body: Mapping[str, Any]) -> Entry:
        """Set a currency's rate from a day on."""
        kind = KINDS["ExchangeRate"]
        fields = clean(self, kind, body, None)
        code = fields["SourceCurrencyCode"]
        if code == HOME or fields.setdefault("TargetCurrencyCode", HOME) != HOME or code not in self.currencies():
            raise faults.business(f"The exchange rate of {code} cannot be set.", "SourceCurrencyCode")
        if Decimal(fields["Rate"]) <= 0:
            raise faults.invalid_number("Rate", fields["Rate"])
        key = f"{code} {fields['AsOfDate']}"
        entry = self.find(kind.name, key)
        if entry is None:
            entry = self.entries[kind.name][key] = Entry(kind, key, fields, self.now, self.now)
            return entry
        if str(body.get("SyncToken", entry.sync)) != str(entry.sync):
            raise faults.stale()
        entry.fields, entry.sync, entry.updated = fields, entry.sync + 1, self.now
        return entry

    # --- rules

    def _current(self, name: str, body: Mapping[str, Any]) -> Entry:
        key = "1" if KINDS[name].series in ("company", "preferences") else body.get("Id")
        if key is None:
            raise faults.missing("Id")
        if not isinstance(key, str) or not key.isdigit():
            raise faults.invalid_id(key)
        entry = self.find(name, key)
        if entry is None or self.is_hidden(name, key):
            raise faults.not_found()
        if body.get("SyncToken") is None:
            raise faults.missing("SyncToken")
        if body["SyncToken"] != str(entry.sync):
            raise faults.stale()
        return entry

    def _is_deposited(self, entry: Entry) -> bool:
        return entry.kind.name == "Payment" and self.links.deposit_of(entry.id) is not None

    def _check_period(self, kind: Kind, fields: Mapping[str, Any], free: bool) -> None:
        if kind.is_transaction and not free and fields["TxnDate"] <= self.closed_until:
            raise faults.period_closed()

    def _check_number(self, kind: Kind, fields: Mapping[str, Any], entry: Entry | None) -> None:
        """DocNumbers are unique for their kind of transaction while custom transaction numbers are on."""
        wanted = fields.get("DocNumber")
        if not wanted or not kind.unique_number:
            return
        preferences = self.find("Preferences", "1")
        if preferences is not None and not preferences.fields["SalesFormsPrefs"].get("CustomTxnNumbers"):
            return
        owner = self._numbers.get((kind.name, wanted.casefold()))
        if owner is not None and (entry is None or entry.id != owner):
            raise faults.duplicate_document(wanted, kind.label, owner)

    def _targets(self, kind: Kind, fields: Mapping[str, Any], entry: Entry | None) -> dict[Key, int]:
        """What the lines apply to which transaction, where each of them can bear it."""
        if not kind.is_transaction:
            return {}
        total_ = total(fields)
        if total_ < 0 and kind.name != "JournalEntry":
            raise faults.business("Transaction amount must be 0 or greater.", "TotalAmt")
        if entry is not None and total_ < self.links.applied(entry.key):
            raise faults.business("The total cannot be less than what has been applied to it.", "TotalAmt")
        lines = [line for line in fields.get("Line", ()) if line.get("LinkedTxn")]
        targets: dict[Key, int] = defaultdict(int)
        for target, cents in map(link, lines):
            targets[target] += cents
        for target, cents in targets.items():
            found = self.find(*target)
            if found is None or self.is_hidden(*target):
                raise faults.invalid_reference("TxnId", f"{target[0]} {target[1]} does not exist.")
            if kind.name == "Deposit":
                self._check_deposited(found, cents, entry)
                continue
            if found.party != Entry(kind, "", dict(fields), 0, 0).party:
                raise faults.cannot_link(f"{target[0]} {target[1]}")
            before = self.links.between(entry.key, target) if entry is not None else 0
            if cents > open_amount(self, found) + before:
                raise faults.business(f"The amount applied to {target[0]} {target[1]} is more than is open.", "Amount")
        if kind.links and kind.name != "Deposit":
            used, settled = credits_used(lines), paid(lines)
            if used > settled or settled - used > total_:
                raise faults.business("The amounts applied do not fit the payment's total.", "TotalAmt")
        return dict(targets)

    def _check_deposited(self, payment: Entry, cents: int, deposit: Entry | None) -> None:
        held_by = self.links.deposit_of(payment.id)
        if held_by is not None and (deposit is None or deposit.id != held_by):
            raise faults.cannot_link(f"Payment {payment.id}")
        if payment.fields["DepositToAccountRef"]["value"] != self.chart.id("undeposited") or payment.currency != HOME:
            raise faults.cannot_link(f"Payment {payment.id}")
        if cents != payment.total:
            raise faults.business(f"The amount of payment {payment.id} is {number(payment.total)}.", "Amount")

    # --- what follows from a change

    def _settle(self, entry: Entry, targets: Mapping[Key, int]) -> None:
        concerned = self.links.put(entry, targets) | {entry.key}
        if entry.kind.is_transaction:
            entry.total = total(entry.fields)
            if entry.fields.get("DocNumber"):
                self._numbers.setdefault((entry.kind.name, entry.fields["DocNumber"].casefold()), entry.id)
        elif entry.kind.named and entry.fields.get("Active"):
            self._names[entry.kind.series, entry.name.casefold()] = entry.key
        self._refresh(concerned, {entry.key})

    def _forget_names(self, entry: Entry) -> None:
        number_ = (entry.kind.name, str(entry.fields.get("DocNumber", "")).casefold())
        if self._numbers.get(number_) == entry.id:
            del self._numbers[number_]
        name = (entry.kind.series, entry.name.casefold())
        if self._names.get(name) == entry.key:
            del self._names[name]

    def _release(self, entry: Entry) -> tuple[set[Key], set[Key]]:
        """Take this transaction out of the payments that settle it; returns those, and all that this concerns."""
        released: set[Key] = set()
        concerned: set[Key] = set()
        for payer in self.links.payers(entry.key):
            payment = self.one(*payer)
            lines = [line for line in payment.fields["Line"] if link(line)[0] != entry.key]
            # A credit that was used for this invoice is free again.
            while credits_used(lines) > paid(lines):
                lines.remove(next(line for line in reversed(lines) if link(line)[0][0] == "CreditMemo"))
            # What another credit memo paid is open again with this one gone.
            while paid(lines) - credits_used(lines) > payment.total:
                lines.remove(next(line for line in reversed(lines) if link(line)[0][0] != "CreditMemo"))
            payment.fields = {**payment.fields, "Line": lines}
            targets: dict[Key, int] = defaultdict(int)
            for target, cents in map(link, lines):
                targets[target] += cents
            payment.sync, payment.updated = payment.sync + 1, self.now
            released.add(payer)
            concerned |= self.links.put(payment, targets) | {payer}
        return released, concerned

    def _refresh(self, concerned: set[Key], changed: set[Key]) -> None:
        """Post anew what is concerned, and give a new version to whatever now shows something else.

        `changed` are those that have their new version already.
        """
        for target in list(concerned):
            concerned |= self.links.payers(target).keys()
        moved = set(concerned)
        for key in concerned:
            entry = self.find(*key)
            has_effects = entry is not None and entry.kind.is_transaction
            moved |= self.balances.repost(key, effects(self, entry) if entry and has_effects else Effects())
        for key in moved:
            entry = self.find(*key)
            if entry is None:
                continue
            after = shown(self, entry)
            if after != entry.shown:
                entry.shown = after
                if key not in changed:
                    entry.sync, entry.updated = entry.sync + 1, self.now
