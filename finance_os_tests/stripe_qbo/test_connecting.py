"""Connecting to write: never with the app that reads, wherever the credentials of both come from."""

import pytest

from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import SourceError
from finance_os.sources.credentials import Credentials
from finance_os.sources.sealing import new_key
from finance_os.stripe_qbo.authorization import NEEDED
from finance_os.stripe_qbo.company import company_of, writing_credentials
from finance_os.stripe_qbo.connecting import connect
from finance_os_tests.sources.kept import MemorySecrets

REALM = "4620816365000000001"
READS = "FINANCE_OS_QUICKBOOKS_CLIENT_ID"
WRITES = dict.fromkeys(NEEDED, "AbWriter")


def opened(credentials: Credentials) -> str:
    """The realm of the client that is made, or why none is."""
    try:
        with connect(credentials, REALM) as writer:
            return writer.realm
    except SourceError as error:
        return f"{error.code}: {error.message}"


@pytest.mark.parametrize("reads", ["AbWriter", " AbWriter\n"], ids=["the same", "the same with blanks"])
def test_the_app_that_reads_is_refused(reads: str) -> None:
    told = opened(Credentials({**WRITES, READS: reads}, MemorySecrets()))
    assert told == (
        "credentials_not_separate: FINANCE_OS_QUICKBOOKS_WRITE_CLIENT_ID is the app of "
        "FINANCE_OS_QUICKBOOKS_CLIENT_ID: reads and writes use separate credentials. Make another app for writing at "
        "developer.intuit.com, connect it to the company, and set its client ID, client secret and refresh token. "
        "Nothing was sent"
    )
    assert "AbWriter" not in told


@pytest.mark.parametrize(
    "reads", [{READS: "AbReader"}, {READS: ""}, {}], ids=["another app", "an empty name", "no app that reads"]
)
def test_another_app_writes(reads: dict[str, str]) -> None:
    assert opened(Credentials({**WRITES, **reads}, MemorySecrets())) == REALM


def test_the_credentials_of_a_company_name_both(
    database: Database, acme: Connection, globex: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each business's own: what is the reader of one may be named by its prefix alone."""
    assert acme.business_id != globex.business_id
    monkeypatch.setenv("FINANCE_OS_ENCRYPTION_KEY", new_key())
    for business_id, prefix, reads in (("acme", "", "AbReader"), ("globex", "GLOBEX_", "AbWriter")):
        ensure_connection(database, business_id, "quickbooks", secret_reference=f"env:{prefix}")
        for name, value in {**WRITES, READS: reads, "FINANCE_OS_QUICKBOOKS_REALM_ID": REALM}.items():
            monkeypatch.setenv(f"{prefix}{name}", value)
    assert opened(writing_credentials(database, company_of(database, "acme"))) == REALM
    assert opened(writing_credentials(database, company_of(database, "globex"))).startswith("credentials_not_separate")
