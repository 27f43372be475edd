"""Workers in processes of their own: one that applies intents and is killed at an appointed moment, and one that asks
QuickBooks whenever others do.

Moments are counted before and after each statement to the database and each request to QuickBooks.
"""

import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from threading import Barrier
from typing import Any

import psycopg
from psycopg.rows import dict_row
from typing_extensions import override

from finance_os.evidence.businesses import active_connections
from finance_os.evidence.database import Database, DatabaseConnection
from finance_os.sources.credentials import Credentials
from finance_os.sources.kept_secrets import ConnectionSecrets
from finance_os.sources.sealing import EncryptionKeys
from finance_os.stripe_qbo.apply import apply
from finance_os.stripe_qbo.company import company_of, writing_credentials
from finance_os.stripe_qbo.connecting import connect
from finance_os.stripe_qbo.lookup import ENTITIES
from finance_os_tests.stripe_qbo.books import QUICK


@dataclass(frozen=True)
class Orders:
    """What to apply where, and at which moment to die (counted from 1; 0 is never).

    `report`, if given, is a file that the number of moments is written to at the end, followed by the numbers of those
    around requests.
    """

    url: str
    business_id: str
    realm: str
    values: Mapping[str, str]
    key: str
    strike: int = 0
    workers: int = 1
    together: int = 30
    report: str = ""


class Fate:
    """Counts moments, and strikes at the appointed one."""

    def __init__(self, strike: int) -> None:
        self.strike = strike
        self.moments = 0
        self.around_requests: list[int] = []

    def moment(self, of_request: bool = False) -> None:
        self.moments += 1
        if of_request:
            self.around_requests.append(self.moments)
        if self.moments == self.strike:
            os.kill(os.getpid(), signal.SIGKILL)


def main(orders: Orders) -> None:
    """Apply until nothing is left, or until the moment comes."""
    fate = Fate(orders.strike)

    class Counted(psycopg.Connection[Any]):
        @override
        def execute(self, *args: Any, **kwargs: Any) -> Any:
            fate.moment()
            answer = super().execute(*args, **kwargs)
            fate.moment()
            return answer

    class CountedDatabase(Database):
        @override
        def connect(self) -> DatabaseConnection:
            connection = Counted.connect(self.url, autocommit=True, prepare_threshold=None, row_factory=dict_row)
            connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
            return connection

    database = CountedDatabase(orders.url)
    (connection,) = [
        each for each in active_connections(database, "quickbooks") if each.business_id == orders.business_id
    ]
    kept = ConnectionSecrets(database, connection, lambda: EncryptionKeys(orders.key))
    patience = replace(QUICK, read=5)
    with connect(Credentials(orders.values, kept), orders.realm, patience) as writer:
        # The sandbox does what it was asked for at once, or not at all.
        writer.longest_request = 0
        usual = writer.http.request

        def request(*args: Any, **kwargs: Any) -> Any:
            fate.moment(of_request=True)
            answer = usual(*args, **kwargs)
            fate.moment(of_request=True)
            return answer

        writer.http.request = request
        result = apply(
            database, writer, orders.business_id, orders.realm, workers=orders.workers, together=orders.together
        )
    if orders.report:
        with open(orders.report, "w") as report:
            report.write(" ".join(map(str, (fate.moments, *fate.around_requests))))
    if not result.finished:
        sys.stderr.write(f"{result}\n")
    os._exit(0 if result.finished else 3)


def ask_together(url: str, business_id: str, environment: Mapping[str, str], rounds: int, all_of_them: Barrier) -> None:
    """Ask QuickBooks as the writing side of a business, in each round at the same time as everybody at the barrier."""
    os.environ.update(environment)
    try:
        database = Database(url)
        company = company_of(database, business_id)
        with connect(writing_credentials(database, company), company.realm, replace(QUICK, read=30)) as writer:
            for _ in range(rounds):
                all_of_them.wait(60)
                writer.query(ENTITIES["Customer"], {"DisplayName": "Nobody"})
                all_of_them.wait(60)
    except BaseException:
        all_of_them.abort()
        raise
