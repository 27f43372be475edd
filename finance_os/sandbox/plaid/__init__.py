"""Plaid on localhost: the company's one bank account, with the lines that its bank exports show."""

from .feed import PLANTED
from .room import PlaidRoom

__all__ = ["PLANTED", "PlaidRoom"]
