"""The page of every interface there is: what is asked of each vendor, what is written, and what Finance OS answers.

Derived from what the transports enforce: the sources' lists of reads, the writing client's entities, the web app's
routes. Only what no code knows is said here: which scopes a credential needs for it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finance_os.sources.google_drive.objects import SCOPE as DRIVE_SCOPE
from finance_os.sources.google_drive.settings import API_BASE as DRIVE_API
from finance_os.sources.google_drive.settings import TOKEN_URI
from finance_os.sources.guard import Get, Post, Query, Take
from finance_os.sources.plaid.objects import Way as PlaidWay
from finance_os.sources.plaid.policy import SANDBOX as PLAID_SANDBOX
from finance_os.sources.quickbooks.client import API_BASE as QUICKBOOKS_API
from finance_os.sources.quickbooks.client import DISCOVERY_URL
from finance_os.sources.quickbooks.oauth import discovery_base, token_origin
from finance_os.sources.quickbooks.objects import Entity as QuickBooksEntity
from finance_os.sources.quickbooks.objects import Way as QuickBooksWay
from finance_os.sources.registry import SOURCES
from finance_os.sources.source import Source, SourceObject
from finance_os.sources.stripe.client import API_BASE as STRIPE_API
from finance_os.sources.stripe.objects import Endpoint
from finance_os.stripe_qbo.authorization import NEEDED
from finance_os.stripe_qbo.guard import BATCH, BATCH_SIZE, VOID_PARAMETERS
from finance_os.stripe_qbo.intent import Operation
from finance_os.stripe_qbo.lookup import ENTITIES
from finance_os.web.openapi import openapi
from finance_os.webhooks.plaid_keys import READS as PLAID_KEY_READS
from finance_os.webhooks.receive import SECRETS, SIGNATURE_HEADERS


@dataclass(frozen=True)
class Access:
    """Where a source's API is by default, by the name that its reads use, and the least that a credential needs."""

    scopes: str
    origins: Mapping[str, str]


ACCESS: Mapping[str, Access] = {
    "stripe": Access(
        "A restricted key with the read permissions below, and none to write.",
        {"api": STRIPE_API},
    ),
    "quickbooks": Access(
        "OAuth 2 scope `com.intuit.quickbooks.accounting`, the only one that Intuit has for the books: that nothing is "
        "written is the guard's doing.",
        {"api": QUICKBOOKS_API, "discovery": discovery_base(DISCOVERY_URL), "oauth": token_origin(DISCOVERY_URL)},
    ),
    "google_drive": Access(
        f"Scope `{DRIVE_SCOPE}`, for a service account that the folders are shared with as viewer.",
        {"api": DRIVE_API, "oauth": TOKEN_URI.removesuffix("/token")},
    ),
    "plaid": Access("An item with the product `transactions`.", {"api": PLAID_SANDBOX}),
    "rho": Access("None: files are handed in.", {}),
    "gravity": Access("A PostgreSQL login that can only `SELECT` from the tables of the queries.", {}),
    "redshift": Access(
        "A login that can only `SELECT`; over the Data API, an AWS identity with "
        "`redshift-data:ExecuteStatement`, `DescribeStatement`, `GetStatementResult` and `CancelStatement`, and for "
        "the login `secretsmanager:GetSecretValue` of the secret that the URL names, else "
        "`redshift:GetClusterCredentials` or `redshift-serverless:GetCredentials`.",
        {"api": "https://redshift-data.{region}.amazonaws.com"},
    ),
    "xlsx": Access("None: files are handed in.", {}),
}

STRIPE_PERMISSIONS: Mapping[str, str] = {
    "stripe_customer": "customer",
    "stripe_invoice": "invoice",
    "stripe_charge": "charge",
    "stripe_payment_intent": "payment_intent",
    "stripe_balance_transaction": "balance_transaction_source",
    "stripe_credit_note": "credit_note",
    "stripe_customer_balance_transaction": "customer",
    "stripe_refund": "charge",
    "stripe_payout": "payout",
    "stripe_payout_balance_transaction": "balance_transaction_source",
    "stripe_dispute": "dispute",
    "stripe_invoice_payment": "invoice",
    "stripe_event": "event",
    "stripe_balance": "balance",
}
"""What a restricted key must be allowed to read for each object type: `rak_<permission>_read`.
https://docs.stripe.com/keys/restricted-api-keys"""

_PLACES: Mapping[Any, str] = {
    PlaidWay.ITEM: "`POST /item/get`",
    PlaidWay.ACCOUNTS: "`POST /accounts/get`",
    PlaidWay.TRANSACTIONS: "`POST /transactions/get` by date, `POST /transactions/sync` since the cursor",
    PlaidWay.INSTITUTION: "`POST /institutions/get_by_id`",
    "inventory": "`GET /drive/v3/files` of each folder, `GET /drive/v3/changes` while it is walked",
    "candidate": "`GET /drive/v3/files` of each folder",
    "text": "`GET /drive/v3/files/{file}?alt=media`, or `/export` of a document",
}

_HEAD = """\
# Interfaces

<!-- Written by `finance-os artifacts write` from the declarations that the transports enforce. Do not edit. -->

What Finance OS asks of each vendor, what it writes, and what it answers itself. A request that is not listed is refused
by the guard beneath the client before it is sent. Credentials are named by the variables that hold them
(`FINANCE_OS_…`), and looked up at the connection's secret reference.
"""


def discovery_page() -> str:
    """The page, as Markdown."""
    parts = [_HEAD, "## Reads\n"]
    parts += ["\n".join(_source(source)) for source in SOURCES]
    parts += ["\n".join(_export()), "\n".join(_webhooks()), "\n".join(_web())]
    return "\n".join(parts)


def _source(source: Source) -> Iterator[str]:
    access = ACCESS[source.system]
    yield f"### {source.title} (`{source.system}`)\n"
    yield f"- **Scopes**: {access.scopes}"
    yield f"- **Credentials**: {_names(source.credentials) or 'none'}"
    if source.options:
        yield f"- **Options**: {_names(source.options)}"
    if source.feature_flag:
        yield f"- **Only if** `{source.feature_flag}` is on."
    if source.api_version:
        yield f"- **API version**: `{source.api_version}`"
    yield ""
    yield from _table(("request", "at"), (_read(read, access) for read in source.reads))
    yield from _table(("object type", "read by"), ((f"`{obj.object_type}`", place_of(source, obj)) for obj in source))


def _read(read: Get | Post | Query | Take, access: Access) -> tuple[str, str]:
    if isinstance(read, Query):
        return f"`SELECT` of [`{read.folder}/`](../{read.folder})", "the database, in a read-only transaction"
    if isinstance(read, Take):
        return f"files `{read.pattern}`", "the drop folder"
    method = "GET" if isinstance(read, Get) else "POST"
    action = f", action `{read.action}`" if isinstance(read, Post) and read.action else ""
    return f"`{method} {read.path}`{action}", f"`{access.origins[read.at]}`"


def place_of(source: Source, obj: SourceObject[Any]) -> str:
    """How an object type is read, in words for the page."""
    detail = obj.detail
    if isinstance(detail, Endpoint):
        asked = f"`GET {detail.path}`, permission `rak_{STRIPE_PERMISSIONS[obj.object_type]}_read`"
        return f"{asked}, of each payout of `stripe_payout`" if detail.owned_by_payout else asked
    if isinstance(detail, QuickBooksEntity):
        if detail.way is QuickBooksWay.SINGLE:
            return f"`GET /v3/company/{{realm}}/{detail.path}`"
        if detail.way is QuickBooksWay.RATES:
            return "`GET /v3/company/{realm}/exchangerate`"
        return f"query `{detail.name}`" + ("; deletions by `cdc`" if detail.way is QuickBooksWay.CHANGES else "")
    if detail in _PLACES:
        return _PLACES[detail]
    query = getattr(detail, "query", detail)
    if isinstance(name := getattr(query, "name", None), str) and hasattr(query, "version"):
        return f"[`{name}.sql`](../sql/{source.system}/{name}.sql), version {query.version}"
    return obj.reads.value


def _export() -> Iterator[str]:
    yield "## Writes: Stripe → QuickBooks Online\n"
    yield (
        "By another Intuit app than the one that reads, with the same scope `com.intuit.quickbooks.accounting`; its "
        f"credentials are {_names(NEEDED)}. Nothing is sent unless an approval of the policy `qbo_export` covers the "
        "realm. Every write bears a `requestid`. Nothing is ever deleted.\n"
    )
    yield from _table(("request", "for"), written())


def written() -> Iterator[tuple[str, str]]:
    """Every request of the writing client: what is sent, and what for."""
    for entity in ENTITIES.values():
        made = ", ".join(each.value for each in Operation if each in entity.operations and each is not Operation.VOID)
        path = f"/v3/company/{{realm}}/{entity.path}"
        yield f"`POST {path}?requestid=…`", f"{made} of {entity.name}"
        if Operation.VOID in entity.operations:
            extra = "&".join(f"{name}={value}" for name, value in VOID_PARAMETERS[entity.name].items())
            yield f"`POST {path}?requestid=…&{extra}`", f"void of {entity.name}"
        yield f"`GET {path}/{{id}}`", "whether a change arrived"
    yield f"`POST /v3/company/{{realm}}/{BATCH}?requestid=…`", f"up to {BATCH_SIZE} of these creates together"
    yield "`GET /v3/company/{realm}/query?query=…`", "looking up what may have been made, and verifying"


def _webhooks() -> Iterator[str]:
    yield "## Webhooks that are taken\n"
    yield "At `/webhooks/{business}/{source system}/{connection}`; the body's form is in [`schemas/`](schemas).\n"
    yield from _table(
        ("source system", "signature", "verified with"),
        (
            (f"`{system}`", f"header `{header}`", _names(SECRETS[system]))
            for system, header in sorted(SIGNATURE_HEADERS.items())
        ),
    )
    for read in PLAID_KEY_READS:
        yield f"Plaid's keys are asked for by their ID: `POST {read.path}` at `{ACCESS['plaid'].origins['api']}`.\n"


def _web() -> Iterator[str]:
    yield "## The web app\n"
    yield "Described by [`openapi.json`](../finance_os/web/openapi.json):\n"
    described = openapi()["paths"]
    yield from _table(
        ("request", "what it is", "answers"),
        (
            (f"`{method.upper()} {path}`", operation["summary"], ", ".join(sorted(operation["responses"])))
            for path, operations in described.items()
            for method, operation in operations.items()
        ),
    )


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headings)} |"
    yield f"|{'---|' * len(headings)}"
    for row in rows:
        yield f"| {' | '.join(each.replace('|', chr(92) + '|') for each in row)} |"
    yield ""
