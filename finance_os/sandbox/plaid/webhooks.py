"""Plaid's webhooks for an item: what they say, the JWT that signs each, and the key that it is verified with.

They say that there is something new, not what; a body has neither an ID nor a time, so that the same thing said twice
is the same body. https://plaid.com/docs/api/webhooks/, https://plaid.com/docs/api/products/transactions/#webhooks
"""

import base64
import hashlib
import time
from collections.abc import Callable
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec

from ..ids import letters
from ..webhooks import Endpoint
from . import errors
from .feed import Feed

_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
"""Order of the group P-256: https://csrc.nist.gov/pubs/sp/800/186/final"""


class SigningKey:
    """A key of Plaid's, the same for the same seed."""

    def __init__(self, seed: str, created_at: int) -> None:
        digest = int.from_bytes(hashlib.sha512(f"plaid webhook key:{seed}".encode()).digest())
        self._private = ec.derive_private_key(1 + digest % (_ORDER - 1), ec.SECP256R1())
        self.id = "-".join(letters(f"key:{seed}:{part}", size).lower() for part, size in enumerate((8, 4, 4, 4, 12)))
        self.created_at = created_at
        self.expired_at: int | None = None

    def public(self) -> dict[str, Any]:
        """The key as `/webhook_verification_key/get` gives it."""
        numbers = self._private.public_key().public_numbers()
        return {
            "alg": "ES256",
            "created_at": self.created_at,
            "crv": "P-256",
            "expired_at": self.expired_at,
            "kid": self.id,
            "kty": "EC",
            "use": "sig",
            "x": _encoded(numbers.x),
            "y": _encoded(numbers.y),
        }

    def sign(self, body: bytes, at: int) -> str:
        """The JWT over a body: when it was issued, and the body's SHA-256."""
        import jwt

        claims = {"iat": at, "request_body_sha256": hashlib.sha256(body).hexdigest()}
        return jwt.encode(claims, self._private, algorithm="ES256", headers={"kid": self.id, "typ": "JWT"})


class Webhooks:
    """What is told of one item, once there is a URL for it; `clock` gives real seconds, which JWTs live by."""

    def __init__(self, item_id: str, feed: Feed, seed: str, clock: Callable[[], float] = time.time) -> None:
        self.item_id = item_id
        self.endpoint: Endpoint | None = None
        self.last: dict[str, str] | None = None
        self._clock = clock
        self._feed = feed
        self._told = len(feed.log)
        self._keys = [SigningKey(seed, int(clock()))]
        self._seed = seed

    @property
    def url(self) -> str:
        """Where they go; empty where nobody wants them."""
        return self.endpoint.url if self.endpoint else ""

    def subscribe(self, url: str | None) -> None:
        """Send them to `url` from now on, or nowhere."""
        self.endpoint = Endpoint(url, "", headers=self._headers) if url else None
        self._told = len(self._feed.log)

    def key(self, key_id: str) -> dict[str, Any]:
        """A key by its ID; PlaidFault for one that there is not."""
        for each in self._keys:
            if each.id == key_id:
                return each.public()
        raise errors.invalid_key_id()

    def rotate(self) -> str:
        """Sign with another key from now on; the old one has expired. The ID of the new one."""
        self._keys[-1].expired_at = int(self._clock())
        self._keys.append(SigningKey(f"{self._seed}:{len(self._keys)}", int(self._clock())))
        return self._keys[-1].id

    def tell(self, kind: str, code: str, **more: Any) -> None:
        """Have one webhook wait to be sent."""
        if self.endpoint is None:
            return
        said = {"webhook_type": kind, "webhook_code": code, "item_id": self.item_id, **more, "environment": "sandbox"}
        self.endpoint.waiting.append(msgspec.json.encode(said))
        self.last = {"webhook_type": kind, "webhook_code": code}

    def follow(self) -> None:
        """Tell of the transactions that were added, changed or removed since."""
        new, self._told = self._feed.log[self._told :], len(self._feed.log)
        if not new:
            return
        self.updates_available()
        if added := sum(what == "added" for what, _ in new):
            self.tell("TRANSACTIONS", "DEFAULT_UPDATE", new_transactions=added, error=None)
        if removed := [transaction.id for what, transaction in new if what == "removed"]:
            self.tell("TRANSACTIONS", "TRANSACTIONS_REMOVED", removed_transactions=removed, error=None)

    def updates_available(self) -> None:
        """Tell that `/transactions/sync` has something new."""
        done = {"initial_update_complete": True, "historical_update_complete": True}
        self.tell("TRANSACTIONS", "SYNC_UPDATES_AVAILABLE", **done)

    async def deliver(self) -> None:
        """Send what waits, and wait until it has arrived or was given up."""
        if self.endpoint is not None:
            await self.endpoint.deliver()

    def _headers(self, body: bytes, _: str) -> dict[str, str]:
        signed = self._keys[-1].sign(body, int(self._clock()))
        return {"content-type": "application/json", "plaid-verification": signed, "user-agent": "plaid-webhooks"}


def _encoded(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(32)).rstrip(b"=").decode()
