"""What Plaid, or the way to it, answered instead of data, as errors with codes to act on.

Errors name what was asked, the status, Plaid's error type and code, and its request ID; nothing else of what Plaid
wrote. https://plaid.com/docs/errors/
"""

import re
from collections.abc import Mapping
from typing import Any

from finance_os.evidence.canonical import Uncanonical, decode
from finance_os.evidence.extraction import SourceError
from finance_os.sources.plaid.objects import ACCESS_TOKEN, CLIENT_ID, SECRET
from finance_os.sources.plaid.policy import require_allowed

MUTATION = "TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION"
INVALID_FIELD = "INVALID_FIELD"

_WORD = re.compile(r"[A-Za-z0-9_-]{1,64}")
_LOST = "the bank or its user has withdrawn what Plaid was allowed: restore the item with Link's update mode"
_PERMANENT = {
    "INVALID_API_KEYS": ("unauthorized", f"{CLIENT_ID} or {SECRET} is wrong"),
    "INVALID_ACCESS_TOKEN": ("unauthorized", f"{ACCESS_TOKEN} is not known to Plaid: set it to the item's token"),
    "UNAUTHORIZED_ENVIRONMENT": ("forbidden", "the keys may not be used in this environment"),
    "ITEM_LOGIN_REQUIRED": ("authorization_expired", _LOST),
    "ACCESS_NOT_GRANTED": ("authorization_expired", _LOST),
    "USER_PERMISSION_REVOKED": ("authorization_expired", _LOST),
    "ITEM_NOT_FOUND": ("authorization_expired", f"the item was removed: link it again and set {ACCESS_TOKEN}"),
}
_LATER = frozenset({"API_ERROR", "INSTITUTION_ERROR"})


class PlaidFailure(SourceError):
    """An answer that is no data.

    Codes: `rate_limited`, `vendor_error` (Plaid's or the bank's), `not_ready` (Plaid has not fetched everything yet),
    `timeout`, `unreachable`, `unreadable_answer`, and permanent ones: `unauthorized`, `authorization_expired`,
    `forbidden`, `redirect_refused`, `invalid_request` (any other; the message names Plaid's code). `reason` is
    Plaid's error code, `retry_after` how many seconds to wait where Plaid says so.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        permanent: bool = False,
        reason: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(code, message, permanent=permanent)
        self.reason = reason
        self.retry_after = retry_after


class Unreadable(PlaidFailure):
    """An answer that is not what was asked for: cut off, repeated, or of another shape."""

    def __init__(self, what: str, fault: str) -> None:
        super().__init__("unreadable_answer", f"{what}: {fault}")


def not_ready(what: str, reason: str) -> PlaidFailure:
    """Plaid is still fetching the item's history from the bank; what it shows by now is not all."""
    return PlaidFailure("not_ready", f"{what}: Plaid has not fetched everything yet ({reason})", reason=reason)


def failure_of(what: str, status: int, headers: Mapping[str, str], body: bytes | str) -> SourceError:
    """What an answer other than 200 means; `what` says what was asked."""
    if 300 <= status < 400:
        return _redirect(what, status, headers.get("location", ""))
    try:
        answer = decode(body)
    except Uncanonical:
        answer = None
    kind, reason, request_id = (_word(answer, name) for name in ("error_type", "error_code", "request_id"))
    said = f"{what}: Plaid answered {status}"
    for name, value in (("type", kind), ("code", reason), ("request ID", request_id)):
        said += f", {name} {value}" if value else ""
    if status == 429 or kind == "RATE_LIMIT_EXCEEDED":
        return PlaidFailure("rate_limited", said, reason=reason, retry_after=_seconds(headers.get("retry-after")))
    if reason == "PRODUCT_NOT_READY":
        return not_ready(what, reason)
    if reason in _PERMANENT:
        code, advice = _PERMANENT[reason]
        return PlaidFailure(code, f"{said}: {advice}", permanent=True, reason=reason)
    if status == 403:
        return PlaidFailure("forbidden", said, permanent=True, reason=reason)
    if status >= 500 or kind in _LATER:
        return PlaidFailure("vendor_error", said, reason=reason, retry_after=_seconds(headers.get("retry-after")))
    if status == 401:
        return PlaidFailure("unauthorized", said, permanent=True, reason=reason)
    return PlaidFailure("invalid_request", said, permanent=True, reason=reason)


def _redirect(what: str, status: int, location: str) -> SourceError:
    """Redirects are never followed; one that leads to another Plaid than the sandbox is called what it is."""
    try:
        require_allowed(location)
    except SourceError as error:
        return error
    except ValueError:
        pass  # no URL at all: as refused as any other
    return PlaidFailure(
        "redirect_refused",
        f"{what}: Plaid answered {status} and leads elsewhere, which is not followed",
        permanent=True,
    )


def _word(answer: Any, name: str) -> str | None:
    value = answer.get(name) if isinstance(answer, Mapping) else None
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def _seconds(header: str | None) -> float | None:
    """A Retry-After header in whole seconds."""
    return float(header) if header is not None and re.fullmatch(r"[0-9]{1,6}", header) else None
