"""The authorization to write, in several processes at once: each refresh token is used once, and none is lost."""

import asyncio
import json
import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finance_os.evidence.businesses import Connection, active_connections, ensure_connection
from finance_os.evidence.database import Database
from finance_os.sources.kept_secrets import ConnectionSecrets
from finance_os.sources.sealing import EncryptionKeys, new_key
from finance_os_tests.stripe_qbo import worker
from finance_os_tests.stripe_qbo.books import Books, books
from finance_os_tests.stripe_qbo.staged import environment

ROUNDS = 3
PROCESSES = 2
SLOW = 0.3
"""Seconds that a renewal takes: long enough for every process to want one meanwhile."""


@dataclass
class Renewals:
    """Takes its time for each renewal of tokens, and counts them; `at_once` is the most that were under way."""

    app: ASGIApp
    count: int = 0
    under_way: int = 0
    at_once: int = 0
    refused: list[int] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not scope["path"].endswith("/tokens/bearer"):
            await self.app(scope, receive, send)
            return
        self.count, self.under_way = self.count + 1, self.under_way + 1
        self.at_once = max(self.at_once, self.under_way)
        await asyncio.sleep(SLOW)

        async def noted(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] != 200:
                self.refused.append(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, noted)
        finally:
            self.under_way -= 1


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Books, Renewals]]:
    with books() as company:
        renewals = Renewals(company.before.app)
        company.before.app = renewals
        yield company, renewals


def test_processes_that_need_a_token_at_once_renew_it_once(
    served: tuple[Books, Renewals], database: Database, acme: Connection
) -> None:
    """Nothing is kept at first, and then the access token is over again and again: QuickBooks takes the old refresh
    token no more once the new one was used, so whoever came with it would have lost the connection."""
    company, renewals = served
    ensure_connection(database, "acme", "quickbooks")
    key = new_key()
    values = {**environment(company), "FINANCE_OS_DATABASE_URL": database.url, "FINANCE_OS_ENCRYPTION_KEY": key}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["finance_os_tests.stripe_qbo.worker"])
    all_of_them = context.Barrier(PROCESSES + 1)
    given = (database.url, "acme", values, ROUNDS, all_of_them)
    asking = [context.Process(target=worker.ask_together, args=given) for _ in range(PROCESSES)]
    seen = [values["FINANCE_OS_QUICKBOOKS_WRITE_REFRESH_TOKEN"]]
    for each in asking:
        each.start()
    try:
        for number in range(1, ROUNDS + 1):
            all_of_them.wait(60)
            all_of_them.wait(60)
            writing = company.room.connection.writer
            assert writing is not None
            assert (renewals.count, renewals.at_once, renewals.refused) == (number, 1, [])
            assert writing.refresh_token not in seen
            seen.append(writing.refresh_token)
            company.change("expire_access_tokens")
    finally:
        for each in asking:
            each.join(60)
    assert [each.exitcode for each in asking] == [0] * PROCESSES
    (connection,) = active_connections(database, "quickbooks")
    kept = ConnectionSecrets(database, connection, lambda: EncryptionKeys(key))
    assert kept.names() == ["write_tokens"]
    assert json.loads(kept.read("write_tokens") or "{}")["refresh_token"] == seen[-1]
    [row] = database.fetch("SELECT version FROM finance_os.connection_secrets")
    assert row["version"] == ROUNDS
