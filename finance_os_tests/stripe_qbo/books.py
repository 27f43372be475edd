"""A QuickBooks company to write to, behind a socket, and intents with made-up content for it.

`Lossy` stands before the company's own app and loses answers: before the request arrives, or after it was carried out.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from finance_os.sandbox.quickbooks import QuickBooksRoom
from finance_os.sandbox.world import World
from finance_os.sources.credentials import Credentials
from finance_os.sources.quickbooks.client import Patience
from finance_os.stripe_qbo.client import QuickBooksWriter
from finance_os.stripe_qbo.connecting import connect
from finance_os.stripe_qbo.intent import Intent, LinkKey, Operation
from finance_os_tests.sandbox.test_quickbooks import world
from finance_os_tests.sources.kept import MemorySecrets

PREFIX = "/c0/quickbooks"
QUICK = Patience(connect=5, read=5, attempts=3, first_wait=0.01, longest_wait=0.05, throttled=0.02)
DAY = date(2026, 7, 10)


class Loss(StrEnum):
    """What becomes of a request: lost on its way; carried out, and then its answer is cut off, late, in part, a 500."""

    BEFORE = "before"
    AFTER = "after"
    LATE = "late"
    HALF = "half"
    ERROR = "error"


@dataclass
class Lossy:
    """Loses what `losses` says of the next writes, one after the other; `None` lets one pass.

    `watch`, if given, is told of each write before it is carried out and after, with its number from 1.
    """

    app: ASGIApp
    losses: deque[Loss | None] = field(default_factory=deque)
    writes: int = 0
    reads: int = 0
    watch: Callable[[int, str], None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "GET" or "/v3/company/" not in scope["path"]:
            self.reads += "/v3/company/" in scope["path"]
            await self.app(scope, receive, send)
            return
        self.writes += 1
        number = self.writes
        loss = self.losses.popleft() if self.losses else None
        if self.watch:
            self.watch(number, "before")
        if loss is Loss.BEFORE:
            _cut(send)
            return
        answered: list[Message] = []

        async def keep(message: Message) -> None:
            answered.append(message)

        await self.app(scope, receive, keep)
        if self.watch:
            self.watch(number, "after")
        match loss:
            case None:
                for message in answered:
                    await send(message)
            case Loss.AFTER:
                _cut(send)
            case Loss.LATE:
                while (await receive())["type"] != "http.disconnect":
                    pass
            case Loss.HALF:
                body = b"".join(message.get("body", b"") for message in answered)[:40]
                headers = [(b"content-type", b"application/json"), (b"content-length", b"40")]
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                await send({"type": "http.response.body", "body": body})
            case Loss.ERROR:
                await send({"type": "http.response.start", "status": 500, "headers": [(b"content-length", b"0")]})
                await send({"type": "http.response.body", "body": b""})


def _cut(send: Send) -> None:
    """Cut the connection without a byte."""
    cycle: Any = getattr(send, "__self__", None)
    cycle.transport.abort()


@dataclass
class Books:
    """A served company. `base` is its URL; `before` is what stands before it."""

    room: QuickBooksRoom
    base: str
    before: Lossy
    kept: MemorySecrets = field(default_factory=MemorySecrets)
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def realm(self) -> str:
        return self.room.realm_id

    @contextmanager
    def writer(self, patience: Patience = QUICK, kept: Any = None) -> Iterator[QuickBooksWriter]:
        with connect(Credentials(self.values, kept or self.kept), self.realm, patience) as writer:
            yield writer

    def change(self, action: str, **what: Any) -> Any:
        return asyncio.run(self.room.change(action, what))

    def all(self, entity: str, marker: str) -> list[dict[str, Any]]:
        """Every object that bears a marker, looked up in the company itself."""
        bodies = [entry.body() for entry in self.room.realm.all(entity)]
        names = ("Notes", "PrivateNote", "Sku", "Description")
        return [body for body in bodies if any(marker in str(body.get(name, "")).split() for name in names)]

    def one(self, intent: Intent) -> dict[str, Any]:
        """The one object of an intent."""
        found = self.all(intent.entity, intent.marker)
        assert len(found) == 1, f"{intent.key} has {len(found)} objects"
        return found[0]

    def account(self, name: str) -> dict[str, Any]:
        return next(each.body() for each in self.room.realm.all("Account") if each.name == name)


@contextmanager
def served(app: Callable[[], ASGIApp]) -> Iterator[tuple[str, ASGIApp]]:
    """An app behind a socket: the address of its server."""
    running = app()
    server = uvicorn.Server(uvicorn.Config(running, port=0, log_level="critical", lifespan="off", access_log=False))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started:
        assert thread.is_alive(), "the server did not start"
        assert time.monotonic() < deadline, "the server did not start in time"
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", running
    finally:
        server.should_exit = True
        thread.join(10)


@contextmanager
def books(of: World | None = None, books_until: date | None = None) -> Iterator[Books]:
    """A company with a chart of accounts and little more, whose writing app is connected."""
    from starlette.applications import Starlette
    from starlette.routing import Mount

    room = QuickBooksRoom(of or world(days=3, size=1), books_until=books_until)
    before = Lossy(Starlette(routes=[Mount(PREFIX, app=room.app)]))
    with ExitStack() as stack:
        address, _ = stack.enter_context(served(lambda: before))
        given = asyncio.run(room.change("connect_writer", {}))
        env = room.env(f"{address}{PREFIX}")
        values = {
            "FINANCE_OS_QUICKBOOKS_WRITE_CLIENT_ID": given["client_id"],
            "FINANCE_OS_QUICKBOOKS_WRITE_CLIENT_SECRET": given["client_secret"],
            "FINANCE_OS_QUICKBOOKS_WRITE_REFRESH_TOKEN": given["refresh_token"],
            "FINANCE_OS_QUICKBOOKS_API_BASE": env["FINANCE_OS_QUICKBOOKS_API_BASE"],
            "FINANCE_OS_QUICKBOOKS_DISCOVERY_URL": env["FINANCE_OS_QUICKBOOKS_DISCOVERY_URL"],
            "FINANCE_OS_QUICKBOOKS_RATE_LIMIT": "100000",
        }
        yield Books(room, f"{address}{PREFIX}", before, values=values)


# --- intents


def key(stripe_object: str, stripe_id: str) -> LinkKey:
    return LinkKey(stripe_object, stripe_id, stripe_object)


def marker_of(of: LinkKey) -> str:
    return f"stripe:{of.stripe_id}"


def intent(
    of: LinkKey,
    entity: str,
    payload: Mapping[str, Any],
    operation: Operation = Operation.CREATE,
    dated: date = DAY,
    evidence: Mapping[str, str] | None = None,
) -> Intent:
    return Intent(of, operation, entity, payload, dated, marker_of(of), evidence or {})


def customer(stripe_id: str, **more: Any) -> Intent:
    of = key("customer", stripe_id)
    payload = {"DisplayName": f"O'Hara & Söhne \\ {stripe_id}", "Notes": f"Mirrored {marker_of(of)}", **more}
    return intent(of, "Customer", payload)


def sale(of: LinkKey, customer_id: str, amount: Decimal, number: str) -> dict[str, Any]:
    return {
        "CustomerRef": {"value": key("customer", customer_id).as_reference()},
        "TxnDate": DAY.isoformat(),
        "DocNumber": number,
        "PrivateNote": f"Mirrored from Stripe {marker_of(of)}",
        "Line": [
            {
                "Amount": amount,
                "Description": "Clicks",
                "DetailType": "SalesItemLineDetail",
                "SalesItemLineDetail": {"ItemRef": {"value": "1"}, "Qty": 1, "UnitPrice": amount},
            }
        ],
    }


def invoice(stripe_id: str, customer_id: str, amount: Decimal = Decimal("120.50"), number: str = "") -> Intent:
    of = key("invoice", stripe_id)
    return intent(of, "Invoice", sale(of, customer_id, amount, number or f"N-{stripe_id}"))


def payment(
    stripe_id: str, customer_id: str, invoice_id: str, clearing: str, amount: Decimal = Decimal("120.50")
) -> Intent:
    of = key("payment", stripe_id)
    payload = {
        "CustomerRef": {"value": key("customer", customer_id).as_reference()},
        "TotalAmt": amount,
        "TxnDate": DAY.isoformat(),
        "DepositToAccountRef": {"value": clearing},
        "PrivateNote": f"Mirrored from Stripe {marker_of(of)}",
        "Line": [
            {
                "Amount": amount,
                "LinkedTxn": [{"TxnId": key("invoice", invoice_id).as_reference(), "TxnType": "Invoice"}],
            }
        ],
    }
    return intent(of, "Payment", payload)


def deposit(stripe_id: str, bank: str, clearing: str, amount: Decimal = Decimal("120.50")) -> Intent:
    of = key("payout", stripe_id)
    line = {
        "Amount": amount,
        "DetailType": "DepositLineDetail",
        "DepositLineDetail": {"AccountRef": {"value": clearing}},
    }
    payload = {
        "TxnDate": DAY.isoformat(),
        "DepositToAccountRef": {"value": bank},
        "PrivateNote": f"Mirrored from Stripe {marker_of(of)}",
        "Line": [line],
    }
    return intent(of, "Deposit", payload)


def story(books: Books, number: int = 1, prefix: str = "") -> list[Intent]:
    """Customers who are billed, pay, and are paid out: four intents each, the last of them first."""
    clearing, bank = books.account("Stripe Clearing")["Id"], books.account("Rho Checking")["Id"]
    found: list[Intent] = []
    for at in range(number):
        name = f"{prefix}{at}"
        found += [
            deposit(f"po_{name}", bank, clearing),
            payment(f"py_{name}", f"cus_{name}", f"in_{name}", clearing),
            invoice(f"in_{name}", f"cus_{name}"),
            customer(f"cus_{name}"),
        ]
    return found


def hashes(intents: Iterable[Intent]) -> dict[str, str]:
    return {str(each.key): each.input_hash for each in intents}
