"""From a webhook to the object in QuickBooks that was read back and is as planned, with the real Dagster daemon.

Every few seconds something changes at the sandbox's Stripe, which sends its signed event to the real receiver: in turn
a customer is granted a credit (a credit memo is made) and an invoice's due date is put off (the invoice is updated).
Counted is the time from when the event was received to when the export, having written the change, read the object back
from QuickBooks and found it as planned (`links.verified_at`); once with nothing else to do, and once while backfills of
Stripe's history run, one after the other. What is real of the installation says `open_gate`: all of it.

History is what lies before the balance date. A backfill of later days reads again what the export rests on: until these
days are proved anew the gate is shut, and what webhooks tell meanwhile waits for it. How long that takes with one such
backfill is a figure of its own.
"""

import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import dagster as dg
import httpx

from finance_os.defs.webhook_sensor import REQUEST_TAG
from finance_os.evidence.database import Database
from finance_os.evidence.windows import Days
from finance_os_tests.benchmarks.figures import Figure
from finance_os_tests.benchmarks.open_gate import Installation, open_gate, until

EVERY = (2.0, 4.0)
"""Seconds from one event to the next: in between, at random, so that they fall on no sensor's beat."""

PATIENCE = 300.0
"""Seconds that an event may take at most."""

_STANDING = ("open", "paid")
_WARM = 2
_HISTORY = 1_500
"""Days of a backfill; of most of them there is nothing, but each is read, recorded and checked."""

_STAGES = (
    "received to request asked for",
    "to its run started",
    "to objects read",
    "to export asked for",
    "to its run started",
    "to written",
    "to read back as planned",
)


def posted(server: Database, events: int, *, reread: bool = False) -> list[Figure]:
    """Median and p95 of `events` webhooks, alone and while backfills run, and how long each stage takes on average.

    With `reread` also while the days are read again that the export rests on.
    """
    figures: list[Figure] = []
    with open_gate(server, size=20) as ready:
        changes = Changes(ready)
        _measured(ready, changes, _WARM)  # what is done for the first time takes longer
        figures += _figures("alone", _measured(ready, changes, events), at_most=30)
        first, yesterday = ready.balance_date, datetime.now(UTC).date() - timedelta(days=1)
        history = Days(first - timedelta(days=_HISTORY), first - timedelta(days=1))
        backfills = _Backfills(ready, history)
        figures += _figures("while backfills run", _measured(ready, changes, events, backfills.go_on), at_most=30)
        figures.append(Figure("of that time a backfill was running", 100 * backfills.share(), "%"))
        if reread:
            until(backfills.has_ended, "the backfill did not end")
            backfill = ready.backfill("what the export rests on", Days(first, yesterday))
            figures += _figures("while its days are read again", _measured(ready, changes, events))
            until(lambda: ready.has_ended(backfill), "the backfill did not end")
    return figures


def _figures(name: str, measured: list[list[float]], at_most: float | None = None) -> Iterator[Figure]:
    """Of each event, the seconds that each stage took."""
    took = [sum(stages) for stages in measured]
    yield Figure(f"webhook to verified QuickBooks object, {name}: p50", statistics.median(took), "s")
    p95 = statistics.quantiles(took, n=20, method="inclusive")[18]
    yield Figure(f"webhook to verified QuickBooks object, {name}: p95", p95, "s", at_most=at_most)
    for number, stage in enumerate(_STAGES):
        mean = statistics.fmean(stages[number] for stages in measured)
        yield Figure(f"on average, {name}: {number + 1}. {stage}", mean, "s")


@dataclass(frozen=True)
class Change:
    """Something that changed at Stripe: its event, the key of what stands for it in QuickBooks, the due date it has
    there if that is what changed."""

    event: str
    key: str
    due: date | None = None


@dataclass
class Changes:
    """What can change at Stripe. Each change is its own event and leads to one write, of an object that no change under
    way is about."""

    ready: Installation
    made: Iterator[int] = field(default_factory=itertools.count)
    invoices: list[str] = field(init=False)
    customers: list[str] = field(init=False)

    def __post_init__(self) -> None:
        invoices, customers = (self._stripe(f"/v1/{kind}", limit=100) for kind in ("invoices", "customers"))
        standing = [each["id"] for each in invoices if each["status"] in _STANDING]
        self.invoices = self._linked("invoice", "created", standing)
        self.customers = self._linked("customer", "adopted", [each["id"] for each in customers])
        if not self.invoices or not self.customers:
            raise RuntimeError("no invoice or no customer is linked: there is nothing to change")

    def next(self, under_way: set[str]) -> Change:
        """Make the next change; its webhook was delivered when this returns."""
        number = next(self.made)
        free = [each for each in self.invoices if f"invoice:{each}:invoice" not in under_way]
        return self._put_off(free[number // 2 % len(free)], number) if number % 2 and free else self._credit(number)

    def _credit(self, number: int) -> Change:
        """Grant a customer a credit; of no two changes it is the same amount."""
        customer = self.customers[number % len(self.customers)]
        self.ready.sandbox.change("credit", id=customer, amount=-(1_000 + 10 * number))
        [moved] = self._stripe(f"/v1/customers/{customer}/balance_transactions", limit=1)
        return Change(self._event_of(customer), f"customer_balance_transaction:{moved['id']}:credit_memo")

    def _put_off(self, invoice: str, number: int) -> Change:
        """Put an invoice's due date off, to another day than any change before."""
        due = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) + timedelta(days=60 + number)
        self.ready.sandbox.change("update", id=invoice, values={"due_date": int(due.timestamp())})
        return Change(self._event_of(invoice), f"invoice:{invoice}:invoice", due.date())

    def _event_of(self, source_id: str) -> str:
        [event] = self._stripe("/v1/events", limit=1)
        if event["data"]["object"]["id"] != source_id:
            raise RuntimeError(f"the latest event is {event['type']} of another object than the one that was changed")
        return event["id"]

    def _stripe(self, path: str, **params: Any) -> list[Mapping[str, Any]]:
        environment = self.ready.sandbox.env
        key = {"authorization": f"Bearer {environment['FINANCE_OS_STRIPE_API_KEY']}"}
        with httpx.Client(base_url=self.ready.sandbox.base, headers=key, trust_env=False) as client:
            return client.get(path, params=params).raise_for_status().json()["data"]

    def _linked(self, stripe_object: str, origin: str, among: list[str]) -> list[str]:
        rows = self.ready.database.fetch(
            """
            SELECT DISTINCT stripe_id FROM finance_os.links
            WHERE stripe_object = %s AND origin = %s AND stripe_id = ANY (%s) ORDER BY 1
            """,
            (stripe_object, origin, among),
        )
        return [row["stripe_id"] for row in rows]


def _measured(
    ready: Installation, changes: Changes, count: int, meanwhile: Callable[[], None] = lambda: None
) -> list[list[float]]:
    """Make `count` changes, and wait until each is verified: how many seconds each stage of each took.

    `meanwhile` is called all the time.
    """
    waits = random.Random(count)
    pending: dict[str, Change] = {}
    verified: dict[str, dict[str, Any]] = {}
    made, due = 0, time.monotonic()
    while len(verified) < count:
        if made < count and time.monotonic() >= due:
            change = changes.next({each.key for each in pending.values()})
            pending[change.event] = change
            made += 1
            due = time.monotonic() + waits.uniform(*EVERY)
        # An object of today is read back by every later export too: the first time counts, so look often.
        for row in _verified(ready.database, pending.values()):
            verified[row["event_key"]] = row
            del pending[row["event_key"]]
        if time.monotonic() > due + PATIENCE:
            raise RuntimeError(f"{len(pending)} of {count} changes were not verified within {PATIENCE:g} s: {pending}")
        meanwhile()
        time.sleep(0.2)
    events = list(verified)
    until(lambda: len(_read(ready.database, events)) == count, "not every event was settled")
    read = _read(ready.database, events)
    return [_stages(ready.instance, row, read[event]) for event, row in verified.items()]


def _verified(database: Database, pending: Iterable[Change]) -> list[dict[str, Any]]:
    """The changes that were read back after they were written, and found as planned.

    The answer to a write is compared too, before the intent settles; a later moment is of a read.
    """
    wanted = list(pending)
    return database.fetch(
        """
        SELECT event.event_key, event.received_at, intent.plan_run, intent.settled_at, link.verified_at
        FROM unnest(%(events)s::text[], %(keys)s::text[], %(days)s::text[]) AS wanted (event_key, key, due)
        JOIN finance_os.webhook_events AS event USING (event_key)
        JOIN finance_os.intents AS intent ON intent.key = wanted.key AND intent.state = 'applied'
         AND (CASE WHEN wanted.due IS NULL THEN intent.operation = 'create'
              ELSE intent.operation = 'update' AND intent.payload ->> 'DueDate' = wanted.due END)
        JOIN finance_os.links AS link ON link.key = wanted.key AND link.verified_at > intent.settled_at
        WHERE intent.settled_at > event.received_at
        """,
        {
            "events": [each.event for each in wanted],
            "keys": [each.key for each in wanted],
            "days": [each.due and str(each.due) for each in wanted],
        },
    )


def _read(database: Database, events: list[str]) -> dict[str, dict[str, Any]]:
    """When what events ask for was asked for and read, by event, of those whose reads are settled."""
    rows = database.fetch(
        """
        SELECT event.event_key, event.request_id, request.requested_at, max(run.completed_at) AS read_at
        FROM finance_os.webhook_events AS event
        JOIN finance_os.webhook_requests AS request USING (request_id)
        JOIN finance_os.source_sync_runs AS run ON run.sync_run_id = ANY (event.sync_run_ids)
        WHERE event.state = 'done' AND event.event_key = ANY (%s)
        GROUP BY event.event_key, event.request_id, request.requested_at
        """,
        (events,),
    )
    return {row["event_key"]: row for row in rows}


def _stages(instance: dg.DagsterInstance, verified: Mapping[str, Any], read: Mapping[str, Any]) -> list[float]:
    """How many seconds an event was in each stage; together they are the whole time.

    An export that had been asked for already, for an earlier event, is no wait for this one.
    """
    reading = instance.get_run_records(dg.RunsFilter(tags={REQUEST_TAG: str(read["request_id"])}))[-1]
    [export] = instance.get_run_records(dg.RunsFilter(run_ids=[verified["plan_run"]]))
    assert reading.start_time is not None
    assert export.start_time is not None
    moments = [
        verified["received_at"].timestamp(),
        read["requested_at"].timestamp(),
        reading.start_time,
        read["read_at"].timestamp(),
        export.create_timestamp.timestamp(),
        export.start_time,
        verified["settled_at"].timestamp(),
        verified["verified_at"].timestamp(),
    ]
    reached = itertools.accumulate((min(each, moments[-1]) for each in moments), max)
    return [later - earlier for earlier, later in itertools.pairwise(reached)]


class _Backfills:
    """Backfills of Stripe, one after the other as long as `go_on` is called; the first one is running already."""

    def __init__(self, ready: Installation, days: Days) -> None:
        self._ready, self._days = ready, days
        self._asked: list[str] = []
        self._ask()
        until(lambda: bool(self._spans()), "the backfill did not begin")
        self._begun = self._looked_at = time.time()

    def go_on(self) -> None:
        """Ask for the next one where the last one has ended."""
        if time.time() - self._looked_at < 1:
            return
        self._looked_at = time.time()
        if self.has_ended():
            self._ask()

    def has_ended(self) -> bool:
        """Whether the last one that was asked for has ended. Raises `RuntimeError` where it failed.

        Not asked of the webserver: it would look through all events of the run each time, a load that nobody else is.
        """
        wanted = dg.RunsFilter(tags={"dagster/backfill": self._asked[-1]})
        runs = [each.dagster_run for each in self._ready.instance.get_run_records(wanted)]
        if failed := [run for run in runs if run.is_failure_or_canceled]:
            raise RuntimeError(f"the backfill's run {failed[0].run_id} has failed")
        return bool(runs) and all(run.is_finished for run in runs)

    def share(self) -> float:
        """In which part of the time since the first one began the run of one was under way."""
        ended = time.time()
        spans = [(max(first, self._begun), last) for first, last in self._spans()]
        return sum(max(last - first, 0) for first, last in spans) / (ended - self._begun)

    def _spans(self) -> list[tuple[float, float]]:
        """From when to when the runs were under way, up to now; of those that have begun."""
        now = time.time()
        records = [
            record
            for backfill in self._asked
            for record in self._ready.instance.get_run_records(dg.RunsFilter(tags={"dagster/backfill": backfill}))
        ]
        return [(each.start_time, each.end_time or now) for each in records if each.start_time is not None]

    def _ask(self) -> None:
        self._asked.append(self._ready.backfill("benchmark", self._days))
