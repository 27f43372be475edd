"""Delivers events to a webhook endpoint as vendors do: signed, several at once, in no promised order, tried again.

Signed as Stripe signs unless told otherwise. https://docs.stripe.com/webhooks#verify-manually
"""

import asyncio
import hashlib
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import httpx

_AT_ONCE = 8
_TRIES = 3

Headers = Callable[[bytes, str], Mapping[str, str]]
"""The headers of one try: they are told the body and the secret."""


def sign(payload: bytes, secret: str, timestamp: int) -> str:
    """The `stripe-signature` header over a payload: `t=…,v1=…`, an HMAC-SHA256 of `timestamp.payload`."""
    digest = hmac.new(secret.encode(), str(timestamp).encode() + b"." + payload, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


def stripe_headers(payload: bytes, secret: str) -> dict[str, str]:
    """What Stripe sends with an event."""
    return {
        "content-type": "application/json; charset=utf-8",
        "stripe-signature": sign(payload, secret, int(time.time())),
        "user-agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
    }


@dataclass(slots=True)
class Endpoint:
    """Where the events of one account go, and what became of them. Each try is signed anew by `headers`."""

    url: str
    secret: str
    delivered: int = 0
    failed: int = 0
    waiting: list[bytes] = field(default_factory=list)
    headers: Headers = stripe_headers

    async def deliver(self) -> None:
        """Send what waits. An endpoint that does not answer 2xx gets three tries; then the event counts as failed."""
        events, self.waiting = self.waiting, []
        if not events:
            return
        gate = asyncio.Semaphore(_AT_ONCE)
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            outcomes = await asyncio.gather(*(self._send(client, gate, event) for event in events))
        self.delivered += sum(outcomes)
        self.failed += len(outcomes) - sum(outcomes)

    async def _send(self, client: httpx.AsyncClient, gate: asyncio.Semaphore, event: bytes) -> bool:
        async with gate:
            for attempt in range(_TRIES):
                await asyncio.sleep(0.2 * attempt)
                try:
                    answer = await client.post(self.url, content=event, headers=self.headers(event, self.secret))
                except httpx.HTTPError:
                    continue
                if answer.is_success:
                    return True
        return False
