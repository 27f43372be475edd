"""What QuickBooks' answers to writes mean: written, refused, or nobody knows."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from finance_os.evidence.canonical import Uncanonical, decode
from finance_os.sources.quickbooks.faults import QuickBooksFailure, failure_of
from finance_os.stripe_qbo.lookup import Entity

if TYPE_CHECKING:
    import httpx

_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class NotSent(QuickBooksFailure):
    """There was no connection: nothing can have been written."""


class UnknownAnswer(QuickBooksFailure):
    """A write was sent, and whether it was done is not known: look before it is sent again."""


class Refused(QuickBooksFailure):
    """QuickBooks did not do it. `fault` is its own code, such as 5010 or 6140; `intuit_tid` its ID of the exchange."""

    def __init__(self, message: str, fault: str, intuit_tid: str) -> None:
        super().__init__("refused", message, permanent=True)
        self.fault, self.intuit_tid = fault, intuit_tid


@dataclass(frozen=True)
class Written:
    """The object that a write answered with, and Intuit's ID of the exchange."""

    held: Mapping[str, Any]
    intuit_tid: str


def written(entity: Entity, response: "httpx.Response", what: str) -> Written:
    """The object in the answer to a write of its own; `what` says what was sent.

    Raises `Refused`, `UnknownAnswer`, or the `QuickBooksFailure` that says why nothing was written.
    """
    body = object_of(response.content)
    held = None if body is None else body.get(entity.name)
    if response.status_code == 200 and body is not None and fault_of(body) is None and _is_written(held):
        return Written(held, intuit_tid(response))
    raise _failure(response, body, what)


def batch_items(response: "httpx.Response", what: str) -> dict[str, Mapping[str, Any]]:
    """What a batch answered, by `bId`; in any order, and of one that is there twice, nothing.

    Raises as `written` does where that is so of the whole batch.
    """
    body = object_of(response.content)
    if response.status_code != 200 or body is None or fault_of(body) is not None:
        raise _failure(response, body, what)
    items = body.get("BatchItemResponse")
    if not isinstance(items, list):
        raise UnknownAnswer("unknown_answer", f"{what}: the answer is not one to a batch", permanent=True)
    found: dict[str, Mapping[str, Any]] = {}
    for item in items:
        if isinstance(item, Mapping) and isinstance(bid := item.get("bId"), str):
            found[bid] = {} if bid in found else item
    return found


def written_together(
    entity: Entity, item: Mapping[str, Any] | None, tid: str, what: str
) -> Written | Refused | UnknownAnswer:
    """What became of one create of a batch; `item` is what the batch answered of it, if anything."""
    held = (item or {}).get(entity.name)
    fault = fault_of(item or {})
    if fault is None and _is_written(held):
        return Written(held, tid)
    if fault is not None and fault[1] != "SystemFault":
        named = f", fault {fault[0]}" if fault[0] else ""
        return Refused(f"{what}: QuickBooks refused it in a batch{named}, intuit_tid {tid}", fault[0], tid)
    return UnknownAnswer("unknown_answer", f"{what}: a batch did not tell: it may have been done", permanent=True)


def object_of(content: bytes) -> dict[str, Any] | None:
    """The JSON object that an answer is; `None` where it is none."""
    try:
        body = decode(content)
    except Uncanonical:
        return None
    return body if type(body) is dict else None


def fault_of(body: Mapping[str, Any]) -> tuple[str, str] | None:
    """Code and type of the first error in an answer; `None` where it holds none."""
    fault = body.get("Fault") or body.get("fault")
    if not isinstance(fault, Mapping):
        return None
    errors = fault.get("Error") or fault.get("error")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], Mapping) else {}
    return _word(first.get("code")), _word(fault.get("type"))


def intuit_tid(response: "httpx.Response") -> str:
    """Intuit's own ID of an exchange."""
    return _word(response.headers.get("intuit_tid"))


def _is_written(held: Any) -> TypeGuard[dict[str, Any]]:
    return type(held) is dict and isinstance(held.get("Id"), str) and isinstance(held.get("SyncToken"), str)


def _failure(response: "httpx.Response", body: Mapping[str, Any] | None, what: str) -> QuickBooksFailure:
    """What an answer to a write means that does not hold what was written."""
    failure = failure_of(what, response.status_code, response.headers, response.content)
    if failure.code in ("unauthorized", "forbidden", "rate_limited"):
        return failure
    fault = None if body is None else fault_of(body)
    if response.status_code < 500 and fault is not None and fault[1] != "SystemFault":
        return Refused(failure.message, fault[0], intuit_tid(response))
    return UnknownAnswer("unknown_answer", f"{failure.message}: it may have been done", permanent=True)


def _word(value: Any) -> str:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else ""
