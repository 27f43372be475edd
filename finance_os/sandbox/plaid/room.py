"""The Plaid room: one item with one bank account behind Plaid's endpoints, and what tests and demos can do to it.

Access tokens and cursors belong to this run of the sandbox: after a restart an old token is INVALID_ACCESS_TOKEN and an
old cursor is "not associated with access_token"; item, account and transaction IDs stay what they were.
"""

import asyncio
from collections.abc import Callable
from datetime import date
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import uuid4

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ..company import Planted
from ..ids import letters
from ..world import World
from . import errors, requests, resources
from .errors import PlaidFault
from .feed import Feed
from .webhooks import Webhooks

_ENCODER = msgspec.json.Encoder(decimal_format="number")
_JSON = {"content-type": "application/json"}
_NEEDS_LOGIN = ("/transactions/sync", "/transactions/get", "/accounts/get")
# What each change may be told.
_CHANGES: dict[str, set[str]] = {
    "remove_transaction": {"id"},
    "modify_transaction": {"id", "amount", "amount_cents", "name"},
    "add_transaction": {"date", "amount", "amount_cents", "name"},
    "mutate_during_pagination": {"times"},
    "item_error": {"on"},
    "subscribe": {"url"},
    "rotate_key": set(),
    "list": set(),
}
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class PlaidRoom:
    """One company's bank account as Plaid's sandbox shows it."""

    name = "plaid"

    def __init__(self, world: World) -> None:
        self.world = world
        seed = f"plaid:{world.stripe.account}:{world.seed}"
        self.client_id = letters(f"client:{seed}", 24).lower()
        self.secret = letters(f"secret:{seed}", 30).lower()
        self.item_id = letters(f"item:{seed}", 37)
        self.account_id = letters(f"account:{seed}", 37)
        self.access_token = _access_token()
        self.feed = Feed(world, uuid4().hex)
        self.webhooks = Webhooks(self.item_id, self.feed, seed)
        self._tokens = {self.access_token: True}
        self._public_tokens: set[str] = set()
        self._needs_login = False
        self._requests = 0
        self._firing: asyncio.Task[None] | None = None
        self._answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "/transactions/sync": self._sync,
            "/transactions/get": self._get,
            "/item/get": self._item_get,
            "/item/remove": self._item_remove,
            "/accounts/get": self._accounts_get,
            "/institutions/get_by_id": self._institution,
            "/sandbox/public_token/create": self._create_public_token,
            "/item/public_token/exchange": self._exchange,
            "/item/webhook/update": self._update_webhook,
            "/sandbox/item/fire_webhook": self._fire_webhook,
            "/webhook_verification_key/get": lambda asked: {"key": self.webhooks.key(asked["key_id"])},
        }
        self.app = Starlette(
            routes=[
                *(Route(path, self._endpoint(path), methods=["POST"]) for path in self._answers),
                Route("/{rest:path}", self._unknown, methods=_METHODS),
            ]
        )
        self.follow()

    def env(self, base: str) -> dict[str, str]:
        """What points a process at this room, mounted at `base`."""
        return {
            "FINANCE_OS_PLAID_CLIENT_ID": self.client_id,
            "FINANCE_OS_PLAID_SECRET": self.secret,
            "FINANCE_OS_PLAID_ACCESS_TOKEN": self.access_token,
            "FINANCE_OS_PLAID_ENABLED": "1",
            "FINANCE_OS_PLAID_API_BASE": base.rstrip("/"),
        }

    def follow(self) -> None:
        """Bring the account up to the world's present."""
        self.feed.follow()
        self.webhooks.follow()

    async def deliver(self) -> None:
        """Send the webhooks that wait."""
        await self.webhooks.deliver()

    def fault(self, kind: str) -> tuple[int, dict[str, str], bytes]:
        """Plaid's form of a failure: `429`, `500`, `403`."""
        fault = errors.SCRIPTED[kind]
        return fault.status, dict(_JSON), _ENCODER.encode(fault.body(self._request_id()))

    def planted(self) -> list[Planted]:
        """Where Plaid disagrees with the bank's exports, so far; the IDs are those of posted transactions."""
        return list(self.feed.planted)

    def close(self) -> None:
        """Nothing is held open."""

    async def change(self, action: str, what: dict[str, Any]) -> Any:
        """What the bank or a test does, at the present clock; ValueError for what makes no sense.

        `remove_transaction` (`id`), `modify_transaction` (`id` and `amount`, `amount_cents` or `name`),
        `add_transaction` (`date`, `amount` or `amount_cents`, `name`; posted at once). Amounts have Plaid's sign:
        positive is money out; `amount` is in dollars. `mutate_during_pagination` answers the next `times` (1) requests
        for a second or later page with the error of that name, `item_error` (`on`) makes the item need a login,
        `subscribe` (`url`) sends webhooks there, `rotate_key` signs them with another key, `list` gives the IDs of all
        transactions. Webhooks of what was changed have been sent when it answers.
        """
        if action not in _CHANGES:
            raise ValueError(f"Plaid cannot {action!r}; it can {', '.join(sorted(_CHANGES))}")
        if unknown := what.keys() - _CHANGES[action]:
            raise ValueError(f"{action} does not know {sorted(unknown)}; it knows {sorted(_CHANGES[action])}")
        try:
            answer = self._change(action, what)
        except (KeyError, TypeError) as error:
            raise ValueError(f"{action} lacks or does not understand {error}") from None
        self.webhooks.follow()
        await self.deliver()
        return answer

    def _change(self, action: str, what: dict[str, Any]) -> Any:
        match action:
            case "remove_transaction":
                found = self.feed.find(what["id"])
                self.feed.remove(found)
                return {"id": found.id}
            case "modify_transaction":
                found, amount, name = self.feed.find(what["id"]), _cents(what), what.get("name")
                if amount is None and name is None:
                    raise ValueError("modify_transaction needs an amount, amount_cents or name")
                return {"id": self.feed.modify(found, amount=amount, name=name and str(name)).id}
            case "add_transaction":
                amount = _cents(what)
                if amount is None:
                    raise ValueError("add_transaction needs an amount or amount_cents")
                return {"id": self.feed.add(date.fromisoformat(what["date"]), amount, str(what["name"])).id}
            case "mutate_during_pagination":
                self.feed.forced_mutations = int(what.get("times", 1))
                return {"times": self.feed.forced_mutations}
            case "item_error":
                self._needs_login = bool(what["on"])
                if self._needs_login:
                    self.webhooks.tell("ITEM", "ERROR", error=errors.login_required().body(self._request_id()))
                else:
                    self.webhooks.tell("ITEM", "LOGIN_REPAIRED")
                return {"on": self._needs_login}
            case "subscribe":
                self.webhooks.subscribe(what["url"])
                return {"url": self.webhooks.url}
            case "rotate_key":
                return {"key_id": self.webhooks.rotate()}
            case _:
                return sorted(self.feed.present)

    # --- the way in

    def _endpoint(self, path: str) -> Callable[[Request], Any]:
        async def answer(request: Request) -> Response:
            request_id = self._request_id()
            try:
                kind = request.headers.get("content-type", "")
                asked = requests.read(path, kind, await request.body(), request.headers)
                self._admit(path, asked)
                body, status = {**self._answers[path](asked), "request_id": request_id}, 200
            except PlaidFault as fault:
                body, status = fault.body(request_id), fault.status
            return Response(_ENCODER.encode(body), status, headers=_JSON)

        return answer

    async def _unknown(self, _: Request) -> Response:
        fault = errors.not_found()
        return Response(_ENCODER.encode(fault.body(self._request_id())), fault.status, headers=_JSON)

    def _admit(self, path: str, asked: dict[str, Any]) -> None:
        if (asked["client_id"], asked["secret"]) != (self.client_id, self.secret):
            raise errors.invalid_api_keys()
        token = asked.get("access_token")
        if token is None:
            return
        if token not in self._tokens:
            raise errors.invalid_access_token(malformed=not token.startswith("access-sandbox-"))
        if not self._tokens[token]:
            raise errors.item_removed()
        if self._needs_login and path in _NEEDS_LOGIN:
            raise errors.login_required()

    def _request_id(self) -> str:
        self._requests += 1
        return letters(f"plaid request:{self.access_token}:{self._requests}", 15)

    # --- the endpoints

    def _sync(self, asked: dict[str, Any]) -> dict[str, Any]:
        options = asked.get("options", {})
        self._own_accounts([options["account_id"]] if "account_id" in options else [])
        page = self.feed.page(asked.get("cursor", ""), asked.get("count", 100))
        original = options.get("include_original_description", False)
        body: dict[str, Any] = {"added": [], "modified": [], "removed": []}
        for what, each in page.changes:
            body[what].append(
                {"account_id": self.account_id, "transaction_id": each.id}
                if what == "removed"
                else resources.transaction(self.account_id, each, original=original)
            )
        return {
            "accounts": [self._account()],
            **body,
            "has_more": page.has_more,
            "next_cursor": page.cursor,
            "transactions_update_status": "HISTORICAL_UPDATE_COMPLETE",
        }

    def _get(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["start_date"] > asked["end_date"]:
            raise errors.invalid_field("start_date must be on or before end_date")
        options = asked.get("options", {})
        self._own_accounts(options.get("account_ids", []))
        found = self.feed.between(asked["start_date"], asked["end_date"])
        offset, original = options.get("offset", 0), options.get("include_original_description", False)
        chosen = found[offset : offset + options.get("count", 100)]
        return {
            "accounts": [self._account()],
            "item": self._item(),
            "total_transactions": len(found),
            "transactions": [resources.transaction(self.account_id, each, original=original) for each in chosen],
        }

    def _accounts_get(self, asked: dict[str, Any]) -> dict[str, Any]:
        self._own_accounts(asked.get("options", {}).get("account_ids", []))
        return {"accounts": [self._account()], "item": self._item()}

    def _item_get(self, _: dict[str, Any]) -> dict[str, Any]:
        now = self.world.when.strftime("%Y-%m-%dT%H:%M:%SZ")
        failed = now if self._needs_login else None
        item = {**self._item(), "created_at": f"{self.world.start.isoformat()}T00:00:00Z"}
        updates = {"last_successful_update": now, "last_failed_update": failed}
        last = self.webhooks.last and {"sent_at": now, "code_sent": self.webhooks.last["webhook_code"]}
        return {"item": item, "status": {"investments": None, "last_webhook": last, "transactions": updates}}

    def _update_webhook(self, asked: dict[str, Any]) -> dict[str, Any]:
        self.webhooks.subscribe(asked.get("webhook"))
        return {"item": self._item()}

    def _fire_webhook(self, asked: dict[str, Any]) -> dict[str, Any]:
        """https://plaid.com/docs/api/sandbox/#sandboxitemfire_webhook"""
        if self.webhooks.endpoint is None:
            raise errors.no_webhook()
        match asked["webhook_code"]:
            case "SYNC_UPDATES_AVAILABLE":
                self.webhooks.updates_available()
            case "DEFAULT_UPDATE":
                self.webhooks.tell("TRANSACTIONS", "DEFAULT_UPDATE", new_transactions=0, error=None)
            case "ERROR":
                self.webhooks.tell("ITEM", "ERROR", error=errors.login_required().body(self._request_id()))
            case code:
                self.webhooks.tell("ITEM", code)
        self._firing = asyncio.create_task(self.deliver())
        return {"webhook_fired": True}

    def _item_remove(self, _: dict[str, Any]) -> dict[str, Any]:
        self._tokens = dict.fromkeys(self._tokens, False)
        return {}

    def _institution(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["institution_id"] != resources.INSTITUTION_ID or "US" not in asked["country_codes"]:
            raise errors.invalid_institution()
        return {"institution": resources.institution(asked.get("options", {}).get("include_optional_metadata", False))}

    def _create_public_token(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["institution_id"] != resources.INSTITUTION_ID:
            raise errors.invalid_institution()
        if "transactions" not in asked["initial_products"]:
            raise errors.invalid_field("initial_products must contain transactions")
        token = f"public-sandbox-{uuid4()}"
        self._public_tokens.add(token)
        return {"public_token": token}

    def _exchange(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Another access token for the one item; a public token is good for one exchange."""
        if asked["public_token"] not in self._public_tokens:
            raise errors.invalid_public_token()
        self._public_tokens.remove(asked["public_token"])
        token = _access_token()
        self._tokens[token] = True
        return {"access_token": token, "item_id": self.item_id}

    # --- below

    def _own_accounts(self, ids: list[str]) -> None:
        if set(ids) - {self.account_id}:
            raise errors.invalid_account()

    def _account(self) -> dict[str, Any]:
        everything = self.feed.present.values()
        posted = sum(each.amount for each in everything if not each.pending)
        pending = sum(each.amount for each in everything if each.pending)
        return resources.account(self.account_id, self.world.stripe.company, posted, pending)

    def _item(self) -> dict[str, Any]:
        error = errors.login_required().body(self._request_id()) if self._needs_login else None
        return resources.item(self.item_id, error, self.webhooks.url)


def _access_token() -> str:
    return f"access-sandbox-{uuid4()}"


def _cents(what: dict[str, Any]) -> int | None:
    """An amount in cents out of `amount_cents` or `amount` (dollars); None where neither is given."""
    if "amount_cents" in what:
        cents = what["amount_cents"]
        if isinstance(cents, bool) or not isinstance(cents, int):
            raise ValueError(f"amount_cents is a whole number of cents, not {cents!r}")
        return cents
    if "amount" not in what:
        return None
    try:
        cents = Decimal(str(what["amount"])).scaleb(2)
        if cents == int(cents):
            return int(cents)
    except (InvalidOperation, OverflowError, ValueError):
        pass
    raise ValueError("an amount is dollars with at most two decimals")
