"""Redshift: publisher spend from event-level impressions, clicks and engine events, read with versioned queries.

A connection to the cluster and the Data API run the same statements and give the same evidence; the URL says which.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from finance_os.evidence.extraction import Extraction, Request, SourceError
from finance_os.sources.credentials import Credentials
from finance_os.sources.guard import Query
from finance_os.sources.redshift.address import URL, ClusterAddress, parse_address
from finance_os.sources.redshift.connector import ClusterReader
from finance_os.sources.redshift.data_api import READS, AwsKeys, DataApiReader
from finance_os.sources.redshift.events import EventQuery, read_events
from finance_os.sources.redshift.snapshot import RedshiftReader
from finance_os.sources.redshift.spend import SpendQuery, read_spend
from finance_os.sources.redshift.statements import VersionedStatements
from finance_os.sources.source import Cadence, Column, EvidenceSource, Source, SourceObject
from finance_os.sources.sql_queries import load_queries

FOLDER = "redshift"
ACCESS_KEY_ID = "FINANCE_OS_REDSHIFT_AWS_ACCESS_KEY_ID"
SECRET_ACCESS_KEY = "FINANCE_OS_REDSHIFT_AWS_SECRET_ACCESS_KEY"  # noqa: S105 (its name)

QUERIES = load_queries(FOLDER)


@contextmanager
def connect(credentials: Credentials) -> Iterator[RedshiftReader]:
    """A reader of the Redshift that the credentials lead to; it connects when something is read."""
    yield reader_of(credentials, VersionedStatements(QUERIES.values()))


def reader_of(credentials: Credentials, statements: VersionedStatements) -> RedshiftReader:
    """A reader that lets through these statements only. Raises `SourceError` for a URL or a key that is none."""
    address = parse_address(credentials[URL])
    if isinstance(address, ClusterAddress):
        return ClusterReader(address, statements)
    key_id, secret = credentials.get(ACCESS_KEY_ID), credentials.get(SECRET_ACCESS_KEY)
    if bool(key_id) != bool(secret):
        raise SourceError(
            "invalid_credentials", f"set both {ACCESS_KEY_ID} and {SECRET_ACCESS_KEY}, or neither", permanent=True
        )
    return DataApiReader(address, statements, AwsKeys(key_id, secret) if key_id and secret else None)


def extract(reader: RedshiftReader, obj: SourceObject[SpendQuery | EventQuery], request: Request) -> Extraction:
    """What `obj` has for the request's days, in one read-only transaction with one snapshot.

    A read that failed begins anew. Nothing is handed over before the counts and sums are proven.
    """
    before = Counter(reader.sent())
    query = obj.detail.query
    read = read_spend if isinstance(obj.detail, SpendQuery) else read_events
    return Extraction(
        read(reader, obj.detail, request),  # pyright: ignore[reportArgumentType] (each with its own kind of detail)
        requested=lambda: dict(Counter(reader.sent()) - before),
        query_name=query.name,
        query_version=str(query.version),
    )


def _spend(name: str) -> SpendQuery:
    named = ("publisher_spend_daily", "campaign_publisher_spend_daily", "spend_total_daily")
    return SpendQuery(QUERIES[name], tuple(QUERIES[other] for other in named if other != name))


_PUBLISHER = Column("publisher_id", "string", "Canonical ID of the publisher.")
_CAMPAIGN = Column("campaign_id", "string", "ID of the campaign.")
_ADVERTISER = Column("advertiser_id", "string", "Canonical ID of the advertiser.")
_INGESTED = Column("ingested_at", "timestamp", "When Redshift got it.")
_SPEND = (
    Column("spend_date", "date", "The business day on which the impressions were shown."),
    Column("spend_microdollars", "integer", "Exact sum of the impressions' prices. Millionths of the currency."),
    Column("impressions", "integer", "How many impressions the sum is over."),
    Column("currency", "string", "Three-letter ISO code, lower case."),
)

REDSHIFT = Source(
    system="redshift",
    title="Redshift",
    order=7,
    description="Read-only event-level publisher spend staging from SUM(ad_impressions.price) before any payout "
    "calculation.",
    cadence=Cadence.DAILY,
    sla=timedelta(days=1),
    credentials=(URL,),
    options=(ACCESS_KEY_ID, SECRET_ACCESS_KEY),
    reads=(Query(f"sql/{FOLDER}"), *READS),
    read_scope="Read-only Redshift Data API access",
    cursor_strategy="Partitioned event windows by timestamp with replayable query boundaries.",
    evidence_policy="Store publisher/date and campaign/publisher/date rows from SUM(ad_impressions.price), query "
    "window, row counts, aggregate hashes, and source trace for spend verification/classification.",
    trailing_days=7,
    evidence=(
        EvidenceSource(
            "publisher_spend_daily", "Redshift spend", ("publisher_spend_daily", "campaign_publisher_spend_daily"), 8
        ),
    ),
    objects=(
        SourceObject(
            "publisher_spend_daily",
            "Daily publisher rows from event-level impressions",
            _spend("publisher_spend_daily"),
            label="publisher_spend_daily",
            columns=(_PUBLISHER, *_SPEND),
            shown=("publisher_id", *(column.name for column in _SPEND)),
        ),
        SourceObject(
            "campaign_publisher_spend_daily",
            "Daily rows by campaign and publisher from event-level impressions",
            _spend("campaign_publisher_spend_daily"),
            label="campaign_publisher_spend_daily",
            columns=(_CAMPAIGN, _PUBLISHER, *_SPEND),
            shown=("campaign_id", "publisher_id", *(column.name for column in _SPEND)),
        ),
        SourceObject(
            "ad_clicks",
            "Clicks on ads.",
            EventQuery(QUERIES["ad_clicks"]),
            label="ad_clicks",
            columns=(
                Column("click_id", "string"),
                Column("impression_id", "string", "The impression that was clicked on."),
                _CAMPAIGN,
                _PUBLISHER,
                _ADVERTISER,
                Column("clicked_at", "timestamp"),
                _INGESTED,
            ),
            shown=("click_id", "campaign_id", "publisher_id", "clicked_at"),
        ),
        SourceObject(
            "engine_events",
            "What the ad engine decided about campaigns.",
            EventQuery(QUERIES["engine_events"]),
            label="engine_events",
            columns=(
                Column("event_id", "string"),
                Column("event_type", "string"),
                _CAMPAIGN,
                Column("publisher_id", "string", "Canonical ID of the publisher, where one is concerned."),
                Column("occurred_at", "timestamp"),
                _INGESTED,
            ),
            shown=("event_id", "event_type", "campaign_id", "occurred_at"),
        ),
    ),
    open=connect,
    extract=extract,
    kinds=("redshift",),
)
