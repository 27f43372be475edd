"""What QuickBooks, or the way to it, answered instead of data, as errors with codes to act on.

Errors name what was asked, the status, QuickBooks' own fault code and type, and its transaction ID (`intuit_tid`);
nothing else of what Intuit wrote, which may hold names.
https://developer.intuit.com/app/developer/qbo/docs/develop/troubleshooting/error-codes
"""

import re
from collections.abc import Mapping
from typing import Any

from finance_os.evidence.canonical import Uncanonical, decode
from finance_os.evidence.extraction import SourceError

_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class QuickBooksFailure(SourceError):
    """An answer that is no data.

    Codes: `rate_limited`, `vendor_error`, `timeout`, `unreachable`, `unreadable_answer`, and permanent ones:
    `unauthorized` (the token is not accepted), `authorization_expired` (no new token can be had), `forbidden`,
    `missing` (there is no such object), `invalid_request` (any other fault; the message names its code).
    `retry_after` is how many seconds to wait, where Intuit says so.
    """

    def __init__(self, code: str, message: str, *, permanent: bool = False, retry_after: float | None = None) -> None:
        super().__init__(code, message, permanent=permanent)
        self.retry_after = retry_after


class Unreadable(QuickBooksFailure):
    """An answer that is not what was asked for: cut off, of another shape, or with other objects."""

    def __init__(self, what: str, fault: str) -> None:
        super().__init__("unreadable_answer", f"{what}: {fault}")


def failure_of(what: str, status: int, headers: Mapping[str, str], body: bytes) -> QuickBooksFailure:
    """What an answer other than 200 means; `what` says what was asked."""
    try:
        answer = decode(body)
    except Uncanonical:
        answer = None
    code, type_ = _first_fault(answer)
    text = f"{what}: QuickBooks answered {status}{_named(code, type_)}"
    if _WORD.fullmatch(tid := headers.get("intuit_tid", "")):
        text += f", intuit_tid {tid}"
    if status == 429 or code in ("3001", "003001"):
        return QuickBooksFailure("rate_limited", text, retry_after=_seconds(headers.get("Retry-After")))
    if status >= 500:
        return QuickBooksFailure("vendor_error", text, retry_after=_seconds(headers.get("Retry-After")))
    if status == 401 or code == "3200":
        return QuickBooksFailure("unauthorized", f"{text}: the access token is not accepted", permanent=True)
    if status == 403 or code == "3100":
        return QuickBooksFailure(
            "forbidden", f"{text}: the app, or who connected it, may not read this of this company", permanent=True
        )
    if code == "610":
        return QuickBooksFailure("missing", text, permanent=True)
    return QuickBooksFailure("invalid_request", text, permanent=True)


def refuse_fault(what: str, answer: Mapping[str, Any]) -> None:
    """Raise for a fault that stands in an answer with status 200, as those of a part of it do."""
    if any(name in answer and answer[name] for name in ("Fault", "fault")):
        code, type_ = _first_fault(answer)
        text = f"{what}: QuickBooks answered with a fault{_named(code, type_)}"
        if type_ == "SystemFault":
            raise QuickBooksFailure("vendor_error", text)
        raise QuickBooksFailure("invalid_request", text, permanent=True)


def _first_fault(answer: Any) -> tuple[str | None, str | None]:
    """Code and type of the first error. The accounting service and the gateway before it write them differently."""
    if not isinstance(answer, Mapping):
        return None, None
    fault = answer.get("Fault") or answer.get("fault")
    if not isinstance(fault, Mapping):
        return None, None
    errors = fault.get("Error") or fault.get("error")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], Mapping) else {}
    return _word(first.get("code")), _word(fault.get("type"))


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def _named(code: str | None, type_: str | None) -> str:
    return "".join(f", {name} {value}" for name, value in (("fault", code), ("type", type_)) if value)


def _seconds(header: str | None) -> float | None:
    """A Retry-After header in whole seconds."""
    return float(header) if header is not None and re.fullmatch(r"[0-9]{1,6}", header) else None
