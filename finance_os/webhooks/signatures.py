"""Whether a webhook is the vendor's: its signature over the raw body, compared in constant time, and its age.

Secrets are given as they are set: one, or two separated by a comma while they are being rotated. All of them are always
tried, so that how long it takes tells nothing of which one it was.
"""

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Iterable

from finance_os.webhooks.settings import TOLERANCE_SECONDS

_MOST_SIGNATURES = 20


class BadSignature(Exception):
    """A request that did not come from the vendor, or not just now.

    `reason` is a code for the counter: `signature_missing`, `signature_malformed`, `signature_wrong`, `signature_old`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class UnfitSecrets(Exception):
    """What is set as secrets cannot be: none, or more than two at once."""


def secrets_of(setting: str) -> tuple[str, ...]:
    """The secrets in a setting: one, or two at once. Raises `UnfitSecrets`."""
    found = tuple(secret for part in setting.split(",") if (secret := part.strip()))
    if not 1 <= len(found) <= 2:
        raise UnfitSecrets(f"{len(found)} secrets are set: one is needed, or two while they are rotated")
    return found


def verify_stripe(body: bytes, header: str | None, secrets: Iterable[str], now: float | None = None) -> None:
    """Raise `BadSignature` unless `header` (`stripe-signature`) is an HMAC-SHA256 of `timestamp.body` by a secret.

    It decides as the SDK's `WebhookSignature.verify_header` does, over bytes: other schemes than v1 do not count, any
    of several v1 signatures may fit, and one older than the tolerance is refused.
    https://docs.stripe.com/webhooks#verify-manually
    """
    if not header:
        raise BadSignature("signature_missing")
    items = [item.strip().split("=", 1) for item in header.split(",")]
    times = [item[1] for item in items if len(item) == 2 and item[0] == "t"]
    given = [item[1] for item in items if len(item) == 2 and item[0] == "v1"]
    if not times or not re.fullmatch(r"[0-9]{1,15}", times[0]) or not given or len(given) > _MOST_SIGNATURES:
        raise BadSignature("signature_malformed")
    signed = times[0].encode() + b"." + body
    expected = [hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest() for secret in secrets]
    if not _any_equal(expected, given):
        raise BadSignature("signature_wrong")
    if int(times[0]) < (time.time() if now is None else now) - TOLERANCE_SECONDS:
        raise BadSignature("signature_old")


def verify_intuit(body: bytes, header: str | None, secrets: Iterable[str]) -> None:
    """Raise `BadSignature` unless `header` (`intuit-signature`) is the base64 of an HMAC-SHA256 of the body.

    The key is the app's verifier token. Intuit signs no time: what is sent again is known by its event IDs.
    https://developer.intuit.com/app/developer/qbo/docs/develop/webhooks
    """
    if not header:
        raise BadSignature("signature_missing")
    expected = [
        base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode() for secret in secrets
    ]
    if not _any_equal(expected, [header.strip()]):
        raise BadSignature("signature_wrong")


def _any_equal(expected: Iterable[str], given: Iterable[str]) -> bool:
    """Whether one of `given` is one of `expected`: every pair is compared, each in constant time."""
    pairs = [(mine.encode(), theirs.encode(errors="surrogateescape")) for mine in expected for theirs in given]
    return sum([hmac.compare_digest(mine, theirs) for mine, theirs in pairs]) > 0
