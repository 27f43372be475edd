"""The errors of QuickBooks Online: what goes wrong, in Intuit's codes, words and JSON.

Two forms exist. The accounting service answers `{"Fault": …, "time": …}`; the gateway before it (tokens, scopes,
throttling) answers an object of nulls with a lower-case `fault`. Codes and texts:
https://developer.intuit.com/app/developer/qbo/docs/develop/troubleshooting/error-codes
"""

from typing import Any

import msgspec

_GATEWAY = {
    401: ("AuthenticationFailed", "3200", "AUTHENTICATION"),
    403: ("ApplicationAuthorizationFailed", "3100", "SERVICE"),
    429: ("ThrottleExceeded", "3001", "SERVICE"),
}


class Fault(Exception):
    """A request that the accounting service refuses with HTTP 400 (500 for its own failures)."""

    def __init__(self, code: str, message: str, detail: str, element: str = "", *, status: int = 400) -> None:
        super().__init__(f"{code} {message}: {detail}")
        self.code = code
        self.status = status
        error = {"Message": message, "Detail": detail, "code": code, "element": element}
        self.body: dict[str, Any] = {
            "Error": [error],
            "type": "SystemFault" if status >= 500 else "ValidationFault",
        }


class Refusal(Exception):
    """A request that the gateway refuses: 401, 403 or 429."""

    def __init__(self, status: int, detail: str | None) -> None:
        super().__init__(f"{status} {detail}")
        self.status = status
        self.detail = detail


def gateway_body(status: int, detail: str | None, now: int) -> bytes:
    """The gateway's answer; `now` is the clock in seconds."""
    message, code, kind = _GATEWAY[status]
    error = {
        "message": f"message={message}; errorCode=00{code}; statusCode={status}",
        "detail": detail,
        "code": code,
        "element": None,
    }
    return msgspec.json.encode(
        {
            "warnings": None,
            "intuitObject": None,
            "fault": {"error": [error], "type": kind},
            "report": None,
            "queryResponse": None,
            "batchItemResponse": [],
            "attachableResponse": [],
            "syncErrorResponse": None,
            "requestId": None,
            "time": now * 1_000,
            "status": None,
            "cdcresponse": [],
        }
    )


def fault_body(fault: Fault, time: str) -> bytes:
    return msgspec.json.encode({"Fault": fault.body, "time": time})


# --- the accounting service's own


def unsupported_operation(what: str) -> Fault:
    return Fault("500", "Unsupported Operation", f"Operation {what} is not supported.")


def duplicate_request() -> Fault:
    return Fault(
        "600",
        "Duplicate Request ID",
        "Duplicate Request ID : the request ID was already used for another request",
        "requestid",
    )


def not_found() -> Fault:
    return Fault(
        "610",
        "Object Not Found",
        "Object Not Found : Something you're trying to use has been made inactive. Check the fields with accounts, "
        "customers, items, vendors or employees.",
    )


def cannot_link(what: str) -> Fault:
    return Fault("620", "Txn cannot be linked", f"Transaction {what} cannot be linked.", "LinkedTxn")


def batch_too_large(limit: int) -> Fault:
    return Fault("1040", "Batch size exceeds allowed limit", f"The batch limit size is {limit}.")


def invalid_content_type(supplied: str) -> Fault:
    return Fault("1050", "Invalid Content Type", f"Content type {supplied or 'none'} is not supported.")


def unsupported_property(name: str) -> Fault:
    return Fault(
        "2010",
        "Request has invalid or unsupported property",
        f"Property Name:{name} specified is unsupported or invalid",
        name,
    )


def missing(name: str) -> Fault:
    return Fault(
        "2020",
        "Required param missing, need to supply the required value for the API",
        f"Required parameter {name} is missing in the request",
        name,
    )


def invalid_id(supplied: Any) -> Fault:
    return Fault("2030", "Invalid ID", f"Id should be a valid number. Supplied value:{supplied}", "Id")


def invalid_string(name: str, why: str) -> Fault:
    return Fault("2040", "Invalid String. A String is specified with unsupported characters", why, name)


def wrong_length(name: str, limit: int, supplied: int) -> Fault:
    return Fault(
        "2050",
        "String length is either shorter or longer than supported by specification",
        f"String length specified does not match the supported length. Min:0 Max:{limit:,} supported. "
        f"Supplied length:{supplied:,}",
        name,
    )


def invalid_number(name: str, supplied: Any) -> Fault:
    return Fault("2090", "Invalid Number", f"Invalid number. Supplied value:{supplied}", name)


def invalid_enumeration(name: str, supplied: Any) -> Fault:
    return Fault("2170", "Invalid Enumeration", f"Invalid Enumeration : {supplied}", name)


def invalid_email() -> Fault:
    return Fault(
        "2210", "Invalid Email Address format", "Email Address does not conform to the RFC 822 standard.", "Address"
    )


def invalid_reference(name: str, why: str = "") -> Fault:
    return Fault(
        "2500",
        "Invalid Reference Id",
        "Invalid Reference Id : "
        + (
            why
            or "Something you're trying to use has been made inactive. Check the fields with accounts, customers, "
            "items, vendors or employees."
        ),
        name,
    )


def query_parser(detail: str) -> Fault:
    return Fault("4000", "Error parsing query", f"QueryParserError: {detail}")


def query_validation(detail: str) -> Fault:
    return Fault("4001", "Invalid query", f"QueryValidationError: {detail}")


def stale() -> Fault:
    return Fault(
        "5010",
        "Stale Object Error",
        "Stale Object Error : You and another user were working on this at the same time. The other user finished "
        "before you did, so your work was not saved.",
    )


def business(detail: str, element: str = "") -> Fault:
    return Fault(
        "6000",
        "A business validation error has occurred while processing your request",
        f"Business Validation Error: {detail}",
        element,
    )


def wrong_product(supplied: Any) -> Fault:
    return Fault(
        "6070",
        "Amount calculation incorrect in the request",
        f"Amount is not equal to UnitPrice * Qty. Supplied value:{supplied}",
        "Line.Amount",
    )


def no_name() -> Fault:
    return Fault(
        "6080",
        "No Name Provided",
        "Title, GivenName, MiddleName, FamilyName, DisplayName, Suffix - one of these must be non-empty",
    )


def duplicate_document(number: str, label: str, key: str) -> Fault:
    return Fault(
        "6140",
        "Duplicate Document Number Error",
        "Duplicate Document Number Error : You must specify a different number. This number has already been used. "
        f"DocNumber={number} is assigned to TxnType={label} with TxnId={key}",
    )


def period_closed() -> Fault:
    return Fault(
        "6210",
        "Account Period Closed, Cannot Update Through Services API",
        "The account period has closed and the account books cannot be updated through through the QBO Services API. "
        "Please use the QBO website to make these changes.",
    )


def duplicate_name() -> Fault:
    return Fault(
        "6240",
        "Duplicate Name Exists Error",
        "The name supplied already exists. : Another customer, vendor or employee is already using this name. Please "
        "use a different name.",
    )


def deposited() -> Fault:
    return Fault(
        "6540",
        "Deposited Transaction cannot be changed",
        "Deposited Transaction cannot be changed : This transaction has been deposited. If you want to change or "
        "delete it, you must edit the deposit it appears on and remove it first.",
    )


def system_failure() -> Fault:
    return Fault(
        "10000",
        "An application error has occurred while processing your request",
        "System Failure Error: An unexpected error occurred.",
        status=500,
    )
