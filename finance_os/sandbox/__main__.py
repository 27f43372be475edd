"""`python -m finance_os.sandbox`: builds the synthetic company, serves it on 127.0.0.1, says where in one line."""

import argparse
import asyncio
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import FrameType

import msgspec
import uvicorn

from . import baseline, rho
from .open_rooms import ROOMS, Place, open_rooms
from .plaid import PlaidRoom
from .quickbooks import QuickBooksRoom
from .quickbooks import webhooks as quickbooks
from .server import Company, Sandbox, company
from .world import World

RATE_LIMIT = "1000"
"""Requests a second that a client may make of the sandbox, which is not Stripe's to be spared."""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m finance_os.sandbox", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0: any free port")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--days", type=int, default=90, help="days of history before --until")
    parser.add_argument("--start", type=date.fromisoformat, help="its first day, instead of --days")
    parser.add_argument("--size", type=int, default=20, help="advertisers to start with")
    parser.add_argument("--until", type=datetime.fromisoformat, help="the clock at start (ISO 8601, default: now)")
    parser.add_argument("--outside-credits", action="store_true", help="settle some credit notes outside of Stripe")
    parser.add_argument("--accounts", type=int, default=1, choices=(1, 2), help="2: a second company, same IDs")
    parser.add_argument("--gravity-admin-url", help="a PostgreSQL that may create databases and roles")
    parser.add_argument("--gravity-database", default="gravity")
    parser.add_argument("--redshift-database", default="redshift")
    parser.add_argument("--drops", type=Path, help="folder for bank exports; filled at start")
    parser.add_argument("--baselines", type=Path, help="folder for finance's workbook; filled at start")
    parser.add_argument("--kept", type=Path, help="folder for what is changed in the rooms; done again at start")
    parser.add_argument("--webhook-url", help="where Stripe's webhooks of every company go")
    parser.add_argument("--quickbooks-webhook-url", help="where those of the Intuit app go, for every company together")
    parser.add_argument("--quickbooks-webhook-form", choices=("cloudevents", "notifications"), default="cloudevents")
    parser.add_argument("--plaid-webhook-url", nargs="*", default=[], help="where Plaid's go, one URL a company")
    parser.add_argument("--rate-limit", type=float, help="requests a second and account")
    parser.add_argument("--rooms", nargs="*", default=list(ROOMS), help="vendors to serve beside Stripe")
    parser.add_argument("--exit-with-parent", action="store_true", help="leave when standard input ends")
    return parser.parse_args()


def _build(seed: int, start: date, until: datetime, size: int, *, outside_credits: bool) -> World:
    began = time.monotonic()
    shown = began

    def progress(day: date) -> None:
        nonlocal shown
        if time.monotonic() - began > 2 and time.monotonic() - shown > 1:
            shown = time.monotonic()
            sys.stderr.write(f"sandbox: building the world, at {day}\n")

    world = World(seed=seed, start=start, size=size, outside_credits=outside_credits)
    world.advance_to(until, progress)
    return world


def _companies(arguments: argparse.Namespace) -> list[Company]:
    until = arguments.until or datetime.now(UTC).replace(microsecond=0)
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    start = arguments.start or (until - timedelta(days=arguments.days)).astimezone(UTC).date()
    companies: list[Company] = []
    url, form = arguments.quickbooks_webhook_url, arguments.quickbooks_webhook_form
    intuit = quickbooks.Webhooks(url, form=form) if url else None
    for number in range(arguments.accounts):
        suffix = f"_{number + 1}" if number else ""
        seed, outside = arguments.seed + number * 1_000_003, arguments.outside_credits
        world = _build(seed, start, until, arguments.size, outside_credits=outside)
        drops = arguments.drops / f"account{suffix}" if arguments.drops and number else arguments.drops
        if drops is not None:
            rho.export_all(world.bank, drops, start, until.astimezone(UTC).date())
        folder = arguments.baselines / f"account{suffix}" if arguments.baselines and number else arguments.baselines
        if folder is not None:
            rows = baseline.economics(world)
            with suppress(ValueError):  # a company of fewer than three publishers has nothing to disagree about
                rows, planted = baseline.plant(rows)
                world.planted.extend(planted)
            baseline.export(rows, folder, start, until.date(), layout="titled")
        place = Place(arguments.gravity_admin_url, arguments.redshift_database + suffix)
        companies.append(
            company(
                world,
                webhook_url=arguments.webhook_url,
                admin_url=arguments.gravity_admin_url,
                database=arguments.gravity_database + suffix,
                drops=drops,
                baselines=folder,
                rooms=open_rooms(
                    arguments.rooms, world, place if arguments.gravity_admin_url else None, arguments.kept
                ),
            )
        )
        for room in companies[-1].rooms:
            if isinstance(room, QuickBooksRoom):
                room.tell(intuit)
            elif isinstance(room, PlaidRoom) and number < len(arguments.plaid_webhook_url):
                room.webhooks.subscribe(arguments.plaid_webhook_url[number])
    return companies


def _environment(each: Company, number: int, base: str) -> dict[str, str]:
    """What a process needs to be pointed at one company."""
    found = {
        "FINANCE_OS_STRIPE_API_KEY": each.api_key,
        "FINANCE_OS_STRIPE_API_BASE": base,
        "FINANCE_OS_STRIPE_RATE_LIMIT": RATE_LIMIT,
        "FINANCE_OS_STRIPE_WEBHOOK_SECRET": each.webhook.secret if each.webhook else "",
        "FINANCE_OS_GRAVITY_URL": each.gravity.url if each.gravity else "",
        "FINANCE_OS_DROPS": str(each.drops) if each.drops else "",
    }
    for room in each.rooms:
        found |= room.env(f"{base}/c{number}/{room.name}")
    return {name: value for name, value in found.items() if value}


class _Server(uvicorn.Server):
    """Leaves at once when told to, whatever hangs on to it."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002 (uvicorn names them)
        self.should_exit = self.force_exit = True


def _leave_with_parent() -> None:
    """Ask this process to leave as soon as whoever holds the other end of standard input is gone."""
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


async def _serve(arguments: argparse.Namespace) -> None:
    if arguments.exit_with_parent:
        threading.Thread(target=_leave_with_parent, daemon=True).start()
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio: no delay for TCP only
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", arguments.port))
    companies = _companies(arguments)
    sandbox = Sandbox(companies, per_second=arguments.rate_limit)
    config = uvicorn.Config(
        sandbox.app,
        interface="asgi3",
        log_level="warning",
        access_log=False,
        lifespan="off",
        proxy_headers=False,
        server_header=False,
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    first, *others = (_environment(each, number, base) for number, each in enumerate(companies))
    ready = {**first, "admin": f"{base}/_sandbox", "others": others}
    sys.stdout.write(msgspec.json.encode(ready).decode() + "\n")
    sys.stdout.flush()
    await serving
    sandbox.close()


if __name__ == "__main__":
    asyncio.run(_serve(_arguments()))
