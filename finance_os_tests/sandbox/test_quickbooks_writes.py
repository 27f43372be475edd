"""Writing to QuickBooks: creates, updates, deletes and voids, what is refused with which code, and exact balances."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from finance_os.sandbox.quickbooks import QuickBooksRoom

from .test_quickbooks import Client, change, error, served, world


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    room = QuickBooksRoom(world(days=20, size=2))
    with served(room) as base:
        client = Client(room, base)
        client.sign_in()
        yield client
        client.http.close()


@dataclass
class Books:
    """Writes with made-up names and numbers, so that tests of one room do not meet."""

    client: Client
    count: int = 0

    def number(self, prefix: str = "T") -> str:
        Books.count += 1
        return f"{prefix}-{Books.count:05d}"

    def customer(self, currency: str = "USD", **more: Any) -> dict[str, Any]:
        body = {"DisplayName": self.number("Customer"), "CurrencyRef": {"value": currency}, **more}
        return self.client.write("Customer", body)

    def account(self, number: str) -> dict[str, Any]:
        (found,) = self.client.query(f"select * from Account where AcctNum = '{number}'")["Account"]
        return found

    def receivable(self, currency: str = "USD") -> Decimal:
        accounts = self.client.query("select * from Account where AccountType = 'Accounts Receivable'")["Account"]
        return sum(
            (Decimal(each["CurrentBalance"]) for each in accounts if each["CurrencyRef"]["value"] == currency),
            Decimal(0),
        )

    def sale(self, customer: dict[str, Any], amount: Any, **more: Any) -> dict[str, Any]:
        return {
            "CustomerRef": {"value": customer["Id"]},
            "CurrencyRef": {"value": customer["CurrencyRef"]["value"]},
            "Line": [
                {
                    "Amount": amount,
                    "DetailType": "SalesItemLineDetail",
                    "SalesItemLineDetail": {"ItemRef": {"value": "1"}},
                }
            ],
            **more,
        }

    def invoice(self, customer: dict[str, Any], amount: Any, **more: Any) -> dict[str, Any]:
        return self.client.write("Invoice", self.sale(customer, amount, DocNumber=self.number(), **more))

    def payment(self, customer: dict[str, Any], amount: Any, *applied: tuple[str, Any, Any], **more: Any) -> Any:
        return {
            "CustomerRef": {"value": customer["Id"]},
            "CurrencyRef": {"value": customer["CurrencyRef"]["value"]},
            "TotalAmt": amount,
            "Line": [
                {"Amount": part, "LinkedTxn": [{"TxnId": to["Id"], "TxnType": kind}]} for kind, to, part in applied
            ],
            **more,
        }

    def pay(self, customer: dict[str, Any], amount: Any, *applied: tuple[str, Any, Any], **more: Any) -> Any:
        return self.client.write("Payment", self.payment(customer, amount, *applied, **more))

    def again(self, entity: str, thing: dict[str, Any]) -> dict[str, Any]:
        return self.client.get(f"{entity.lower()}/{thing['Id']}")[entity]


@pytest.fixture
def books(client: Client) -> Books:
    return Books(client)


def version(thing: dict[str, Any]) -> dict[str, Any]:
    return {"Id": thing["Id"], "SyncToken": thing["SyncToken"]}


# --- what a sale does


def test_an_invoice_is_owed_until_it_is_paid(books: Books) -> None:
    customer = books.customer()
    before = books.receivable()
    invoice = books.invoice(customer, 120.50)
    assert (invoice["TotalAmt"], invoice["Balance"]) == (Decimal("120.5"), Decimal("120.5"))
    assert invoice["CustomerRef"] == {"value": customer["Id"], "name": customer["DisplayName"]}
    assert invoice["Line"][-1] == {
        "Amount": Decimal("120.5"),
        "DetailType": "SubTotalLineDetail",
        "SubTotalLineDetail": {},
    }
    assert books.again("Customer", customer)["Balance"] == Decimal("120.5")
    assert books.receivable() - before == Decimal("120.5")

    payment = books.pay(customer, 100, ("Invoice", invoice, 100))
    assert payment["UnappliedAmt"] == 0
    partly = books.again("Invoice", invoice)
    assert partly["Balance"] == Decimal("20.5")
    assert partly["LinkedTxn"] == [{"TxnId": payment["Id"], "TxnType": "Payment"}]
    assert int(partly["SyncToken"]) == int(invoice["SyncToken"]) + 1
    assert books.again("Customer", customer)["Balance"] == Decimal("20.5")

    rest = books.pay(customer, 30, ("Invoice", invoice, 20.5))
    assert rest["UnappliedAmt"] == Decimal("9.5")
    assert books.again("Invoice", invoice)["Balance"] == 0
    assert books.again("Customer", customer)["Balance"] == Decimal("-9.5")
    assert books.receivable() - before == Decimal("-9.5")
    undeposited = next(a for a in books.client.room.realm.all("Account") if a.name == "Undeposited Funds")
    assert payment["DepositToAccountRef"]["value"] == undeposited.id


def test_a_credit_memo_is_used_by_a_payment_of_nothing(books: Books) -> None:
    customer = books.customer()
    invoice = books.invoice(customer, 80)
    memo = books.client.write("CreditMemo", books.sale(customer, 30, DocNumber=books.number()))
    assert (memo["RemainingCredit"], books.again("Customer", customer)["Balance"]) == (30, 50)
    books.pay(customer, 0, ("Invoice", invoice, 30), ("CreditMemo", memo, 30))
    assert books.again("Invoice", invoice)["Balance"] == 50
    assert books.again("CreditMemo", memo)["RemainingCredit"] == 0
    assert books.again("Customer", customer)["Balance"] == 50


def test_a_discount_lowers_what_is_owed(books: Books) -> None:
    customer = books.customer()
    body = books.sale(customer, 100, DocNumber=books.number())
    body["Line"].append({"Amount": 15, "DetailType": "DiscountLineDetail", "DiscountLineDetail": {}})
    body["Line"].append({"Description": "Thank you", "DetailType": "DescriptionOnly"})
    invoice = books.client.write("Invoice", body)
    assert (invoice["TotalAmt"], invoice["Line"][-1]["Amount"]) == (85, 100)
    given = next(each for each in books.client.room.realm.all("Account") if each.name == "Discounts Given")
    assert books.client.room.realm.balances.account(given.id) >= 1_500


def test_a_refund_receipt_takes_money_out_of_its_account(books: Books) -> None:
    customer = books.customer()
    clearing = books.account("1050")
    body = books.sale(customer, 12.34, DocNumber=books.number(), DepositToAccountRef={"value": clearing["Id"]})
    refund = books.client.write("RefundReceipt", body)
    assert Decimal(clearing["CurrentBalance"]) - Decimal(books.account("1050")["CurrentBalance"]) == Decimal("12.34")
    assert books.again("Customer", customer)["Balance"] == 0
    voided = books.client.write("RefundReceipt", version(refund), operation="void")
    assert (voided["TotalAmt"], voided["PrivateNote"], voided["SyncToken"]) == (0, "Voided", "1")
    assert books.account("1050")["CurrentBalance"] == clearing["CurrentBalance"]


# --- voids and deletes


def test_a_voided_invoice_frees_its_payments(books: Books) -> None:
    customer = books.customer()
    invoice, other = books.invoice(customer, 50), books.invoice(customer, 20)
    payment = books.pay(customer, 70, ("Invoice", invoice, 50), ("Invoice", other, 20))
    current = books.again("Invoice", invoice)
    voided = books.client.write("Invoice", version(current), operation="void")
    assert (voided["TotalAmt"], voided["Balance"], voided["LinkedTxn"]) == (0, 0, [])
    assert voided["PrivateNote"] == "Voided"
    freed = books.again("Payment", payment)
    assert (freed["UnappliedAmt"], [line["Amount"] for line in freed["Line"]]) == (50, [20])
    assert int(freed["SyncToken"]) == int(payment["SyncToken"]) + 1
    assert books.again("Invoice", other)["Balance"] == 0
    assert books.again("Customer", customer)["Balance"] == -50


def test_voiding_an_invoice_gives_a_used_credit_back(books: Books) -> None:
    customer = books.customer()
    invoice = books.invoice(customer, 40)
    memo = books.client.write("CreditMemo", books.sale(customer, 25, DocNumber=books.number()))
    used = books.pay(customer, 0, ("Invoice", invoice, 25), ("CreditMemo", memo, 25))
    books.client.write("Invoice", version(books.again("Invoice", invoice)), operation="void")
    assert books.again("CreditMemo", memo)["RemainingCredit"] == 25
    after = books.again("Payment", used)
    assert (after["Line"], after["UnappliedAmt"]) == ([], 0)
    assert int(after["SyncToken"]) == 1
    assert books.again("Customer", customer)["Balance"] == -25


def test_a_deleted_credit_memo_opens_the_invoice_that_it_paid(books: Books) -> None:
    customer = books.customer()
    invoice = books.invoice(customer, 40)
    memo = books.client.write("CreditMemo", books.sale(customer, 25, DocNumber=books.number()))
    books.pay(customer, 0, ("Invoice", invoice, 25), ("CreditMemo", memo, 25))
    books.client.write("CreditMemo", version(books.again("CreditMemo", memo)), operation="delete")
    assert books.again("Invoice", invoice)["Balance"] == 40
    assert books.again("Customer", customer)["Balance"] == 40


@pytest.mark.parametrize("params", [{"operation": "void"}, {"operation": "update", "include": "void"}])
def test_a_voided_payment_opens_its_invoice(books: Books, params: dict[str, str]) -> None:
    customer = books.customer()
    invoice = books.invoice(customer, 50)
    payment = books.pay(customer, 50, ("Invoice", invoice, 50), PrivateNote="Card")
    voided = books.client.write("Payment", version(payment), **params)
    assert (voided["TotalAmt"], voided["Line"], voided["PrivateNote"]) == (0, [], "Voided - Card")
    assert books.again("Invoice", invoice)["Balance"] == 50


def test_a_deleted_payment_opens_its_invoice_and_is_gone(books: Books) -> None:
    customer = books.customer()
    invoice = books.invoice(customer, 50)
    payment = books.pay(customer, 50, ("Invoice", invoice, 50))
    deleted = books.client.write("Payment", version(payment), operation="delete")
    assert deleted == {"Id": payment["Id"], "status": "Deleted", "domain": "QBO"}
    assert books.again("Invoice", invoice)["Balance"] == 50
    assert books.again("Invoice", invoice)["LinkedTxn"] == []
    assert books.client.fault(f"payment/{payment['Id']}")["code"] == "610"
    assert books.client.refused("Payment", version(payment), operation="delete")["code"] == "610"


def test_the_number_of_a_deleted_invoice_is_free_again(books: Books) -> None:
    customer = books.customer()
    invoice = books.invoice(customer, 5)
    books.client.write("Invoice", version(invoice), operation="delete")
    again = books.client.write("Invoice", books.sale(customer, 5, DocNumber=invoice["DocNumber"]))
    assert int(again["Id"]) > int(invoice["Id"])


# --- updates


def test_a_sparse_update_leaves_the_rest_and_a_full_one_does_not(books: Books) -> None:
    customer = books.customer(Notes="Pays late", PrimaryEmailAddr={"Address": "a@b.example"})
    sparse = books.client.write("Customer", {**version(customer), "sparse": True, "Notes": "Pays early"})
    assert sparse["PrimaryEmailAddr"] == {"Address": "a@b.example"}
    assert (sparse["Notes"], sparse["SyncToken"]) == ("Pays early", "1")
    full = books.client.write("Customer", {**version(sparse), "DisplayName": sparse["DisplayName"]})
    assert not {"Notes", "PrimaryEmailAddr"} & full.keys()
    assert full["SyncToken"] == "2"
    cleared = books.client.write("Customer", {**version(full), "sparse": True, "CompanyName": None})
    assert "CompanyName" not in cleared


def test_an_update_posts_anew(books: Books) -> None:
    customer = books.customer()
    invoice = books.invoice(customer, 100)
    before = books.receivable()
    lines = books.sale(customer, 70)["Line"]
    updated = books.client.write("Invoice", {**version(invoice), "sparse": True, "Line": lines})
    assert (updated["Balance"], updated["DocNumber"]) == (70, invoice["DocNumber"])
    assert before - books.receivable() == 30
    assert books.again("Customer", customer)["Balance"] == 70


def test_a_payment_can_be_applied_later(books: Books) -> None:
    customer = books.customer()
    payment = books.pay(customer, 60)
    invoice = books.invoice(customer, 40)
    body = {**version(payment), "sparse": True, **books.payment(customer, 60, ("Invoice", invoice, 40))}
    assert books.client.write("Payment", body)["UnappliedAmt"] == 20
    assert books.again("Invoice", invoice)["Balance"] == 0


def test_who_is_late_is_told(books: Books) -> None:
    customer = books.customer()
    invoice = books.invoice(customer, 10)
    books.pay(customer, 10, ("Invoice", invoice, 10))
    late = books.client.refused("Invoice", {**version(invoice), "sparse": True, "PrivateNote": "x"})
    assert (late["code"], late["Message"]) == ("5010", "Stale Object Error")
    assert books.client.refused("Invoice", version(invoice), operation="void")["code"] == "5010"
    assert books.client.refused("Invoice", {"Id": invoice["Id"], "sparse": True})["code"] == "2020"


def test_an_inactive_name_is_free_and_comes_back(books: Books) -> None:
    vendor = books.client.write("Vendor", {"DisplayName": books.number("Vendor")})
    gone = books.client.write("Vendor", {**version(vendor), "sparse": True, "Active": False})
    assert gone["DisplayName"] == vendor["DisplayName"] + " (deleted)"
    books.client.write("Customer", {"DisplayName": vendor["DisplayName"]})
    back = {**version(gone), "sparse": True, "Active": True}
    assert books.client.refused("Vendor", back)["code"] == "6240"
    renamed = books.client.write("Vendor", {**back, "DisplayName": vendor["DisplayName"] + " II (deleted)"})
    assert (renamed["DisplayName"], renamed["Active"]) == (vendor["DisplayName"] + " II", True)


def test_company_and_preferences_are_updated_in_place(books: Books) -> None:
    info = books.client.get(f"companyinfo/{books.client.room.realm_id}")["CompanyInfo"]
    body = {**version(info), "sparse": True, "LegalName": "Sandbox Ads Holding"}
    assert books.client.write("CompanyInfo", body)["LegalName"] == "Sandbox Ads Holding"
    assert books.client.refused("CompanyInfo", body)["code"] == "5010"
    assert books.client.refused("CompanyInfo", version(info), operation="delete")["code"] == "500"


# --- deposits


def test_a_deposited_payment_cannot_be_changed(books: Books) -> None:
    customer = books.customer()
    bank = books.account("1000")
    invoice = books.invoice(customer, 90)
    payment = books.pay(customer, 90)
    fees = books.account("6100")
    lines = [
        {"Amount": 90, "LinkedTxn": [{"TxnId": payment["Id"], "TxnType": "Payment"}]},
        {
            "Amount": -2.91,
            "DetailType": "DepositLineDetail",
            "DepositLineDetail": {"AccountRef": {"value": fees["Id"]}},
        },
    ]
    body = {"DepositToAccountRef": {"value": bank["Id"]}, "Line": lines}
    undeposited = books.account("1090")["CurrentBalance"]
    deposit = books.client.write("Deposit", body)
    assert deposit["TotalAmt"] == Decimal("87.09")
    grown = Decimal(books.account("1000")["CurrentBalance"]) - Decimal(bank["CurrentBalance"])
    assert grown == Decimal("87.09")
    assert undeposited - books.account("1090")["CurrentBalance"] == 90
    held = books.again("Payment", payment)
    assert held["LinkedTxn"] == [{"TxnId": deposit["Id"], "TxnType": "Deposit"}]
    assert books.client.refused("Payment", version(held), operation="delete")["code"] == "6540"
    assert books.client.refused("Payment", version(held), operation="void")["code"] == "6540"
    assert books.client.refused("Payment", {**version(held), "sparse": True, "TotalAmt": 91})["code"] == "6540"
    assert books.client.refused("Deposit", body)["code"] == "620"
    applied = books.payment(customer, 90, ("Invoice", invoice, 90))
    applied = books.client.write("Payment", {**version(held), "sparse": True, "Line": applied["Line"]})
    assert applied["UnappliedAmt"] == 0
    books.client.write("Deposit", version(deposit), operation="delete")
    free = books.again("Payment", payment)
    assert free["LinkedTxn"] == []
    books.client.write("Payment", version(free), operation="delete")


def test_only_undeposited_payments_of_their_full_amount_are_deposited(books: Books) -> None:
    customer = books.customer()
    bank, clearing = books.account("1000"), books.account("1050")
    straight = books.pay(customer, 10, DepositToAccountRef={"value": clearing["Id"]})
    waiting = books.pay(customer, 10)
    for payment, amount, code in ((straight, 10, "620"), (waiting, 9, "6000")):
        line = {"Amount": amount, "LinkedTxn": [{"TxnId": payment["Id"], "TxnType": "Payment"}]}
        body = {"DepositToAccountRef": {"value": bank["Id"]}, "Line": [line]}
        assert books.client.refused("Deposit", body)["code"] == code


# --- purchases, bills, journals, transfers


def test_bills_are_owed_until_they_are_paid(books: Books) -> None:
    vendor = books.client.write("Vendor", {"DisplayName": books.number("Vendor")})
    bank, costs, payable = books.account("1000"), books.account("5000"), books.account("2000")
    line = {
        "Amount": 75.25,
        "DetailType": "AccountBasedExpenseLineDetail",
        "AccountBasedExpenseLineDetail": {"AccountRef": {"value": costs["Id"]}},
    }
    bill = books.client.write("Bill", {"VendorRef": {"value": vendor["Id"]}, "Line": [line]})
    assert (bill["Balance"], bill["APAccountRef"]["value"]) == (Decimal("75.25"), payable["Id"])
    assert books.again("Vendor", vendor)["Balance"] == Decimal("75.25")
    paid = books.client.write(
        "BillPayment",
        {
            "VendorRef": {"value": vendor["Id"]},
            "PayType": "Check",
            "TotalAmt": 75.25,
            "CheckPayment": {"BankAccountRef": {"value": bank["Id"]}},
            "Line": [{"Amount": 75.25, "LinkedTxn": [{"TxnId": bill["Id"], "TxnType": "Bill"}]}],
        },
    )
    assert books.again("Bill", bill)["LinkedTxn"] == [{"TxnId": paid["Id"], "TxnType": "BillPaymentCheck"}]
    assert books.again("Bill", bill)["Balance"] == books.again("Vendor", vendor)["Balance"] == 0
    assert books.account("2000")["CurrentBalance"] == payable["CurrentBalance"]
    assert bank["CurrentBalance"] - books.account("1000")["CurrentBalance"] == Decimal("75.25")


def test_journals_balance_and_name_whom_they_concern(books: Books) -> None:
    customer = books.customer()
    receivable = next(a for a in books.client.room.realm.all("Account") if a.name == "Accounts Receivable (A/R)")
    revenue = books.account("4000")

    def journal(debit: Any, credit: Any, entity: Any = None) -> dict[str, Any]:
        def side(kind: str, account: str, amount: Any, who: Any) -> dict[str, Any]:
            detail = {"PostingType": kind, "AccountRef": {"value": account}, **({"Entity": who} if who else {})}
            return {"Amount": amount, "DetailType": "JournalEntryLineDetail", "JournalEntryLineDetail": detail}

        return {"Line": [side("Debit", receivable.id, debit, entity), side("Credit", revenue["Id"], credit, None)]}

    who = {"Type": "Customer", "EntityRef": {"value": customer["Id"]}}
    assert books.client.refused("JournalEntry", journal(10, 9, who))["code"] == "6000"
    assert "choose a customer" in books.client.refused("JournalEntry", journal(10, 10))["Detail"]
    entry = books.client.write("JournalEntry", journal(10, 10, who))
    assert books.again("Customer", customer)["Balance"] == 10
    books.client.write("JournalEntry", version(entry), operation="delete")
    assert books.again("Customer", customer)["Balance"] == 0


def test_a_transfer_moves_money_between_accounts(books: Books) -> None:
    bank, clearing = books.account("1000"), books.account("1050")
    body = {"FromAccountRef": {"value": clearing["Id"]}, "ToAccountRef": {"value": bank["Id"]}, "Amount": 5.55}
    books.client.write("Transfer", body)
    assert books.account("1000")["CurrentBalance"] - bank["CurrentBalance"] == Decimal("5.55")
    assert clearing["CurrentBalance"] - books.account("1050")["CurrentBalance"] == Decimal("5.55")
    assert books.account("1000")["SyncToken"] != bank["SyncToken"]
    body["FromAccountRef"] = {"value": books.account("4000")["Id"]}
    assert books.client.refused("Transfer", body)["code"] == "6000"


# --- currencies


def test_a_foreign_invoice_is_owed_in_its_currency_and_worth_its_rate(books: Books) -> None:
    customer = books.customer("EUR")
    before = books.receivable("EUR")
    invoice = books.invoice(customer, 100)
    assert invoice["ExchangeRate"] == Decimal("1.0834")
    assert (invoice["HomeTotalAmt"], invoice["HomeBalance"]) == (Decimal("108.34"), Decimal("108.34"))
    assert books.receivable("EUR") - before == 100
    clearing = books.account("1050")
    books.pay(
        customer,
        40,
        ("Invoice", invoice, 40),
        ExchangeRate=1.1,
        DepositToAccountRef={"value": clearing["Id"]},
    )
    after = books.again("Invoice", invoice)
    assert (after["Balance"], after["HomeBalance"]) == (60, Decimal("65"))
    assert books.again("Customer", customer)["Balance"] == 60
    gained = Decimal(books.account("1050")["CurrentBalance"]) - Decimal(clearing["CurrentBalance"])
    assert gained == 44
    realm = books.client.room.realm
    assert realm.balances.home(realm.chart.id("exchange_gain")) == -66  # 44.00 received for what was worth 43.34


def test_the_currency_is_that_of_the_customer(books: Books) -> None:
    customer = books.customer("JPY")
    body = books.sale(customer, 500, DocNumber=books.number())
    assert books.client.refused("Invoice", {**body, "CurrencyRef": {"value": "USD"}})["code"] == "6000"
    del body["CurrencyRef"]
    assert books.client.refused("Invoice", body)["code"] == "6000"
    assert books.client.refused("Invoice", {**body, "CurrencyRef": {"value": "CHF"}})["code"] == "2500"
    change_ = {**version(customer), "sparse": True, "CurrencyRef": {"value": "EUR"}}
    assert books.client.refused("Customer", change_)["code"] == "6000"


def test_a_rate_holds_from_its_day_on(books: Books) -> None:
    body = {"SourceCurrencyCode": "EUR", "Rate": 1.25, "AsOfDate": "2026-06-20"}
    assert books.client.write("ExchangeRate", body)["SyncToken"] == "0"
    customer = books.customer("EUR")
    rates = [books.invoice(customer, 1, TxnDate=f"2026-06-{day}")["ExchangeRate"] for day in (19, 20, 21)]
    assert rates == [Decimal("1.0834"), Decimal("1.25"), Decimal("1.25")]
    asked = books.client.get("exchangerate", sourcecurrencycode="EUR", asofdate="2026-06-19")
    assert asked["ExchangeRate"]["Rate"] == Decimal("1.0834")
    assert books.client.refused("ExchangeRate", {**body, "SourceCurrencyCode": "USD"})["code"] == "6000"
    assert books.client.refused("ExchangeRate", {**body, "SyncToken": "7"})["code"] == "5010"


def test_a_currency_is_added_to_the_company(books: Books) -> None:
    name = books.number("Customer")
    body = {"DisplayName": name, "CurrencyRef": {"value": "GBP"}}
    assert books.client.refused("Customer", body)["code"] == "2500"
    added = books.client.write("CompanyCurrency", {"Code": "GBP"})
    assert (added["Name"], added["Active"]) == ("British Pound Sterling", True)
    assert books.client.refused("CompanyCurrency", {"Code": "GBP"})["code"] == "6240"
    assert books.client.refused("CompanyCurrency", {"Code": "USD"})["code"] == "6240"
    customer = books.client.write("Customer", body)
    assert books.invoice(customer, 3)["ExchangeRate"] == 1
    assert "Accounts Receivable (A/R) - GBP" in {each.name for each in books.client.room.realm.all("Account")}


def test_control_accounts_keep_their_currency_and_their_customer(books: Books) -> None:
    customer = books.customer("EUR")
    books.invoice(customer, 1)
    accounts = books.client.query("select * from Account where AccountType = 'Accounts Receivable'")["Account"]
    dollars, euros = (
        next(each for each in accounts if each["CurrencyRef"]["value"] == code) for code in ("USD", "EUR")
    )
    revenue = books.account("4000")
    who = {"Type": "Customer", "EntityRef": {"value": customer["Id"]}}

    def journal(account: dict[str, Any], code: str) -> dict[str, Any]:
        debit = {"PostingType": "Debit", "AccountRef": {"value": account["Id"]}, "Entity": who}
        credit = {"PostingType": "Credit", "AccountRef": {"value": revenue["Id"]}}
        lines = [
            {"Amount": 2, "DetailType": "JournalEntryLineDetail", "JournalEntryLineDetail": each}
            for each in (debit, credit)
        ]
        return {"CurrencyRef": {"value": code}, "Line": lines}

    assert books.client.refused("JournalEntry", journal(dollars, "EUR"))["code"] == "6000"
    assert books.client.refused("JournalEntry", journal(dollars, "USD"))["code"] == "6000"
    assert books.client.refused("JournalEntry", journal(euros, "USD"))["code"] == "6000"
    books.client.write("JournalEntry", journal(euros, "EUR"))
    assert books.again("Customer", customer)["Balance"] == 3
    bank = books.account("1000")
    line = {
        "Amount": 1,
        "DetailType": "DepositLineDetail",
        "DepositLineDetail": {"AccountRef": {"value": dollars["Id"]}},
    }
    body = {"DepositToAccountRef": {"value": bank["Id"]}, "Line": [line]}
    assert books.client.refused("Deposit", body)["code"] == "6000"


def test_accounts_that_quickbooks_needs_stay(books: Books) -> None:
    bank = books.account("1000")
    for values in ({"Active": False}, {"AccountType": "Expense"}, {"CurrencyRef": {"value": "EUR"}}):
        refused = books.client.refused("Account", {**version(bank), "sparse": True, **values})
        assert refused["code"] == "6000"
    own = books.client.write("Account", {"Name": books.number("Account"), "AccountType": "Expense"})
    assert (own["Classification"], own["AccountSubType"], own["CurrentBalance"]) == ("Expense", "Expense", 0)
    assert books.client.write("Account", {**version(own), "sparse": True, "Active": False})["Active"] is False


# --- what is refused


@pytest.mark.parametrize(
    ("entity", "body", "code", "element"),
    [
        ("Invoice", {"Line": []}, "2020", "CustomerRef"),
        ("Invoice", {"Line": "none"}, "2010", "Line"),
        ("Invoice", {"Line": None}, "2020", "Line"),
        ("Invoice", {"Colour": "red"}, "2010", "Colour"),
        ("Invoice", {"TxnDate": "19.6.2026"}, "2010", "TxnDate"),
        ("Invoice", {"DocNumber": "N" * 22}, "2050", "DocNumber"),
        ("Invoice", {"DocNumber": 7}, "2010", "DocNumber"),
        ("Invoice", {"PrivateNote": "x" * 4_001}, "2050", "PrivateNote"),
        ("Invoice", {"CustomerRef": {"value": "999999"}}, "2500", "CustomerRef"),
        ("Invoice", {"CustomerRef": "1"}, "2500", "CustomerRef"),
        ("Invoice", {"BillEmail": {"Address": "nobody"}}, "2210", "Address"),
        ("Invoice", {"EmailStatus": "Sent"}, "2170", "EmailStatus"),
        ("Invoice", {"Deposit": "12"}, "2090", "Deposit"),
        ("Payment", {"TotalAmt": -1}, "2090", "TotalAmt"),
        ("Payment", {"TotalAmt": 10.005}, "2090", "TotalAmt"),
        ("Payment", {"TotalAmt": None}, "2020", "TotalAmt"),
        ("Payment", {"PaymentRefNum": "ch_3123456789012345678901234"}, "2050", "PaymentRefNum"),
        ("Payment", {"DepositToAccountRef": {"value": "11"}}, "6000", "DepositToAccountRef"),
        ("CreditMemo", {"ExchangeRate": "1"}, "2090", "ExchangeRate"),
        ("Customer", {"DisplayName": "a:b"}, "2040", "DisplayName"),
        ("Customer", {"DisplayName": "x" * 501}, "2050", "DisplayName"),
        ("Customer", {"DisplayName": None}, "6080", ""),
        ("Customer", {"Active": "yes"}, "2010", "Active"),
        ("Vendor", {"PrimaryEmailAddr": {"Address": "a at b"}}, "2210", "Address"),
        ("Item", {"Type": "Inventory"}, "2170", "Type"),
        ("Item", {"IncomeAccountRef": None}, "2020", "IncomeAccountRef"),
        ("Account", {"AccountType": "Piggy Bank"}, "2170", "AccountType"),
        ("Account", {"AccountType": None}, "2020", "AccountType"),
        ("Purchase", {"PaymentType": "Gold"}, "2170", "PaymentType"),
        ("Purchase", {"AccountRef": {"value": "11"}}, "6000", "AccountRef"),
        ("BillPayment", {"CheckPayment": None}, "2020", "CheckPayment.BankAccountRef"),
        ("BillPayment", {"Line": []}, "2020", "Line"),
        ("RefundReceipt", {"DepositToAccountRef": None}, "2020", "DepositToAccountRef"),
        ("TaxCode", {"Name": "X"}, "500", ""),
    ],
)
def test_a_fault_names_what_is_wrong(books: Books, entity: str, body: dict[str, Any], code: str, element: str) -> None:
    customer = books.customer()
    vendor = books.client.write("Vendor", {"DisplayName": books.number("Vendor")})
    expense = {
        "Amount": 1,
        "DetailType": "AccountBasedExpenseLineDetail",
        "AccountBasedExpenseLineDetail": {"AccountRef": {"value": "15"}},
    }
    good: dict[str, Any] = {
        "Invoice": lambda: books.sale(customer, 1, DocNumber=books.number()),
        "CreditMemo": lambda: books.sale(customer, 1, DocNumber=books.number()),
        "RefundReceipt": lambda: books.sale(customer, 1, DepositToAccountRef={"value": "2"}),
        "Payment": lambda: books.payment(customer, 1),
        "Customer": lambda: {"DisplayName": books.number("Customer")},
        "Vendor": lambda: {"DisplayName": books.number("Vendor")},
        "Item": lambda: {"Name": books.number("Item"), "Type": "Service", "IncomeAccountRef": {"value": "11"}},
        "Account": lambda: {"Name": books.number("Account"), "AccountType": "Bank"},
        "Purchase": lambda: {"PaymentType": "Cash", "AccountRef": {"value": "1"}, "Line": [expense]},
        "BillPayment": lambda: {
            "VendorRef": {"value": vendor["Id"]},
            "PayType": "Check",
            "TotalAmt": 1,
            "CheckPayment": {"BankAccountRef": {"value": "1"}},
            "Line": [{"Amount": 1, "LinkedTxn": [{"TxnId": "999999", "TxnType": "Bill"}]}],
        },
        "TaxCode": dict,
    }[entity]()
    if entity not in ("BillPayment", "TaxCode"):
        books.client.write(entity, good)
        good |= {name: books.number(entity) for name in ("DocNumber", "DisplayName", "Name") if name in good}
    broken = {**good, **body}
    if code == "2020" and element == "CustomerRef":
        del broken["CustomerRef"]
    found = books.client.refused(entity, broken)
    assert (found["code"], found["element"]) == (code, element)


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ({"DetailType": None}, "2020"),
        ({"DetailType": "GroupLineDetail"}, "2170"),
        ({"Amount": None}, "2020"),
        ({"Amount": "1.00"}, "2090"),
        ({"Amount": 1.001}, "2090"),
        ({"Amount": 10**12}, "2090"),
        ({"Amount": -1}, "6000"),
        ({"Price": 1}, "2010"),
        ({"SalesItemLineDetail": {"ItemRef": {"value": "1"}, "Color": 1}}, "2010"),
        ({"SalesItemLineDetail": {"ItemRef": {"value": "99"}}}, "2500"),
        ({"SalesItemLineDetail": {"TaxCodeRef": {"value": "VAT"}}}, "2500"),
        ({"SalesItemLineDetail": {"Qty": 2, "UnitPrice": 0.4}}, "6070"),
        ({"SalesItemLineDetail": {"ServiceDate": "soon"}}, "2010"),
    ],
)
def test_a_line_that_makes_no_sense(books: Books, line: dict[str, Any], code: str) -> None:
    body = books.sale(books.customer(), 1, DocNumber=books.number())
    body["Line"][0] |= line
    assert books.client.refused("Invoice", body)["code"] == code


def test_quantity_times_price_is_rounded_half_up(books: Books) -> None:
    body = books.sale(books.customer(), 1861.08, DocNumber=books.number())
    body["Line"][0]["SalesItemLineDetail"] |= {"Qty": 128.35, "UnitPrice": 14.5}
    assert books.client.write("Invoice", body)["TotalAmt"] == Decimal("1861.08")


def test_links_must_fit(books: Books) -> None:
    customer, stranger = books.customer(), books.customer()
    invoice = books.invoice(customer, 10)
    memo = books.client.write("CreditMemo", books.sale(customer, 20, DocNumber=books.number()))
    refused = books.client.refused
    assert refused("Payment", books.payment(stranger, 10, ("Invoice", invoice, 10)))["code"] == "620"
    assert refused("Payment", books.payment(customer, 11, ("Invoice", invoice, 11)))["code"] == "6000"
    assert refused("Payment", books.payment(customer, 5, ("Invoice", invoice, 10)))["code"] == "6000"
    both = (("Invoice", invoice, 5), ("CreditMemo", memo, 10))
    assert refused("Payment", books.payment(customer, 0, *both))["code"] == "6000"
    assert refused("Payment", books.payment(customer, 5, ("Invoice", {"Id": "999999"}, 5)))["code"] == "2500"
    assert refused("Payment", books.payment(customer, 5, ("Estimate", invoice, 5)))["code"] == "2170"
    assert refused("Payment", books.payment(customer, 5, ("Invoice", {"Id": "one"}, 5)))["code"] == "2030"
    books.pay(customer, 10, ("Invoice", invoice, 10))
    smaller = {**version(books.again("Invoice", invoice)), "sparse": True, "Line": books.sale(customer, 9)["Line"]}
    assert refused("Invoice", smaller)["code"] == "6000"
    assert books.again("Invoice", invoice)["Balance"] == 0


def test_a_refused_write_changes_nothing(books: Books) -> None:
    realm = books.client.room.realm
    customer = books.customer()
    invoice = books.invoice(customer, 10)
    before = {kind: {key: entry.body() for key, entry in held.items()} for kind, held in realm.entries.items()}
    books.client.refused("Payment", books.payment(customer, 11, ("Invoice", invoice, 11)))
    books.client.refused("Invoice", {**version(invoice), "sparse": True, "DocNumber": "x" * 30})
    books.client.refused("Invoice", books.sale(customer, 1, DocNumber=invoice["DocNumber"]))
    after = {kind: {key: entry.body() for key, entry in held.items()} for kind, held in realm.entries.items()}
    assert before == after


def test_document_numbers_are_unique_for_their_kind(books: Books) -> None:
    customer = books.customer()
    invoice = books.invoice(customer, 10)
    twice = books.client.refused("Invoice", books.sale(customer, 1, DocNumber=invoice["DocNumber"].lower()))
    assert twice["code"] == "6140"
    assert f"is assigned to TxnType=Invoice with TxnId={invoice['Id']}" in twice["Detail"]
    books.client.write("CreditMemo", books.sale(customer, 1, DocNumber=invoice["DocNumber"]))
    preferences = books.client.get("preferences")["Preferences"]
    forms = preferences["SalesFormsPrefs"]
    off = {**version(preferences), "sparse": True, "SalesFormsPrefs": {**forms, "CustomTxnNumbers": False}}
    preferences = books.client.write("Preferences", off)
    books.client.write("Invoice", books.sale(customer, 1, DocNumber=invoice["DocNumber"]))
    books.client.write("Preferences", {**version(preferences), "sparse": True, "SalesFormsPrefs": forms})


def test_names_are_unique_among_customers_and_vendors(books: Books) -> None:
    customer = books.customer()
    for entity in ("Customer", "Vendor"):
        twice = books.client.refused(entity, {"DisplayName": customer["DisplayName"].upper()})
        assert (twice["code"], twice["Message"]) == ("6240", "Duplicate Name Exists Error")
    built = books.client.write("Customer", {"GivenName": "Ada", "FamilyName": books.number()})
    assert built["DisplayName"].startswith("Ada T-")


def test_nothing_is_booked_into_a_closed_period(books: Books) -> None:
    customer = books.customer()
    old = books.invoice(customer, 10, TxnDate="2026-06-15")
    new = books.invoice(customer, 10, TxnDate="2026-06-25")
    assert change(books.client.room, "close_books", date="2026-06-20") == {"closed_until": "2026-06-20"}
    prefs = books.client.get("preferences")["Preferences"]["AccountingInfoPrefs"]
    assert prefs["BookCloseDate"] == "2026-06-20"
    try:
        refused = books.client.refused
        assert refused("Invoice", books.sale(customer, 1, TxnDate="2026-06-20"))["code"] == "6210"
        assert refused("Invoice", {**version(old), "sparse": True, "TxnDate": "2026-06-25"})["code"] == "6210"
        assert refused("Invoice", {**version(new), "sparse": True, "TxnDate": "2026-06-20"})["code"] == "6210"
        assert refused("Invoice", version(old), operation="delete")["code"] == "6210"
        assert refused("Invoice", version(old), operation="void")["code"] == "6210"
        books.pay(customer, 10, ("Invoice", old, 10), TxnDate="2026-06-21")
        body = books.sale(customer, 1, TxnDate="2026-06-20", DocNumber=books.number())
        assert change(books.client.room, "create", entity="Invoice", body=body)["TxnDate"] == "2026-06-20"
    finally:
        assert change(books.client.room, "close_books") == {"closed_until": None}
    books.client.write("Invoice", books.sale(customer, 1, TxnDate="2026-06-20"))


def test_writes_that_are_no_json_or_no_operation(books: Books) -> None:
    client = books.client
    assert error(client.ask("POST", "invoice", content=b"{}", headers={"content-type": "text/plain"}))["code"] == "1050"
    json = {"content-type": "application/json"}
    assert error(client.ask("POST", "invoice", content=b"{", headers=json))["code"] == "2010"
    assert error(client.ask("POST", "invoice", content=b"[]", headers=json))["code"] == "2010"
    assert client.refused("Customer", {"Id": "1", "SyncToken": "0"}, operation="delete")["code"] == "500"
    assert client.refused("Deposit", {"Id": "1", "SyncToken": "0"}, operation="void")["code"] == "500"
    assert client.refused("Invoice", {}, operation="explode")["code"] == "500"
    assert client.refused("Invoice", {}, operation="update", include="allowduplicatedocnum")["code"] == "500"
    assert client.refused("Invoice", {"Id": "abc", "SyncToken": "0"}, operation="void")["code"] == "2030"
    assert client.refused("Invoice", {"SyncToken": "0"}, operation="void")["code"] == "2020"


# --- once only


def test_the_same_request_id_gives_the_same_answer_and_no_second_object(books: Books) -> None:
    customer = books.customer()
    body = books.sale(customer, 10, DocNumber=books.number())
    count = "select count(*) from Invoice"
    before = books.client.query(count)["totalCount"]
    first = books.client.post("invoice", body, requestid="r-1", minorversion="75")
    books.client.write("Invoice", {**version(first.json()["Invoice"]), "sparse": True, "PrivateNote": "later"})
    again = books.client.post("invoice", body, requestid="r-1", minorversion="75")
    assert again.content == first.content
    assert books.client.query(count)["totalCount"] == before + 1
    assert books.client.refused("Invoice", books.sale(customer, 11), requestid="r-1")["code"] == "600"
    assert books.client.refused("Invoice", body, requestid="x" * 51)["code"] == "2050"


def test_a_refused_request_may_be_tried_again(books: Books) -> None:
    customer = books.customer()
    invoice = books.invoice(customer, 10)
    body = books.sale(customer, 10, DocNumber=invoice["DocNumber"])
    assert books.client.refused("Invoice", body, requestid="r-2")["code"] == "6140"
    books.client.write("Invoice", version(invoice), operation="delete")
    books.client.write("Invoice", body, requestid="r-2")


# --- batches


def test_a_batch_answers_each_of_its_operations(books: Books) -> None:
    customer = books.customer()
    invoice, other = books.invoice(customer, 10), books.invoice(customer, 20)
    batch = {
        "BatchItemRequest": [
            {"bId": "a", "operation": "create", "Vendor": {"DisplayName": books.number("Vendor")}},
            {"bId": "b", "operation": "create", "Vendor": {"DisplayName": customer["DisplayName"]}},
            {"bId": "c", "Query": "select count(*) from Vendor"},
            {"bId": "d", "operation": "delete", "Invoice": version(invoice)},
            {"bId": "e", "operation": "update", "optionsData": "void", "Invoice": version(other)},
            {
                "bId": "f",
                "operation": "update",
                "Customer": {**version(books.again("Customer", customer)), "sparse": True},
            },
            {"bId": "g", "operation": "dance", "Customer": {}},
            {"bId": "h", "operation": "create"},
        ]
    }
    answers = books.client.post("batch", batch).json()["BatchItemResponse"]
    found = {each.pop("bId"): each for each in answers}
    assert found["a"]["Vendor"]["SyncToken"] == "0"
    assert found["b"]["Fault"]["Error"][0]["code"] == "6240"
    assert found["c"]["QueryResponse"].keys() == {"totalCount"}
    assert found["d"]["Invoice"]["status"] == "Deleted"
    assert found["e"]["Invoice"]["TotalAmt"] == 0
    assert found["f"]["Fault"]["Error"][0]["code"] == "5010"  # the customer's balance has moved in the same batch
    assert found["g"]["Fault"]["Error"][0]["code"] == "500"
    assert found["h"]["Fault"]["Error"][0]["code"] == "2020"


def test_operations_of_a_batch_do_not_see_each_other(books: Books) -> None:
    customer = books.customer()
    next_id = str(max(int(key) for key in books.client.room.realm.entries["Invoice"]) + 1)
    payment = books.payment(customer, 10, ("Invoice", {"Id": next_id}, 10))
    batch = [
        {"bId": "1", "operation": "create", "Invoice": books.sale(customer, 10, DocNumber=books.number())},
        {"bId": "2", "operation": "create", "Payment": payment},
    ]
    made, linked = books.client.post("batch", {"BatchItemRequest": batch}).json()["BatchItemResponse"]
    assert made["Invoice"]["Balance"] == 10
    assert linked["Fault"]["Error"][0]["code"] == "2500"
    batch = [
        {"bId": "1", "operation": "create", "Payment": books.payment(customer, 10, ("Invoice", made["Invoice"], 10))}
    ]
    (linked,) = books.client.post("batch", {"BatchItemRequest": batch}).json()["BatchItemResponse"]
    assert linked["Payment"]["UnappliedAmt"] == 0


def test_a_batch_has_at_most_30_operations(books: Books) -> None:
    item = {"bId": "1", "Query": "select count(*) from Vendor"}
    assert len(books.client.post("batch", {"BatchItemRequest": [item] * 30}).json()["BatchItemResponse"]) == 30
    assert error(books.client.post("batch", {"BatchItemRequest": [item] * 31}))["code"] == "1040"
    assert error(books.client.post("batch", {}))["code"] == "2020"


def test_a_batch_is_repeated_as_a_whole(books: Books) -> None:
    batch = {"BatchItemRequest": [{"bId": "1", "operation": "create", "Vendor": {"DisplayName": books.number("V")}}]}
    first = books.client.post("batch", batch, requestid="r-3")
    assert books.client.post("batch", batch, requestid="r-3").content == first.content


def test_what_was_written_is_dated_by_the_worlds_clock(books: Books) -> None:
    made = books.invoice(books.customer(), 1)
    assert made["MetaData"]["CreateTime"] == made["MetaData"]["LastUpdatedTime"] == "2026-06-28T17:00:00-07:00"
    assert made["TxnDate"] == date(2026, 6, 28).isoformat()
