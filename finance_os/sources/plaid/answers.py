"""What Plaid is asked, through the models of its library, and what its answers must look like to be believed.

https://plaid.com/docs/api/products/transactions/
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from plaid.model.accounts_get_request import AccountsGetRequest
from plaid.model.country_code import CountryCode
from plaid.model.institutions_get_by_id_request import InstitutionsGetByIdRequest
from plaid.model.item_get_request import ItemGetRequest
from plaid.model.transactions_get_request import TransactionsGetRequest
from plaid.model.transactions_get_request_options import TransactionsGetRequestOptions
from plaid.model.transactions_sync_request import TransactionsSyncRequest
from plaid.model.transactions_sync_request_options import TransactionsSyncRequestOptions

from finance_os.evidence.windows import Days
from finance_os.sources.plaid.client import Answer, PlaidReader
from finance_os.sources.plaid.failures import Unreadable, not_ready

COUNTRIES = ("US",)
"""Where institutions are looked for."""

COMPLETE = "HISTORICAL_UPDATE_COMPLETE"
"""What Plaid says of an item once it has fetched its whole history; before, its answers lack days."""

# Both endpoints must show a transaction alike, or each read would seem to change it.
_SHOWN = {"include_original_description": True, "include_personal_finance_category": True}

Now = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Row:
    """A transaction with what it says of itself. `replaces` is the pending transaction that it was."""

    id: str
    day: date
    pending: bool
    replaces: str | None
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DaysPage:
    """Some transactions of some days, the newest first, how many there are in all, and of which item."""

    rows: list[Row]
    total: int
    item_id: str


@dataclass(frozen=True, slots=True)
class UpdatePage:
    """Some of what changed since a cursor, and the cursor behind it."""

    rows: list[Row]
    removed: list[str]
    cursor: str
    has_more: bool


def days_page(reader: PlaidReader, days: Days, offset: int, now: Now) -> Answer[DaysPage]:
    """The transactions dated on `days`, from the one at `offset` on."""
    what = f"transactions of {days}"

    def read(body: dict[str, Any]) -> DaysPage:
        rows = _rows(body, "transactions", what)
        total = body.get("total_transactions")
        if type(total) is not int or total < 0:
            raise Unreadable(what, "the answer does not say how many there are")
        if len(rows) > min(reader.page_size, max(0, total - offset)):
            raise Unreadable(what, "the answer holds more than there are")
        if len({row.id for row in rows}) != len(rows):
            raise Unreadable(what, "the answer holds a transaction twice")
        if any(row.day not in days for row in rows):
            raise Unreadable(what, "a transaction has a date that was not asked for")
        return DaysPage(rows, total, _text(body.get("item"), "item_id", what))

    options = TransactionsGetRequestOptions(count=reader.page_size, offset=offset, **_SHOWN)
    request = TransactionsGetRequest(
        access_token=reader.access_token, start_date=days.first, end_date=days.last, options=options
    )
    return reader.ask(reader.api.transactions_get, request, what, now, read)


def update_page(reader: PlaidReader, cursor: str, now: Now, count: int | None = None) -> Answer[UpdatePage]:
    """What changed since `cursor`; from the beginning of the item's history where that is empty.

    Raises `PlaidFailure`, `not_ready`, for an item whose history Plaid has not fetched to its end.
    """
    what = "update of transactions"

    def read(body: dict[str, Any]) -> UpdatePage:
        status = body.get("transactions_update_status")
        if status != COMPLETE:
            raise not_ready(what, status if status in ("NOT_READY", "INITIAL_UPDATE_COMPLETE") else "unknown status")
        rows = [*_rows(body, "added", what), *_rows(body, "modified", what)]
        removed = [_text(each, "transaction_id", what) for each in _objects(body, "removed", what)]
        following, more = body.get("next_cursor"), body.get("has_more")
        if type(following) is not str or not following or type(more) is not bool:
            raise Unreadable(what, "the answer does not say where to go on")
        if following == cursor and (more or rows or removed):
            raise Unreadable(what, "the answer leads back to where it came from")
        return UpdatePage(rows, removed, following, more)

    given: dict[str, Any] = {"cursor": cursor} if cursor else {}
    request = TransactionsSyncRequest(
        access_token=reader.access_token,
        count=count or reader.page_size,
        options=TransactionsSyncRequestOptions(**_SHOWN),
        **given,
    )
    return reader.ask(reader.api.transactions_sync, request, what, now, read)


def item(reader: PlaidReader, now: Now) -> Answer[dict[str, Any]]:
    """The item, with its `status` beside it."""

    def read(body: dict[str, Any]) -> dict[str, Any]:
        _text(body.get("item"), "item_id", "item")
        return {**body["item"], "status": body.get("status")}

    return reader.ask(reader.api.item_get, ItemGetRequest(access_token=reader.access_token), "item", now, read)


def accounts(reader: PlaidReader, now: Now) -> Answer[list[dict[str, Any]]]:
    """All accounts of the item; Plaid gives them in one answer, and an error where there are none."""

    def read(body: dict[str, Any]) -> list[dict[str, Any]]:
        found = _objects(body, "accounts", "accounts")
        ids = {_text(each, "account_id", "accounts") for each in found}
        if not found or len(ids) != len(found):
            raise Unreadable("accounts", "the answer holds none, or one of them twice")
        return found

    request = AccountsGetRequest(access_token=reader.access_token)
    return reader.ask(reader.api.accounts_get, request, "accounts", now, read)


def institution(reader: PlaidReader, institution_id: str, now: Now) -> Answer[dict[str, Any]]:
    """An institution by its ID."""

    def read(body: dict[str, Any]) -> dict[str, Any]:
        found = body.get("institution")
        if _text(found, "institution_id", "institution") != institution_id or not isinstance(found, dict):
            raise Unreadable("institution", "the answer holds another one")
        return found

    request = InstitutionsGetByIdRequest(
        institution_id=institution_id, country_codes=[CountryCode(country) for country in COUNTRIES]
    )
    return reader.ask(reader.api.institutions_get_by_id, request, "institution", now, read)


def _rows(body: dict[str, Any], name: str, what: str) -> list[Row]:
    return [_row(each, what) for each in _objects(body, name, what)]


def _row(body: dict[str, Any], what: str) -> Row:
    source_id = _text(body, "transaction_id", what)
    _text(body, "account_id", what)
    try:
        day = date.fromisoformat(_text(body, "date", what))
    except ValueError:
        day = None
    if day is None or day.isoformat() != body["date"]:
        raise Unreadable(what, "a transaction has no date")
    pending, replaces = body.get("pending"), body.get("pending_transaction_id")
    if type(pending) is not bool or not (replaces is None or type(replaces) is str):
        raise Unreadable(what, "a transaction does not say whether it has posted")
    if type(body.get("amount")) not in (int, Decimal):
        raise Unreadable(what, "a transaction has no amount")
    return Row(source_id, day, pending, replaces or None, body)


def _objects(body: dict[str, Any], name: str, what: str) -> list[dict[str, Any]]:
    found = body.get(name)
    if type(found) is not list or not all(type(each) is dict for each in found):
        raise Unreadable(what, f"the answer has no {name}")
    return found


def _text(body: Any, name: str, what: str) -> str:
    value = body.get(name) if isinstance(body, dict) else None
    if type(value) is not str or not value:
        raise Unreadable(what, f"something has no {name}")
    return value
