"""Google Drive on localhost: the company's publisher agreements, seen through a service account that may read them."""

from .contents import PLANTED, Folders
from .room import GoogleDriveRoom

__all__ = ["PLANTED", "Folders", "GoogleDriveRoom"]
