"""Plaid's errors: type, code, words and JSON (https://plaid.com/docs/errors/)."""

from collections.abc import Iterable
from typing import Any


class PlaidFault(Exception):
    """A request that Plaid refuses with `status` and an error of `kind` and `code`."""

    def __init__(self, kind: str, code: str, message: str, *, status: int = 400, display: str | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.kind = kind
        self.code = code
        self.message = message
        self.status = status
        self.display = display

    def body(self, request_id: str) -> dict[str, Any]:
        return {
            "display_message": self.display,
            "documentation_url": f"https://plaid.com/docs/?ref=error#{self.kind.lower().replace('_', '-')}-errors",
            "error_code": self.code,
            "error_message": self.message,
            "error_type": self.kind,
            "request_id": request_id,
            "suggested_action": None,
        }


def invalid_body() -> PlaidFault:
    return PlaidFault("INVALID_REQUEST", "INVALID_BODY", "body could not be parsed as JSON")


def invalid_field(message: str) -> PlaidFault:
    return PlaidFault("INVALID_REQUEST", "INVALID_FIELD", message)


def missing_fields(names: Iterable[str]) -> PlaidFault:
    return PlaidFault(
        "INVALID_REQUEST", "MISSING_FIELDS", f"the following required fields are missing: {', '.join(names)}"
    )


def unknown_fields(names: Iterable[str]) -> PlaidFault:
    return PlaidFault(
        "INVALID_REQUEST",
        "UNKNOWN_FIELDS",
        f"the following fields are not recognized by this endpoint: {', '.join(names)}",
    )


def not_found() -> PlaidFault:
    return PlaidFault("INVALID_REQUEST", "NOT_FOUND", "not found", status=404)


def invalid_api_keys() -> PlaidFault:
    return PlaidFault("INVALID_INPUT", "INVALID_API_KEYS", "invalid client_id or secret provided")


def invalid_access_token(malformed: bool) -> PlaidFault:
    message = (
        "provided access token is in an invalid format. expected format: access-<environment>-<identifier>"
        if malformed
        else "could not find matching access token"
    )
    return PlaidFault("INVALID_INPUT", "INVALID_ACCESS_TOKEN", message)


def invalid_public_token() -> PlaidFault:
    return PlaidFault("INVALID_INPUT", "INVALID_PUBLIC_TOKEN", "could not find matching public token")


def invalid_institution() -> PlaidFault:
    return PlaidFault("INVALID_INPUT", "INVALID_INSTITUTION", "invalid institution_id provided")


def invalid_account() -> PlaidFault:
    return PlaidFault("INVALID_INPUT", "INVALID_ACCOUNT_ID", "failed to find requested account ID for requested item")


def invalid_key_id() -> PlaidFault:
    return PlaidFault(
        "INVALID_INPUT",
        "INVALID_WEBHOOK_VERIFICATION_KEY_ID",
        "invalid key_id provided. note that key_ids are specific to Plaid environments, and verification requests must "
        "be made to the same environment that the webhook was sent from",
    )


def no_webhook() -> PlaidFault:
    return PlaidFault(
        "SANDBOX_ERROR", "SANDBOX_WEBHOOK_INVALID", "webhook for this item is either not set up, or invalid"
    )


def item_removed() -> PlaidFault:
    return PlaidFault(
        "ITEM_ERROR",
        "ITEM_NOT_FOUND",
        "The Item you requested cannot be found. This Item does not exist, has been previously removed via "
        "/item/remove, or has had access removed by the user.",
    )


def login_required() -> PlaidFault:
    return PlaidFault(
        "ITEM_ERROR",
        "ITEM_LOGIN_REQUIRED",
        "the login details of this item have changed (credentials, MFA, or required user action) and a user login is "
        "required to update this information. use Link's update mode to restore the item to a good state",
    )


def foreign_cursor() -> PlaidFault:
    return invalid_field("cursor not associated with access_token")


def mutation() -> PlaidFault:
    return PlaidFault(
        "TRANSACTIONS_ERROR",
        "TRANSACTIONS_SYNC_MUTATION_DURING_PAGINATION",
        "Underlying transaction data changed since last page was fetched. Please restart pagination from last update.",
    )


SCRIPTED = {
    "429": PlaidFault(
        "RATE_LIMIT_EXCEEDED",
        "TRANSACTIONS_LIMIT",
        "rate limit exceeded for attempts to access this item. please try again later",
        status=429,
    ),
    "500": PlaidFault("API_ERROR", "INTERNAL_SERVER_ERROR", "an unexpected error occurred", status=500),
    "403": PlaidFault(
        "INVALID_INPUT",
        "UNAUTHORIZED_ROUTE_ACCESS",
        "your client_id is not authorized to access this route",
        status=403,
    ),
}
