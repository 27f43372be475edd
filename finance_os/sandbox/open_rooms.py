"""Which vendors' rooms there are, and how each is opened for a company."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .google_drive import GoogleDriveRoom
from .plaid import PlaidRoom
from .quickbooks import QuickBooksRoom
from .redshift import RedshiftRoom
from .rooms import Room
from .world import World


@dataclass(frozen=True, slots=True)
class Place:
    """Where rooms that need a PostgreSQL make their database: on the server at `admin_url`, named `database`."""

    admin_url: str
    database: str


ROOMS: dict[str, Callable[[World, Place | None, Path | None], Room | None]] = {
    "quickbooks": lambda world, _, kept: QuickBooksRoom(
        world, journal=kept and kept / f"quickbooks-{world.stripe.account}.jsonl"
    ),
    "google_drive": lambda world, _, __: GoogleDriveRoom(world),
    "plaid": lambda world, _, __: PlaidRoom(world),
    "redshift": lambda world, place, _: place and RedshiftRoom(world, place.admin_url, database=place.database),
}


def open_rooms(names: Sequence[str], world: World, place: Place | None, kept: Path | None = None) -> list[Room]:
    """The rooms of `names`; what is changed in them is kept in folder `kept`. ValueError for one that there is not.

    What needs a PostgreSQL is left out where there is no `place` for it, as Gravity is.
    """
    if unknown := set(names) - set(ROOMS):
        raise ValueError(f"there are no rooms {sorted(unknown)}; there are {sorted(ROOMS)}")
    opened = [ROOMS[name](world, place, kept) for name in ROOMS if name in names]
    return [room for room in opened if room is not None]
