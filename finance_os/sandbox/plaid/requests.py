"""What each endpoint's JSON body may hold, and the refusal of anything else.

Fields, types and limits are those of Plaid's OpenAPI description (the models of plaid-python 46).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

import msgspec

from . import errors

Check = Callable[[str, Any], Any]
"""Gives a field's value, or raises INVALID_FIELD; it is told the field's dotted name."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The fields of a JSON object and which of them must be there."""

    fields: Mapping[str, Check]
    required: tuple[str, ...] = ()

    def __call__(self, name: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise errors.invalid_field(f"{name} must be an object")
        return {key: self.fields[key](f"{name}.{key}" if name else key, each) for key, each in value.items()}

    def unknown(self, value: Any, prefix: str = "") -> list[str]:
        """Dotted names of everything in `value` that the shape does not have."""
        found: list[str] = []
        for key, each in value.items() if isinstance(value, dict) else ():
            inner = self.fields.get(key)
            if inner is None:
                found.append(prefix + key)
            elif isinstance(inner, Shape):
                found += inner.unknown(each, f"{prefix}{key}.")
        return found


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise errors.invalid_field(f"{name} must be a non-empty string")
    return value


def _cursor(name: str, value: Any) -> str:
    """Null and an empty string mean the same as no cursor: from the beginning."""
    if value is not None and not isinstance(value, str):
        raise errors.invalid_field(f"{name} must be a string")
    return value or ""


def _address(name: str, value: Any) -> str | None:
    """A URL; null and an empty string mean none."""
    if value is None or value == "":
        return None
    if not isinstance(value, str) or not value.startswith(("http://", "https://")):
        raise errors.invalid_field(f"{name} must be a valid URL")
    return value


def _flag(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise errors.invalid_field(f"{name} must be a boolean")
    return value


def _nullable_flag(name: str, value: Any) -> bool:
    return value is not None and _flag(name, value)


def _whole(least: int, most: int | None = None) -> Check:
    def check(name: str, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise errors.invalid_field(f"{name} must be an integer")
        if value < least:
            raise errors.invalid_field(f"{name} must be greater than or equal to {least}")
        if most is not None and value > most:
            raise errors.invalid_field(f"{name} must be less than or equal to {most}")
        return value

    return check


def _day(name: str, value: Any) -> date:
    try:
        if isinstance(value, str) and len(value) == 10:
            return date.fromisoformat(value)
    except ValueError:
        pass
    raise errors.invalid_field(f"{name} must be a date in the format YYYY-MM-DD")


def _texts(name: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise errors.invalid_field(f"{name} must be an array of strings")
    return [_text(f"{name}[{number}]", each) for number, each in enumerate(value)]


def _one_of(*allowed: str) -> Check:
    def check(name: str, value: Any) -> str:
        if value not in allowed:
            raise errors.invalid_field(f"{name} must be one of {', '.join(allowed)}")
        return value

    return check


_DESCRIBED: dict[str, Check] = {
    "include_original_description": _nullable_flag,
    "include_personal_finance_category": _flag,
    "include_logo_and_counterparty_beta": _flag,
    "personal_finance_category_version": _one_of("v1", "v2"),
    "days_requested": _whole(1, 730),
}
_KEYS: dict[str, Check] = {"client_id": _text, "secret": _text}
_ITEM: dict[str, Check] = {**_KEYS, "access_token": _text}

SHAPES: dict[str, Shape] = {
    "/transactions/sync": Shape(
        {
            **_ITEM,
            "cursor": _cursor,
            "count": _whole(1, 500),
            "options": Shape({**_DESCRIBED, "account_id": _text}),
        },
        ("access_token",),
    ),
    "/transactions/get": Shape(
        {
            **_ITEM,
            "start_date": _day,
            "end_date": _day,
            "options": Shape(
                {
                    **_DESCRIBED,
                    "include_personal_finance_category_beta": _flag,
                    "account_ids": _texts,
                    "count": _whole(1, 500),
                    "offset": _whole(0),
                }
            ),
        },
        ("access_token", "start_date", "end_date"),
    ),
    "/item/get": Shape(_ITEM, ("access_token",)),
    "/item/remove": Shape({**_ITEM, "reason_code": _text, "reason_note": _text}, ("access_token",)),
    "/accounts/get": Shape({**_ITEM, "options": Shape({"account_ids": _texts})}, ("access_token",)),
    "/institutions/get_by_id": Shape(
        {
            **_KEYS,
            "institution_id": _text,
            "country_codes": _texts,
            "options": Shape(
                {
                    "include_optional_metadata": _flag,
                    "include_status": _flag,
                    "include_auth_metadata": _flag,
                    "include_payment_initiation_metadata": _flag,
                }
            ),
        },
        ("institution_id", "country_codes"),
    ),
    "/sandbox/public_token/create": Shape(
        {
            **_KEYS,
            "institution_id": _text,
            "initial_products": _texts,
            "options": Shape({"webhook": _text, "override_username": _text, "override_password": _text}),
        },
        ("institution_id", "initial_products"),
    ),
    "/item/public_token/exchange": Shape({**_KEYS, "public_token": _text}, ("public_token",)),
    "/item/webhook/update": Shape({**_ITEM, "webhook": _address}, ("access_token",)),
    "/webhook_verification_key/get": Shape({**_KEYS, "key_id": _text}, ("key_id",)),
    "/sandbox/item/fire_webhook": Shape(
        {
            **_ITEM,
            "webhook_type": _one_of("TRANSACTIONS", "ITEM"),
            "webhook_code": _one_of("SYNC_UPDATES_AVAILABLE", "DEFAULT_UPDATE", "ERROR", "LOGIN_REPAIRED"),
        },
        ("access_token", "webhook_code"),
    ),
}


def read(path: str, content_type: str, body: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
    """The checked fields of a request to `path`, with `client_id` and `secret` from the body or the headers.

    PlaidFault: not JSON, then fields that are unknown, missing or of a wrong type.
    """
    try:
        asked = msgspec.json.decode(body)
    except msgspec.DecodeError:
        raise errors.invalid_body() from None
    if content_type.split(";")[0].strip().lower() != "application/json" or not isinstance(asked, dict):
        raise errors.invalid_body()
    shape = SHAPES[path]
    if unknown := shape.unknown(asked):
        raise errors.unknown_fields(unknown)
    for name, header in (("client_id", "plaid-client-id"), ("secret", "plaid-secret")):
        if name not in asked and headers.get(header):
            asked[name] = headers[header]
    if missing := [name for name in ("client_id", "secret", *shape.required) if name not in asked]:
        raise errors.missing_fields(missing)
    return shape("", asked)
