"""Connecting to the QuickBooks company that is written to: settings, sign-in, guard and pace of one writing client.

Apart from the reading side, whose client can send no write: this one has another app's client ID and secret and that
app's refresh token, and is refused the reader's. Both apps need the scope `com.intuit.quickbooks.accounting`, the only
one that Intuit has for the books: https://developer.intuit.com/app/developer/qbo/docs/learn/scopes
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from finance_os.evidence.extraction import SourceError
from finance_os.sources.credentials import Credentials
from finance_os.sources.guard import Get, Post, ReadOnlyGuard
from finance_os.sources.quickbooks.addresses import invalid, require_addresses
from finance_os.sources.quickbooks.objects import API_BASE_OPTION, DISCOVERY_URL_OPTION, RATE_LIMIT_OPTION
from finance_os.sources.quickbooks.objects import CLIENT_ID as READING_CLIENT_ID
from finance_os.stripe_qbo.authorization import CLIENT_ID, CLIENT_SECRET, Authorization
from finance_os.stripe_qbo.client import QuickBooksWriter
from finance_os.stripe_qbo.guard import WriteGuard

if TYPE_CHECKING:
    from finance_os.sources.quickbooks.client import Patience


@contextmanager
def connect(credentials: Credentials, realm: str, patience: "Patience | None" = None) -> Iterator[QuickBooksWriter]:
    """A writer for `realm`; closed at the end of the block. Sends nothing yet.

    Raises `SourceError`: code `invalid_setting` for a URL, a realm or a number that is none, `credentials_not_separate`
    where the credentials name the reading side's app too and it is the same.
    """
    import httpx

    from finance_os.sources.quickbooks.client import API_BASE, DISCOVERY_URL, REQUESTS_A_MINUTE, Patience
    from finance_os.sources.quickbooks.oauth import IntuitOAuth, discovery_base, token_origin
    from finance_os.stripe_qbo.pacing import pace_of
    from finance_os.stripe_qbo.transport import GuardedTransport

    patience = patience or Patience()
    base = (credentials.get(API_BASE_OPTION) or API_BASE).rstrip("/")
    discovery_url = credentials.get(DISCOVERY_URL_OPTION) or DISCOVERY_URL
    a_minute = credentials.get(RATE_LIMIT_OPTION) or str(REQUESTS_A_MINUTE)
    _require_settings(base, discovery_url, realm, a_minute)
    _require_another_app(credentials)
    guard = WriteGuard(base, realm)
    sign_in = ReadOnlyGuard(
        (Get("/.well-known/*", at="discovery"), Post("/oauth2/v1/tokens/bearer", at="oauth")),
        {"discovery": discovery_base(discovery_url), "oauth": token_origin(discovery_url)},
    )
    oauth = IntuitOAuth(
        credentials[CLIENT_ID],
        credentials[CLIENT_SECRET],
        discovery_url,
        sign_in,
        (patience.connect, patience.read),
    )
    with httpx.Client(
        base_url=base,
        transport=GuardedTransport(guard),
        timeout=httpx.Timeout(patience.read, connect=patience.connect),
        trust_env=False,
    ) as http:
        pace = pace_of(base, realm, int(a_minute))
        yield QuickBooksWriter(http, guard, pace, Authorization(credentials, oauth.renew), realm, patience)


def _require_another_app(credentials: Credentials) -> None:
    """What reads must not be able to write: whoever has the reader's credentials would have those of the writer."""
    if (credentials.get(READING_CLIENT_ID) or "").strip() == credentials[CLIENT_ID].strip():
        raise SourceError(
            "credentials_not_separate",
            f"{CLIENT_ID} is the app of {READING_CLIENT_ID}: reads and writes use separate credentials. Make another "
            "app for writing at developer.intuit.com, connect it to the company, and set its client ID, client secret "
            "and refresh token. Nothing was sent",
            permanent=True,
        )


def _require_settings(base: str, discovery_url: str, realm: str, a_minute: str) -> None:
    require_addresses(base, discovery_url)
    if not re.fullmatch(r"[0-9]{1,20}", realm):
        raise SourceError("invalid_setting", "the realm is the company's ID, a number", permanent=True)
    if not re.fullmatch(r"[1-9][0-9]{0,8}", a_minute):
        raise invalid(RATE_LIMIT_OPTION, "is a whole number above zero")
