"""Drive's wire format: its methods and parameters by the discovery document, partial responses, and error bodies.

The document is the one in Google's own client library: what it does not name is refused.
https://developers.google.com/workspace/drive/api/guides/handle-errors · …/guides/fields-parameter
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib.resources import files
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

import msgspec
from starlette.responses import Response

Mask: TypeAlias = dict[str, "Mask | None"]
"""Names of fields that are asked for, each with the mask below it; `None`: all below it. `*` is any name."""


class DriveError(Exception):
    """An error in Google's form. `location` is the parameter (or header) that is at fault."""

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        location: str | None = None,
        location_type: str = "parameter",
        domain: str = "global",
        grpc: str | None = None,
        short: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        detail: dict[str, Any] = {"message": short or message, "domain": domain, "reason": reason}
        if location is not None:
            detail |= {"location": location, "locationType": location_type}
        self.body: dict[str, Any] = {"error": {"code": status, "message": message, "errors": [detail]}}
        if grpc is not None:
            self.body["error"]["status"] = grpc

    def response(self) -> Response:
        return json_response(self.body, self.status, self.headers)


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        msgspec.json.encode(body), status, dict(headers or {}), media_type="application/json; charset=UTF-8"
    )


def invalid(parameter: str, message: str = "Invalid Value") -> DriveError:
    """400 for a parameter whose value makes no sense."""
    return DriveError(400, "invalid", message, location=parameter)


def required(parameter: str) -> DriveError:
    return DriveError(400, "required", f"Required parameter: {parameter}", location=parameter)


def file_not_found(file_id: str) -> DriveError:
    """404, also for what exists and is not shared with the caller."""
    return DriveError(404, "notFound", f"File not found: {file_id}.", location="fileId")


def drive_not_found(drive_id: str) -> DriveError:
    return DriveError(404, "notFound", f"Shared drive not found: {drive_id}", location="driveId")


def insufficient_scopes() -> DriveError:
    return DriveError(
        403,
        "insufficientPermissions",
        "Request had insufficient authentication scopes.",
        short="Insufficient Permission",
        grpc="PERMISSION_DENIED",
        headers={"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/", error="insufficient_scope"'},
    )


@cache
def discovery() -> dict[str, Any]:
    """Drive's discovery document as Google's client library ships it."""
    document = files("googleapiclient") / "discovery_cache" / "documents" / "drive.v3.json"
    return msgspec.json.decode(document.read_bytes())


def methods() -> Iterator[tuple[str, str, str, str, list[str]]]:
    """Every method: resource, name, HTTP method, path below `/drive/v3/`, and scopes of which one is needed."""
    for resource, declared in discovery()["resources"].items():
        for name, method in declared.get("methods", {}).items():
            yield resource, name, method["httpMethod"], method["path"], method.get("scopes", [])


def read_query(resource: str, method: str, query: bytes) -> dict[str, Any]:
    """The query parameters of a call, by the types that the document gives them, with its defaults."""
    document = discovery()
    declared: dict[str, dict[str, Any]] = {
        **document["parameters"],
        **{
            name: parameter
            for name, parameter in document["resources"][resource]["methods"][method].get("parameters", {}).items()
            if parameter["location"] == "query"
        },
    }
    values: dict[str, Any] = {
        name: _typed(name, parameter, parameter["default"])
        for name, parameter in declared.items()
        if "default" in parameter
    }
    for name, text in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in declared:
            raise DriveError(400, "invalidParameter", f"Unknown parameter: {name}", location=name)
        values[name] = _typed(name, declared[name], text)
    for name, parameter in declared.items():
        if parameter.get("required") and not values.get(name):
            raise required(name)
    return values


def _typed(name: str, parameter: Mapping[str, Any], text: str) -> Any:
    kind = parameter["type"]
    if kind == "boolean":
        if text not in ("true", "false"):
            raise invalid(name, f"Invalid boolean value: '{text}'. Must be 'true' or 'false'.")
        return text == "true"
    if kind == "integer":
        try:
            number = int(text)
        except ValueError:
            raise invalid(name, f"Invalid value at '{name}' (TYPE_INT32), \"{text}\"") from None
        low, high = int(parameter.get("minimum", number)), int(parameter.get("maximum", number))
        if number < low:
            raise invalid(name, f"Invalid value '{number}'. Values must be within the range: [{low}, {high}]")
        return min(number, high)
    if "enum" in parameter and text not in parameter["enum"]:
        raise invalid(name, f"Invalid string value: '{text}'. Allowed values: {parameter['enum']}")
    return text


# --- partial responses


def read_mask(text: str, schema: str) -> Mask:
    """A `fields` parameter such as `nextPageToken,files(id,shortcutDetails/targetId)`, proven against a schema."""
    position = 0

    def selection(stop: str) -> Mask:
        nonlocal position
        mask: Mask = {}
        while True:
            name = word()
            below: Mask | None = None
            if text[position : position + 1] == "/":
                position += 1
                below = path()
            elif text[position : position + 1] == "(":
                position += 1
                below = selection(")")
            _merge(mask, name, below)
            if text[position : position + 1] != ",":
                break
            position += 1
        if text[position : position + 1] != stop:
            raise _no_such_field(text)
        position += len(stop)
        return mask

    def path() -> Mask:
        nonlocal position
        name = word()
        if text[position : position + 1] == "/":
            position += 1
            return {name: path()}
        if text[position : position + 1] == "(":
            position += 1
            return {name: selection(")")}
        return {name: None}

    def word() -> str:
        nonlocal position
        while text[position : position + 1] == " ":
            position += 1
        start = position
        while position < len(text) and text[position] not in ",/() ":
            position += 1
        name = text[start:position]
        while text[position : position + 1] == " ":
            position += 1
        if not name:
            raise _no_such_field(text)
        return name

    mask = selection("")
    _prove(mask, {"$ref": schema})
    return mask


def masked(value: Any, mask: Mask | None) -> Any:
    """What `mask` leaves of a JSON value."""
    if mask is None:
        return value
    if isinstance(value, list):
        return [masked(item, mask) for item in value]
    if not isinstance(value, dict):
        return value
    if "*" in mask:
        return {name: masked(item, mask["*"]) for name, item in value.items()}
    return {name: masked(item, mask[name]) for name, item in value.items() if name in mask}


def _merge(mask: Mask, name: str, below: Mask | None) -> None:
    if name in mask and (known := mask[name]) is not None and below is not None:
        for each, deeper in below.items():
            _merge(known, each, deeper)
    elif name not in mask or below is None:
        mask[name] = below


def _prove(mask: Mask, schema: Mapping[str, Any]) -> None:
    while "$ref" in schema or schema.get("type") == "array":
        schema = discovery()["schemas"][schema["$ref"]] if "$ref" in schema else schema["items"]
    properties: Mapping[str, Any] | None = schema.get("properties")
    for name, below in mask.items():
        if name == "*":
            each = (properties or {}).values()
            if below is not None:
                for declared in each:
                    _prove(below, declared)
            continue
        if properties is None:
            if "additionalProperties" not in schema:
                raise _no_such_field(name)
            continue
        if name not in properties:
            raise _no_such_field(name)
        if below is not None:
            _prove(below, properties[name])


def _no_such_field(name: str) -> DriveError:
    return DriveError(400, "invalidParameter", f"Invalid field selection {name}", location="fields")
