"""Plaid: the bank account's transactions as Plaid's sandbox tells them, a read path that a feature flag opens.

A day holds the transactions that are dated on it, pending ones too, as `/transactions/get` gives them now: proved by
Plaid's own count, with those removed that Plaid no longer has. The present day also holds what `/transactions/sync`
tells on it since the saved cursor, whatever its date, so that a late change of an old day is never missed. Plaid's live
hosts are closed until the policy `plaid_production` is approved for them.
https://plaid.com/docs/api/products/transactions/
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from finance_os.evidence.extraction import Extraction, Request
from finance_os.sources.credentials import Credentials
from finance_os.sources.plaid.objects import (
    ACCESS_TOKEN,
    API_BASE_OPTION,
    API_VERSION,
    CLIENT_ID,
    ENABLED_OPTION,
    OBJECTS,
    RATE_LIMIT_OPTION,
    READS,
    SECRET,
)
from finance_os.sources.source import Cadence, EvidenceSource, Source, SourceObject


@contextmanager
def _open(credentials: Credentials) -> Iterator[Any]:
    from finance_os.sources.plaid.settings import read_settings

    settings = read_settings(credentials)  # before Plaid's library is imported, which takes a second

    from finance_os.sources.plaid.client import connect

    with connect(settings, credentials.kept, approved=credentials.approved) as reader:
        yield reader


def _extract(reader: Any, obj: SourceObject[Any], request: Request) -> Extraction:
    from finance_os.sources.plaid.reading import extract

    return extract(reader, obj, request)


PLAID = Source(
    system="plaid",
    title="Plaid sandbox",
    order=4,
    description="Feature-flagged sandbox-only read path for future production bank transaction sync.",
    cadence=Cadence.DAILY,
    sla=timedelta(days=7),
    credentials=(CLIENT_ID, SECRET, ACCESS_TOKEN),
    feature_flag=ENABLED_OPTION,
    options=(ENABLED_OPTION, API_BASE_OPTION, RATE_LIMIT_OPTION),
    reads=READS,
    read_scope="Sandbox only",
    cursor_strategy="Transactions sync cursor when production is approved; sandbox remains integration proof.",
    evidence_policy="Store Plaid account ID, transaction ID, pending/posted state, and payload hash.",
    objects=OBJECTS,
    open=_open,
    extract=_extract,
    api_version=API_VERSION,
    evidence=(
        EvidenceSource(
            "plaid_sandbox_snapshot", "Plaid sandbox", ("plaid_item", "plaid_account", "plaid_transaction"), 11
        ),
    ),
    trailing_days=14,  # pending transactions post within two weeks: https://plaid.com/docs/transactions/transactions-data/
)
