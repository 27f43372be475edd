"""Whether QuickBooks holds what was planned, field by field; what people changed there is told, and never undone.

What is compared is what was sent: references by their IDs, amounts as exact numbers, whatever the number of decimals
they are written with. What QuickBooks adds (IDs and numbers of lines, the sub-total line, names beside IDs, balances)
and what people add beside it is not.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeGuard

from finance_os.evidence.database import Database
from finance_os.evidence.extraction import Finding, Severity
from finance_os.observability import happened
from finance_os.stripe_qbo import findings, links, states
from finance_os.stripe_qbo.client import QuickBooksWriter
from finance_os.stripe_qbo.intent import LinkKey
from finance_os.stripe_qbo.links import Link
from finance_os.stripe_qbo.lookup import ENTITIES, is_void
from finance_os.stripe_qbo.states import Expected

_NOT_COMPARED = frozenset(("Id", "SyncToken", "sparse", "MetaData", "domain"))
_REFERENCE = frozenset(("value", "name", "type"))
_CHUNK = 100


@dataclass(frozen=True)
class Difference:
    """A property that is not as planned. `path` is such as `Line.0.Amount`.

    `planned` and `held` tell amounts, dates, flags and IDs; of texts, which may be personal, only that there is one.
    """

    path: str
    planned: str
    held: str

    def __str__(self) -> str:
        return f"{self.path} is {self.held}, not {self.planned}"


@dataclass
class Verified:
    """What verifying found: how many links QuickBooks shows as planned, and which it does not.

    `unsettled` were being written meanwhile; the next look tells.
    """

    as_planned: int = 0
    adopted: int = 0
    unsettled: int = 0
    findings: list[Finding] = field(default_factory=list)


def differences(planned: Mapping[str, Any], held: Mapping[str, Any]) -> list[Difference]:
    """Where an object in QuickBooks is not as it was sent, in the order of what was sent."""
    return [
        each
        for name, value in planned.items()
        if name not in _NOT_COMPARED
        for each in _compare(name, value, held.get(name))
    ]


def differs(expected: Expected, held: Mapping[str, Any]) -> list[Difference]:
    """Where a linked object is not what the applied intents made of it."""
    if expected.is_void:
        return [] if is_void(held) else [Difference("TotalAmt", "void", _told(held.get("TotalAmt")))]
    return differences(expected.fields, held)


def listed(found: list[Difference]) -> str:
    """Differences as a sentence has them: the first few, and how many more."""
    return "; ".join(map(str, found[:5])) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")


def changed_by_hand(link: Link, day: date, found: list[Difference]) -> Finding:
    """The finding that somebody changed a linked object; names what differs, and no text of it."""
    return Finding(
        "qbo_object_changed",
        Severity.HIGH,
        str(link.key),
        day,
        f"{link.entity} {link.qbo_id} was changed in QuickBooks: {listed(found)}. Nothing is written over it: put it "
        "right there, or have the change planned.",
    )


def gone(link: Link, day: date) -> Finding:
    """The finding that a linked object is not in QuickBooks any more."""
    return Finding(
        "qbo_object_missing",
        Severity.CRITICAL,
        str(link.key),
        day,
        f"{link.entity} {link.qbo_id} is not in QuickBooks any more. It is not made again: restore it there, or decide "
        "what is to stand for it.",
    )


def verify(
    database: Database,
    client: QuickBooksWriter,
    business_id: str,
    realm: str,
    among: Collection[LinkKey] | None = None,
) -> Verified:
    """Read every linked object of a business, or those of the keys `among`, and compare it with what its intents made
    of it.

    A hundred objects a request. Findings are opened, and those that are not true any more resolved. Raises
    `QuickBooksFailure`.
    """
    _require_realm(client, realm)
    verified = Verified()
    known: dict[str, list[Link]] = {}
    for link in links.links(database, business_id, realm).values():
        if among is not None and link.key not in among:
            continue
        known.setdefault(link.entity, []).append(link)
    for entity, linked in sorted(known.items()):
        for at in range(0, len(linked), _CHUNK):
            chunk = linked[at : at + _CHUNK]
            held = {str(each["Id"]): each for each in client.among(ENTITIES[entity], [each.qbo_id for each in chunk])}
            _judge(database, business_id, realm, chunk, held, verified)
    with database.transaction() as connection:
        looked_at = None if among is None else [str(key) for key in among]
        findings.settle(connection, business_id, findings.VERIFY, verified.findings, looked_at)
    counts = {name: getattr(verified, name) for name in ("as_planned", "adopted", "unsettled")}
    happened.links_verified(business_id, {**counts, "differing": len(verified.findings)})
    return verified


def _judge(
    database: Database,
    business_id: str,
    realm: str,
    chunk: list[Link],
    held: Mapping[str, Mapping[str, Any]],
    verified: Verified,
) -> None:
    with database.transaction() as connection:
        expected = states.expected(connection, business_id, realm, [str(link.key) for link in chunk])
        days = states.dated(connection, business_id, realm, [str(link.key) for link in chunk])
        for link in chunk:
            day = days.get(str(link.key), link.linked_at.date())
            shown = held.get(link.qbo_id)
            planned = expected.get(str(link.key))
            found = [] if shown is None or planned is None else differs(planned, shown)
            is_as_planned = shown is not None and planned is not None and not found
            # Who has written to it since it was read, or is about to, has made it look otherwise than expected: that
            # version was not judged, and does not become the known one.
            is_unsettled = (found or shown is None) and states.unsettled(connection, business_id, realm, link.key)
            token = link.sync_token if shown is None or is_unsettled else str(shown["SyncToken"])
            if not links.seen(connection, business_id, realm, link, token, as_planned=is_as_planned) or is_unsettled:
                verified.unsettled += 1
            elif shown is None:
                verified.findings.append(gone(link, day))
            elif found:
                verified.findings.append(changed_by_hand(link, day, found))
            elif planned is None:
                verified.adopted += 1
            else:
                verified.as_planned += 1


def _require_realm(client: QuickBooksWriter, realm: str) -> None:
    if client.realm != realm:
        raise ValueError(f"the client is that of realm {client.realm}, not of {realm}")


def _compare(path: str, planned: Any, held: Any) -> Iterator[Difference]:
    if isinstance(planned, Mapping):
        shown = held if isinstance(held, Mapping) else {}
        if "value" in planned and planned.keys() <= _REFERENCE:
            if planned["value"] != shown.get("value"):
                yield Difference(path, f"ID {planned['value']}", f"ID {shown.get('value', 'none')}")
            return
        for name, value in planned.items():
            yield from _compare(f"{path}.{name}", value, shown.get(name))
    elif isinstance(planned, list | tuple):
        shown = held if isinstance(held, list) else []
        if not any(_is_subtotal(line) for line in planned):
            shown = [line for line in shown if not _is_subtotal(line)]
        if len(planned) != len(shown):
            yield Difference(path, f"{len(planned)} of them", f"{len(shown)} of them")
            return
        for position, (one, other) in enumerate(zip(planned, shown, strict=True)):
            yield from _compare(f"{path}.{position}", one, other)
    elif _is_number(planned) and _is_number(held):
        if Decimal(planned) != Decimal(held):
            yield Difference(path, _told(planned), _told(held))
    elif type(planned) is not type(held) or planned != held:
        yield Difference(path, _told(planned), _told(held))


def _is_subtotal(line: Any) -> bool:
    return isinstance(line, Mapping) and line.get("DetailType") == "SubTotalLineDetail"


def _is_number(value: Any) -> TypeGuard[int | Decimal]:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def _told(value: Any) -> str:
    """A value as it may be shown: of texts only dates and IDs."""
    if value is None:
        return "missing"
    if not isinstance(value, str):
        return str(value) if _is_number(value) or isinstance(value, bool) else "something else"
    try:
        return datetime.strptime(value, "%Y-%m-%d").date().isoformat()
    except ValueError:
        return value if value.isascii() and value.isdigit() else "another text"
