"""The Data API's own model of its requests, as botocore has it, and refusals in the words of the service."""

import functools
import re
from typing import Any

_KINDS: dict[str, type] = {
    "structure": dict,
    "list": list,
    "string": str,
    "integer": int,
    "long": int,
    "boolean": bool,
}


class Refused(Exception):
    """An answer with an exception of the service."""

    def __init__(self, code: str, message: str, **fields: str) -> None:
        super().__init__(message)
        self.code = code
        self.body = {"__type": code, "Message": message, **fields}


@functools.cache
def service_model() -> Any:
    """botocore's model of the service."""
    import botocore.session

    return botocore.session.get_session().get_service_model("redshift-data")


def check_request(operation: str, body: Any) -> None:
    """Hold a request's body against the model. Raises `Refused`."""
    _check(body, service_model().operation_model(operation).input_shape, "")


def _check(value: Any, shape: Any, path: str) -> None:
    here = path.rstrip(".")
    expected = _KINDS[shape.type_name]
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        raise Refused("SerializationException", f"{here or 'the request'} is of another type")
    if shape.type_name == "structure":
        for name in shape.required_members:
            if name not in value:
                raise _constraint(path + _lower(name), "null", "Member must not be null")
        for name, member in value.items():
            if name not in shape.members:
                raise Refused("ValidationException", f"Unknown parameter {path}{name}")
            _check(member, shape.members[name], f"{path}{_lower(name)}.")
        return
    _check_limits(value, shape, here)
    if shape.type_name == "list":
        for number, member in enumerate(value, start=1):
            _check(member, shape.member, f"{here}.{number}.member.")


def _check_limits(value: Any, shape: Any, path: str) -> None:
    limits = shape.metadata
    number = shape.type_name in ("integer", "long")
    size, word = (value, "value") if number else (len(value), "length")
    if "min" in limits and size < limits["min"]:
        raise _constraint(path, value, f"Member must have {word} greater than or equal to {limits['min']}")
    if "max" in limits and size > limits["max"]:
        raise _constraint(path, value, f"Member must have {word} less than or equal to {limits['max']}")
    if "pattern" in limits and not re.fullmatch(limits["pattern"], value):
        raise _constraint(path, value, f"Member must satisfy regular expression pattern: {limits['pattern']}")
    if shape.type_name == "string" and shape.enum and value not in shape.enum:
        raise _constraint(path, value, f"Member must satisfy enum value set: {shape.enum}")


def _constraint(path: str, value: Any, rule: str) -> Refused:
    return Refused(
        "ValidationException",
        f"1 validation error detected: Value '{value}' at '{path}' failed to satisfy constraint: {rule}",
    )


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]
