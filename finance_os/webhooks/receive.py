"""One delivery: whose it is, whether it is the vendor's, and what is kept of it before it is answered."""

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic

from finance_os.evidence.businesses import Connection, active_connections
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import SourceError
from finance_os.sources.approvals import ConnectionApprovals
from finance_os.sources.credentials import Credentials, CredentialsMissing, find_credentials
from finance_os.sources.plaid import PLAID
from finance_os.sources.quickbooks.objects import REALM_ID
from finance_os.webhooks import inbox
from finance_os.webhooks.events import SYSTEMS, UNREADABLE, Event, events_in
from finance_os.webhooks.plaid_keys import verify_plaid
from finance_os.webhooks.settings import QUICKBOOKS_VERIFIER, STRIPE_SECRET
from finance_os.webhooks.signatures import BadSignature, UnfitSecrets, secrets_of, verify_intuit, verify_stripe

_log = logging.getLogger(__name__)

SIGNATURE_HEADERS = {"stripe": "stripe-signature", "quickbooks": "intuit-signature", "plaid": "plaid-verification"}

SECRETS: Mapping[str, tuple[str, ...]] = {
    "stripe": (STRIPE_SECRET,),
    "quickbooks": (QUICKBOOKS_VERIFIER,),
    "plaid": PLAID.credentials,
}
"""What a connection's place has to hold for its webhooks to be verified, by source system."""


REMEMBERED_SECONDS = 5.0
"""How long a connection is not looked up again: one that is made inactive takes no deliveries after this time."""

_found: dict[tuple[str, str, str, int], tuple[float, Connection]] = {}
"""Connections that were found, and until when that counts; there are no more of them than connections."""


@dataclass(frozen=True)
class Accepted:
    """A delivery that was kept: how many of its events are new, were known, or belong to no connection here."""

    stored: int
    known: int
    unknown_realm: int = 0


class Refused(Exception):
    """A delivery that is not kept. `status` is the HTTP status, `reason` the code that was counted."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def find_connection(database: Database, business_id: str, source_system: str, connection_id: int) -> Connection:
    """Whose delivery it is. Raises `Refused`, 404, for an address that leads to no active connection.

    One that was found is remembered for some seconds.
    """
    key = database.url, business_id, source_system, connection_id
    until, found = _found.get(key, (0.0, None))
    if found is not None and monotonic() < until:
        return found
    found = None
    if source_system in SYSTEMS:
        found = inbox.connection_named(database, business_id, source_system, connection_id)
    if found is None:
        _found.pop(key, None)
        inbox.count_refusal(database, None, "unknown_connection")
        raise Refused(404, "unknown_connection")
    _found[key] = monotonic() + REMEMBERED_SECONDS, found
    return found


def refuse(database: Database, connection: Connection, status: int, reason: str) -> Refused:
    """Count a refusal, and give what is to be raised."""
    inbox.count_refusal(database, connection, reason)
    _log.warning("webhook refused connection=%s reason=%s", connection.connection_id, reason)
    return Refused(status, reason)


def receive(database: Database, connection: Connection, header: str | None, body: bytes) -> Accepted:
    """Verify a delivery and keep its events; what is returned is durable.

    Raises `Refused`: 400 for a signature that is wrong or too old, 503 where it cannot be verified now (secrets that
    are not set, a secret store or Plaid that does not answer), so that the vendor sends it again.
    """
    try:
        _verify(database, connection, header, body)
    except BadSignature as bad:
        raise refuse(database, connection, 400, bad.reason) from None
    except (CredentialsMissing, UnfitSecrets, ValueError):
        raise refuse(database, connection, 503, "secret_not_set") from None
    except SourceError as error:
        raise refuse(database, connection, 503, error.code) from None
    events = events_in(connection.source_system, body)
    owned, strangers = _owned(database, connection, header, body, events)
    if strangers:
        inbox.count_refusal(database, connection, "unknown_realm", strangers)
    stored = inbox.store(database, connection, body, owned)
    _log.info(
        "webhook kept connection=%s new=%s known=%s unknown_realm=%s",
        connection.connection_id,
        stored.new,
        stored.known,
        strangers,
    )
    return Accepted(stored.new, stored.known, strangers)


def _verify(database: Database, connection: Connection, header: str | None, body: bytes) -> None:
    credentials = _credentials(database, connection)
    if connection.source_system == "stripe":
        verify_stripe(body, header, secrets_of(credentials[STRIPE_SECRET]))
    elif connection.source_system == "quickbooks":
        verify_intuit(body, header, secrets_of(credentials[QUICKBOOKS_VERIFIER]))
    else:
        verify_plaid(body, header, connection.connection_id, credentials)


def _credentials(database: Database, connection: Connection) -> Credentials:
    """The secrets of a connection's webhooks, out of its own place only: another business's would let it in here."""
    system = connection.source_system
    return find_credentials(
        connection.secret_reference,
        SECRETS[system],
        PLAID.options if system == "plaid" else (),
        approvals=ConnectionApprovals(database, connection),
        environment=os.environ,
    )


def has_secrets(database: Database, connection: Connection) -> bool:
    """Whether webhooks are expected of a connection: what they are verified with is set."""
    try:
        _credentials(database, connection)
    except (CredentialsMissing, ValueError, SourceError):
        return False
    return True


def _owned(
    database: Database, sent_to: Connection, header: str | None, body: bytes, events: list[Event]
) -> tuple[list[tuple[Connection, Event]], int]:
    """Each event with its connection, and how many have none.

    QuickBooks sends the events of every company that an app is connected to, to one address: each belongs to the
    active connection to its realm, of whichever business, if that connection's own verifier token fits too.
    """
    realms = {event.realm for event in events if event.type != UNREADABLE and event.realm is not None}
    if sent_to.source_system != "quickbooks" or not realms:
        return [(sent_to, event) for event in events], 0
    owners: dict[str, list[Connection]] = {realm: [] for realm in realms}
    unsure: SourceError | None = None
    others = [each for each in active_connections(database, "quickbooks") if each != sent_to]
    for each in (sent_to, *others):
        try:
            realm = find_credentials(each.secret_reference, (REALM_ID,))[REALM_ID]
            if realm not in realms:
                continue
            _verify(database, each, header, body)
        except SourceError as error:
            unsure = unsure if error.permanent else error
            continue
        except (CredentialsMissing, UnfitSecrets, BadSignature, ValueError):
            continue
        owners[realm].append(each)
    if unsure is not None and not all(owners.values()):
        raise refuse(database, sent_to, 503, unsure.code)
    owned = [
        (owner, event) for event in events for owner in (owners[event.realm] if event.realm is not None else [sent_to])
    ]
    strangers = sum(event.realm is not None and not owners[event.realm] for event in events)
    return owned, strangers
