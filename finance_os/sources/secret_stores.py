"""Where secrets come from: the environment, a file, AWS Secrets Manager or Google Secret Manager, by reference.

A reference is `store:place#PREFIX`. PREFIX is put before each name, so that several connections can share a place:

- `env`, `env:PREFIX`: environment variables;
- `file:/path`: a file of `NAME=value` lines, or one JSON object;
- `aws:finance/prod`: a secret (name or ARN) whose value is one JSON object;
- `aws:finance/prod/`, which ends in `/`: one secret a name, such as `finance/prod/FINANCE_OS_STRIPE_API_KEY`;
- `gcp:projects/acme/secrets/prod`, `gcp:projects/acme/secrets/prod/versions/3`: likewise one JSON object;
- `gcp:projects/acme/secrets/`: likewise one secret a name.

A process remembers what the cloud stores said for some minutes, for a run opens many clients.
"""

import io
import os
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import msgspec
from pydantic import SecretStr

from finance_os.evidence.extraction import SourceError
from finance_os.sources import cloud_secrets
from finance_os.sources.private_files import read_private

REMEMBERED_SECONDS = 300.0
"""How long what a cloud store said is used again: a rotated secret is seen after this time at the latest."""

FORMS = "'env', 'env:PREFIX', 'file:/path', 'aws:secret' or 'gcp:projects/project/secrets/secret'"

_PLACES = {
    "file": re.compile(r"/.+"),
    # https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html
    "aws": re.compile(r"(arn:[a-z-]+:secretsmanager:[a-z0-9-]+:\d+:secret:)?[A-Za-z0-9/_+=.@-]{1,512}"),
    # https://cloud.google.com/secret-manager/docs/reference/rest/v1/projects.secrets.versions/access
    "gcp": re.compile(r"projects/[a-z0-9][a-z0-9:.-]*/secrets/([A-Za-z0-9_-]{1,255}(/versions/[A-Za-z0-9_-]+)?)?"),
}


@dataclass(frozen=True)
class Reference:
    """Where a connection's secrets are: a store, a place in it, and what stands before each name."""

    store: str
    place: str
    prefix: str

    def __str__(self) -> str:
        return f"{self.store}:{self.place}"


def parse_reference(text: str) -> Reference:
    """A reference from its text. `ValueError` for one of an unknown form."""
    store, _, rest = text.partition(":")
    if store == "env":
        return Reference("env", "the environment", rest)
    place, hash_sign, prefix = rest.rpartition("#")
    if not hash_sign:
        place, prefix = rest, ""
    pattern = _PLACES.get(store)
    if pattern is None or not pattern.fullmatch(place):
        raise ValueError(f"a secret reference is {FORMS}, those with a place also with #PREFIX, not {text!r}")
    return Reference(store, place, prefix)


def look_up(reference: Reference, names: Iterable[str], environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Of `names`, those that have a value at `reference` (there with its prefix), and their values.

    Raises `SourceError` without any value in it: `secret_store_unreachable` (not permanent), and permanently
    `secret_denied`, `secret_not_found`, `secret_unreadable`, `secret_file_exposed`.
    """
    wanted = {name: reference.prefix + name for name in names}
    if not wanted:
        return {}
    there = _values(reference, wanted.values(), environment)
    return {name: value for name, at in wanted.items() if (value := there.get(at))}


def forget() -> None:
    """Forget what the cloud stores said: the next look goes to them."""
    _memory.clear()


def _values(reference: Reference, names: Iterable[str], environment: Mapping[str, str]) -> Mapping[str, str]:
    if reference.store == "env":
        return environment
    if reference.store == "file":
        return _of_file(reference)
    fetch = cloud_secrets.fetch_aws if reference.store == "aws" else cloud_secrets.fetch_gcp
    if reference.place.endswith("/"):
        # One secret a name: what is not there is just not set.
        found = {name: _memory.get(reference.store, f"{reference.place}{name}", fetch) for name in names}
        return {name: value for name, value in found.items() if value is not None}
    text = _memory.get(reference.store, reference.place, fetch)
    if text is None:
        raise SourceError("secret_not_found", f"there is no secret {reference}", permanent=True)
    return _of_json(text, reference)


def _of_file(reference: Reference) -> dict[str, str]:
    try:
        text = read_private(Path(reference.place)).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SourceError("secret_unreadable", f"{reference.place} is not UTF-8 text", permanent=True) from None
    return _of_json(text, reference) if text.lstrip().startswith("{") else _of_lines(text, reference)


def _of_lines(text: str, reference: Reference) -> dict[str, str]:
    """`NAME=value` lines, with quotes, comments and `export` as shells have them; `$` means nothing."""
    from dotenv.parser import parse_stream

    found: dict[str, str] = {}
    for binding in parse_stream(io.StringIO(text)):
        if binding.error or (binding.key is not None and binding.value is None):
            message = f"line {binding.original.line} of {reference.place} is not NAME=value"
            raise SourceError("secret_unreadable", message, permanent=True)
        if binding.key is not None and binding.value is not None:
            found[binding.key] = binding.value
    return found


def _of_json(text: str, reference: Reference) -> dict[str, str]:
    """The members of a JSON object: strings as they are, null as not set, anything else as its JSON text."""
    try:
        members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        return {
            name: msgspec.json.decode(raw, type=str) if bytes(raw).startswith(b'"') else bytes(raw).decode()
            for name, raw in members.items()
            if bytes(raw) != b"null"
        }
    except (msgspec.DecodeError, UnicodeError):
        hint = "" if reference.store == "file" else "; if it is one secret a name, end the reference with '/'"
        message = f"what is at {reference} is not one JSON object of names and values{hint}"
        raise SourceError("secret_unreadable", message, permanent=True) from None


class _Memory:
    """What the cloud stores said, with when it is to be asked again; one thread asks for a secret, others wait."""

    def __init__(self) -> None:
        self._said: dict[tuple[str, str], tuple[float, SecretStr | None]] = {}
        self._locks: dict[tuple[str, str], threading.Lock] = {}
        self._guard = threading.Lock()

    def get(self, store: str, secret: str, fetch: Callable[[str], str | None]) -> str | None:
        key = store, secret
        with self._guard:
            lock = self._locks.setdefault(key, threading.Lock())
        with lock:
            until, said = self._said.get(key, (0.0, None))
            if monotonic() >= until:
                value = fetch(secret)
                said = None if value is None else SecretStr(value)
                self._said[key] = monotonic() + REMEMBERED_SECONDS, said
        return None if said is None else said.get_secret_value()

    def clear(self) -> None:
        self._said.clear()


_memory = _Memory()
