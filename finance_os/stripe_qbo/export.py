"""The export of a business, step by step: the gate and the plan on one snapshot, then keep, apply and verify.

What the assets and `finance-os replay` do is this. A bad day (one whose evidence is not proved) holds back itself and
every later one: the plan of a day is a function of all evidence up to it, so that nothing after a bad day is known to
be right, and everything before it is.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Any

from finance_os.evidence.businesses import active_connections
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Finding, SourceError
from finance_os.evidence.snapshot import snapshot
from finance_os.evidence.windows import Days, day_of
from finance_os.observability import happened
from finance_os.readiness import gate as readiness_gate
from finance_os.readiness.gate import Blocker, Gate, Input
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.sources.approvals import ConnectionApprovals
from finance_os.sources.credentials import CredentialsMissing
from finance_os.stripe_qbo import completeness, drift, due, parts, planning, reconcile, states
from finance_os.stripe_qbo import verify as verifying
from finance_os.stripe_qbo.apply import Applied
from finance_os.stripe_qbo.apply import apply as applying
from finance_os.stripe_qbo.books import BooksNotRead
from finance_os.stripe_qbo.client import QuickBooksWriter
from finance_os.stripe_qbo.company import Company, company_of, writing_credentials
from finance_os.stripe_qbo.connecting import connect
from finance_os.stripe_qbo.holding import Ended
from finance_os.stripe_qbo.intent import RAIL
from finance_os.stripe_qbo.keeping import keep, up_to
from finance_os.stripe_qbo.kept import Kept
from finance_os.stripe_qbo.mapping import proved
from finance_os.stripe_qbo.parts import Part
from finance_os.stripe_qbo.planning import Plan
from finance_os.stripe_qbo.reconcile import Reconciled
from finance_os.stripe_qbo.rules import BadRules, Rules, rules_of
from finance_os.stripe_qbo.store import PayloadConflict, Put, compare_plan
from finance_os.stripe_qbo.stripe_evidence import OBJECT_TYPES, StripeEvidence
from finance_os.stripe_qbo.verify import Verified
from finance_os.stripe_qbo.waiting import Waiting

GATED = QBO_EXPORT.gated_status
"""The status word of an export that only plans."""

GateOf = Callable[[Database, str, Sequence[Input]], Gate]


class NotExported(LookupError):
    """A business that is not exported now: nothing was kept or sent. `blockers` say why, and what to do."""

    def __init__(self, business_id: str, blockers: Sequence[Blocker]) -> None:
        self.business_id, self.blockers = business_id, tuple(blockers)
        super().__init__(f"{business_id} is not exported:\n{readiness_gate.explain(told_once(blockers))}")


@dataclass(frozen=True)
class Export:
    """What a business exports to, and by which rules."""

    company: Company
    rules: Rules

    @property
    def business_id(self) -> str:
        return self.company.business_id

    @property
    def realm(self) -> str:
        return self.company.realm

    def today(self, now: datetime) -> date:
        """The business's present day, in its accounting time zone."""
        return day_of(now, self.rules.zone)


@dataclass(frozen=True)
class Planned:
    """A plan as it was kept. `stripe` is what it was made from; `through` is the last day that was admitted.

    `through` of `None` means that everything is, also what is dated in the future. `held_back` says why no more.
    """

    export: Export
    plan: Plan
    put: Put
    stripe: StripeEvidence
    through: date | None
    held_back: tuple[Blocker, ...] = ()


@dataclass(frozen=True)
class Verification:
    """What QuickBooks shows of what was written: field by field, and where money is.

    `open_still` was found before and not looked at now, as nothing of it has moved. `requests` are those that it took,
    by `"METHOD entity"`.
    """

    links: Verified
    money: Reconciled
    open_still: list[Finding] = field(default_factory=list)
    requests: Mapping[str, int] = field(default_factory=dict)

    @property
    def findings(self) -> list[Finding]:
        return [*self.links.findings, *self.money.findings]


def export_of(database: Database, business_id: str, rules: Mapping[str, Mapping[str, Any]]) -> Export | None:
    """The export of a business by the installation's rules; `None` where it has none. Raises `NotExported`."""
    if business_id not in rules:
        return None
    try:
        understood = rules_of(rules[business_id])
        return Export(company_of(database, business_id), understood)
    except BadRules as error:
        raise _not_exported(business_id, "qbo_rules_unreadable", f"{error}: mend FINANCE_OS_QBO_RULES.") from None
    except CredentialsMissing as error:
        raise _not_exported(business_id, "credentials_missing", str(error)) from None
    except SourceError as error:
        raise _not_exported(business_id, error.code, error.message) from None
    except LookupError as error:
        raise _not_exported(business_id, "quickbooks_connection_missing", str(error)) from None


def approved(database: Database, export: Export) -> bool:
    """Whether an approval of the export policy is in force for the business's realm."""
    return ConnectionApprovals(database, export.company.connection).covers(QBO_EXPORT.key, export.realm)


# --- the gate


def last_closed_day(database: Database, export: Export) -> date:
    """The last day that was over for every Stripe account of the business when its latest daily sync was requested.

    A day that ended since is like the present one: that sync saw it unfinished, so nobody could have proved it. For
    which day of the installation the sync was does not say so, for an account's days may end hours later. That a sync
    comes at all is what the checkpoints see to: without any, the account's clock alone tells. Raises `NotExported`.
    """
    accounts = [each for each in active_connections(database, "stripe") if each.business_id == export.business_id]
    if not accounts:
        raise _not_exported(export.business_id, "stripe_connection_missing", "Connect the business to Stripe.")
    seen = completeness.synced_at(database, export.business_id)
    return min(day_of(seen, account.zone) for account in accounts) - timedelta(days=1)


def inputs(export: Export, last: date) -> list[Input]:
    """What a plan up to `last` rests on: each object type of Stripe that it reads, from the balance date on."""
    if last < export.rules.balance_date:
        return []
    return [Input("stripe", each, Days(export.rules.balance_date, last)) for each in OBJECT_TYPES]


def judge(seen: Database, export: Export, last: date | None = None, gate_of: GateOf | None = None) -> list[Blocker]:
    """Why the evidence up to `last` (`None`: up to now) does not allow to act; nothing where it does.

    `seen` is the snapshot that is acted upon. A day that is not over cannot be proved, and is not asked for. What
    QuickBooks holds has to be read from the company's first day on, whatever `last` is: it may hold anything already.
    """
    closed = last_closed_day(seen, export)
    until = closed if last is None else min(closed, last)
    found = (gate_of or readiness_gate.gate)(seen, export.business_id, inputs(export, until))
    return [*found.blockers, *completeness.unproven(seen, export.business_id, export.realm)]


def held_from(blockers: Sequence[Blocker]) -> date | None:
    """The first day that blockers hold back; `None` for none.

    One that speaks of now holds back every day. So does one of a day on which QuickBooks was not read: what changed on
    it may be dated on any.
    """
    return min(
        (date.min if each.day is None or each.code in completeness.CODES else each.day for each in blockers),
        default=None,
    )


def told_once(blockers: Sequence[Blocker]) -> list[Blocker]:
    """The blockers with one for each code and subject: the first day's, which says how many more there are."""
    found: dict[tuple[str, str], list[Blocker]] = {}
    for each in sorted(blockers, key=lambda each: each.day or date.min):
        found.setdefault((each.code, each.subject), []).append(each)
    return [
        first if not more else Blocker(*_key(first), f"{first.remedy} And {len(more)} more{_until(more[-1].day)}.")
        for first, *more in found.values()
    ]


def _until(day: date | None) -> str:
    return f" up to {day}" if day is not None else ""


def _key(blocker: Blocker) -> tuple[str, str, date | None, str | None]:
    return blocker.code, blocker.subject, blocker.day, blocker.evidence_hash


# --- plan


@contextmanager
def planning_alone(database: Database, business_id: str, realm: str) -> Iterator[None]:
    """No one else plans the business for the realm within the block: who waited for it comes in when it ends.

    What a plan is made from has to be read within it, and the plan kept within it: else what was seen earlier is kept
    over what was seen later.
    """
    with database.transaction() as connection:
        connection.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"finance_os/qbo_plan/{business_id}/{realm}",)
        )
        yield


def look(seen: Database, export: Export) -> planning.Seen:
    """What a plan is made from. Raises `NotExported` where it is not there, or nothing proves that all of it is."""
    try:
        found = planning.look(seen, export.business_id, export.realm)
    except BooksNotRead as error:
        raise _not_exported(export.business_id, error.code, str(error)) from None
    if unproven := proved.unproven(found.stripe, export.rules):
        raise _not_exported(export.business_id, *unproven)
    return found


def plan_and_keep(
    database: Database,
    export: Export,
    *,
    run: str,
    first: date | None = None,
    last: date | None = None,
    gate_of: GateOf | None = None,
    dry_run: bool = False,
) -> Planned:
    """Plan a business on the snapshot that the gate judged, and keep what is due up to the last day that it admits.

    That is `last`, or the day before the first bad one; what is due later stays as it was kept. `last` of `None` asks
    for everything. With `dry_run` nothing is kept. Raises `NotExported` where nothing from `first` on is admitted.
    """
    with planning_alone(database, export.business_id, export.realm):
        with snapshot(database) as seen:
            blockers = judge(seen, export, last, gate_of)
            bad = held_from(blockers)
            if bad is not None and bad <= (first or export.rules.balance_date):
                raise NotExported(export.business_id, blockers)
            booked, found = states.booked(seen, export.business_id, export.realm), look(seen, export)
        plan = planning.plan_of(found.stripe, found.books, export.rules, booked, found.bank, found.written)
        through = last if bad is None else bad - timedelta(days=1)
        scope = database, export.business_id, export.realm
        try:
            if dry_run:
                put = compare_plan(*scope, up_to(*scope, plan, through)[0], whole=True)
            else:
                put = keep(*scope, plan, run=run, through=through)
        except PayloadConflict as conflict:
            put = conflict.put
    return Planned(export, plan, put, found.stripe, through, tuple(blockers))


# --- apply


def writer(database: Database, export: Export) -> Any:
    """A context with the client that writes to the company. Raises what `connect` and `find_credentials` do."""
    return connect(writing_credentials(database, export.company), export.realm)


def apply_part(
    database: Database,
    client: QuickBooksWriter,
    planned: Planned,
    part: Part,
    *,
    workers: int = 1,
    told: Callable[[Kept, Ended], None] | None = None,
    waiting: Waiting | None = None,
) -> Applied:
    """Write a part of what was planned, as far as its days were admitted; the rest as `apply.apply` has it."""
    scope, part = (planned.export.business_id, planned.export.realm), admitted(planned, part)
    return applying(database, client, *scope, workers=workers, part=part, told=told, waiting=waiting)


def admitted(planned: Planned, part: Part) -> Part:
    """The part as far as its days were admitted."""
    if planned.through is None:
        return part
    last = planned.through if part.last is None else min(part.last, planned.through)
    return Part(part.first, last, part.objects)


def left_of(database: Database, export: Export, part: Part) -> dict[date, int]:
    """How many intents of a part are not written, by the day that they are dated."""
    with database.transaction() as connection:
        part = parts.with_needed(connection, export.business_id, export.realm, part)
    found: dict[date, int] = {}
    for row in states.by_day(database, export.business_id, export.realm, part):
        if row["state"] != "applied":
            found[row["dated"]] = found.get(row["dated"], 0) + row["count"]
    return found


def due_now(database: Database, export: Export, today: date) -> int:
    """How many intents dated up to `today` could be written: nothing that people have to put right is in their way."""
    with database.transaction() as connection:
        row = connection.execute(
            """
            SELECT count(*) AS count FROM finance_os.intents
            WHERE business_id = %s AND rail = %s AND realm = %s AND state IN ('planned', 'sending') AND dated <= %s
            """,
            (export.business_id, RAIL, export.realm, today),
        ).fetchone()
        assert row is not None
        return row["count"] - len(due.stranded(connection, export.business_id, export.realm, Part(last=today)))


# --- verify


def verify_part(
    database: Database, client: QuickBooksWriter, planned: Planned, part: Part, since: datetime | None = None
) -> Verification:
    """Read what is linked of a part, and compare it; and where money is.

    With `since`, what was written after that moment too, whatever moved in QuickBooks (`drift`), and what was found to
    be wrong at any time and is so still. Raises `QuickBooksFailure`.
    """
    export, sent = planned.export, Counter(client.sent())
    keys = set(drift.linked_in(database, export.business_id, export.realm, part, since))
    if since is not None:
        keys |= set(drift.moved(database, export.business_id, export.realm))
    links = verifying.verify(database, client, export.business_id, export.realm, keys)
    whole = planned.plan.intents
    money = reconcile.reconcile(database, client, export.business_id, export.rules, planned.stripe, part, whole, keys)
    found = Verification(links, money, requests=dict(Counter(client.sent()) - sent))
    happened.requests_sent(export.business_id, found.requests)
    if since is None:
        return found
    return replace(found, open_still=drift.open_still(database, export.business_id, found.findings))


def _not_exported(business_id: str, code: str, remedy: str) -> NotExported:
    return NotExported(business_id, [Blocker(code, "stripe_qbo", None, None, remedy)])
