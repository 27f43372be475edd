"""Which sources are planned connectors, and which of a business's connectors are blocked for want of something."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

from finance_os.evidence.businesses import Connection
from finance_os.evidence.extraction import SourceError
from finance_os.sources.credentials import find_credentials, is_on, missing_credentials
from finance_os.sources.source import Source


class ConnectorStatus(StrEnum):
    """Whether a connector can be read."""

    READY = "ready to plan"
    BLOCKED = "blocked"


@dataclass(frozen=True)
class Readiness:
    """Whether a source can be read through a connection; if not, a code and what to do about it."""

    status: ConnectorStatus
    blocker: str | None = None
    remedy: str | None = None


SKIPPED = frozenset({"credentials_missing", "secret_reference_unknown", "feature_flag_off"})
"""Blockers of a connector that is not set up: its reads are skipped. One whose secrets cannot be reached fails."""

READY = Readiness(ConnectorStatus.READY)


def planned_connectors(sources: Iterable[Source], excluded: frozenset[str] = frozenset()) -> list[Source]:
    """The planned connectors in their order, without those that a setting has taken out."""
    planned = [source for source in sources if source.order is not None and source.system not in excluded]
    return sorted(planned, key=lambda source: source.order or 0)


def readiness_of(source: Source, connection: Connection, environment: Mapping[str, str] = os.environ) -> Readiness:
    """Whether everything that `source` needs is there; nothing is sent to the vendor."""
    flag = source.feature_flag
    try:
        missing = missing_credentials(connection.secret_reference, source.credentials, environment=environment)
        flags = find_credentials(connection.secret_reference, (), (flag,) if flag else (), environment=environment)
    except SourceError as error:
        return Readiness(ConnectorStatus.BLOCKED, error.code, error.message)
    except ValueError as error:
        return Readiness(ConnectorStatus.BLOCKED, "secret_reference_unknown", str(error))
    if missing:
        return Readiness(ConnectorStatus.BLOCKED, "credentials_missing", f"Set {', '.join(missing)}.")
    if flag is None:
        return READY
    try:
        on = is_on(flags.get(flag))
    except ValueError as error:
        return Readiness(ConnectorStatus.BLOCKED, "invalid_setting", f"{flag}: {error}.")
    return READY if on else Readiness(ConnectorStatus.BLOCKED, "feature_flag_off", f"Set {flag} to 1.")
