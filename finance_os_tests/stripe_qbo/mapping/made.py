"""Stripe's objects made by hand, as its API writes them, for cases that the sandbox's world does not have.

`moment` is what days are counted from: `at(3, 5)` is 05:00 UTC of the third day.
"""

from collections import defaultdict
from typing import Any

from finance_os.stripe_qbo.books import Books
from finance_os.stripe_qbo.planning import Plan, plan_of
from finance_os.stripe_qbo.rules import Rules
from finance_os.stripe_qbo.stripe_evidence import StripeEvidence

from .worlds import PAID_OUT, Company, rules, stripe_of

FIRST = 1_780_272_000
"""Midnight UTC of 1 June 2026."""


def at(day: int, hour: int = 12) -> int:
    """A second of June 2026: an hour (UTC) of a day."""
    return FIRST + (day - 1) * 86_400 + hour * 3_600


class Made:
    """An account of Stripe that a test fills. Every method gives the ID of what it adds."""

    def __init__(self) -> None:
        self.objects: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.paid_out: dict[str, list[str]] = {}
        self._count = 0

    @property
    def evidence(self) -> StripeEvidence:
        shown = {kind: [(each["id"], each) for each in held] for kind, held in self.objects.items()}
        shown[PAID_OUT] = [
            (f"{payout}/{moved}", self.one("balance_transaction", moved))
            for payout, listed in self.paid_out.items()
            for moved in listed
        ]
        return stripe_of(shown)

    def plan(self, books: Books, chosen: Rules | None = None, **more: Any) -> Plan:
        return plan_of(self.evidence, books, chosen or rules(), **more)

    def posted(self, realm: Company, chosen: Rules | None = None) -> Plan:
        """The plan for a realm as it is, posted there."""
        plan = self.plan(realm.books(), chosen)
        realm.apply(plan)
        return plan

    def one(self, kind: str, stripe_id: str) -> dict[str, Any]:
        """The body of an object, to be changed."""
        return next(each for each in self.objects[kind] if each["id"] == stripe_id)

    def _add(self, kind: str, prefix: str, body: dict[str, Any]) -> str:
        self._count += 1
        stripe_id = body.pop("id", None) or f"{prefix}_1{self._count:023d}"
        self.objects[kind].append({"id": stripe_id, "object": kind, **body})
        return stripe_id

    def customer(self, name: str = "Acorn Games", **more: Any) -> str:
        email = f"billing@{name.lower().replace(' ', '')}.example.com"
        return self._add("customer", "cus", {"created": at(1, 1), "name": name, "email": email, **more})

    def invoice(
        self, customer: str, *amounts: int, when: int = at(2), currency: str = "usd", status: str = "open", **more: Any
    ) -> str:
        total = more.pop("total", sum(amounts))
        lines = [
            {
                "id": f"il_{number}",
                "amount": amount,
                "description": f"Campaign {number}",
                "period": {"start": at(1, 0), "end": at(2, 0)},
                "taxes": [],
            }
            for number, amount in enumerate(amounts, 1)
        ]
        transitions = dict.fromkeys(("finalized_at", "paid_at", "voided_at", "marked_uncollectible_at"))
        transitions |= {"finalized_at": when, **more.pop("transitions", {})}
        body = {
            "created": when - 60,
            "customer": customer,
            "currency": currency,
            "number": f"INV-{self._count + 1:04d}",
            "status": status,
            "total": total,
            "amount_remaining": 0 if status in ("paid", "void") else total,
            "lines": {"data": lines, "has_more": False},
            "status_transitions": transitions,
            **more,
        }
        return self._add("invoice", "in", body)

    def charge(
        self, customer: str | None, amount: int, *, when: int = at(3), currency: str = "usd", **more: Any
    ) -> str:
        """A charge that succeeded, with its balance transaction; `settled` is what that is in dollars."""
        settled, fee = more.pop("settled", amount), more.pop("fee", 0)
        balance = more.pop("balance", "usd")
        body = {
            "created": when,
            "amount": amount,
            "amount_captured": amount,
            "currency": currency,
            "status": "succeeded",
        }
        charge = self._add("charge", "ch", {**body, "customer": customer, "payment_intent": None, **more})
        self.one("charge", charge)["payment_intent"] = charge.replace("ch_", "pi_")
        if settled is not None:
            self.moved("charge", settled, source=charge, when=when, fee=fee, currency=balance)
        return charge

    def pay(self, invoice: str, amount: int, charge: str, *, when: int = at(3)) -> str:
        """An invoice payment out of a charge."""
        body = self.one("invoice", invoice)
        body["amount_remaining"] = max(0, body["amount_remaining"] - amount)
        payment = {
            "created": when,
            "invoice": invoice,
            "amount_paid": amount,
            "currency": body["currency"],
            "status": "paid",
            "payment": {"type": "payment_intent", "payment_intent": self.one("charge", charge)["payment_intent"]},
            "status_transitions": {"paid_at": when, "canceled_at": None},
        }
        return self._add("invoice_payment", "inpay", payment)

    def moved(
        self, category: str, amount: int, *, source: str | None = None, when: int = at(3), fee: int = 0, **more: Any
    ) -> str:
        body = {
            "created": when,
            "available_on": when,
            "amount": amount,
            "fee": fee,
            "net": amount - fee,
            "currency": "usd",
            "type": category,
            "reporting_category": category,
            "source": source,
            "exchange_rate": None,
            **more,
        }
        return self._add("balance_transaction", "txn", body)

    def refund(self, charge: str, amount: int, *, when: int = at(5), **more: Any) -> str:
        currency = self.one("charge", charge)["currency"]
        body = {"created": when, "amount": amount, "currency": currency, "charge": charge, "status": "succeeded"}
        settled = more.pop("settled", amount)
        refund = self._add("refund", "re", {**body, **more})
        moved = self.moved("refund", -settled, source=refund, when=when)
        self.one("refund", refund)["balance_transaction"] = moved
        return refund

    def note(self, invoice: str, amount: int, *, when: int = at(4), **more: Any) -> str:
        body = self.one("invoice", invoice)
        line = {"id": "cnli_1", "amount": amount, "description": "Credit for ad spend"}
        note = {
            "created": when,
            "invoice": invoice,
            "customer": body["customer"],
            "currency": body["currency"],
            "amount": amount,
            "status": "issued",
            "number": f"{body['number']}-CN-01",
            "lines": {"data": [line], "has_more": False},
            "refunds": [],
            **more,
        }
        body["amount_remaining"] -= note.get("pre_payment_amount", 0)
        return self._add("credit_note", "cn", note)

    def balance(
        self, customer: str, amount: int, kind: str = "adjustment", *, when: int = at(2, 6), **more: Any
    ) -> str:
        """A movement of a customer's balance."""
        before = sum(e["amount"] for e in self.objects["customer_balance_transaction"] if e["customer"] == customer)
        body = {
            "created": when,
            "customer": customer,
            "currency": "usd",
            "amount": amount,
            "ending_balance": before + amount,
            "type": kind,
            **more,
        }
        return self._add("customer_balance_transaction", "cbtxn", body)

    def payout(
        self,
        amount: int,
        *,
        when: int = at(6, 1),
        arrival: int = at(8, 0),
        listed: list[str] | None = None,
        **more: Any,
    ) -> str:
        """A payout. What Stripe lists for an automatic one is what is available by then and not paid out yet."""
        body = {
            "created": when,
            "amount": amount,
            "currency": "usd",
            "status": "paid",
            "arrival_date": arrival,
            "automatic": True,
            "reconciliation_status": "completed",
            **more,
        }
        payout = self._add("payout", "po", body)
        moved = self.moved("payout", -amount, source=payout, when=when, available_on=arrival)
        self.one("payout", payout)["balance_transaction"] = moved
        if body["automatic"]:
            self.paid_out[payout] = [*(self._available(when) if listed is None else listed), moved]
        return payout

    def _available(self, when: int) -> list[str]:
        gone = {moved for listed in self.paid_out.values() for moved in listed}
        return [
            each["id"]
            for each in self.objects["balance_transaction"]
            if each["available_on"] <= when and each["type"] != "payout" and each["id"] not in gone
        ]


def codes(plan: Plan) -> list[str]:
    """The codes of a plan's findings."""
    return [each.code for each in plan.findings]
