"""Gravity: the product's own PostgreSQL, read with versioned queries in read-only snapshots.

Gravity only knows its present state. A snapshot is complete for the day it is taken; a past day is what was last
changed in it and is still there.
"""

from datetime import timedelta

from finance_os.sources.gravity.reader import FOLDER, READS, URL, GravityReader, connect
from finance_os.sources.gravity.reading import extract
from finance_os.sources.source import Cadence, Column, EvidenceSource, Reads, Source, SourceObject
from finance_os.sources.sql_queries import load_query

__all__ = ["GRAVITY", "URL", "GravityReader"]


def _money(name: str, description: str) -> Column:
    return Column(name, "integer", f"{description} Millionths of the currency.")


_CREATED = Column("created_at", "timestamp", "When the row was made.")
_UPDATED = Column("updated_at", "timestamp", "When the row was last changed.")
_ADVERTISER = Column("advertiser_id", "string", "Canonical ID of the advertiser.")
_CURRENCY = Column("currency", "string", "Three-letter ISO code, lower case.")
_INVOICE = Column("stripe_invoice_id", "string", "The Stripe invoice that it belongs to, where there is one.")
GRAVITY = Source(
    system="gravity",
    title="Gravity prod database",
    order=6,
    description="Who publishers and advertisers are, which campaigns run for whom, and what was credited and billed.",
    cadence=Cadence.DAILY,
    sla=timedelta(days=1),
    credentials=(URL,),
    reads=READS,
    cursor_strategy="Read-only SQL snapshots with explicit query version, source updated timestamp, and extraction "
    "timestamp.",
    evidence_policy="Store canonical IDs, campaign advertiser joins, query name, query version, extraction timestamp, "
    "and row hash.",
    objects=(
        SourceObject(
            "gravity_canonical_entities",
            "Publishers under the canonical IDs that every other system is matched to.",
            load_query(FOLDER, "gravity_canonical_entities"),
            label="gravity_canonical_entities",
            reads=Reads.UPDATED,
            columns=(
                Column("publisher_id", "string", "Canonical ID of the publisher."),
                Column("name", "string", "Name on the product's pages."),
                Column("legal_name", "string", "Name on contracts and payouts."),
                Column("payout_currency", "string", "Currency that it is paid in, lower case."),
                Column("revenue_share_bps", "integer", "Its share of the revenue, in hundredths of a percent."),
                Column("status", "string", "Whether it is active."),
                _CREATED,
                _UPDATED,
            ),
            shown=("publisher_id", "payout_currency", "revenue_share_bps", "status", "updated_at"),
        ),
        SourceObject(
            "gravity_campaign_advertiser",
            "Campaigns joined with the advertiser who pays for them, and its Stripe customer.",
            load_query(FOLDER, "gravity_campaign_advertiser"),
            label="gravity_campaign_advertiser",
            reads=Reads.UPDATED,
            columns=(
                Column("campaign_id", "string", "Canonical ID of the campaign."),
                _ADVERTISER,
                Column("name", "string", "Name of the campaign."),
                Column("status", "string", "Whether it runs."),
                Column("starts_on", "date", "Its first day."),
                Column("ends_on", "date", "Its last day; null while it is open."),
                _money("daily_budget_microdollars", "The most that it may spend a day."),
                Column("stripe_customer_id", "string", "The Stripe customer that the campaign names."),
                Column("advertiser_name", "string", "Name of the advertiser; null where the advertiser is missing."),
                Column("advertiser_status", "string", "Whether the advertiser is active."),
                Column("advertiser_stripe_customer_id", "string", "The Stripe customer that the advertiser names."),
                Column("advertiser_currency", "string", "Currency that the advertiser is billed in, lower case."),
                Column("advertiser_billing_cycle", "string", "How often it is billed."),
                _CREATED,
                Column("updated_at", "timestamp", "When the campaign or its advertiser was last changed."),
            ),
            shown=("campaign_id", "advertiser_id", "stripe_customer_id", "status", "updated_at"),
        ),
        SourceObject(
            "gravity_billing_adjustment",
            "The ledger of credits and other adjustments to what advertisers owe.",
            load_query(FOLDER, "gravity_billing_adjustment"),
            label="gravity_billing_adjustment",
            reads=Reads.UPDATED,
            columns=(
                Column("adjustment_id", "integer", "Gravity's ID of the adjustment."),
                _ADVERTISER,
                Column("kind", "string", "What it was granted for."),
                Column("state", "string", "Whether it was applied."),
                _money("amount_microdollars", "The adjustment; a credit is negative."),
                _CURRENCY,
                Column("reason", "string", "Why, in the words of whoever granted it."),
                Column("stripe_reference", "string", "The Stripe credit note or balance transaction that carries it."),
                _INVOICE,
                Column("effective_on", "date", "The day that it counts for."),
                _CREATED,
                _UPDATED,
            ),
            shown=(
                "adjustment_id",
                "advertiser_id",
                "kind",
                "state",
                "amount_microdollars",
                "currency",
                "effective_on",
            ),
        ),
        SourceObject(
            "gravity_advertiser_billing",
            "What each advertiser spent, was billed and paid, by billing period.",
            load_query(FOLDER, "gravity_advertiser_billing"),
            label="gravity_advertiser_billing",
            reads=Reads.UPDATED,
            columns=(
                Column("billing_id", "integer", "Gravity's ID of the billing period of an advertiser."),
                _ADVERTISER,
                Column("period_start", "date", "First day of the period."),
                Column("period_end", "date", "The day after its last."),
                _CURRENCY,
                _money("spend_microdollars", "What its campaigns spent."),
                _money("billed_microdollars", "What it was billed."),
                _money("paid_microdollars", "What it has paid."),
                Column("state", "string", "How the bill stands."),
                _INVOICE,
                Column("due_on", "date", "When it is due; null while that is open."),
                _CREATED,
                _UPDATED,
            ),
            shown=("billing_id", "advertiser_id", "period_start", "state", "spend_microdollars", "billed_microdollars"),
        ),
    ),
    open=connect,
    extract=extract,
    kinds=("postgres",),
    read_scope="A login that can only SELECT, in read-only transactions of versioned queries.",
    evidence=tuple(
        EvidenceSource(object_type, title, (object_type,), place)
        for place, (object_type, title) in enumerate(
            (
                ("gravity_canonical_entities", "Gravity canonical entities"),
                ("gravity_campaign_advertiser", "Gravity campaign advertisers"),
                ("gravity_billing_adjustment", "Gravity billing adjustments"),
                ("gravity_advertiser_billing", "Gravity advertiser billing"),
            ),
            start=4,
        )
    ),
)
