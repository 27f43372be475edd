"""Applying: how much of the rate that QuickBooks' limits allow is reached, with those limits in force.

Intuit lets an app send 500 requests a minute for a company, 10 a second, and among them 40 batches a minute of 30
payloads each (https://developer.intuit.com/app/developer/qbo/docs/learn/limits-and-throttles); the sandbox counts as
strictly, over sliding minutes. What the limits allow is therefore a time that nobody can do with less: the 41st batch
may go 60 seconds after the first, and so may the 501st request. The ratio is that time divided by the time taken, from
the plan that is kept to the last link that is committed; each object is written, answered, compared and linked.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal

from finance_os.evidence.businesses import ensure_business, ensure_connection
from finance_os.evidence.database import Database
from finance_os.readiness.policies import QBO_EXPORT
from finance_os.sandbox.process import Running, running_sandbox
from finance_os.sources.credentials import Credentials
from finance_os.stripe_qbo.apply import apply
from finance_os.stripe_qbo.client import QuickBooksWriter
from finance_os.stripe_qbo.connecting import connect
from finance_os.stripe_qbo.guard import BATCH_SIZE
from finance_os.stripe_qbo.intent import Intent
from finance_os.stripe_qbo.lookup import ENTITIES
from finance_os.stripe_qbo.pacing import BATCHES_A_MINUTE
from finance_os.stripe_qbo.store import put_plan
from finance_os_tests.benchmarks.figures import Figure, seconds
from finance_os_tests.readiness.approvers import approve_policy
from finance_os_tests.sources.kept import MemorySecrets
from finance_os_tests.stripe_qbo.books import customer, deposit, invoice, payment

LIMITS = {"per_minute": 500, "per_second": 10, "batches_per_minute": BATCHES_A_MINUTE}
WORKERS = 8
BUSINESS = "bench_applying"


def within_limits(database: Database, minutes: int, *, alone: bool) -> list[Figure]:
    """Objects in batches for so many `minutes`; if `alone` is asked for, also a minute of requests of one object."""
    ensure_business(database, BUSINESS, "Bench", "UTC")
    ensure_connection(database, BUSINESS, "quickbooks")
    with running_sandbox(days=3, size=1, rooms=["quickbooks"]) as sandbox, _writer(sandbox) as writer:
        approve_policy(database, BUSINESS, QBO_EXPORT.key, scope=writer.realm)
        figures = _timed(database, writer, "batches", _stories(writer, minutes), BATCH_SIZE, 60.0 * minutes)
        if alone:
            found = [customer(f"cus_alone{at}") for at in range(LIMITS["per_minute"] + 1)]
            figures += _timed(database, writer, "one by one", found, 1, 60.0)
    return figures


def _stories(writer: QuickBooksWriter, minutes: int) -> list[Intent]:
    """Intents of 40 full batches for each of the minutes, and one more batch: customers, what they are billed, pay, and
    what is paid out."""
    clearing, bank = (
        writer.query(ENTITIES["Account"], {"Name": name})[0]["Id"] for name in ("Stripe Clearing", "Rho Checking")
    )
    number = minutes * BATCHES_A_MINUTE // 4 * BATCH_SIZE
    found: list[Intent] = []
    for at in range(number):
        found += [
            customer(f"cus_{at}"),
            invoice(f"in_{at}", f"cus_{at}", Decimal("120.50")),
            payment(f"py_{at}", f"cus_{at}", f"in_{at}", clearing),
            deposit(f"po_{at}", bank, clearing),
        ]
    return found + [deposit(f"po_last{at}", bank, clearing) for at in range(BATCH_SIZE)]


def _timed(
    database: Database, writer: QuickBooksWriter, how: str, intents: Sequence[Intent], together: int, least: float
) -> list[Figure]:
    put_plan(database, BUSINESS, writer.realm, intents)
    taken = seconds(lambda: _apply(database, writer, len(intents), together))
    return [
        Figure(f"applying, {how}", 60 * len(intents) / taken, "objects/min"),
        Figure(f"applying, {how} / what QuickBooks' limits allow", least / taken, "×", at_least=0.9),
    ]


def _apply(database: Database, writer: QuickBooksWriter, count: int, together: int) -> None:
    result = apply(database, writer, BUSINESS, writer.realm, workers=WORKERS, together=together)
    assert result.finished, result
    assert result.ended.total() == count
    assert result.not_as_planned == 0


@contextmanager
def _writer(sandbox: Running) -> Iterator[QuickBooksWriter]:
    given = sandbox.room("quickbooks", "connect_writer")
    sandbox.room("quickbooks", "rate_limits", **LIMITS)
    values = {
        **{f"FINANCE_OS_QUICKBOOKS_WRITE_{name.upper()}": value for name, value in given.items()},
        **{name: value for name, value in sandbox.env.items() if name.startswith("FINANCE_OS_QUICKBOOKS")},
    }
    with connect(Credentials(values, MemorySecrets()), sandbox.env["FINANCE_OS_QUICKBOOKS_REALM_ID"]) as writer:
        yield writer


def main() -> None:
    """Measure once on a server of its own, and print the figures."""
    import tempfile
    from pathlib import Path

    from rich.console import Console

    from finance_os.evidence import embedded
    from finance_os.evidence.database import migrate

    server = embedded.start(Path(tempfile.mkdtemp(prefix="finance-os-bench-")))
    server.cleanup_mode = "delete"
    database = Database(embedded.ensure_database(server, "applying"))
    migrate(database.url)
    full = os.environ.get("FULL") == "1"
    for figure in within_limits(database, 2 if full else 1, alone=full):
        Console().print(f"{figure.name}: {figure.value:,.3f} {figure.unit} {figure.target}")


if __name__ == "__main__":
    main()
