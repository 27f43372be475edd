"""Stripe's own words for the faults that tests and demos script."""

from typing import Any

import msgspec

_ERRORS: dict[str, tuple[int, dict[str, Any]]] = {
    "429": (
        429,
        {
            "code": "rate_limit",
            "doc_url": "https://stripe.com/docs/error-codes/rate-limit",
            "message": "Request rate limit exceeded. Learn more about rate limits here "
            "https://stripe.com/docs/rate-limits.",
            "type": "invalid_request_error",
        },
    ),
    "500": (500, {"message": "An unknown error occurred.", "type": "api_error"}),
    "403": (
        403,
        {
            "message": "The provided key does not have the required permissions for this endpoint.",
            "type": "invalid_request_error",
        },
    ),
}


def stripe_fault(kind: str) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of a `429`, `500` or `403` as Stripe gives it."""
    status, error = _ERRORS[kind]
    headers = {"content-type": "application/json", "request-id": "req_sandboxfault"}
    return status, headers, msgspec.json.encode({"error": error})
