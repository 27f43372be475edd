"""What QuickBooks Online answers to reads: queries, single objects, changes since a moment, exchange rates."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from . import faults
from .entities import BY_PATH
from .fields import Kind
from .formats import CURRENCIES, HOME, moment
from .query import page, parse, select
from .realm import Realm

CDC_DAYS = 30
CDC_OBJECTS = 1_000
_DAY = 86_400


def query(realm: Realm, statement: str) -> dict[str, Any]:
    """`{"QueryResponse": …}`: a page of objects with its position, or a count; an empty object where nothing fits.

    `totalCount` beside objects is that of the page; how many there are in all, only a `count(*)` says.
    """
    asked = parse(statement, realm.today())
    found = select(asked, (entry.body() for entry in realm.all(asked.kind.name)))
    if asked.count:
        return {"QueryResponse": {"totalCount": len(found)}}
    shown = page(asked, found)
    if not shown:
        return {"QueryResponse": {}}
    return {
        "QueryResponse": {
            asked.kind.name: shown,
            "startPosition": asked.start,
            "maxResults": len(shown),
            "totalCount": len(shown),
        }
    }


def one(realm: Realm, kind: Kind, key: str) -> dict[str, Any]:
    """An object by its Id, inactive ones included."""
    entry = realm.find(kind.name, key)
    if kind.name == "ExchangeRate":
        raise faults.unsupported_operation("read by Id of ExchangeRate")
    if entry is None:
        raise faults.not_found()
    return {kind.name: entry.body()}


def changes(realm: Realm, params: Mapping[str, str]) -> dict[str, Any]:
    """Everything of some entities that changed since a moment of the last 30 days, at most 1,000 objects.

    https://developer.intuit.com/app/developer/qbo/docs/learn/explore-the-quickbooks-online-api/change-data-capture
    By entity, in the order of their last change, deleted objects after the others; what exceeds 1,000 is cut off.
    """
    names = [name.strip() for name in params.get("entities", "").split(",")]
    if names == [""]:
        raise faults.missing("entities")
    text = params.get("changedSince")
    if not text:
        raise faults.missing("changedSince")
    try:
        since = moment(text)
    except ValueError:
        raise faults.unsupported_property("changedSince") from None
    if since < realm.now - CDC_DAYS * _DAY:
        raise faults.unsupported_operation(f"cdc with changedSince date {text} which is older than fixed days")
    answers: list[dict[str, Any]] = []
    room = CDC_OBJECTS
    for name in names:
        kind = BY_PATH.get(name.lower())
        if kind is None or not kind.changes_captured:
            raise faults.unsupported_operation(f"cdc of {name}")
        changed = sorted((e for e in realm.all(kind.name) if e.updated >= since), key=lambda e: e.updated)
        gone = sorted((g for g in realm.gone if g.kind is kind and g.at >= since), key=lambda g: g.at)
        bodies = [each.body() for each in (*changed, *gone)][:room]
        room -= len(bodies)
        if bodies:
            answers.append(
                {kind.name: bodies, "startPosition": 1, "maxResults": len(bodies), "totalCount": len(bodies)}
            )
        else:
            answers.append({})
    return {"CDCResponse": [{"QueryResponse": answers}]}


def exchange_rate(realm: Realm, params: Mapping[str, str]) -> dict[str, Any]:
    """A currency's rate on a day, today where none is named."""
    code = params.get("sourcecurrencycode", "")
    if not code:
        raise faults.missing("sourcecurrencycode")
    if code not in CURRENCIES or code not in realm.currencies():
        raise faults.invalid_enumeration("sourcecurrencycode", code)
    try:
        day = date.fromisoformat(params["asofdate"]) if "asofdate" in params else realm.today()
    except ValueError:
        raise faults.unsupported_property("asofdate") from None
    entry = realm.rate_entry(code, day.isoformat())
    if entry is None:
        return {
            "ExchangeRate": {
                "SourceCurrencyCode": code,
                "TargetCurrencyCode": HOME,
                "Rate": 1,
                "AsOfDate": day.isoformat(),
                "domain": "QBO",
                "sparse": False,
                "SyncToken": "0",
            }
        }
    return {"ExchangeRate": entry.body()}
