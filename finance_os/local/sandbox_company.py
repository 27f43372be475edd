"""Which company the sandbox is over a folder: kept there, so that whoever opens the folder again meets the same one.

The sandbox makes its company anew from a seed, a first day and a size whenever it starts. Another first day is another
company, with other customers, payments and bank lines: read over the evidence of the first one, it would make a
disagreement of everything.
"""

import os
from datetime import date, timedelta
from pathlib import Path

import msgspec

DAYS, SIZE = 122, 20
"""How far back a new company goes, in days, and how many advertisers it begins with."""

FOLDER = "sandbox-company"
"""Folder of the home in which the company is kept, with what was changed at its vendors."""


class SandboxCompany(msgspec.Struct, frozen=True):
    """What the sandbox makes its company of. `size` is in advertisers."""

    start: date
    size: int
    seed: int

    def days(self, today: date) -> int:
        """How far back it goes from `today`."""
        return (today - self.start).days


class OtherCompany(LookupError):
    """The folder holds the evidence of another company of the sandbox than is asked for."""


def sandbox_company(home: Path, today: date, *, days: int | None, size: int | None, seed: int) -> SandboxCompany:
    """The company of `home`; a new one that goes `days` back is kept there first. `None` leaves the choice to what is
    kept, or to `DAYS` and `SIZE`. Raises `OtherCompany`.
    """
    file = home / FOLDER / "company.json"
    if not file.exists():
        made = SandboxCompany(today - timedelta(days=days or DAYS), size or SIZE, seed)
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".new")
        unfinished.write_bytes(msgspec.json.encode(made))
        os.replace(unfinished, file)
        return made
    kept = msgspec.json.decode(file.read_bytes(), type=SandboxCompany)
    asked = SandboxCompany(
        kept.start if days is None else today - timedelta(days=days), kept.size if size is None else size, seed
    )
    if asked != kept:
        raise OtherCompany(
            f"{home.absolute()} holds the evidence of a sandbox company that began on {kept.start} with {kept.size} "
            f"advertisers, and one of {asked.start} with {asked.size} is asked for. Leave --days and --size out to go "
            "on with it; or begin anew with another FINANCE_OS_HOME, or after `make clean`."
        )
    return kept
