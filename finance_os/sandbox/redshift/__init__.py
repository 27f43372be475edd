"""Redshift on localhost: a real PostgreSQL behind Redshift's wire protocol and behind the Redshift Data API."""

from .content import PLANTED
from .room import RedshiftRoom

__all__ = ["PLANTED", "RedshiftRoom"]
