"""Extraction: reading a vendor's objects against doing it with the vendor SDK's own model objects, side by side.

Ours is what a source yields: pages of plain dicts, exact, proven and made into records. Theirs is what the SDK's
documentation shows, its objects made into plain dicts too. Both ask for the same objects, each over a client that is
open already, and are held to have got the same IDs.

What the vendor takes for its answers is in both times and hides what the clients differ by. So the sandbox's real
answers are recorded while both read once, and then replayed by a small server in a process of its own: ready bytes with
the sandbox's own headers, on connections that stay open. The ratios with a target are over that server; those with the
running sandbox's own time in both are shown beside.
"""

import gc
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import msgspec
from rich.console import Console

from finance_os.evidence.extraction import Kind, Page, Request
from finance_os.evidence.windows import Days, window_of
from finance_os.sandbox.process import Running, running_sandbox
from finance_os.sources.credentials import Credentials
from finance_os.sources.plaid import PLAID
from finance_os.sources.quickbooks import QUICKBOOKS
from finance_os.sources.source import Source, SourceObject
from finance_os.sources.stripe import STRIPE
from finance_os_tests.benchmarks.figures import Figure, seconds, side_by_side
from finance_os_tests.benchmarks.replay import recorded, replaying
from finance_os_tests.benchmarks.streaming import Nothing
from finance_os_tests.sources.kept import MemorySecrets

UNTIL = datetime(2026, 7, 1, tzinfo=UTC)
ZONE = ZoneInfo("UTC")
EVENT_LOG = timedelta(days=31)
"""How long before the present the days end that are read from Stripe: before its event log, all that either way sends
for a window is the pages of one list."""

TARGET = 5
"""How many times as fast as the SDK's own objects."""

_NESTED = {"lines", "refunds"}
"""Lists in objects, of which a page shows the first ten items; ours reads the others, so theirs has to as well."""

STRIPE_TYPES = ("stripe_invoice", "stripe_charge", "stripe_balance_transaction")
PLAID_TYPE = "plaid_transaction"
QUICKBOOKS_TYPE = "quickbooks_invoice"

Found = dict[str, list[str]]
"""IDs of objects, each with those of what lists nested in it hold."""

Read = Callable[[], Found]
"""One read of everything."""


def against_sdks(days: int, size: int, rounds: int, *, download: bool) -> list[Figure]:
    """Ratios for Stripe, Plaid and QuickBooks over a company of `size` advertisers and that many days.

    `download` lets uv fetch python-quickbooks into an environment of its own: it cannot be in this one, since it pins
    another intuit-oauth.
    """
    rooms = ["plaid", "quickbooks"]
    with running_sandbox(days=days, size=size, until=UNTIL, rooms=rooms) as sandbox, ExitStack() as stack:
        replayed = stack.enter_context(replaying(sandbox.base))
        figures = _stripe(sandbox, replayed, days, rounds, stack)
        figures += _plaid(sandbox, replayed, days, rounds, stack)
        return figures + _quickbooks(sandbox, replayed, days, rounds, stack, download=download)


def _stripe(sandbox: Running, replayed: str, days: int, rounds: int, stack: ExitStack) -> list[Figure]:
    last = (UNTIL - EVENT_LOG).date()
    window = Days((UNTIL - timedelta(days=days)).date(), last)
    live, fast = dict(sandbox.env), _moved(sandbox.env, sandbox.base, replayed)
    figures: list[Figure] = []
    for object_type in STRIPE_TYPES:
        obj = STRIPE.object(object_type)
        pairs = [
            (stack.enter_context(_ours(STRIPE, obj, Credentials(env), window)), _stripe_sdk(obj, env, window))
            for env in (fast, live)
        ]
        figures += _compared(object_type, "stripe-python", replayed, pairs, rounds, TARGET)
    return figures


def _stripe_sdk(obj: SourceObject[Any], env: Mapping[str, str], days: Days) -> Read:
    """https://docs.stripe.com/api/pagination/auto?lang=python, for what is nested too, and `to_dict` of each object."""
    import stripe

    client = stripe.StripeClient(
        env["FINANCE_OS_STRIPE_API_KEY"],
        base_addresses={"api": env["FINANCE_OS_STRIPE_API_BASE"]},
        http_client=stripe.RequestsClient(),
    )
    window = window_of(days, ZONE)
    params: dict[str, Any] = {
        "limit": 100,
        "created": {"gte": int(window.start.timestamp()), "lt": int(window.end.timestamp())},
    }
    if obj.detail.expand:
        params["expand"] = [f"data.{name}" for name in obj.detail.expand]
    service = getattr(client.v1, obj.detail.path.rpartition("/")[2])

    def read() -> Found:
        ids: Found = {}
        for found in service.list(params=params).auto_paging_iter():
            payload = found.to_dict()
            for name in _NESTED & payload.keys():
                shown = payload[name]["data"]
                if payload[name]["has_more"]:
                    rest = itertools.islice(getattr(found, name).auto_paging_iter(), len(shown), None)
                    shown += [each.to_dict() for each in rest]
            ids[payload["id"]] = _nested_ids(payload)
        return ids

    return read


def _nested_ids(payload: Mapping[str, Any]) -> list[str]:
    """IDs of what the lists nested in an object hold, to tell whether it is whole."""
    return [each["id"] for name in _NESTED & payload.keys() for each in payload[name]["data"]]


def _plaid(sandbox: Running, replayed: str, days: int, rounds: int, stack: ExitStack) -> list[Figure]:
    window = Days((UNTIL - timedelta(days=days)).date(), (UNTIL - EVENT_LOG).date())
    env = dict(sandbox.env) | {"FINANCE_OS_PLAID_RATE_LIMIT": "1000000"}
    obj = PLAID.object(PLAID_TYPE)
    pairs = [
        (stack.enter_context(_ours(PLAID, obj, Credentials(each, MemorySecrets()), window)), _plaid_sdk(each, window))
        for each in (_moved(env, sandbox.base, replayed), env)
    ]
    return _compared(PLAID_TYPE, "plaid-python", replayed, pairs, rounds, TARGET)


def _plaid_sdk(env: Mapping[str, str], days: Days) -> Read:
    """https://plaid.com/docs/api/products/transactions/#transactionsget in Python, and `to_dict` of each."""
    import plaid
    from plaid.api.plaid_api import PlaidApi
    from plaid.model.transactions_get_request import TransactionsGetRequest
    from plaid.model.transactions_get_request_options import TransactionsGetRequestOptions

    keys = {"clientId": env["FINANCE_OS_PLAID_CLIENT_ID"], "secret": env["FINANCE_OS_PLAID_SECRET"]}
    configuration = plaid.Configuration(host=env["FINANCE_OS_PLAID_API_BASE"], api_key=keys)
    client = PlaidApi(plaid.ApiClient(configuration))

    def read() -> Found:
        ids: Found = {}
        total = 1
        while len(ids) < total:
            options = TransactionsGetRequestOptions(count=500, offset=len(ids), include_original_description=True)
            token = env["FINANCE_OS_PLAID_ACCESS_TOKEN"]
            asked = TransactionsGetRequest(
                access_token=token, start_date=days.first, end_date=days.last, options=options
            )
            answer = client.transactions_get(asked)
            total = answer.total_transactions
            ids |= {each.to_dict()["transaction_id"]: [] for each in answer.transactions}
        return ids

    return read


def _quickbooks(
    sandbox: Running, replayed: str, days: int, rounds: int, stack: ExitStack, *, download: bool
) -> list[Figure]:
    env = dict(sandbox.env) | {"FINANCE_OS_QUICKBOOKS_RATE_LIMIT": "1000000"}
    access, env["FINANCE_OS_QUICKBOOKS_REFRESH_TOKEN"] = _quickbooks_tokens(env)
    window = Days((UNTIL - timedelta(days=days)).date(), (UNTIL - timedelta(days=1)).date())
    obj, kept = QUICKBOOKS.object(QUICKBOOKS_TYPE), MemorySecrets()
    both = (_moved(env, sandbox.base, replayed), env)
    ours = [stack.enter_context(_ours(QUICKBOOKS, obj, Credentials(each, kept), window)) for each in both]
    if not download:
        Console().print("python-quickbooks is left out: FULL=1 downloads it")
        return _alone(QUICKBOOKS_TYPE, ours[0], rounds)
    try:
        theirs = [stack.enter_context(_quickbooks_sdk(obj.detail.name, each, access, window)) for each in both]
    except OSError as error:
        Console().print(f"python-quickbooks is left out: {error}")
        return _alone(QUICKBOOKS_TYPE, ours[0], rounds)
    return _compared(
        QUICKBOOKS_TYPE, "python-quickbooks", replayed, list(zip(ours, theirs, strict=True)), rounds, TARGET
    )


def _quickbooks_tokens(env: Mapping[str, str]) -> tuple[str, str]:
    """An access token for the SDK's client, and the refresh token that ours goes on with."""
    answer = httpx.post(
        f"{env['FINANCE_OS_QUICKBOOKS_API_BASE']}/oauth2/v1/tokens/bearer",
        auth=(env["FINANCE_OS_QUICKBOOKS_CLIENT_ID"], env["FINANCE_OS_QUICKBOOKS_CLIENT_SECRET"]),
        data={"grant_type": "refresh_token", "refresh_token": env["FINANCE_OS_QUICKBOOKS_REFRESH_TOKEN"]},
        headers={"accept": "application/json"},
        trust_env=False,
    )
    tokens = answer.raise_for_status().json()
    return tokens["access_token"], tokens["refresh_token"]


_QUICKBOOKS_SDK = """
import importlib, json, sys, time
from types import SimpleNamespace
from quickbooks import QuickBooks

base, token, realm, name, condition = sys.argv[1:]
QuickBooks.sandbox_api_url_v3 = base + "/v3"
auth = SimpleNamespace(environment="sandbox", access_token=token, refresh_token="", client_id="")
client = QuickBooks(auth_client=auth, refresh_token="", company_id=realm, minorversion=75)
model = getattr(importlib.import_module("quickbooks.objects." + name.lower()), name)

def read():
    ids, page = [], [None] * 1000
    while len(page) == 1000:
        page = model.where(condition, start_position=len(ids) + 1, max_results=1000, qb=client)
        ids += [found.to_dict()["Id"] for found in page]
    return ids

print("[]", flush=True)
for _ in sys.stdin:
    started = time.perf_counter()
    ids = read()
    print(json.dumps([time.perf_counter() - started, ids]), flush=True)
"""
"""https://github.com/ej2/python-quickbooks#readme: a filtered list, paged, and `to_dict` of each object."""


@contextmanager
def _quickbooks_sdk(name: str, env: Mapping[str, str], access: str, days: Days) -> Iterator["_Timed"]:
    """The SDK in a process of its own, in an environment that uv makes for it. OSError where it is not to be had."""
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if uv is None:
        raise OSError("there is no uv")
    window = window_of(days, ZONE)
    condition = (
        f"MetaData.LastUpdatedTime >= '{window.start.isoformat()}' "
        f"AND MetaData.LastUpdatedTime < '{window.end.isoformat()}'"
    )
    base, realm = env["FINANCE_OS_QUICKBOOKS_API_BASE"], env["FINANCE_OS_QUICKBOOKS_REALM_ID"]
    command = [uv, "run", "--quiet", "--isolated", "--no-project", "--with", "python-quickbooks", "python"]
    process = subprocess.Popen(
        [*command, "-c", _QUICKBOOKS_SDK, base, access, realm, name, condition],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "OAUTHLIB_INSECURE_TRANSPORT": "1"},
    )
    with process:
        assert process.stdin is not None
        assert process.stdout is not None
        if not process.stdout.readline():
            raise OSError("uv could not get it")
        yield _Timed(process)
        process.stdin.close()


class _Timed:
    """A read that another process makes: the IDs that it found, and in `taken` what it took there, in seconds."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.taken = 0.0

    def __call__(self) -> Found:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        self.taken, ids = msgspec.json.decode(self._process.stdout.readline())
        return {source_id: [] for source_id in ids}


@contextmanager
def _ours(source: Source, obj: SourceObject[Any], credentials: Credentials, days: Days) -> Iterator[Read]:
    """A source's read of a window, by a client that stays open."""
    request = Request(Kind.WINDOW, days, window_of(days, ZONE), ZONE, lambda: UNTIL, Nothing())
    with source.open(credentials) as client:

        def read() -> Found:
            ids: Found = {}
            for item in source.extract(client, obj, request):
                if isinstance(item, Page):
                    for record in item.records:
                        assert record.payload is not None
                        ids[record.source_id] = _nested_ids(record.payload)
            return ids

        yield read


def _compared(
    object_type: str,
    sdk: str,
    replayed: str,
    pairs: list[tuple[Read, Read]],
    rounds: int,
    at_least: float | None = None,
) -> list[Figure]:
    """Figures for what was replayed and for the running sandbox, which `pairs` are ours and theirs for, in order."""
    figures: list[Figure] = []
    for number, (ours, theirs) in enumerate(pairs):
        ids = ours()
        assert ids, f"there is no {object_type}"
        assert ids == theirs(), f"{sdk} found other objects of {object_type} than our read"
        before = recorded(replayed)
        gc.collect()
        gc.freeze()  # what earlier reads and imports left is no business of either's collector
        own, other = side_by_side(rounds, _timed(ours), _timed(theirs))
        assert recorded(replayed) == before, "something was asked for that had not been recorded"
        if number == 0:
            figures += [
                Figure(f"{object_type}, our read of {len(ids):,}", len(ids) / own, "objects/s"),
                Figure(f"{object_type}, {sdk}'s objects", len(ids) / other, "objects/s"),
                Figure(f"{object_type}, our read / {sdk}'s objects", other / own, "×", at_least),
            ]
        else:
            figures.append(Figure(f"the same with the sandbox's own time in both, {object_type}", other / own, "×"))
    return figures


def _alone(object_type: str, ours: Read, rounds: int) -> list[Figure]:
    found = len(ours())
    assert found, f"there is no {object_type}"
    (own,) = side_by_side(rounds, _timed(ours))
    return [Figure(f"{object_type}, our read of {found:,}", found / own, "objects/s")]


def _timed(read: Read) -> Callable[[], float]:
    def timed() -> float:
        whole = seconds(read)
        return read.taken if isinstance(read, _Timed) else whole

    return timed


def _moved(env: Mapping[str, str], base: str, to: str) -> dict[str, str]:
    return {name: value.replace(base, to) for name, value in env.items()}
