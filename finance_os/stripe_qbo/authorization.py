"""The authorization to write: an app's credentials and tokens, apart from those of the reading side."""

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from finance_os.sources.credentials import Credentials, KeptSecret, KeptSecrets
from finance_os.sources.quickbooks.faults import QuickBooksFailure
from finance_os.sources.quickbooks.objects import API_BASE_OPTION, DISCOVERY_URL_OPTION, RATE_LIMIT_OPTION
from finance_os.sources.quickbooks.tokens import Granted, Tokens

CLIENT_ID = "FINANCE_OS_QUICKBOOKS_WRITE_CLIENT_ID"
CLIENT_SECRET = "FINANCE_OS_QUICKBOOKS_WRITE_CLIENT_SECRET"  # noqa: S105  the name of one
REFRESH_TOKEN = "FINANCE_OS_QUICKBOOKS_WRITE_REFRESH_TOKEN"  # noqa: S105  the name of one
NEEDED = (CLIENT_ID, CLIENT_SECRET, REFRESH_TOKEN)
OPTIONS = (API_BASE_OPTION, DISCOVERY_URL_OPTION, RATE_LIMIT_OPTION)


@dataclass(frozen=True)
class _Apart:
    """Kept secrets of the connection beside those of its reading side."""

    kept: KeptSecrets

    def read(self, name: str) -> str | None:
        return self.kept.read(f"write_{name}")

    def exclusive(self, name: str) -> AbstractContextManager[KeptSecret]:
        return self.kept.exclusive(f"write_{name}")


class Authorization:
    """Access tokens to write with, for the threads of a process; `renew` asks Intuit for new ones.

    They are kept for all processes, and renewed by one of them at a time.
    """

    def __init__(self, credentials: Credentials, renew: Callable[[str], Granted]) -> None:
        self._tokens = Tokens(_Apart(credentials.kept), credentials[REFRESH_TOKEN], renew)
        self._renewing = threading.Lock()

    def access(self, refused: str | None = None) -> str:
        """An access token other than `refused`, which QuickBooks did not accept. Raises `QuickBooksFailure`."""
        with self._renewing:
            try:
                return self._tokens.access(refused)
            except QuickBooksFailure as failure:
                message = failure.message
                for name in NEEDED:  # the reading side's client names its own variables
                    message = message.replace(name.replace("_WRITE_", "_"), name)
                again = QuickBooksFailure(
                    failure.code, message, permanent=failure.permanent, retry_after=failure.retry_after
                )
        raise again from None
