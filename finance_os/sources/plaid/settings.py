"""What a connection to Plaid is set to: the feature flag, the address, the keys and the rate."""

import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from finance_os.evidence.extraction import SourceError
from finance_os.evidence.reading import CannotTry
from finance_os.sources.credentials import Credentials, is_on
from finance_os.sources.plaid.objects import (
    ACCESS_TOKEN,
    API_BASE_OPTION,
    CLIENT_ID,
    ENABLED_OPTION,
    RATE_LIMIT_OPTION,
    SECRET,
)
from finance_os.sources.plaid.policy import SANDBOX, require_allowed

REQUESTS_A_MINUTE = 30
"""What Plaid allows for one item: https://plaid.com/docs/errors/rate-limit-exceeded/"""


@dataclass(frozen=True)
class PlaidSettings:
    """Settings that have been looked at; printing leaves the keys out. `given_token` is the environment's token."""

    api_base: str
    requests_a_minute: int
    client_id: str = field(repr=False)
    secret: str = field(repr=False)
    given_token: str = field(repr=False)


def read_settings(credentials: Credentials) -> PlaidSettings:
    """The settings in `credentials`.

    Raises `CannotTry`, `feature_flag_off`, where the flag is off; `SourceError`: `production_policy_not_approved` for
    another Plaid than the sandbox that no approval covers, `invalid_setting` for what makes no sense.
    """
    try:
        enabled = is_on(credentials.get(ENABLED_OPTION))
    except ValueError:
        raise _invalid(ENABLED_OPTION, "is neither on nor off") from None
    if not enabled:
        raise CannotTry("feature_flag_off", f"Plaid is switched off: set {ENABLED_OPTION} to 1", permanent=True)
    base = (credentials.get(API_BASE_OPTION) or SANDBOX).rstrip("/")
    if not _is_url(base):
        raise _invalid(API_BASE_OPTION, "is not a URL of scheme, host and path")
    require_allowed(base, credentials[ACCESS_TOKEN], credentials.approved)
    for name in (CLIENT_ID, SECRET, ACCESS_TOKEN):
        if not re.fullmatch(r"[\x21-\x7e]{1,1024}", credentials[name]):
            raise _invalid(name, "holds characters that no key of Plaid's has")
    a_minute = credentials.get(RATE_LIMIT_OPTION)
    if a_minute is not None and not re.fullmatch(r"[1-9][0-9]{0,8}", a_minute):
        raise _invalid(RATE_LIMIT_OPTION, "is a whole number above zero")
    return PlaidSettings(
        base,
        REQUESTS_A_MINUTE if a_minute is None else int(a_minute),
        credentials[CLIENT_ID],
        credentials[SECRET],
        credentials[ACCESS_TOKEN],
    )


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return re.fullmatch(r"https?://[^\s?#@\\]+", text) is not None and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _invalid(name: str, fault: str) -> SourceError:
    return SourceError("invalid_setting", f"{name} {fault}", permanent=True)
