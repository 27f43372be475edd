"""Single values of a request: checked against their declaration and brought into QuickBooks' own form."""

from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from . import faults
from .entities import KINDS
from .fields import Field
from .formats import CURRENCIES, cents_of, currency_ref, number

if TYPE_CHECKING:
    from .realm import Realm

MAX_CENTS = 10**13


def value_of(realm: "Realm", declared: Field, name: str, value: Any) -> Any:
    """A property's value in QuickBooks' own form."""
    match declared.type:
        case "text":
            if not isinstance(value, str):
                raise faults.unsupported_property(name)
            if len(value) > declared.limit:
                raise faults.wrong_length(name, declared.limit, len(value))
            return value
        case "enum":
            if value not in (declared.values or tuple(CURRENCIES)):
                raise faults.invalid_enumeration(name, value)
            return value
        case "flag":
            if not isinstance(value, bool):
                raise faults.unsupported_property(name)
            return value
        case "date":
            try:
                return date.fromisoformat(value).isoformat()
            except (TypeError, ValueError):
                raise faults.unsupported_property(name) from None
        case "money":
            return number(cents(name, value))
        case "number":
            if isinstance(value, bool) or not isinstance(value, int | Decimal):
                raise faults.invalid_number(name, value)
            return value
        case "ref":
            return reference(realm, declared.targets, name, value)
        case "email":
            address = value.get("Address") if isinstance(value, dict) else None
            if not isinstance(address, str) or any("@" not in a or "." not in a for a in address.split(",")):
                raise faults.invalid_email()
            return {"Address": address}
        case "object":
            if not isinstance(value, dict):
                raise faults.unsupported_property(name)
            return value
        case "custom":
            if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
                raise faults.unsupported_property(name)
            return value
    raise ValueError(f"{name} is of no known type: {declared.type}")


def cents(name: str, value: Any) -> int:
    """Hundredths of an amount; Fault 2090 for more than two decimals, or more digits than QuickBooks keeps."""
    try:
        amount = cents_of(value)
    except ValueError:
        raise faults.invalid_number(name, value) from None
    if abs(amount) >= MAX_CENTS:
        raise faults.invalid_number(name, value)
    return amount


def reference(realm: "Realm", targets: tuple[str, ...], name: str, value: Any) -> dict[str, Any]:
    """`{"value": Id, "name": …}` of an active object, with its type where there is a choice; Fault 2500 otherwise."""
    key = value.get("value") if isinstance(value, dict) else None
    if not isinstance(key, str):
        raise faults.invalid_reference(name)
    if targets == ("CompanyCurrency",):
        if key not in realm.currencies():
            raise faults.invalid_reference(name, f"{key} is not a currency of this company.")
        return currency_ref(key)
    if len(targets) > 1:
        chosen = value.get("type")
        if chosen is not None and str(chosen).title() not in targets:
            raise faults.invalid_enumeration(f"{name}.type", chosen)
        targets = targets if chosen is None else (str(chosen).title(),)
    for target in targets:
        found = realm.find(target, key)
        if found is not None and found.fields.get("Active") is not False and not realm.is_hidden(target, key):
            shown = {"value": key}
            if found.name:
                shown["name"] = found.name
            return shown if KINDS[target].series != "name" or "type" not in value else {**shown, "type": target}
    raise faults.invalid_reference(name)
