"""Every source that Finance OS knows, in the plan's order. A new vendor is one more line here."""

from finance_os.sources.google_drive import GOOGLE_DRIVE
from finance_os.sources.gravity import GRAVITY
from finance_os.sources.plaid import PLAID
from finance_os.sources.quickbooks import QUICKBOOKS
from finance_os.sources.redshift import REDSHIFT
from finance_os.sources.rho import RHO
from finance_os.sources.source import Source
from finance_os.sources.stripe import STRIPE
from finance_os.sources.xlsx import XLSX

SOURCES: tuple[Source, ...] = (STRIPE, QUICKBOOKS, GOOGLE_DRIVE, PLAID, RHO, GRAVITY, REDSHIFT, XLSX)


def source_named(system: str) -> Source:
    """The source of a source system; `KeyError` with the known ones if there is none."""
    for source in SOURCES:
        if source.system == system:
            return source
    raise KeyError(f"there is no source system {system!r}; there are {', '.join(s.system for s in SOURCES)}")
