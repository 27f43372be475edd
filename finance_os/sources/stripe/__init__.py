"""Stripe: billing evidence, read with a restricted key.

Lists filter by creation time only. What changed later is found in the event log, which Stripe keeps for 30 days; an
older window therefore holds what was created in it, and its sync run says so. https://docs.stripe.com/api/events

A targeted read takes single objects by ID, and whole lists of what belongs to one (`belonging`). Balance transactions
have no events: those that an object names or an automatic payout has paid out are read with it; Stripe's own fees and
adjustments come with the daily read, and webhooks alone lack the latest of them until their day has been read.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from finance_os.evidence.extraction import Extraction, Request
from finance_os.sources.credentials import Credentials
from finance_os.sources.source import Cadence, EvidenceSource, Source, SourceObject
from finance_os.sources.stripe.objects import API_BASE_OPTION, API_KEY, API_VERSION, OBJECTS, RATE_LIMIT_OPTION, READS


@contextmanager
def _open(credentials: Credentials) -> Iterator[Any]:
    from finance_os.sources.stripe.client import connect  # the SDK: slow to import, and only needed to read

    with connect(credentials) as reader:
        yield reader


def _extract(reader: Any, obj: SourceObject[Any], request: Request) -> Extraction:
    from finance_os.sources.stripe.reading import extract

    return extract(reader, obj, request)


STRIPE = Source(
    system="stripe",
    title="Stripe",
    order=1,
    description="Customers, invoices, payments, credits, fees and payouts of the account that bills the advertisers.",
    cadence=Cadence.DAILY,
    sla=timedelta(days=1),
    credentials=(API_KEY,),
    options=(API_BASE_OPTION, RATE_LIMIT_OPTION),
    reads=READS,
    cursor_strategy="Created/updated timestamp windows plus Stripe object IDs for replay.",
    evidence_policy="Store raw payload hash, source object ID, API version, and sync run ID before downstream use.",
    objects=OBJECTS,
    open=_open,
    extract=_extract,
    api_version=API_VERSION,
    kinds=("stripe",),
    read_scope="Read permissions of a restricted key; GET requests only.",
    evidence=(EvidenceSource("billing_snapshot", "Stripe", tuple(obj.object_type for obj in OBJECTS if obj.label), 2),),
)
