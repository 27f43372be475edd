"""How the company's advertisers are billed through Stripe: invoices and their payments, from draft to paid or lost.

Every step happens at a moment of the world's clock, leaves the records as Stripe would, and logs Stripe's events.
As at Stripe, some things change without an event of their own: a balance transaction becomes available; a payment
intent's amount and an invoice payment's amount_requested follow their invoice's; an invoice payment is canceled.
Decisions about an object come from a generator seeded by the object, so they do not depend on how the clock moves.
"""

from datetime import UTC, date, datetime
from random import Random

from .books import DAY, HOUR, Books, business_days_later, seconds
from .company import Advertiser, Campaign
from .credits import Credits
from .currency import share, to_micros, to_minor, to_usd_cents
from .refunds import Refunds
from .states import Charge, Customer, Invoice, InvoicePayment, Line, PaymentIntent

MANY_REFUNDS = 12
LONG_INVOICE = 100


class Billing:
    """The company's invoices at work."""

    def __init__(self, books: Books, refunds: Refunds, credit: Credits) -> None:
        self.books = books
        self.refunds = refunds
        self.credit = credit
        self.world = books.world
        self.ledger = books.ledger
        self._finalized = 0
        self._billings = 0

    # --- invoices

    def create_invoice(self, advertiser: Advertiser, until: date) -> None:
        """A draft over everything that the advertiser's campaigns spent before `until` and nobody billed yet."""
        customer: Customer = self.ledger.one("customer", advertiser.customer)
        since = advertiser.billed_until
        due: list[tuple[Campaign, int]] = []
        spend = 0
        for campaign in advertiser.campaigns:
            amount = to_minor(campaign.unbilled, advertiser.currency)
            if amount:
                due.append((campaign, amount))
                spend += campaign.unbilled
        if customer.deleted or not due:
            return
        start, end = seconds(since), seconds(until) - 1
        invoice = Invoice(
            id=self.ledger.new_id("invoice"),
            created=self.ledger.now,
            metadata={"advertiser_id": advertiser.id},
            customer=customer.id,
            customer_name=customer.name,
            customer_email=customer.email,
            currency=advertiser.currency,
            collection_method=advertiser.collection_method,
            period_start=start,
            period_end=end,
            lines=[
                Line(
                    id=self.ledger.new_id("line_item"),
                    amount=amount,
                    description=f"Ad spend, {campaign.name}",
                    reference=campaign.id,
                    period_start=start,
                    period_end=end,
                )
                for campaign, amount in due
            ],
            total=sum(amount for _, amount in due),
            automatically_finalizes_at=self.ledger.now + HOUR,
            amount_due=sum(amount for _, amount in due),
            amount_remaining=sum(amount for _, amount in due),
        )
        self.ledger.add(invoice)
        self.ledger.emit("invoice.created", invoice)
        carried = [(campaign, campaign.unbilled) for campaign, _ in due]
        for campaign, _ in due:
            campaign.unbilled = 0
        advertiser.billed_until = until
        self._billings += 1
        self.world.billing_of[invoice.id] = self._billings
        self.world.gravity.put(
            "advertiser_billing",
            self._billings,
            self.world.when,
            advertiser_id=advertiser.id,
            period_start=since,
            period_end=until,
            currency=advertiser.currency,
            spend_microdollars=spend,
            billed_microdollars=to_micros(invoice.total, advertiser.currency),
            paid_microdollars=0,
            state="draft",
            stripe_invoice_id=invoice.id,
            due_on=None,
        )
        if self.world.rng("draft", invoice.id).random() < 0.02:
            self.world.after(HOUR // 2, self.abandon_draft, advertiser, invoice, carried, since)
        else:
            self.world.after(HOUR, self.finalize, advertiser, invoice)

    def abandon_draft(
        self, advertiser: Advertiser, invoice: Invoice, carried: list[tuple[Campaign, int]], since: date
    ) -> None:
        """Someone deletes the draft; what it covered goes onto the next invoice."""
        if self.delete_draft(invoice):
            advertiser.billed_until = since
            for campaign, micros in carried:
                campaign.unbilled += micros

    def delete_draft(self, invoice: Invoice) -> bool:
        """https://docs.stripe.com/api/invoices/delete: a draft can be deleted, and is gone for good."""
        table = self.ledger.tables["invoice"]
        if invoice.status != "draft" or invoice.id not in table.by_id:
            return False
        self.ledger.emit("invoice.deleted", invoice)
        table.remove(invoice)
        del table.by_id[invoice.id]
        self.world.gravity.delete("advertiser_billing", self.world.billing_of.pop(invoice.id))
        return True

    def finalize(self, advertiser: Advertiser, invoice: Invoice) -> None:
        customer: Customer = self.ledger.one("customer", invoice.customer)
        if invoice.status != "draft" or self.ledger.find("invoice", invoice.id) is None or customer.deleted:
            return
        now = self.ledger.now
        by_hand = invoice.collection_method == "send_invoice"
        owed_before = customer.balance
        applied = -min(-owed_before, invoice.total) if owed_before < 0 else owed_before
        due = invoice.total + applied
        self._finalized += 1
        number = f"{self.ledger.account[-8:].upper()}-{self._finalized:04d}"
        if applied:
            self.books.move_balance(customer, -applied, "applied_to_invoice", None, invoice=invoice.id)
        self.books.change(
            invoice,
            "invoice.updated",
            status="open",
            number=number,
            due_date=now + 30 * DAY if by_hand else None,
            amount_due=due,
            amount_remaining=due,
            starting_balance=owed_before,
            ending_balance=customer.balance,
            automatically_finalizes_at=None,
            finalized_at=now,
        )
        self.ledger.emit("invoice.finalized", invoice)
        billed = to_micros(invoice.total, invoice.currency)
        if self._finalized == 7:
            billed += to_micros(10 if invoice.currency == "bhd" else 1, invoice.currency)
            self.world.plant("billed_one_unit_off", "gravity", invoice.id, f"billed {billed} microdollars")
        self.books.bill_state(
            invoice,
            state="open",
            billed_microdollars=billed,
            due_on=datetime.fromtimestamp(invoice.due_date, UTC).date() if invoice.due_date else None,
        )
        if due <= 0:
            self.settle_invoice(invoice)
            return
        intent = self.books.payment_intent(advertiser, due, "Payment for invoice " + number)
        self.invoice_payment(invoice, intent, due, is_default=True)
        rng = self.world.rng("collect", invoice.id)
        if by_hand:
            self.ledger.emit("invoice.sent", invoice)
            self._collect_by_hand(rng, advertiser, invoice, intent)
        else:
            self.world.after(3, self.attempt, advertiser, invoice, intent)

    def _collect_by_hand(self, rng: Random, advertiser: Advertiser, invoice: Invoice, intent: PaymentIntent) -> None:
        fate = rng.random()
        if rng.random() < 0.15:
            self.world.after(
                2 * DAY + rng.randrange(HOUR), self.credit.credit_before_payment, advertiser, invoice, intent
            )
        if fate < 0.04:
            self.world.after(rng.randint(2, 6) * DAY, self.void, invoice, intent)
        elif fate < 0.08:
            self.world.after(75 * DAY, self.give_up, invoice)
        elif fate < 0.35:
            first = rng.randint(4, 20) * DAY + rng.randrange(DAY)
            self.world.after(first, self.pay_part, advertiser, invoice, intent, rng.randint(30, 60))
            self.world.after(first + rng.randint(2, 15) * DAY, self.pay_rest, advertiser, invoice, intent)
            if self.world.outside_credits and self.world.rng("rest", invoice.id).random() < 0.8:
                self.world.after(first + 5 * DAY, self.credit_rest, advertiser, invoice, intent)
        else:
            self.world.after(rng.randint(4, 40) * DAY + rng.randrange(DAY), self.pay_rest, advertiser, invoice, intent)

    def invoice_payment(self, invoice: Invoice, intent: PaymentIntent, amount: int, is_default: bool) -> InvoicePayment:
        return self.ledger.add(
            InvoicePayment(
                id=self.ledger.new_id("invoice_payment"),
                created=self.ledger.now,
                invoice=invoice.id,
                payment_intent=intent.id,
                amount_requested=amount,
                currency=invoice.currency,
                is_default=is_default,
            )
        )

    # --- payments

    def new_charge(
        self, advertiser: Advertiser, invoice: Invoice, intent: PaymentIntent, amount: int, status: str
    ) -> Charge:
        charge = Charge(
            id=self.ledger.new_id("payment" if intent.method == "us_bank_account" else "charge"),
            created=self.ledger.now,
            metadata={},
            customer=invoice.customer,
            payment_intent=intent.id,
            invoice=invoice.id,
            amount=amount,
            currency=invoice.currency,
            method=intent.method,
            payment_method=advertiser.payment_method,
            billing_name=invoice.customer_name,
            billing_email=invoice.customer_email,
            card_last4=advertiser.last4,
            status=status,
            description=intent.description,
            amount_captured=amount if status == "succeeded" else 0,
        )
        return self.ledger.add(charge)

    def attempt(self, advertiser: Advertiser, invoice: Invoice, intent: PaymentIntent) -> None:
        """One automatic collection: paid, or declined and tried again after 3 and 5 days, then given up."""
        if invoice.status != "open":
            return
        attempt = invoice.attempt_count + 1
        rng = self.world.rng("attempt", f"{invoice.id}:{attempt}")
        if rng.random() >= (0.1 if attempt == 1 else 0.4):
            self.books.change(invoice, None, attempt_count=attempt, attempted=True, next_payment_attempt=None)
            self.succeed(
                advertiser,
                invoice,
                intent,
                self.new_charge(advertiser, invoice, intent, intent.amount, "succeeded"),
            )
            return
        charge = self.new_charge(advertiser, invoice, intent, intent.amount, "failed")
        charge.failure_code, charge.failure_message = "card_declined", "Your card has insufficient funds."
        self.ledger.emit("charge.failed", charge)
        self.books.change(
            intent,
            None,
            latest_charge=charge.id,
            failure=("card_declined", "Your card has insufficient funds.", charge.id),
        )
        self.ledger.emit("payment_intent.payment_failed", intent)
        wait = {1: 3 * DAY, 2: 5 * DAY}.get(attempt)
        self.books.change(
            invoice,
            "invoice.updated",
            attempt_count=attempt,
            attempted=True,
            next_payment_attempt=self.ledger.now + wait if wait else None,
        )
        self.ledger.emit("invoice.payment_failed", invoice)
        if attempt == 1:
            self._set_delinquent(invoice, True)
        if wait:
            self.world.after(wait, self.attempt, advertiser, invoice, intent)
        else:
            self.world.after(7 * DAY, self.give_up, invoice)

    def _set_delinquent(self, invoice: Invoice, delinquent: bool) -> None:
        customer: Customer = self.ledger.one("customer", invoice.customer)
        if not customer.deleted:
            self.books.change(customer, "customer.updated", delinquent=delinquent)

    def pay_part(self, advertiser: Advertiser, invoice: Invoice, intent: PaymentIntent, percent: int) -> None:
        """A first payment below what is due, with a payment intent of its own."""
        amount = share(invoice.amount_remaining, percent, 100, invoice.currency)
        if invoice.status != "open" or not 0 < amount < invoice.amount_remaining:
            return
        extra = self.books.payment_intent(advertiser, amount, f"Partial payment for invoice {invoice.number}")
        self.invoice_payment(invoice, extra, amount, is_default=False)
        self.books.ask_for(intent, invoice.amount_remaining - amount)
        self.pay_by_hand(advertiser, invoice, extra)

    def pay_rest(self, advertiser: Advertiser, invoice: Invoice, intent: PaymentIntent) -> None:
        if invoice.status == "open" and intent.status == "requires_payment_method" and intent.amount > 0:
            self.pay_by_hand(advertiser, invoice, intent)

    def pay_by_hand(self, advertiser: Advertiser, invoice: Invoice, intent: PaymentIntent) -> None:
        """Cards succeed at once; bank debits are pending for four days first."""
        if intent.method == "card":
            self.succeed(
                advertiser,
                invoice,
                intent,
                self.new_charge(advertiser, invoice, intent, intent.amount, "succeeded"),
            )
            return
        charge = self.new_charge(advertiser, invoice, intent, intent.amount, "pending")
        self.ledger.emit("charge.pending", charge)
        self.books.change(
            intent, None, status="processing", latest_charge=charge.id, payment_method=charge.payment_method
        )
        self.ledger.emit("payment_intent.processing", intent)
        self.world.after(4 * DAY, self.succeed, advertiser, invoice, intent, charge)

    def succeed(self, advertiser: Advertiser, invoice: Invoice, intent: PaymentIntent, charge: Charge) -> None:
        """The money is there: charge, payment intent, invoice payment and invoice follow one another."""
        self.books.change(charge, None, status="succeeded", amount_captured=charge.amount)
        self.ledger.emit("charge.succeeded", charge)
        self.books.change(
            intent,
            None,
            status="succeeded",
            amount_received=charge.amount,
            latest_charge=charge.id,
            payment_method=charge.payment_method,
            failure=None,
        )
        self.ledger.emit("payment_intent.succeeded", intent)
        for payment in self.ledger.rows("invoice_payment", payment_intent=intent.id):
            self.books.change(payment, None, status="paid", amount_paid=charge.amount, paid_at=self.ledger.now)
            self.ledger.emit("invoice_payment.paid", payment)
        paid = invoice.amount_paid + charge.amount
        remaining = invoice.amount_due - paid
        if remaining > 0:
            self.books.change(invoice, "invoice.updated", amount_paid=paid, amount_remaining=remaining)
            self.books.bill_state(invoice, paid_microdollars=to_micros(paid, invoice.currency), state="partially_paid")
        else:
            self.settle_invoice(invoice, amount_paid=paid, amount_remaining=remaining)
            if self.ledger.one("customer", invoice.customer).delinquent:
                self._set_delinquent(invoice, False)
        self.world.after(5, self.book_charge, charge)
        self._plan_aftermath(advertiser, invoice, charge)

    def settle_invoice(self, invoice: Invoice, **amounts: int) -> None:
        self.books.change(invoice, "invoice.updated", status="paid", paid_at=self.ledger.now, **amounts)
        self.ledger.emit("invoice.paid", invoice)
        self.ledger.emit("invoice.payment_succeeded", invoice)
        self.books.bill_state(invoice, state="paid", paid_microdollars=to_micros(invoice.amount_paid, invoice.currency))

    def book_charge(self, charge: Charge) -> None:
        """The balance transaction follows the charge; whoever read the charge before saw null."""
        amount = to_usd_cents(charge.amount, charge.currency)
        bank = charge.method == "us_bank_account"
        transaction = self.books.book(
            amount=amount,
            fee=min(500, amount * 8 // 1000) if bank else amount * 29 // 1000 + 30,
            kind="payment" if bank else "charge",
            reporting_category="charge",
            source=charge.id,
            available_on=business_days_later(charge.created, 4 if bank else 2),
            description=charge.description,
            source_currency=charge.currency,
        )
        self.books.change(charge, "charge.updated", balance_transaction=transaction.id)

    def _plan_aftermath(self, advertiser: Advertiser, invoice: Invoice, charge: Charge) -> None:
        rng = self.world.rng("aftermath", charge.id)
        fate = rng.random()
        later = rng.randint(1, 15) * DAY + rng.randrange(DAY)
        if self.world.many_refunds_due(advertiser) and charge.method == "card":
            for number in range(MANY_REFUNDS):
                amount = share(charge.amount, 1, 100, charge.currency)
                self.world.after(
                    DAY + number * HOUR, self.refunds.refund, advertiser, charge, amount, "requested_by_customer"
                )
        elif len(invoice.lines) > LONG_INVOICE:
            self.world.after(2 * DAY, self.credit.credit_to_balance, advertiser, invoice)
        elif fate < 0.04:
            percent = rng.choice((100, 25, 50))
            amount = charge.amount if percent == 100 else share(charge.amount, percent, 100, charge.currency)
            self.world.after(later, self.refunds.refund, advertiser, charge, amount, "requested_by_customer")
        elif fate < 0.06:
            self.world.after(later, self.credit.credit_with_refund, advertiser, invoice, charge)
        elif fate < 0.12:
            self.world.after(later, self.credit.credit_to_balance, advertiser, invoice)
        elif fate < 0.14 and charge.method == "card":
            self.world.after(later, self.refunds.dispute, advertiser, charge, rng.random() < 0.4)
        outside = self.world.rng("outside", charge.id)
        if self.world.outside_credits and outside.random() < 0.5:
            wait = outside.randint(1, 12) * DAY + outside.randrange(DAY)
            self.world.after(wait, self.credit.credit_outside, advertiser, invoice, charge)

    def credit_rest(self, advertiser: Advertiser, invoice: Invoice, intent: PaymentIntent) -> None:
        """What is open of an invoice that was paid in part is credited, and the invoice is paid by that."""
        if invoice.status == "open" and invoice.amount_paid and intent.status == "requires_payment_method":
            self.credit.credit_beyond_rest(advertiser, invoice)
            self._cancel_payments(invoice, "automatic")
            self.settle_invoice(invoice)

    def void(self, invoice: Invoice, intent: PaymentIntent) -> None:
        if invoice.status != "open" or invoice.amount_paid or intent.status == "processing":
            return
        self._cancel_payments(invoice, "void_invoice")
        self.books.change(invoice, "invoice.updated", status="void", amount_remaining=0, voided_at=self.ledger.now)
        self.ledger.emit("invoice.voided", invoice)
        self._give_back(invoice)
        self.books.bill_state(invoice, state="void")

    def _give_back(self, invoice: Invoice) -> None:
        """What the customer's balance had settled of a voided invoice is the customer's again.

        https://docs.stripe.com/changelog/2019-12-03/customer-balances-returned-voided-invoices
        """
        moves = self.ledger.rows("customer_balance_transaction", customer=invoice.customer)
        applied = sum(e.amount for e in moves if (e.type, e.invoice) == ("applied_to_invoice", invoice.id))
        customer: Customer = self.ledger.one("customer", invoice.customer)
        if applied and not customer.deleted:
            self.books.move_balance(customer, -applied, "unapplied_from_invoice", None, invoice=invoice.id)

    def _cancel_payments(self, invoice: Invoice, reason: str) -> None:
        for payment in self.ledger.rows("invoice_payment", invoice=invoice.id):
            if payment.status == "open":
                self.books.change(payment, None, status="canceled", canceled_at=self.ledger.now)
                self.books.cancel_intent(self.ledger.one("payment_intent", payment.payment_intent), reason)

    def give_up(self, invoice: Invoice) -> None:
        if invoice.status == "open":
            self.books.change(
                invoice, "invoice.updated", status="uncollectible", marked_uncollectible_at=self.ledger.now
            )
            self.ledger.emit("invoice.marked_uncollectible", invoice)
            self.books.bill_state(invoice, state="uncollectible")
