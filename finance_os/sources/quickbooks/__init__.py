"""QuickBooks Online: the company's books, read by OAuth 2.

A query tells what changed last in a window, proved by QuickBooks' own count of it; what was deleted is told by change
data capture, which QuickBooks keeps for 30 days. An object shows its last change only: one that changed on two days
is found on the second of them, unless the first was read before.
https://developer.intuit.com/app/developer/qbo/docs/learn/explore-the-quickbooks-online-api
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from finance_os.evidence.extraction import Extraction, Request
from finance_os.sources.credentials import Credentials
from finance_os.sources.quickbooks.objects import (
    API_BASE_OPTION,
    CLIENT_ID,
    CLIENT_SECRET,
    DISCOVERY_URL_OPTION,
    MINOR_VERSION,
    MONTHLY_CALLS_OPTION,
    OBJECTS,
    RATE_LIMIT_OPTION,
    READS,
    REALM_ID,
    REFRESH_TOKEN,
)
from finance_os.sources.source import Cadence, EvidenceSource, Source, SourceObject


@contextmanager
def _open(credentials: Credentials) -> Iterator[Any]:
    from finance_os.sources.quickbooks.client import connect  # HTTP libraries, only needed to read

    with connect(credentials) as reader:
        yield reader


def _extract(reader: Any, obj: SourceObject[Any], request: Request) -> Extraction:
    from finance_os.sources.quickbooks.reading import extract

    return extract(reader, obj, request)


QUICKBOOKS = Source(
    system="quickbooks",
    title="QuickBooks sandbox",
    order=2,
    description="The company's books: chart of accounts, customers, vendors and every transaction.",
    cadence=Cadence.DAILY,
    sla=timedelta(days=1),
    credentials=(CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN, REALM_ID),
    options=(API_BASE_OPTION, DISCOVERY_URL_OPTION, MONTHLY_CALLS_OPTION, RATE_LIMIT_OPTION),
    reads=READS,
    read_scope="Sandbox OAuth read-only API access",
    cursor_strategy="CDC/time-window reads where supported; otherwise scheduled snapshots with cursor metadata.",
    evidence_policy="Preserve QBO entity ID, sync token, last updated timestamp, and raw accounting payload.",
    objects=OBJECTS,
    open=_open,
    extract=_extract,
    api_version=MINOR_VERSION,
    kinds=("quickbooks",),
    evidence=(
        EvidenceSource(
            "accounting_snapshot", "QuickBooks sandbox", tuple(obj.object_type for obj in OBJECTS if obj.label), 3
        ),
    ),
)
