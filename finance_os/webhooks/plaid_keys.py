"""Whether a webhook is Plaid's: a JWT by one of Plaid's keys, which are asked for by their ID and remembered.

https://plaid.com/docs/api/webhooks/webhook-verification/
"""

import hashlib
import hmac
import re
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from finance_os.evidence.extraction import SourceError
from finance_os.sources.credentials import Credentials
from finance_os.sources.guard import Post
from finance_os.webhooks.settings import TOLERANCE_SECONDS
from finance_os.webhooks.signatures import BadSignature

READS = (Post("/webhook_verification_key/get"),)

_KEY_ID = re.compile(r"[A-Za-z0-9_-]{1,100}")

REMEMBERED_SECONDS = 3_600.0
"""A key is asked for again after this time, since Plaid may have let it expire meanwhile."""

LOOKUPS_A_MINUTE = 20
"""Who sends made-up key IDs must not have us ask Plaid for more."""

_CLOCKS_APART_SECONDS = 60
"""A JWT may seem to be issued so long after now."""


@dataclass
class _Keys:
    """Keys by connection and ID, with the time until which they count; `None` for an ID that Plaid does not know."""

    found: dict[tuple[int, str], tuple[float, dict[str, Any] | None]] = field(default_factory=dict)
    asked: dict[int, deque[float]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)


_keys = _Keys()


def forget() -> None:
    """Forget every key: the next webhook asks for its own."""
    _keys.found.clear()
    _keys.asked.clear()


def verify_plaid(
    body: bytes, header: str | None, connection_id: int, credentials: Credentials, now: float | None = None
) -> int:
    """When the body was signed, in Unix seconds; `BadSignature` unless `header` (`plaid-verification`) is a fresh
    ES256 JWT over this body.

    Raises `SourceError` where Plaid cannot be asked for the key: the webhook is then to be sent again.
    """
    import jwt

    key_id = key_id_in(header)
    assert header is not None
    key = _key(connection_id, key_id, credentials)
    if key is None or key.get("alg") != "ES256" or key.get("kid") != key_id:
        raise BadSignature("signature_wrong")
    moment = time.time() if now is None else now
    expired_at = key.get("expired_at")
    if isinstance(expired_at, int) and expired_at <= moment:
        raise BadSignature("signature_wrong")
    try:
        # Its age is checked below: PyJWT knows nothing of it.
        claims = jwt.decode(
            header,
            jwt.PyJWK({name: key[name] for name in ("kty", "crv", "x", "y", "alg", "kid", "use") if name in key}),
            algorithms=["ES256"],
            options={"verify_iat": False, "verify_exp": False, "verify_nbf": False, "verify_aud": False},
        )
    except jwt.PyJWTError:
        raise BadSignature("signature_wrong") from None
    _require_fresh(claims, moment)
    claimed = claims.get("request_body_sha256")
    digest = hashlib.sha256(body).hexdigest()
    if not isinstance(claimed, str) or not hmac.compare_digest(claimed.encode(), digest.encode()):
        raise BadSignature("signature_wrong")
    return int(claims["iat"])


def key_id_in(header: str | None) -> str:
    """The ID of the key that `header` is said to be signed with; `BadSignature` where it is no ES256 JWT."""
    import jwt

    if not header:
        raise BadSignature("signature_missing")
    try:
        unverified = jwt.get_unverified_header(header)
    except jwt.PyJWTError:
        raise BadSignature("signature_malformed") from None
    key_id = unverified.get("kid")
    if unverified.get("alg") != "ES256" or not isinstance(key_id, str) or not _KEY_ID.fullmatch(key_id):
        raise BadSignature("signature_malformed")
    return key_id


def _require_fresh(claims: Mapping[str, Any], now: float) -> None:
    issued_at = claims.get("iat")
    if not isinstance(issued_at, int | float) or isinstance(issued_at, bool):
        raise BadSignature("signature_malformed")
    if not now - TOLERANCE_SECONDS <= issued_at <= now + _CLOCKS_APART_SECONDS:
        raise BadSignature("signature_old")


def _key(connection_id: int, key_id: str, credentials: Credentials) -> dict[str, Any] | None:
    """A key as Plaid gives it, remembered for a while; `None` for an ID that Plaid does not know."""
    place = connection_id, key_id
    with _keys.lock:
        until, key = _keys.found.get(place, (0.0, None))
        if time.monotonic() < until:
            return key
        asked = _keys.asked.setdefault(connection_id, deque())
        while asked and asked[0] < time.monotonic() - 60:
            asked.popleft()
        if len(asked) >= LOOKUPS_A_MINUTE:
            raise SourceError("rate_limited", "Plaid has been asked for enough webhook keys in this minute")
        asked.append(time.monotonic())
    key = _ask(key_id, credentials)
    with _keys.lock:
        if len(_keys.found) > 1_000:
            _keys.found.clear()
        _keys.found[place] = time.monotonic() + REMEMBERED_SECONDS, key
    return key


def _ask(key_id: str, credentials: Credentials) -> dict[str, Any] | None:
    from finance_os.sources.plaid.settings import read_settings

    settings = read_settings(credentials)

    import plaid
    import urllib3
    from plaid.api.plaid_api import PlaidApi
    from plaid.model.webhook_verification_key_get_request import WebhookVerificationKeyGetRequest

    from finance_os.evidence.canonical import Uncanonical, decode
    from finance_os.sources.guard import ReadOnlyGuard
    from finance_os.sources.plaid.transport import GuardedPools

    pools = GuardedPools(ReadOnlyGuard(READS, settings.api_base))
    keys = {"clientId": settings.client_id, "secret": settings.secret}
    client = plaid.ApiClient(plaid.Configuration(host=settings.api_base, api_key=keys))
    client.rest_client.pool_manager = pools
    status = None
    body: Any = None
    try:
        answer = PlaidApi(client).webhook_verification_key_get(
            WebhookVerificationKeyGetRequest(key_id=key_id), _preload_content=False, _request_timeout=(5.0, 10.0)
        )
        body = decode(answer.data)
    except plaid.ApiException as error:
        status = error.status or 0
    except (urllib3.exceptions.HTTPError, Uncanonical, UnicodeDecodeError):
        status = 0
    finally:
        pools.clear()
        client.close()
    if status == 400:  # INVALID_WEBHOOK_VERIFICATION_KEY_ID, and nothing else that this request can be wrong in
        return None
    found = body.get("key") if isinstance(body, dict) else None
    if status is not None or not isinstance(found, dict):
        raise SourceError("unreachable", f"Plaid did not give the webhook key: status {status}")
    return found
