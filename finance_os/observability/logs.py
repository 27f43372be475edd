"""Structured logs: one JSON object a line, with what was said and what belongs to it. No personal data.

Set by `FINANCE_OS_LOG=json`; unset, logging stays as the program around (Dagster, uvicorn) has it. Fields are those
that a line was given (`extra=`) and those that its surroundings are `about`: so every line of a run bears the IDs by
which a webhook can be followed to the object in QuickBooks.
"""

import logging
import os
import sys
import traceback
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TextIO

OURS = "finance_os"
MOST_IDS = 100
"""Most IDs in one line."""

FRAMES = 12
"""Most places that are named of where an error was raised, the innermost last."""

_about: ContextVar[Mapping[str, str | int]] = ContextVar("finance_os_about")


def correlation_ids(source_system: str, reads: Mapping[str, Sequence[str] | None]) -> list[str]:
    """What is said of objects in every line about them, from webhook to write: source system and ID, the first of them.

    `reads` are source IDs by object type.
    """
    found = dict.fromkeys(f"{source_system}:{source_id}" for ids in reads.values() for source_id in ids or ())
    return list(found)[:MOST_IDS]


@contextmanager
def about(**fields: str | int) -> Iterator[None]:
    """Every line that is logged within the block bears these fields: external IDs, no names."""
    token = _about.set({**_about.get({}), **fields})
    try:
        yield
    finally:
        _about.reset(token)


def configure(environment: Mapping[str, str] = os.environ, stream: TextIO | None = None) -> bool:
    """Write JSON lines if the environment says so; whether it does. `LookupError` for a setting that is none."""
    chosen = environment.get("FINANCE_OS_LOG", "").strip().lower()
    if chosen in ("", "plain"):
        return False
    if chosen != "json":
        raise LookupError(f"FINANCE_OS_LOG is {chosen!r}: set it to json or plain")
    named = environment.get("FINANCE_OS_LOG_LEVEL", "").strip().upper() or "INFO"
    level = logging.getLevelNamesMapping().get(named)
    if level is None:
        raise LookupError(f"FINANCE_OS_LOG_LEVEL is {named!r}: set it to DEBUG, INFO, WARNING or ERROR")
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(formatter())
    root = logging.getLogger()
    for other in list(root.handlers):
        if getattr(other, "is_finance_os", False):
            root.removeHandler(other)
    handler.is_finance_os = True  # pyright: ignore[reportAttributeAccessIssue]  to know it again
    root.addHandler(handler)
    logging.getLogger(OURS).setLevel(level)
    return True


def formatter() -> logging.Formatter:
    """What makes a JSON line of a log record."""
    from structlog.processors import EventRenamer, JSONRenderer, TimeStamper
    from structlog.stdlib import ExtraAdder, ProcessorFormatter, add_log_level, add_logger_name

    return ProcessorFormatter(
        foreign_pre_chain=[ExtraAdder(), add_log_level, add_logger_name, TimeStamper(fmt="iso", key="time")],
        processors=[
            _add_surroundings,
            _add_error,
            ProcessorFormatter.remove_processors_meta,
            EventRenamer("event"),
            JSONRenderer(default=str),
        ],
    )


def _add_surroundings(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """What the line is about, unless the line says it itself."""
    for name in ("message", "asctime"):  # left in the record by another handler's formatter
        event.pop(name, None)
    for name, value in _about.get({}).items():
        event.setdefault(name, value)
    return event


def _add_error(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """An error's type and where it was raised. Its words are left out: a database's or a vendor's may quote a row."""
    info = event.pop("exc_info", None)
    raised = info[1] if isinstance(info, tuple) else None
    if raised is not None:
        kind = type(raised)
        event["error"] = f"{kind.__module__}.{kind.__qualname__}"
        if isinstance(code := getattr(raised, "code", None), str):
            event["error_code"] = code
        frames = traceback.extract_tb(raised.__traceback__)[-FRAMES:]
        event["raised_at"] = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return event
