"""JSON Schemas of Stripe's answers, derived from the annotations in the Stripe SDK's own source.

Stricter than the SDK: no unknown field, no unknown word where the SDK lists the words, and nothing expanded into an
object of a kind that the sandbox does not serve. Read from the source by `ast`, so nothing but those modules is loaded.
"""

import ast
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema_rs
import stripe

Json = dict[str, Any]
Class = tuple[str, ...]  # module, then the class and those that it is nested in, outermost first

# What the sandbox serves: the `object` word -> module and class of the SDK.
SERVED: dict[str, Class] = {
    "account": ("_account", "Account"),
    "balance": ("_balance", "Balance"),
    "balance_transaction": ("_balance_transaction", "BalanceTransaction"),
    "charge": ("_charge", "Charge"),
    "credit_note": ("_credit_note", "CreditNote"),
    "credit_note_line_item": ("_credit_note_line_item", "CreditNoteLineItem"),
    "customer": ("_customer", "Customer"),
    "customer_balance_transaction": ("_customer_balance_transaction", "CustomerBalanceTransaction"),
    "dispute": ("_dispute", "Dispute"),
    "event": ("_event", "Event"),
    "invoice": ("_invoice", "Invoice"),
    "invoice_payment": ("_invoice_payment", "InvoicePayment"),
    "line_item": ("_invoice_line_item", "InvoiceLineItem"),
    "payment_intent": ("_payment_intent", "PaymentIntent"),
    "payout": ("_payout", "Payout"),
    "refund": ("_refund", "Refund"),
}
_ERROR: Class = ("_error_object", "ErrorObject")
_PLAIN: dict[str, Json] = {
    "str": {"type": "string"},
    "int": {"type": "integer"},
    "bool": {"type": "boolean"},
    "float": {"type": "number"},
    "Decimal": {"type": "string", "pattern": r"^-?\d+(\.\d+)?$"},
    "Any": {},
    "None": {"type": "null"},
}
_NEVER: Json = {"not": {}}


@cache
def _module(name: str) -> ast.Module:
    return ast.parse((Path(stripe.__file__).parent / f"{name}.py").read_text())


@cache
def _imports(module: str) -> dict[str, Class]:
    """Names that a module takes from other modules of the SDK, also those for type checkers only."""
    return {
        alias.asname or alias.name: (node.module.removeprefix("stripe."), alias.name)
        for node in ast.walk(_module(module))
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("stripe.")
        for alias in node.names
    }


@cache
def _definition(where: Class) -> ast.ClassDef | None:
    body: list[ast.stmt] = _module(where[0]).body
    found = None
    for name in where[1:]:
        found = next((node for node in body if isinstance(node, ast.ClassDef) and node.name == name), None)
        if found is None:
            return None
        body = found.body
    return found


class Deriver:
    """Collects the definitions that the schemas refer to."""

    def __init__(self) -> None:
        self.definitions: dict[str, Json] = {}

    def reference(self, where: Class) -> Json:
        name = ".".join(where)
        if name not in self.definitions:
            self.definitions[name] = {}
            self.definitions[name] = self._object(where)
        return {"$ref": f"#/$defs/{name}"}

    def _object(self, where: Class) -> Json:
        definition = _definition(where)
        assert definition is not None, where
        fields = {
            node.target.id: node.annotation
            for node in definition.body
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
        }
        fields = {
            name: note for name, note in fields.items() if not _names(note, "ClassVar") and name != "_resource_cls"
        }
        deletable = fields.pop("deleted", None) is not None
        schema: Json = {
            "type": "object",
            "properties": {name: self._convert(note, where) for name, note in fields.items()},
            "required": [name for name, note in fields.items() if not _names(note, "Optional")],
            "additionalProperties": False,
        }
        if deletable:
            stub = {
                "id": {"type": "string"},
                "object": self._convert(fields["object"], where),
                "deleted": {"const": True},
            }
            gone = {"type": "object", "properties": stub, "required": list(stub), "additionalProperties": False}
            is_gone = {"properties": {"deleted": {"const": True}}, "required": ["deleted"]}
            schema = {"if": is_gone, "then": gone, "else": schema}
        return schema

    def _convert(self, node: ast.expr, where: Class) -> Json:
        match node:
            case ast.Constant(value=None):
                return _PLAIN["None"]
            case ast.Constant(value=str(text)):
                return self._convert(ast.parse(text, mode="eval").body, where)
            case ast.Name(id=name):
                return _PLAIN[name] if name in _PLAIN else self._class(name, where)
            case ast.Subscript(value=ast.Name(id=name), slice=inner):
                parts = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
                return self._generic(name, parts, where)
        raise NotImplementedError(ast.dump(node))

    def _generic(self, name: str, parts: list[ast.expr], where: Class) -> Json:
        match name:
            case "Optional":
                return {"anyOf": [self._convert(parts[0], where), _PLAIN["None"]]}
            case "Union" if any(_names(part, "Literal") for part in parts):
                # Union[Literal[...], str] is the SDK's "these words, or newer ones": the sandbox knows no newer ones.
                return self._convert(next(part for part in parts if _names(part, "Literal")), where)
            case "Union":
                return {"anyOf": [self._convert(part, where) for part in parts]}
            case "Literal":
                return {"enum": [part.value for part in parts if isinstance(part, ast.Constant)]}
            case "List":
                return {"type": "array", "items": self._convert(parts[0], where)}
            case "ExpandableField":
                return {"anyOf": [_PLAIN["str"], self._convert(parts[0], where)]}
            case "UntypedStripeObject":
                return {"type": "object", "additionalProperties": self._convert(parts[0], where)}
            case "ListObject":
                return list_of(self._convert(parts[0], where), nested=True)
        raise NotImplementedError(name)

    def _class(self, name: str, where: Class) -> Json:
        """A class by its name as seen from inside another one; never valid where it is a kind that is not served."""
        for depth in range(len(where), 0, -1):
            if _definition((*where[:depth], name)) is not None:
                return self.reference((*where[:depth], name))
        imported = _imports(where[0])[name]
        return self.reference(imported) if imported in SERVED.values() else _NEVER


def _names(node: ast.expr, name: str) -> bool:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = ast.parse(node.value, mode="eval").body
    return isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == name


def list_of(items: Json, *, nested: bool = False) -> Json:
    """A page of `items`: at most 100, or ten where it is nested in an object (and then it may count them all)."""
    properties: Json = {
        "object": {"const": "list"},
        "data": {"type": "array", "items": items, "maxItems": 10 if nested else 100},
        "has_more": {"type": "boolean"},
        "url": {"type": "string", "pattern": "^/v1/"},
    }
    required = list(properties)
    if nested:
        properties["total_count"] = {"type": "integer"}
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


@cache
def _deriver() -> Deriver:
    deriver = Deriver()
    for where in SERVED.values():
        deriver.reference(where)
    deriver.reference(_ERROR)
    return deriver


def _validator(schema: Json) -> Any:
    return jsonschema_rs.Draft202012Validator({**schema, "$defs": _deriver().definitions})


@cache
def _of_kind(kind: str) -> Any:
    return _validator(_deriver().reference(SERVED[kind]))


@cache
def _of_list(kind: str) -> Any:
    return _validator(list_of(_deriver().reference(SERVED[kind])))


@cache
def _of_error() -> Any:
    error = _deriver().reference(_ERROR)
    return _validator(
        {"type": "object", "properties": {"error": error}, "required": ["error"], "additionalProperties": False}
    )


def _faults(validator: Any, body: Any) -> list[str]:
    return [f"{'/'.join(map(str, e.instance_path))}: {e.message[:200]}" for e in validator.iter_errors(body)]


def object_faults(body: Any) -> list[str]:
    """What is wrong with an object, the object inside an event included; empty where nothing is."""
    faults = _faults(_of_kind(body["object"]), body)
    if body["object"] == "event":
        inner = body["data"]["object"]
        faults += [f"data/object/{fault}" for fault in object_faults(inner)]
        unknown = set(body["data"].get("previous_attributes", {})) - set(inner)
        faults += [f"data/previous_attributes: {name} is no field of {inner['object']}" for name in unknown]
    return faults


def list_faults(kind: str, body: Any) -> list[str]:
    """What is wrong with a page of objects of a kind."""
    faults = _faults(_of_list(kind), body)
    if kind == "event":
        for event in body["data"]:
            faults += object_faults(event)
    return faults


def error_faults(body: Any) -> list[str]:
    """What is wrong with an error answer."""
    return _faults(_of_error(), body)
