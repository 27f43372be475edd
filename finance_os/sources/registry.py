"""Every source that Finance OS knows, in the plan's order. A new vendor is one more line here."""

from finance_os.sources.gravity import GRAVITY
from finance_os.sources.rho import RHO
from finance_os.sources.source import Source
from finance_os.sources.stripe import STRIPE

SOURCES: tuple[Source, ...] = (STRIPE, RHO, GRAVITY)


def source_named(system: str) -> Source:
    """The source of a source system; `KeyError` with the known ones if there is none."""
    for source in SOURCES:
        if source.system == system:
            return source
    raise KeyError(f"there is no source system {system!r}; there are {', '.join(s.system for s in SOURCES)}")
