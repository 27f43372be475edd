"""One delivery: whose it is, whether it is the vendor's, and what is kept of it before it is answered."""

import logging
import os
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from time import monotonic

from finance_os.evidence.businesses import Connection, active_connections
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import SourceError
from finance_os.observability import happened
from finance_os.sources.approvals import ConnectionApprovals
from finance_os.sources.credentials import Credentials, CredentialsMissing, find_credentials
from finance_os.sources.plaid import PLAID
from finance_os.sources.quickbooks.objects import REALM_ID
from finance_os.webhooks import inbox
from finance_os.webhooks.events import UNREADABLE, Event, events_in, signed_at
from finance_os.webhooks.plaid_keys import key_id_in, verify_plaid
from finance_os.webhooks.settings import QUICKBOOKS_VERIFIER, STRIPE_SECRET
from finance_os.webhooks.signatures import BadSignature, UnfitSecrets, secrets_of, verify_intuit, verify_stripe
from finance_os.webhooks.storing import Delivery, Stored

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
    """A delivery that is not kept.

    `status` is the HTTP status, `reason` the code that is counted for the connection; `said` is what is answered, the
    same unless that would tell too much. It counts `times`.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        connection: Connection | None = None,
        said: str | None = None,
        times: int = 1,
    ) -> None:
        super().__init__(reason)
        self.times = times
        self.status = status
        self.reason = reason
        self.connection = connection
        self.said = said or reason


@dataclass(frozen=True)
class Verified:
    """A delivery that is the vendor's. `strangers` are events that belong to no connection here; `came` is when it came
    (`monotonic`)."""

    delivery: Delivery
    strangers: int
    came: float


def remembered_connection(
    database: Database, business_id: str, source_system: str, connection_id: int
) -> Connection | None:
    """Whose delivery it is, if it was found some seconds ago; asks nobody."""
    until, found = _found.get((database.url, business_id, source_system, connection_id), (0.0, None))
    return found if monotonic() < until else None


def find_connection(database: Database, business_id: str, source_system: str, connection_id: int) -> Connection | None:
    """The active connection that an address leads to, remembered for some seconds; `None` if there is none."""
    key = database.url, business_id, source_system, connection_id
    found = inbox.connection_named(database, business_id, source_system, connection_id)
    if found is None:
        _found.pop(key, None)
    else:
        _found[key] = monotonic() + REMEMBERED_SECONDS, found
    return found


def stranger(source_system: str, header: str | None, body: bytes) -> Refused:
    """What is answered where an address leads to no connection: what anybody gets who cannot sign.

    Which businesses and connections there are is not to be learned from the answers.
    """
    nobodys = secrets.token_hex(32)
    said = "signature_wrong"
    try:
        if source_system == "stripe":
            verify_stripe(body, header, [nobodys])
        elif source_system == "quickbooks":
            verify_intuit(body, header, [nobodys])
        else:
            key_id_in(header)
    except BadSignature as bad:
        said = bad.reason
    return Refused(400, "unknown_connection", None, said)


def count_refusals(database: Database, refused: Sequence[Refused]) -> list[None]:
    """Count requests that were refused, and say so: nothing of what they held is kept."""
    counted: Counter[tuple[Connection | None, str]] = Counter()
    for each in refused:
        counted[each.connection, each.reason] += each.times
    with database.transaction() as opened:
        # In the order in which everybody takes them: no two of these transactions wait for each other.
        for connection, reason in sorted(counted, key=lambda key: (key[0].connection_id if key[0] else 0, key[1])):
            inbox.count_refusal(opened, connection, reason, counted[connection, reason])
    for each in refused:
        if each.status == 200:  # the delivery was kept, and tells of its strangers itself
            continue
        of = each.connection
        happened.delivery_refused(each.reason, *((of.business_id, of.source_system) if of is not None else ()))
    for (connection, reason), times in counted.items():
        if connection is not None:
            _log.warning("webhook refused connection=%s reason=%s times=%s", connection.connection_id, reason, times)
    return [None] * len(refused)


def verified(database: Database, connection: Connection, header: str | None, body: bytes) -> Verified:
    """Verify a delivery and take it apart; nothing is kept yet.

    Raises `Refused`: 400 for a signature that is wrong or too old, 503 where it cannot be verified now (secrets that
    are not set, a secret store or Plaid that does not answer), so that the vendor sends it again.
    """
    came = monotonic()
    try:
        moment = _verify(database, connection, header, body)
    except BadSignature as bad:
        raise Refused(400, bad.reason, connection) from None
    except (CredentialsMissing, UnfitSecrets, ValueError):
        raise Refused(503, "secret_not_set", connection) from None
    except SourceError as error:
        raise Refused(503, error.code, connection) from None
    events = events_in(connection.source_system, body)
    if moment is not None:
        events = [signed_at(event, moment) for event in events]
    owned, strangers = _owned(database, connection, header, body, events)
    return Verified(Delivery(connection, body, owned), strangers, came)


def accepted(of: Verified, stored: Stored) -> Accepted:
    """What is answered of a delivery that was stored, and told of it."""
    connection = of.delivery.sent_to
    _log.info(
        "webhook kept connection=%s new=%s known=%s unknown_realm=%s",
        connection.connection_id,
        stored.new,
        stored.known,
        of.strangers,
        extra={"event_keys": [event.key for _, event in of.delivery.events[:20]]},
    )
    counts = {"new": stored.new, "known": stored.known, "unknown_realm": of.strangers}
    happened.delivery_kept(connection.business_id, connection.source_system, monotonic() - of.came, counts)
    return Accepted(stored.new, stored.known, of.strangers)


def _verify(database: Database, connection: Connection, header: str | None, body: bytes) -> int | None:
    """Raise `BadSignature` unless it is the vendor's. When it was signed, where that tells two equal bodies apart."""
    credentials = _credentials(database, connection)
    if connection.source_system == "stripe":
        verify_stripe(body, header, secrets_of(credentials[STRIPE_SECRET]))
    elif connection.source_system == "quickbooks":
        verify_intuit(body, header, secrets_of(credentials[QUICKBOOKS_VERIFIER]))
    else:
        return verify_plaid(body, header, connection.connection_id, credentials)
    return None


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
        raise Refused(503, unsure.code, sent_to)
    owned = [
        (owner, event) for event in events for owner in (owners[event.realm] if event.realm is not None else [sent_to])
    ]
    strangers = sum(event.realm is not None and not owners[event.realm] for event in events)
    return owned, strangers
