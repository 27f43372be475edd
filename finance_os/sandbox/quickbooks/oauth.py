"""Intuit's OAuth 2 for one connection: rotating refresh tokens, one-hour access tokens, revocation.

Intuit: an access token lives 3,600 seconds; "always use the refresh token returned in the most recent token_endpoint
response. Your previous refresh tokens expire 24 hours after you receive a new one"
(https://developer.intuit.com/app/developer/qbo/docs/develop/authentication-and-authorization/faq). Here every refresh
rotates, and a superseded token dies after those 24 hours or as soon as its successor has been used, whichever comes
first. So an answer that was lost can be asked for again, but a token that was not kept breaks the connection.
"""

import base64
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..ids import letters

ACCESS_SECONDS = 3_600
REFRESH_SECONDS = 8_726_400
HARD_SECONDS = 157_680_000
GRACE_SECONDS = 86_400
SCOPE = "com.intuit.quickbooks.accounting"
_HARD_EXPIRY = "x-include-refresh-token-hard-expires-in"


class OAuthError(Exception):
    """What the token endpoints refuse: `error` as in RFC 6749, section 5.2."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.body = {"error": error, "error_description": description}


@dataclass(slots=True)
class _Refresh:
    token: str
    issued: float
    superseded: float | None = None


class Connection:
    """The tokens of one app with one company. `clock` gives real seconds: tokens do not live by the world's clock."""

    def __init__(self, seed: str, clock: Callable[[], float] = time.time) -> None:
        self._seed = seed
        self._clock = clock
        self._issued = 0
        self._started = clock()
        self._refresh: list[_Refresh] = []
        self._access: dict[str, float] = {}
        self.client_id = "AB" + letters(f"client:{seed}", 42)
        self.client_secret = letters(f"secret:{seed}", 40)
        self.connect()

    def connect(self) -> str:
        """A user connects the app (again): everything issued before is void; returns the new refresh token."""
        self.revoke()
        self._issued += 1
        self._refresh = [_Refresh(self._new("AB11", 40), self._clock())]
        return self._refresh[-1].token

    @property
    def refresh_token(self) -> str:
        """The newest refresh token; empty while the app is disconnected."""
        return self._refresh[-1].token if self._refresh else ""

    def _new(self, prefix: str, length: int) -> str:
        # Not the same after a restart: a token of an earlier process is void, and must not look like this one's.
        return prefix + letters(f"{prefix}:{self._seed}:{self._started}:{self._issued}", length)

    def check_client(self, header: str) -> None:
        """The app's own Basic authentication; OAuthError 401 otherwise."""
        scheme, _, encoded = header.partition(" ")
        try:
            given = base64.b64decode(encoded, validate=True) if scheme.lower() == "basic" else b""
        except ValueError:
            given = b""
        if not hmac.compare_digest(given, f"{self.client_id}:{self.client_secret}".encode()):
            raise OAuthError(401, "invalid_client", "Client authentication failed")

    def token(self, form: Mapping[str, str], headers: Mapping[str, str]) -> dict[str, Any]:
        """The answer of the token endpoint to a refresh."""
        grant = form.get("grant_type")
        if not grant:
            raise OAuthError(400, "invalid_request", "The request is missing a required parameter: grant_type")
        if grant == "authorization_code":
            raise OAuthError(400, "invalid_grant", "Invalid authorization code")
        if grant != "refresh_token":
            raise OAuthError(400, "unsupported_grant_type", "The grant type is not supported")
        if not form.get("refresh_token"):
            raise OAuthError(400, "invalid_request", "The request is missing a required parameter: refresh_token")
        now = self._clock()
        known = [each.token for each in self._refresh]
        position = known.index(form["refresh_token"]) if form["refresh_token"] in known else None
        if position is None or not self._lives(self._refresh[position], now):
            raise OAuthError(400, "invalid_grant", "Incorrect or invalid refresh token")
        self._issued += 1
        self._refresh = self._refresh[position:]
        for each in self._refresh:
            each.superseded = now if each.superseded is None else each.superseded
        self._refresh.append(_Refresh(self._new("AB11", 40), now))
        access = self._new("eyJlbmMiOiJBMTI4Q0JDLUhTMjU2IiwiYWxnIjoiZGlyIn0..", 42)
        self._access[access] = now + ACCESS_SECONDS
        answer: dict[str, Any] = {
            "x_refresh_token_expires_in": REFRESH_SECONDS,
            "refresh_token": self._refresh[-1].token,
            "access_token": access,
            "token_type": "bearer",
            "expires_in": ACCESS_SECONDS,
        }
        if headers.get(_HARD_EXPIRY, "").lower() == "true":
            answer["x_refresh_token_hard_expires_in"] = int(self._started + HARD_SECONDS - now)
        return answer

    def _lives(self, refresh: _Refresh, now: float) -> bool:
        if refresh.superseded is not None and now >= refresh.superseded + GRACE_SECONDS:
            return False
        return now < refresh.issued + REFRESH_SECONDS and now < self._started + HARD_SECONDS

    def check_access(self, header: str) -> str | None:
        """Why a bearer token is not accepted; None where it is."""
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return "Malformed bearer token: too short or too long"
        expires = self._access.get(token.strip())
        if expires is None:
            return "Token revoked or unknown"
        return "Token expired" if self._clock() >= expires else None

    def expire_access_tokens(self) -> int:
        """Let every access token be over; returns how many still lived."""
        now = self._clock()
        living = [token for token, expires in self._access.items() if expires > now]
        for token in living:
            self._access[token] = now
        return len(living)

    def revoke(self, token: str | None = None) -> None:
        """Disconnect. With a token, which must be one of this connection: OAuthError 400 otherwise."""
        known = {each.token for each in self._refresh} | self._access.keys()
        if token is not None and token not in known:
            raise OAuthError(400, "invalid_request", "The token is invalid, expired or revoked")
        self._refresh = []
        self._access = {}


def discovery(base: str) -> dict[str, Any]:
    """The OpenID discovery document; `base` is the room's own URL without a slash at its end."""
    return {
        "issuer": "https://oauth.platform.intuit.com/op/v1",
        "authorization_endpoint": f"{base}/connect/oauth2",
        "token_endpoint": f"{base}/oauth2/v1/tokens/bearer",
        "userinfo_endpoint": f"{base}/v1/openid_connect/userinfo",
        "revocation_endpoint": f"{base}/v2/oauth2/tokens/revoke",
        "jwks_uri": f"{base}/op/v1/jwks",
        "response_types_supported": ["code"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
        "scopes_supported": ["openid", "email", "profile", "address", "phone", SCOPE],
        "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        "claims_supported": ["aud", "exp", "iat", "iss", "realmid", "sub"],
    }
