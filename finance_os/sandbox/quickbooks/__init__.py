"""QuickBooks Online: a sandbox company (realm) for each world, with its accounting API and OAuth 2."""

from .bookkeeper import PLANTED
from .room import QuickBooksRoom

__all__ = ["PLANTED", "QuickBooksRoom"]
