"""Which Plaid may be asked: its sandbox, a server that stands in for it, or a live host that a policy was approved for.

https://plaid.com/docs/api/#api-host
"""

import re
from collections.abc import Callable
from urllib.parse import urlsplit

from finance_os.evidence.extraction import SourceError

SANDBOX = "https://sandbox.plaid.com"

POLICY = "plaid_production"
"""The policy whose approvals open live hosts; an approval's scope is a host, such as production.plaid.com."""

Approved = Callable[[str, str], bool]
"""Whether an approval of a policy is in force that covers a target (`Credentials.approved`)."""

_HOST = "sandbox.plaid.com"
_TOKEN_ENVIRONMENT = re.compile(r"access-([a-z]+)-")


def nothing_approved(policy: str, target: str) -> bool:  # noqa: ARG001 (`Approved` names them)
    """What holds where no approvals can be looked up."""
    return False


def require_allowed(url: str, access_token: str | None = None, approved: Approved = nothing_approved) -> None:
    """Raise where `url` is Plaid's and neither the sandbox nor approved, or the token is another environment's.

    A host that is not Plaid's own was set by somebody who runs a sandbox there; real accounts cannot be behind it, and
    a token of real accounts is not sent there. Raises `SourceError`, `production_policy_not_approved`.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    if host == "plaid.com" or host.endswith(".plaid.com"):
        plain = parts.scheme != "https" or parts.port not in (None, 443)
        if plain or (host != _HOST and not approved(POLICY, host)):
            raise _closed(f"{parts.scheme}://{host}")
    environment = _TOKEN_ENVIRONMENT.match(access_token or "")
    if environment is not None and environment[1] != "sandbox" and host != f"{environment[1]}.plaid.com":
        raise _closed(f"an access token of Plaid's environment {environment[1]}")


def _closed(what: str) -> SourceError:
    return SourceError(
        "production_policy_not_approved",
        f"{what} is not Plaid's sandbox: production stays closed until the policy {POLICY} is approved for its host",
        permanent=True,
    )
