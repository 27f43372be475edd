"""The panel of each source on the plan's page: what is read of it, what is staged, and what it may not write.

A source without words of its own gets the panel that its declaration gives.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from finance_os.readiness.evidence_sources import SourceEvidence
from finance_os.readiness.page.panels import Link, Panel, Tile, Tone, number
from finance_os.readiness.plan import Plan
from finance_os.readiness.policies import PLAID_PRODUCTION
from finance_os.sources.source import Source

BOUNDARY_HELD = "Finance Supabase only"


@dataclass(frozen=True)
class Ingestion:
    """A source of a plan, with what is known of it."""

    plan: Plan
    source: Source

    @property
    def evidence(self) -> tuple[SourceEvidence, ...]:
        """Its evidence sources."""
        return tuple(each for each in self.plan.assessment.evidence if each.source_system == self.source.system)

    @property
    def sync_runs(self) -> int:
        """How often it was read, its evidence sources together."""
        return sum(each.sync_runs for each in self.evidence)

    @property
    def raw_rows(self) -> int:
        """How many versions are staged of it, of all its object types."""
        return sum(each.raw_rows for each in self.plan.staged if each.source_system == self.source.system)

    @property
    def counts(self) -> str:
        """`2 runs / 102 raw rows`, of what counts as its evidence."""
        return _counts(self.sync_runs, sum(each.raw_rows for each in self.evidence))

    def rows_of(self, object_type: str) -> str:
        """How many versions are staged of one object type."""
        return number(sum(each.raw_rows for each in self.plan.staged if each.object_type == object_type))

    @property
    def labels(self) -> str:
        """The short names of its objects, as people read them."""
        return ", ".join(obj.label.replace("_", " ") for obj in self.source if obj.label)


TileOf = Callable[[Ingestion], Tile]


@dataclass(frozen=True)
class Words:
    """What the page says of a source. `short` names it in a list of counts, in the order of `place`."""

    title: str
    sentence: str
    short: str
    place: int
    tiles: tuple[TileOf, ...]
    notes: tuple[str, ...] = field(default=())


def ingestion_panel(plan: Plan, source: Source) -> Panel:
    """The panel of a source."""
    of, words = Ingestion(plan, source), words_of(source)
    return Panel(
        key=f"ingestion_{source.system}",
        title=words.title,
        sentence=words.sentence,
        tiles=tuple(tile(of) for tile in words.tiles),
        notes=words.notes,
        link=Link("asset", f"{source.system}/{of.evidence[0].object_types[0]}") if of.evidence else None,
    )


def words_of(source: Source) -> Words:
    """What the page says of a source: its own words, else those that its declaration gives."""
    return WORDS.get(source.system) or Words(
        f"{source.title} ingestion",
        source.description,
        source.title,
        100,
        (_system(source.read_scope), _objects(), _boundary(source.write_boundary)),
    )


def by_source(plan: Plan, unit: str, count: Callable[[Ingestion], int]) -> str:
    """A count of each source in one line: `1 Rho / 0 XLSX baseline / … rows`."""
    listed = sorted((words_of(source).place, place, source) for place, source in enumerate(plan.sources))
    return (
        " / ".join(f"{number(count(Ingestion(plan, each)))} {words_of(each).short}" for *_, each in listed) + f" {unit}"
    )


def _counts(runs: int, rows: int) -> str:
    return f"{number(runs)} runs / {number(rows)} raw rows"


def _system(note: str) -> TileOf:
    return lambda of: Tile("Source system", of.source.system, note, code=True)


def _objects(note: str | None = None, value: str | None = None) -> TileOf:
    """The object types that count as evidence; `note` instead of the counts, which then follow."""

    def tile(of: Ingestion) -> Tile:
        names = [name for each in of.evidence for name in each.object_types]
        counts = of.counts
        return Tile(
            "Object types" if (len(names) > 1 and value is None) or (value and ", " in value) else "Object type",
            value or ", ".join(names),
            note or counts,
            (counts,) if note else (),
            code=value is None or "_" in value,
        )

    return tile


def _labels(note: str) -> TileOf:
    return lambda of: Tile("Object types", of.labels, note, (of.counts,))


def _boundary(note: str) -> TileOf:
    """Where its evidence is written, by what was found: not by what is meant."""

    def tile(of: Ingestion) -> Tile:
        violations = of.plan.assessment.boundary.violations
        found = tuple(each for each in violations if each.startswith((f"{of.source.system} ", "role ")))
        if found:
            return Tile("Write boundary", "violated", note, found, Tone.BAD)
        return Tile("Write boundary", BOUNDARY_HELD, note)

    return tile


def _fixed(label: str, value: str, note: str) -> TileOf:
    return lambda _: Tile(label, value, note)


def _evidence_tile(label: str, name: str) -> TileOf:
    def tile(of: Ingestion) -> Tile:
        found = next(each for each in of.evidence if each.name == name)
        return Tile(label, name, _counts(found.sync_runs, found.raw_rows), code=True)

    return tile


def _drive_objects(of: Ingestion) -> Tile:
    staged = (
        f"{of.rows_of('folder_inventory')} inventories / {of.rows_of('publisher_contract_candidate')} candidates / "
        f"{of.rows_of('contract_text')} text rows"
    )
    return Tile("Object types", ", ".join(obj.object_type for obj in of.source), staged, code=True)


def _plaid_flag(of: Ingestion) -> Tile:
    policy = of.plan.assessment.policies[PLAID_PRODUCTION.key]
    if not policy.approved:
        return Tile("Feature flag", "Sandbox only", "Production Plaid remains blocked until explicitly approved")
    scopes = ", ".join(sorted({each.scope for each in policy.approvals}))
    return Tile("Feature flag", "Production approved", f"{PLAID_PRODUCTION.allows} Approved: {scopes}", tone=Tone.WAIT)


WORDS: Mapping[str, Words] = {
    "xlsx": Words(
        "XLSX publisher economics baseline",
        "Import Finance spreadsheet rows as a historical benchmark for Phase 5 variance/backtest review.",
        "XLSX baseline",
        2,
        (
            _objects(),
            _fixed(
                "Authority",
                "Backtest benchmark only",
                "Spreadsheet rows explain historical variance but do not replace event-level spend.",
            ),
            _boundary("No Drive, bank, Stripe, QuickBooks, Plaid, or payment writes."),
        ),
        (
            "Accepted amount columns include `baseline_accrual`, `baseline_cash`, `baseline_deposit`, or microdollar "
            "equivalents. Duplicate period/publisher keys are surfaced before Phase 5 backtest signoff.",
        ),
    ),
    "gravity": Words(
        "Gravity raw ingestion",
        "Read-only full snapshot staging for canonical publishers, campaign advertisers, billing adjustments, and "
        "advertiser billing state.",
        "Gravity",
        4,
        (
            _evidence_tile("Canonical entities", "gravity_canonical_entities"),
            _evidence_tile("Campaign advertisers", "gravity_campaign_advertiser"),
            _evidence_tile("Credits ledger", "gravity_billing_adjustment"),
            _evidence_tile("Advertiser billing", "gravity_advertiser_billing"),
            _fixed(
                "Snapshot scope",
                "Full read-only Gravity funding snapshots",
                "No latest-100 cap on advertiser billing or billing adjustment evidence used by Phase 4 "
                "classification.",
            ),
            _boundary("No Gravity mutations"),
        ),
    ),
    "rho": Words(
        "Rho cash CSV import",
        "Read-only cash movement fallback import by settlement/posting date for Phase 1 source evidence.",
        "Rho",
        1,
        (_objects(), _boundary("No bank/Plaid/Rho mutation or money movement")),
    ),
    "plaid": Words(
        "Plaid sandbox proof path",
        "Feature-flagged sandbox-only read path for future production bank transaction sync.",
        "Plaid",
        3,
        (_objects(), _plaid_flag, _boundary("No Plaid mutation or money movement")),
    ),
    "redshift": Words(
        "Redshift publisher spend ingestion",
        "Read-only event-level publisher spend staging from `SUM(ad_impressions.price)` before any payout calculation.",
        "Redshift",
        5,
        (
            _system("Read-only Redshift Data API access"),
            _objects("Daily publisher rows from event-level impressions", "publisher_spend_daily"),
            _boundary("No payouts, close locks, or source mutations"),
        ),
    ),
    "quickbooks": Words(
        "QuickBooks sandbox accounting ingestion",
        "Read-only QBO sandbox snapshot staging for accounting, AR, vendor, and chart-of-accounts evidence.",
        "QBO",
        6,
        (
            _system("Sandbox OAuth read-only API access"),
            _objects(
                "Accounting evidence before reconciliation",
                "company, accounts, customers, vendors, deposits, purchases, bills, journals, invoices, payments",
            ),
            _boundary("No QuickBooks posting or invoice writes"),
        ),
    ),
    "stripe": Words(
        "Stripe billing ingestion",
        "Read-only paginated Stripe snapshot staging for advertiser billing evidence before reconciliation or payouts.",
        "Stripe",
        7,
        (
            _system("Stripe API read-only key"),
            _labels("Operational billing/payment evidence, paginated until Stripe reports has_more=false"),
            _boundary("No Stripe mutations or invoice writes"),
        ),
    ),
    "google_drive": Words(
        "Google Drive agreement ingestion",
        "Read-only Drive inventory, text extraction hash, and publisher agreement candidate staging before human term "
        "approval.",
        "Drive",
        8,
        (_system("Drive API read-only scope"), _drive_objects, _boundary("No Drive/source mutations")),
    ),
}
"""What the page says of the sources that it was drawn with."""
