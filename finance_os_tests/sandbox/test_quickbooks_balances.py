"""Whatever is done in whatever order: debits equal credits, and every balance is the sum of what stands open."""

from collections import defaultdict
from datetime import date
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from finance_os.sandbox.quickbooks import chart
from finance_os.sandbox.quickbooks.entries import Entry
from finance_os.sandbox.quickbooks.faults import Fault
from finance_os.sandbox.quickbooks.formats import at_rate, currency_ref, number
from finance_os.sandbox.quickbooks.realm import Realm
from finance_os.sandbox.quickbooks.settling import open_amount, unapplied

START = date(2026, 6, 9)
CUSTOMERS = ("USD", "USD", "EUR", "JPY")

cents = st.integers(1, 100_000)
step = st.tuples(
    st.sampled_from(
        ("invoice", "memo", "pay", "pay", "use", "update", "void", "delete", "deposit", "refund", "bill", "pay bill")
    ),
    st.integers(0, 3),
    st.integers(0, 20),
    cents,
    st.sampled_from((None, Decimal("0.9"), Decimal("1.333333"))),
)


class Company:
    """A company to which things are done; what QuickBooks refuses is counted and changes nothing."""

    def __init__(self) -> None:
        self.realm = Realm(1_781_000_000)
        chart.found(self.realm, "Property Ads", START)
        for position, code in enumerate(CUSTOMERS):
            for entity in ("Customer", "Vendor"):
                self.realm.create(entity, {"DisplayName": f"{entity} {position}", "CurrencyRef": currency_ref(code)})
        self.refused = 0

    def party(self, entity: str, position: int) -> dict[str, Any]:
        entry = list(self.realm.all(entity))[position]
        return {
            f"{entity}Ref": {"value": entry.id},
            "CurrencyRef": {"value": entry.currency},
        }

    def chosen(self, kind: str, which: int, party: str | None = None) -> Entry | None:
        held = [
            each
            for each in self.realm.all(kind)
            if party is None or (each.party is not None and each.party[1] == party)
        ]
        return held[which % len(held)] if held else None

    def do(self, what: str, position: int, which: int, amount: int, rate: Decimal | None) -> None:
        try:
            self._do(what, position, which, amount, rate)
        except Fault:
            self.refused += 1

    def _do(self, what: str, position: int, which: int, amount: int, rate: Decimal | None) -> None:
        realm = self.realm
        realm.now += 60
        customer = self.party("Customer", position)
        vendor = self.party("Vendor", position)
        extra = {} if rate is None else {"ExchangeRate": rate}
        sale = [
            {"Amount": number(amount - amount // 3), "DetailType": "SalesItemLineDetail", "SalesItemLineDetail": {}},
            {"Amount": number(amount // 3), "DetailType": "SalesItemLineDetail", "SalesItemLineDetail": {}},
        ]
        expense = {
            "Amount": number(amount),
            "DetailType": "AccountBasedExpenseLineDetail",
            "AccountBasedExpenseLineDetail": {"AccountRef": realm.chart.ref("publisher_costs")},
        }
        match what:
            case "invoice":
                realm.create("Invoice", {**customer, **extra, "Line": sale})
            case "memo":
                realm.create("CreditMemo", {**customer, **extra, "Line": sale})
            case "refund":
                account = realm.chart.ref("clearing")
                realm.create("RefundReceipt", {**customer, **extra, "Line": sale, "DepositToAccountRef": account})
            case "pay":
                invoice = self.chosen("Invoice", which, customer["CustomerRef"]["value"])
                lines = [] if invoice is None else [self.link(invoice, min(amount, open_amount(realm, invoice)))]
                lines = [line for line in lines if line["Amount"]]
                total = {"TotalAmt": number(amount)}
                realm.create("Payment", {**customer, **extra, **total, "Line": lines})
            case "use":
                invoice = self.chosen("Invoice", which, customer["CustomerRef"]["value"])
                memo = self.chosen("CreditMemo", which, customer["CustomerRef"]["value"])
                if invoice is not None and memo is not None:
                    part = min(open_amount(realm, invoice), open_amount(realm, memo))
                    lines = [self.link(invoice, part), self.link(memo, part)]
                    realm.create("Payment", {**customer, "TotalAmt": 0, "Line": lines})
            case "update":
                kind = ("Invoice", "CreditMemo")[which % 2]
                found = self.chosen(kind, which)
                if found is not None:
                    realm.update(kind, {**self.version(found), "sparse": True, "Line": sale})
            case "void" | "delete":
                kind = ("Invoice", "Payment", "CreditMemo", "RefundReceipt")[position]
                found = self.chosen(kind, which)
                if found is not None:
                    getattr(realm, what)(kind, self.version(found))
            case "deposit":
                payment = self.chosen("Payment", which)
                if payment is not None:
                    bank = {"DepositToAccountRef": realm.chart.ref("bank")}
                    realm.create("Deposit", {**bank, "Line": [self.link(payment, payment.total)]})
            case "bill":
                realm.create("Bill", {**vendor, **extra, "Line": [expense]})
            case "pay bill":
                bill = self.chosen("Bill", which, vendor["VendorRef"]["value"])
                if bill is not None:
                    part = min(amount, open_amount(realm, bill))
                    body = {
                        "PayType": "Check",
                        "TotalAmt": number(part),
                        "CheckPayment": {"BankAccountRef": realm.chart.ref("bank")},
                        "Line": [self.link(bill, part)],
                    }
                    realm.create("BillPayment", {**vendor, **extra, **body})

    def link(self, entry: Entry, part: int) -> dict[str, Any]:
        return {"Amount": number(part), "LinkedTxn": [{"TxnId": entry.id, "TxnType": entry.kind.name}]}

    def version(self, entry: Entry) -> dict[str, Any]:
        return {"Id": entry.id, "SyncToken": str(entry.sync)}


def check(realm: Realm) -> None:
    """The books balance, control accounts are the sums of what is open, and every object shows the present state."""
    accounts = list(realm.all("Account"))
    assert sum(realm.balances.home(each.id) for each in accounts) == 0
    own: dict[str, int] = defaultdict(int)
    home: dict[str, int] = defaultdict(int)
    for kind, sign in (("Invoice", 1), ("CreditMemo", -1)):
        for entry in realm.all(kind):
            still_open = open_amount(realm, entry)
            assert 0 <= still_open <= entry.total
            own[entry.currency] += sign * still_open
            home[entry.currency] += sign * at_rate(still_open, Decimal(entry.fields["ExchangeRate"]))
    for entry in realm.all("Payment"):
        assert unapplied(entry) >= 0
        own[entry.currency] -= unapplied(entry)
        home[entry.currency] -= at_rate(unapplied(entry), Decimal(entry.fields["ExchangeRate"]))
    for account in accounts:
        if account.fields["AccountType"] == "Accounts Receivable":
            assert realm.balances.account(account.id) == own[account.currency]
            assert realm.balances.home(account.id) == home[account.currency]
            customers = [each for each in realm.all("Customer") if each.currency == account.currency]
            assert realm.balances.account(account.id) == sum(realm.balances.owed(each.key) for each in customers)
        if account.fields["AccountType"] == "Accounts Payable":
            vendors = [each for each in realm.all("Vendor") if each.currency == account.currency]
            assert -realm.balances.account(account.id) == sum(realm.balances.owed(each.key) for each in vendors)
        if account.fields["AccountType"] in ("Bank", "Accounts Receivable", "Accounts Payable"):
            assert account.body()["CurrentBalance"] == number(realm.balances.account(account.id))
    for kind in ("Customer", "Vendor"):
        for entry in realm.all(kind):
            assert entry.body()["Balance"] == number(realm.balances.owed(entry.key))
    for entry in realm.all("Invoice"):
        assert entry.body()["Balance"] == number(open_amount(realm, entry))
        for kind, key in realm.links.payers(entry.key):
            linked = [line["LinkedTxn"][0] for line in realm.one(kind, key).fields["Line"]]
            assert {"TxnId": entry.id, "TxnType": "Invoice"} in linked


@settings(max_examples=150, deadline=None)
@given(st.lists(step, min_size=10, max_size=50))
def test_books_balance_after_every_step(steps: list[tuple[str, int, int, int, Decimal | None]]) -> None:
    company = Company()
    for each in steps:
        company.do(*each)
        check(company.realm)


@settings(max_examples=150, deadline=None)
@given(st.lists(step, min_size=10, max_size=50))
def test_every_visible_change_has_a_new_version(steps: list[tuple[str, int, int, int, Decimal | None]]) -> None:
    company = Company()
    seen: dict[tuple[str, str], tuple[int, dict[str, Any]]] = {}
    for each in steps:
        company.do(*each)
        for held in company.realm.entries.values():
            for entry in held.values():
                body = entry.body()
                before = seen.get(entry.key)
                if before is not None and before[1] != body:
                    assert entry.sync > before[0], entry.key
                    assert entry.updated == company.realm.now
                seen[entry.key] = (entry.sync, body)


def test_undoing_everything_leaves_nothing() -> None:
    company = Company()
    realm = company.realm
    empty = {each.id: realm.balances.account(each.id) for each in realm.all("Account")}
    for what, position, which, amount in (
        ("invoice", 2, 0, 10_001),
        ("memo", 2, 0, 3_333),
        ("use", 2, 0, 1),
        ("pay", 2, 0, 5_555),
        ("invoice", 0, 0, 100),
        ("pay", 0, 0, 100),
        ("deposit", 0, 2, 1),
    ):
        company.do(what, position, which, amount, Decimal("1.333333") if what == "pay" else None)
    assert company.refused == 0
    assert {each.id: realm.balances.account(each.id) for each in realm.all("Account")} != empty
    for kind in ("Deposit", "Invoice", "CreditMemo", "Payment"):
        for entry in list(realm.all(kind)):
            realm.delete(kind, company.version(entry))
    assert {each: realm.balances.account(each) for each in empty} == empty
    assert all(realm.balances.home(each.id) == 0 for each in realm.all("Account") if each.id not in empty)
