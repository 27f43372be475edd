"""Templates: everything that they are given is escaped, and a name that is missing is an error."""

import re
from datetime import UTC, datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

_CODE = re.compile(r"`([^`]+)`")
_JOINT = re.compile(r"(?<=[_/])(?=\w)")
"""Where an identifier may go on in the next line."""


def rendered(template: str, **values: Any) -> str:
    """A template with these values."""
    return _environment().get_template(template).render(**values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("finance_os.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters["words"] = words
    environment.filters["breakable"] = breakable
    environment.filters["utc"] = utc
    return environment


def words(text: str) -> Markup:
    """Text in which what stands between backticks is code; everything else is escaped."""
    parts = _CODE.split(text)  # at odd places, what stood between backticks
    return Markup("").join(
        Markup("<code>{}</code>").format(breakable(part)) if place % 2 else breakable(part)
        for place, part in enumerate(parts)
    )


def breakable(text: str) -> Markup:
    """Text whose long identifiers may be broken where their words are joined; a copy of it is the same."""
    return Markup("<wbr>").join(escape(part) for part in _JOINT.split(text))


def utc(at: datetime) -> str:
    """A time for machines: `2026-05-10T04:21:37+00:00`."""
    return at.astimezone(UTC).isoformat(timespec="seconds")
