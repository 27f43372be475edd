"""The QuickBooks company of a business: its realm, and the credentials of the side that writes to it."""

from dataclasses import dataclass

from finance_os.evidence.businesses import Connection, active_connections
from finance_os.evidence.database import Database
from finance_os.sources.credentials import Credentials, find_credentials
from finance_os.sources.kept_secrets import ConnectionSecrets
from finance_os.sources.quickbooks.objects import CLIENT_ID as READING_CLIENT_ID
from finance_os.sources.quickbooks.objects import REALM_ID
from finance_os.stripe_qbo.authorization import NEEDED, OPTIONS


@dataclass(frozen=True)
class Company:
    """The company that a business exports to. `connection` is the one that its books are read by."""

    business_id: str
    connection: Connection
    realm: str


def company_of(database: Database, business_id: str) -> Company:
    """The company of a business, by its only active QuickBooks connection.

    Raises `LookupError` where it has none or several, and what `find_credentials` does where the realm is not set.
    """
    found = [each for each in active_connections(database, "quickbooks") if each.business_id == business_id]
    if len(found) != 1:
        raise LookupError(f"{business_id} has {len(found)} active QuickBooks connections: an export needs one")
    return Company(business_id, found[0], find_credentials(found[0].secret_reference, [REALM_ID])[REALM_ID])


def writing_credentials(database: Database, company: Company) -> Credentials:
    """The credentials that write to a company: from the same place as those that read, under names of their own.

    With them the reading side's client ID, which `connect` refuses to write with. Raises `CredentialsMissing` and
    `SourceError` as `find_credentials` does.
    """
    kept = ConnectionSecrets(database, company.connection)
    return find_credentials(company.connection.secret_reference, NEEDED, [*OPTIONS, READING_CLIENT_ID], kept)
