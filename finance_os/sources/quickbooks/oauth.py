"""Intuit's OAuth client beneath the read-only guard: a refresh token in, new tokens out."""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
import requests.adapters
from intuitlib.client import AuthClient
from intuitlib.exceptions import AuthClientError
from typing_extensions import override

from finance_os.evidence.extraction import SourceError
from finance_os.sources.guard import ReadOnlyGuard
from finance_os.sources.quickbooks.faults import QuickBooksFailure, Unreadable
from finance_os.sources.quickbooks.objects import CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN
from finance_os.sources.quickbooks.tokens import Granted
from finance_os.sources.transports import GuardedAdapter

INTUIT = "https://oauth.platform.intuit.com"
"""Where Intuit's own discovery documents say that tokens are to be had."""

_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")


def token_origin(discovery_url: str) -> str:
    """Base URL of the token endpoint that belongs to a discovery document: Intuit's own, or beside the document.

    Known beforehand, so that no document can lead the app's secret elsewhere.
    """
    host = urlsplit(discovery_url).hostname or ""
    return INTUIT if host == "intuit.com" or host.endswith(".intuit.com") else discovery_base(discovery_url)


def discovery_base(discovery_url: str) -> str:
    """What stands before `/.well-known/` in a discovery URL."""
    return discovery_url.partition("/.well-known/")[0]


class IntuitOAuth:
    """Renews the tokens of one app. Nothing is sent before `renew` is called."""

    def __init__(
        self,
        client_id: str,
        client_secret: str,
        discovery_url: str,
        guard: ReadOnlyGuard,
        timeout: tuple[float, float],
    ) -> None:
        self._app = client_id, client_secret
        self._discovery_url = discovery_url
        self._guard = guard
        self._timeout = timeout

    def renew(self, refresh_token: str) -> Granted:
        """New tokens for `refresh_token`, which is superseded with that.

        Raises `QuickBooksFailure`; `authorization_expired` where Intuit does not accept the refresh token any more.
        """
        adapter = _TimedAdapter(self._guard, self._timeout)
        try:
            client = _GuardedClient(adapter, *self._app, self._discovery_url)
            client.refresh(refresh_token)
            return _granted(client)
        except AuthClientError as error:
            failure = _refusal(error)
        except requests.Timeout:
            failure = QuickBooksFailure("timeout", "Intuit's OAuth service did not answer in time")
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError):
            failure = Unreadable("Intuit's OAuth service", "the answer was cut off")
        except (ValueError, TypeError, LookupError, AttributeError):
            # Before OSError: what `requests` raises for JSON that is none is both.
            failure = Unreadable("Intuit's OAuth service", "the answer is not in Intuit's form")
        except requests.RequestException:
            failure = QuickBooksFailure("unreachable", "there was no connection to Intuit's OAuth service")
        finally:
            adapter.close()
        # Raised out here so that the client's exception, which holds Intuit's answer, does not travel along.
        raise failure from None


class _TimedAdapter(GuardedAdapter):
    """The guard, and a time limit for a client that sets none."""

    def __init__(self, guard: ReadOnlyGuard, timeout: tuple[float, float]) -> None:
        super().__init__(guard)
        self._timeout = timeout

    @override
    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        return super().send(request, *args, **{**kwargs, "timeout": self._timeout})


class _GuardedClient(AuthClient):
    """Intuit's client, which is a `requests` session that asks for its discovery document while it is made."""

    def __init__(self, adapter: _TimedAdapter, client_id: str, client_secret: str, discovery_url: str) -> None:
        self._guarded = adapter
        # The redirect address belongs to connecting an app, which does not happen here.
        super().__init__(client_id, client_secret, "", discovery_url)
        self.auth = _keep_authorization
        # It would fetch keys, past this session, to check an ID token; without an issuer it takes none for valid.
        self.issuer_uri = None

    @override
    def get_adapter(self, url: str | bytes) -> requests.adapters.BaseAdapter:
        return self._guarded


def _keep_authorization(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """The client has set the header; without this, `requests` would replace it by an entry of ~/.netrc."""
    return request


def _granted(client: AuthClient) -> Granted:
    refresh_token, access_token, expires_in = client.refresh_token, client.access_token, client.expires_in
    for token in (refresh_token, access_token):
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise Unreadable("Intuit's OAuth service", "the answer holds no tokens")
    if type(expires_in) is not int or expires_in <= 0:
        raise Unreadable("Intuit's OAuth service", "the answer does not say how long the token lives")
    return Granted(str(refresh_token), str(access_token), expires_in)


def _refusal(error: AuthClientError) -> SourceError:
    """What an answer other than 200 means. https://www.rfc-editor.org/rfc/rfc6749#section-5.2"""
    status = error.status_code
    try:
        body = error.response.json()
    except ValueError:
        body = None
    code = body.get("error") if isinstance(body, Mapping) else None
    if code == "invalid_grant":
        return QuickBooksFailure(
            "authorization_expired",
            "Intuit does not accept the refresh token any more (it was not used for 100 days, was revoked, or a newer "
            f"one was used elsewhere): connect the app to the company again and set {REFRESH_TOKEN} to the new one",
            permanent=True,
        )
    if status == 429:
        return QuickBooksFailure("rate_limited", "Intuit's OAuth service answered 429")
    if status >= 500:
        return QuickBooksFailure("vendor_error", f"Intuit's OAuth service answered {status}")
    if status == 401 or code == "invalid_client":
        return QuickBooksFailure(
            "unauthorized",
            f"Intuit's OAuth service does not know the app: {CLIENT_ID} or {CLIENT_SECRET} is wrong",
            permanent=True,
        )
    return QuickBooksFailure("invalid_request", f"Intuit's OAuth service answered {status}", permanent=True)
