"""The company's bookkeeper: enters the bank's lines, publishers' bills and the month's journals by hand.

What the bank posted is dated as the bank posted it. Stripe's side is in `stripe_books`.
"""

from datetime import date, timedelta
from typing import Any

from ..books import DAY, HOUR, business_days_later, seconds
from ..company import BankLine, Planted, Publisher
from ..world import World
from .chart import journal_line
from .desk import Desk, sitting
from .formats import number
from .realm import Realm
from .stripe_books import StripeBooks

# Every way in which QuickBooks disagrees with the other systems, and nothing else does: kind -> what it is.
PLANTED: dict[str, str] = {
    "qbo_deposit_transposed_digits": "The 2nd Stripe payout was entered with two digits of its total swapped; "
    "the fee line takes up the difference.",
    "qbo_vendor_twice": "The 2nd publisher is a vendor twice, the second time with 'LLC' after its name.",
    "qbo_bill_entered_twice": "That publisher's next bill was entered for both vendors; only one of them is paid.",
}
_VENDORS = (("Stripe", "stripe"), ("Rho", "rho"), ("Print Partners LLC", "print"))


class Bookkeeper:
    """Keeps the books of one realm by what the world says."""

    def __init__(self, world: World, realm: Realm, books_until: date) -> None:
        self.world = world
        self.realm = realm
        self.desk = Desk(realm)
        self.stripe = StripeBooks(world, self.desk, books_until)
        self._lines_read = 0
        self._month = world.start.replace(day=1)

    @property
    def planted(self) -> list[Planted]:
        return self.desk.planted

    def work_until(self, now: int) -> None:
        """Learn what has become known and do what is due, up to and including `now`."""
        self._plan_vendors()
        self._plan_months(now)
        self._plan_bank()
        self.stripe.plan(now)
        self.desk.work_until(now)

    # --- vendors

    def _plan_vendors(self) -> None:
        start = seconds(self.world.start)
        for name, key in _VENDORS:
            self.desk.plan(sitting(start, 15, key), f"vendor {key}", self._vendor, name, key, None)
        for number_, publisher in enumerate(self.world.publishers, 1):
            email = f"payouts{number_}@publisher.example.org"
            when = sitting(start, 15, publisher.id)
            self.desk.plan(when, f"vendor {publisher.id}", self._vendor, publisher.name, publisher.id, email)
        if len(self.world.publishers) > 1:
            second = self.world.publishers[1]
            self.desk.plan(sitting(start + 4 * DAY, 16, "twice"), "vendor twice", self._vendor_twice, second)
        retired = sitting(start + 12 * DAY, 16, "retired")
        self.desk.plan(retired, "vendor retired", self.desk.amend, "print", "update", {"Active": False})

    def _vendor(self, name: str, key: str, email: str | None) -> None:
        body: dict[str, Any] = {"DisplayName": name, "CompanyName": name}
        if email is not None:
            body["PrimaryEmailAddr"] = {"Address": email}
        self.desk.enter("Vendor", body, key)

    def _vendor_twice(self, publisher: Publisher) -> None:
        self._vendor(f"{publisher.name} LLC", f"{publisher.id} again", "payouts2@publisher.example.org")
        entry = self.desk.find(f"{publisher.id} again")
        if entry is not None:
            self.desk.plant("qbo_vendor_twice", entry.id, f"{publisher.id} is also vendor {self._id(publisher.id)}")

    def _id(self, outside: str) -> str:
        return self.desk.objects[outside][1]

    # --- months

    def _plan_months(self, now: int) -> None:
        """On the 28th, depreciation. The first one is entered twice; what is planned twice under a key happens once."""
        while True:
            day = self._month.replace(day=28)
            moment = business_days_later(seconds(day) - 1, 1) + 20 * HOUR
            if seconds(self._month) > now:
                return
            if day >= self.world.start:
                self.desk.plan(moment, f"depreciation {day}", self._depreciation, day, "")
                self.desk.plan(moment + HOUR, "depreciation again", self._depreciation, day, "B")
                deleted = sitting(moment, 16, "again", 2)
                self.desk.plan(deleted, "depreciation deleted", self.desk.amend, f"DEP-{day:%Y%m}B", "delete")
            self._month = (self._month + timedelta(days=32)).replace(day=1)

    def _depreciation(self, day: date, suffix: str) -> None:
        doc = f"DEP-{day:%Y%m}{suffix}"
        chart = self.realm.chart
        self.desk.enter(
            "JournalEntry",
            {
                "DocNumber": doc,
                "TxnDate": day.isoformat(),
                "PrivateNote": "Straight-line depreciation over 60 months",
                "Line": [
                    journal_line("Debit", chart.ref("depreciation"), 400, "Computer equipment"),
                    journal_line("Credit", chart.ref("wear"), 400, "Computer equipment"),
                ],
            },
            doc,
        )

    # --- the bank

    def _plan_bank(self) -> None:
        for position in range(self._lines_read, len(self.world.bank)):
            line = self.world.bank[position]
            if line.payout is not None:
                continue  # a Stripe payout is entered from Stripe's own report
            key = f"bank {position}"
            posted = seconds(line.posted)
            if line.description.startswith("PUBLISHER PAYOUT"):
                billed = posted + 17 * HOUR + sitting(posted, 0, key) % HOUR
                self.desk.plan(billed, f"{key} bill", self._bill, line, key)
                self.desk.plan(sitting(posted, 22, key), f"{key} paid", self._pay_bill, line, key)
                if sitting(posted, 0, key) % 4 == 0:
                    note = f"Statement of {line.posted:%d %B %Y}, checked"
                    self.desk.plan(
                        sitting(posted, 16, key, 3), f"{key} edited", self._edit_bill, key, note, line.posted
                    )
            elif line.amount < 0:
                self.desk.plan(sitting(posted, 22, key), key, self._purchase, line)
            else:
                self.desk.plan(sitting(posted, 22, key), key, self._deposit, line)
        self._lines_read = len(self.world.bank)

    def _bill(self, line: BankLine, key: str) -> None:
        """What a publisher earned until the 14th or the end of the month, known when it is paid."""
        publisher = line.reference or ""
        self._enter_bill(line, publisher, key, "")
        again = f"{publisher} again"
        if again in self.desk.objects and f"{again} billed" not in self.desk.objects:
            self._enter_bill(line, again, f"{again} billed", "-A")
            self.desk.plant(
                "qbo_bill_entered_twice",
                self._id(f"{again} billed"),
                f"{-line.amount} cents of {publisher}, also bill {self._id(key)}",
            )

    def _enter_bill(self, line: BankLine, vendor: str, key: str, suffix: str) -> None:
        ends = line.posted.replace(day=15 if line.posted.day >= 15 else 1) - timedelta(days=1)
        self.desk.enter(
            "Bill",
            {
                "VendorRef": self.desk.ref(vendor),
                "DocNumber": f"{(line.reference or '').removeprefix('pub_')}-{line.posted:%Y%m%d}{suffix}",
                "TxnDate": max(ends, self.world.start).isoformat(),
                "DueDate": line.posted.isoformat(),
                "Line": [
                    {
                        "Amount": number(-line.amount),
                        "Description": f"Publisher earnings until {ends.isoformat()}",
                        "DetailType": "AccountBasedExpenseLineDetail",
                        "AccountBasedExpenseLineDetail": {"AccountRef": self.realm.chart.ref("publisher_costs")},
                    }
                ],
            },
            key,
        )

    def _edit_bill(self, key: str, note: str, day: date) -> None:
        self.desk.amend(key, "update", {"PrivateNote": note, "DueDate": (day + timedelta(days=1)).isoformat()})

    def _pay_bill(self, line: BankLine, key: str) -> None:
        bill = self.desk.find(key)
        if bill is None:
            return
        self.desk.enter(
            "BillPayment",
            {
                "VendorRef": self.desk.ref(line.reference or ""),
                "TxnDate": line.posted.isoformat(),
                "DocNumber": (line.transaction_id or "")[-21:],
                "PayType": "Check",
                "TotalAmt": number(-line.amount),
                "CheckPayment": {"BankAccountRef": self.realm.chart.ref("bank"), "PrintStatus": "NotSet"},
                "PrivateNote": line.description,
                "Line": [{"Amount": number(-line.amount), "LinkedTxn": [{"TxnId": bill.id, "TxnType": "Bill"}]}],
            },
        )

    def _purchase(self, line: BankLine) -> None:
        self.desk.enter(
            "Purchase",
            {
                "PaymentType": "Cash",
                "AccountRef": self.realm.chart.ref("bank"),
                "EntityRef": {**(self.desk.ref("rho") or {}), "type": "Vendor"},
                "TxnDate": line.posted.isoformat(),
                "PrivateNote": line.description,
                "Line": [
                    {
                        "Amount": number(-line.amount),
                        "DetailType": "AccountBasedExpenseLineDetail",
                        "AccountBasedExpenseLineDetail": {"AccountRef": self.realm.chart.ref("bank_charges")},
                    }
                ],
            },
        )

    def _deposit(self, line: BankLine) -> None:
        """Money from the parent company; what nobody can explain is income until somebody can."""
        role = "holdings" if line.description.startswith("WIRE IN") else "uncategorized"
        self.desk.enter(
            "Deposit",
            {
                "DepositToAccountRef": self.realm.chart.ref("bank"),
                "TxnDate": line.posted.isoformat(),
                "PrivateNote": f"{line.description} {line.reference or ''}".strip(),
                "Line": [
                    {
                        "Amount": number(line.amount),
                        "Description": line.counterparty,
                        "DetailType": "DepositLineDetail",
                        "DepositLineDetail": {"AccountRef": self.realm.chart.ref(role)},
                    }
                ],
            },
        )
