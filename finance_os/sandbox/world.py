"""The synthetic company's life: one clock, one queue of things to happen, planned a day at a time.

The same seed, start and size give the same world however often and in whatever steps the clock is moved.
Systems agree to the cent, except where `planted` says so (kinds: `company.PLANTED_KINDS`).
"""

import heapq
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from random import Random
from typing import Any

from .billing import Billing
from .books import DAY, HOUR, Books, business_days_later, seconds
from .company import (
    REVENUE_SHARE_BPS,
    Advertiser,
    BankLine,
    Campaign,
    Planted,
    ProductTables,
    Publisher,
    earnings_usd_micros,
)
from .credits import Credits
from .currency import RATES_PPM, divide_half_even
from .ids import letters
from .ledger import EVENT_DAYS, Ledger
from .payouts import Payouts
from .refunds import Refunds
from .states import Customer, PaymentIntent, Payout

LONG_TAIL = 250
_CURRENCIES = ("usd", "usd", "usd", "jpy", "usd", "bhd", "usd", "eur", "usd", "usd")
_FIRST = ("Acorn", "Beacon", "Cobalt", "Delta", "Ember", "Falcon", "Granite", "Harbor", "Indigo", "Juniper")
_SECOND = (
    "Mobile",
    "Outdoors",
    "Travel",
    "Games",
    "Foods",
    "Apparel",
    "Finance",
    "Learning",
    "Audio",
    "Homes",
)


class World:
    """One company. `size` is the number of advertisers it starts with; `now` is its clock, in seconds.

    `stripe`, `gravity` and `bank` are what the three systems say at `now`. With `outside_credits` some credit notes are
    settled outside of Stripe, in part or as a whole. `minimum_balance` is what payouts leave at Stripe, in US cents.
    """

    def __init__(
        self,
        *,
        seed: int,
        start: date,
        size: int = 20,
        account: str | None = None,
        outside_credits: bool = False,
        minimum_balance: int = 0,
    ) -> None:
        if size < 1:
            raise ValueError(f"a world needs at least one advertiser, not {size}")
        self.seed = seed
        self.start = start
        self.size = size
        self.outside_credits = outside_credits
        self.minimum_balance = minimum_balance
        account = account or "acct_1" + letters(f"account:{seed}", 15)
        self.stripe = Ledger(account, f"Sandbox Ads {seed}", seconds(start))
        self.gravity = ProductTables()
        self.bank: list[BankLine] = []
        self.planted: list[Planted] = []
        self.advertisers: list[Advertiser] = []
        self.publishers: list[Publisher] = []
        self.billing_of: dict[str, int] = {}
        self.books = Books(self)
        refunds = Refunds(self.books)
        self.credits = Credits(self.books, refunds)
        self.billing = Billing(self.books, refunds, self.credits)
        self.payouts = Payouts(self.books)
        self._queue: list[tuple[int, int, Callable[..., Any], tuple[Any, ...]]] = []
        self._sequence = 0
        self._campaigns = 0
        self._bank_lines = 0
        self._many_refunds = True
        self._running: list[tuple[Advertiser, Campaign]] = []
        self.at(seconds(start), self._found_company)
        self.at(seconds(start), self._live_day, start)

    # --- the clock

    @property
    def now(self) -> int:
        return self.stripe.now

    @property
    def when(self) -> datetime:
        return datetime.fromtimestamp(self.stripe.now, UTC)

    @property
    def today(self) -> date:
        return self.when.date()

    def rng(self, *about: str) -> Random:
        """A generator that depends on the seed and on what it is for, and on nothing that happened before."""
        return Random(f"{self.seed}:{':'.join(about)}")

    def at(self, moment: int, action: Callable[..., Any], *args: Any) -> None:
        """Let something happen at a second of the clock; what is due at the same second happens in this order."""
        self._sequence += 1
        heapq.heappush(self._queue, (moment, self._sequence, action, args))

    def after(self, wait: int, action: Callable[..., Any], *args: Any) -> None:
        self.at(self.stripe.now + wait, action, *args)

    def advance_to(self, moment: datetime | int, progress: Callable[[date], None] | None = None) -> None:
        """Let everything due up to and including `moment` happen. ValueError where that lies in the past."""
        target = moment if isinstance(moment, int) else int(moment.timestamp())
        if target < self.stripe.now:
            raise ValueError(f"the clock stands at {self.when.isoformat()} and does not go back")
        self.stripe.keep_events_from = target - EVENT_DAYS * DAY
        while self._queue and self._queue[0][0] <= target:
            self.stripe.now, _, action, args = heapq.heappop(self._queue)
            if progress is not None and action == self._live_day:
                progress(args[0])
            action(*args)
        self.stripe.now = target
        self.stripe.forget_old_events()

    def plant(self, kind: str, system: str, key: str, detail: str) -> None:
        self.planted.append(Planted(kind, system, key, detail))

    # --- the company

    def _found_company(self) -> None:
        rng = self.rng("company")
        for number in range(1, max(3, self.size // 2) + 1):
            name = f"{rng.choice(_FIRST)} {rng.choice(_SECOND)} Media {number}"
            publisher = Publisher(id=f"pub_{number:05d}", name=name, email=f"payouts{number}@publisher.example.org")
            self.publishers.append(publisher)
            self._put_publisher(publisher, "active")
        for _ in range(self.size):
            self.after(600 + rng.randrange(5 * HOUR), self._join_advertiser)

    def _put_publisher(self, publisher: Publisher, status: str) -> None:
        self.gravity.put(
            "publishers",
            publisher.id,
            self.when,
            name=publisher.name,
            legal_name=f"{publisher.name} LLC",
            contact_email=publisher.email,
            payout_currency="usd",
            revenue_share_bps=REVENUE_SHARE_BPS,
            status=status,
        )

    def _join_advertiser(self) -> None:
        number = len(self.advertisers) + 1
        rng = self.rng("advertiser", str(number))
        currency = _CURRENCIES[(number - 1) % len(_CURRENCIES)]
        long_tail = number == 1
        name = f"{rng.choice(_FIRST)} {rng.choice(_SECOND)} {number}"
        customer = self.books.create_customer(rng, name, currency, f"Advertiser adv_{number:06d}")
        advertiser = Advertiser(
            id=f"adv_{number:06d}",
            name=name,
            currency=currency,
            cycle="weekly" if number <= 2 or rng.random() < 0.6 else "monthly",
            collection_method="charge_automatically" if number <= 2 or rng.random() < 0.7 else "send_invoice",
            customer=customer.id,
            payment_method=self.stripe.new_id("payment_method"),
            last4=f"{rng.randrange(10_000):04d}",
            billed_until=self.today,
        )
        self.advertisers.append(advertiser)
        self._put_advertiser(advertiser, customer)
        for index in range(LONG_TAIL if long_tail else rng.randint(1, 4)):
            until = self.today + timedelta(days=7) if long_tail and index >= 12 else None
            self._start_campaign(rng, advertiser, until, 2_000_000 if long_tail else rng.randint(20, 400) * 1_000_000)

    def _put_advertiser(self, advertiser: Advertiser, customer: Customer) -> None:
        self.gravity.put(
            "advertisers",
            advertiser.id,
            self.when,
            name=advertiser.name,
            billing_email=customer.email,
            stripe_customer_id=advertiser.customer,
            currency=advertiser.currency,
            billing_cycle=advertiser.cycle,
            status="active" if advertiser.active else "churned",
        )

    def _start_campaign(self, rng: Random, advertiser: Advertiser, ends: date | None, daily_usd: int) -> None:
        """A campaign that spends about `daily_usd` micros of a US dollar a day, in the advertiser's currency."""
        self._campaigns += 1
        publishers = tuple(rng.sample(range(len(self.publishers)), rng.randint(1, min(3, len(self.publishers)))))
        campaign = Campaign(
            id=f"cmp_{self._campaigns:07d}",
            name=f"{advertiser.name} {rng.choice(('Spring', 'Summer', 'Always-on', 'Launch'))} {self._campaigns}",
            starts=self.today,
            ends=ends,
            daily=divide_half_even(daily_usd * 1_000_000, RATES_PPM[advertiser.currency]) + rng.randrange(9_999),
            publishers=publishers,
        )
        advertiser.campaigns.append(campaign)
        self._running.append((advertiser, campaign))
        self._put_campaign(advertiser, campaign, "active")

    def _put_campaign(self, advertiser: Advertiser, campaign: Campaign, status: str) -> None:
        self.gravity.put(
            "campaigns",
            campaign.id,
            self.when,
            advertiser_id=advertiser.id,
            name=campaign.name,
            stripe_customer_id=advertiser.customer,
            status=status,
            starts_on=campaign.starts,
            ends_on=campaign.ends,
            daily_budget_microdollars=campaign.daily * 2,
        )

    def many_refunds_due(self, advertiser: Advertiser) -> bool:
        """True once: for the first paid charge of the second advertiser (the only one, in a world of one)."""
        if self._many_refunds and advertiser is self.advertisers[min(1, len(self.advertisers) - 1)]:
            self._many_refunds = False
            return True
        return False

    # --- a day

    def _live_day(self, day: date) -> None:
        """Midnight: yesterday's spend is known; today's invoices, changes and payments are planned."""
        rng = self.rng(day.isoformat())
        self._spend(day - timedelta(days=1))
        for advertiser in self.advertisers:
            if (advertiser.cycle == "weekly" and day.weekday() == 0) or (
                advertiser.cycle == "monthly" and day.day == 1
            ):
                self.after(6 * HOUR + rng.randrange(4 * HOUR), self.billing.create_invoice, advertiser, day)
            fate, moment = rng.random(), rng.randrange(12 * HOUR, 23 * HOUR)
            if not advertiser.active:
                continue
            if fate < 0.010:
                self.after(moment, self._rename, advertiser, rng.randrange(1_000))
            elif fate < 0.016:
                self.after(moment, self.credits.goodwill, advertiser, self._goodwill_amount(rng, advertiser.currency))
            elif fate < 0.022:
                self.after(
                    moment,
                    self._start_campaign,
                    self.rng("new", advertiser.id, str(day)),
                    advertiser,
                    day + timedelta(days=rng.randint(10, 60)),
                    rng.randint(10, 200) * 1_000_000,
                )
            elif fate < 0.0225 and advertiser is not self.advertisers[0]:
                self.after(moment, self._churn, advertiser)
        if day != self.start and rng.random() < self.size / 400:
            self.after(rng.randrange(9 * HOUR, 17 * HOUR), self._join_advertiser)
        if rng.random() < 0.12:
            self.after(rng.randrange(9 * HOUR, 17 * HOUR), self._stray_customer, self.rng("stray", str(day)))
        if rng.random() < 0.2 and self.advertisers:
            self.after(rng.randrange(9 * HOUR, 17 * HOUR), self._abandoned_payment, rng.choice(self.advertisers))
        if rng.random() < 0.05:
            self.after(10 * HOUR, self._touch_publisher, rng.randrange(len(self.publishers)))
        self.after(HOUR, self.payouts.pay_out)
        if day.day in (1, 15):
            self.at(business_days_later(seconds(day) - 1, 1) + 15 * HOUR, self._pay_publishers)
        if day.day == 5:
            self.after(11 * HOUR, self._bank_wire, rng.randint(10, 90) * 1_000_000)
        self.after(DAY, self._live_day, day + timedelta(days=1))

    def _goodwill_amount(self, rng: Random, currency: str) -> int:
        return {"usd": 100, "eur": 100, "jpy": 10, "bhd": 100}[currency] * rng.randint(5, 80)

    def _spend(self, day: date) -> None:
        """Book a day's spend of every running campaign, and what its publishers earned with it."""
        still: list[tuple[Advertiser, Campaign]] = []
        for advertiser, campaign in self._running:
            micros = campaign.spend(self.seed, day)
            if micros:
                campaign.unbilled += micros
                earned = earnings_usd_micros(micros, advertiser.currency) // len(campaign.publishers)
                for index in campaign.publishers:
                    self.publishers[index].earned += earned
            if campaign.ends is None or day < campaign.ends:
                still.append((advertiser, campaign))
            else:
                self._put_campaign(advertiser, campaign, "ended")
                if self.rng("archive", campaign.id).random() < 0.3:
                    self.after(20 * DAY + 13 * HOUR, self.gravity.delete, "campaigns", campaign.id)
        self._running = still

    def _rename(self, advertiser: Advertiser, number: int) -> None:
        customer: Customer = self.stripe.one("customer", advertiser.customer)
        if not customer.deleted:
            email = f"accounts{number}@{customer.email.split('@')[1]}"
            self.books.change(customer, "customer.updated", email=email)
            self._put_advertiser(advertiser, customer)

    def _churn(self, advertiser: Advertiser) -> None:
        """The advertiser stops; its last invoice comes as usual, then its customer and campaigns are deleted."""
        advertiser.active = False
        for campaign in advertiser.campaigns:
            if campaign.ends is None or campaign.ends > self.today:
                campaign.ends = self.today + timedelta(days=1)
                self._put_campaign(advertiser, campaign, "ended")
        self._put_advertiser(advertiser, self.stripe.one("customer", advertiser.customer))
        self.after(100 * DAY, self._forget, advertiser)

    def _forget(self, advertiser: Advertiser) -> None:
        open_invoices = [i for i in self.stripe.rows("invoice", customer=advertiser.customer) if i.status == "open"]
        if open_invoices:
            self.after(30 * DAY, self._forget, advertiser)
            return
        self.books.delete_customer(self.stripe.one("customer", advertiser.customer))
        for campaign in advertiser.campaigns:
            self.gravity.delete("campaigns", campaign.id)

    def _stray_customer(self, rng: Random) -> None:
        """Someone signs up by mistake and is deleted some days later, without ever being billed."""
        customer = self.books.create_customer(rng, f"Test Signup {rng.randrange(9_999)}", "usd", None)
        self.after(rng.randint(1, 9) * DAY + rng.randrange(DAY), self.books.delete_customer, customer)

    def _abandoned_payment(self, advertiser: Advertiser) -> None:
        """A prepayment that is begun and never finished."""
        if not self.stripe.one("customer", advertiser.customer).deleted:
            intent: PaymentIntent = self.books.payment_intent(advertiser, 50_000, "Prepayment")
            self.after(DAY, self.books.cancel_intent, intent, "abandoned")

    def _touch_publisher(self, index: int) -> None:
        publisher = self.publishers[index]
        publisher.email = f"payouts{index + 1}.{self.today:%m%d}@publisher.example.org"
        self._put_publisher(publisher, "active")

    # --- the bank account

    def _bank(
        self,
        description: str,
        counterparty: str,
        amount: int,
        kind: str,
        *,
        reference: str | None = None,
        payout: str | None = None,
        named: bool = True,
    ) -> BankLine:
        self._bank_lines += 1
        line = BankLine(
            transaction_id="rho_" + letters(f"bank:{self._bank_lines}", 20).lower() if named else None,
            begun=self.today,
            posted=self.today,
            description=description,
            counterparty=counterparty,
            amount=amount,
            type=kind,
            reference=reference,
            payout=payout,
        )
        self.bank.append(line)
        return line

    def bank_payout(self, payout: Payout, count: int) -> None:
        """The deposit behind the `count`-th paid payout, or what was planted in its place."""
        if count == 5:
            self.plant("rho_payout_missing", "rho", payout.id, f"{payout.amount} cents never arrive")
            return
        amount = payout.amount
        if count == 3:
            amount += 1
            self.plant("rho_amount_one_cent_off", "rho", payout.id, f"{amount} instead of {payout.amount} cents")
        self._bank("STRIPE TRANSFER", "Stripe", amount, "ACH Credit", reference=payout.trace_id, payout=payout.id)
        if count == 8:
            line = self._bank("STRIPE TRANSFER", "Stripe", 12_345, "ACH Credit", reference="ST-UNKNOWN0001")
            self.plant("rho_deposit_without_payout", "rho", line.transaction_id or "", "12345 cents")

    def _pay_publishers(self) -> None:
        """Whole cents of what each publisher earned go out by ACH; two wires cost two identical fees."""
        for publisher in self.publishers:
            cents = publisher.earned // 10_000
            if cents:
                publisher.earned -= cents * 10_000
                self._bank(
                    f"PUBLISHER PAYOUT {publisher.id}",
                    publisher.name,
                    -cents,
                    "ACH Debit",
                    reference=publisher.id,
                )
        for _ in range(2):
            self._bank("WIRE FEE", "Rho", -1_500, "Fee", named=False)

    def _bank_wire(self, cents: int) -> None:
        self._bank("WIRE IN OPERATING RESERVE", "Sandbox Holdings", cents, "Wire", reference=f"FW{self.today:%Y%m%d}")


def build(
    *,
    seed: int,
    start: date,
    until: datetime,
    size: int = 20,
    account: str | None = None,
    outside_credits: bool = False,
    minimum_balance: int = 0,
    progress: Callable[[date], None] | None = None,
) -> World:
    """A world from midnight UTC of `start` to `until`."""
    world = World(
        seed=seed,
        start=start,
        size=size,
        account=account,
        outside_credits=outside_credits,
        minimum_balance=minimum_balance,
    )
    world.advance_to(until, progress)
    return world
