"""Where QuickBooks is asked: the addresses that may be set, for the app that reads and for the one that writes."""

import re
from urllib.parse import urlsplit

from finance_os.evidence.extraction import SourceError
from finance_os.sources.quickbooks.objects import API_BASE_OPTION, DISCOVERY_URL_OPTION


def require_addresses(base: str, discovery_url: str) -> None:
    """Refuse (`SourceError`) what is no address of its kind, and to send Intuit's own tokens without TLS."""
    if not re.fullmatch(r"https?://[^\s?#@]+", base):
        raise invalid(API_BASE_OPTION, "is not a URL of scheme, host and path")
    if not re.fullmatch(r"https?://[^\s?#@]+/\.well-known/[^\s?#@]+", discovery_url):
        raise invalid(DISCOVERY_URL_OPTION, "is not a URL of a document below /.well-known/")
    host = urlsplit(discovery_url).hostname or ""
    intuit = host == "intuit.com" or host.endswith(".intuit.com")
    if intuit and not (base.startswith("https://") and discovery_url.startswith("https://")):
        raise invalid(API_BASE_OPTION, f"and {DISCOVERY_URL_OPTION} must be https for Intuit's own tokens")


def invalid(option: str, fault: str) -> SourceError:
    """The error of a setting that cannot be used."""
    return SourceError("invalid_setting", f"{option} {fault}", permanent=True)
