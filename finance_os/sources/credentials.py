"""A connection's secrets: named by its source, found by its secret reference, shown to nobody."""

import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from typing import Protocol

from pydantic import SecretStr

from finance_os.sources.secret_stores import look_up, parse_reference

_ON = frozenset({"1", "true", "yes", "on"})
_OFF = frozenset({"", "0", "false", "no", "off"})


class CredentialsMissing(Exception):
    """A connection lacks some of the secrets that its source needs.

    `names` are those to set; `advice` says so, and at which place where that is not the environment.
    """

    def __init__(self, names: list[str], place: str | None = None) -> None:
        self.names = names
        self.advice = f"set {', '.join(names)}" + (f" in {place}" if place else "")
        super().__init__(f"credentials are missing: {self.advice}")


class KeptSecret(Protocol):
    """A kept secret while one process alone holds it."""

    value: str | None
    """What is kept; `None` if nothing is yet. After `store`, what was stored."""

    def store(self, new: str) -> None:
        """Keep `new` from the end of the block on."""
        ...


class KeptSecrets(Protocol):
    """Secrets of one connection that Finance OS itself keeps: those that a vendor replaces while they are used."""

    def read(self, name: str) -> str | None:
        """What is kept under `name`; `None` if nothing is."""
        ...

    def exclusive(self, name: str) -> AbstractContextManager[KeptSecret]:
        """Hold `name` alone, among all processes, for a block.

        What was stored is committed when the block ends without an exception; otherwise the old value stays.
        """
        ...


def is_on(setting: str | None) -> bool:
    """Whether a feature flag is on; it is off unless set. `ValueError` for what is neither on nor off."""
    word = (setting or "").strip().lower()
    if word not in _ON | _OFF:
        raise ValueError("it is neither on nor off")
    return word in _ON


class Approvals(Protocol):
    """What policies allow the business of one connection."""

    def covers(self, policy: str, target: str) -> bool:
        """Whether an approval of `policy` is in force that covers `target`."""
        ...


class Credentials:
    """Secrets and options by name. Printing it shows the names only."""

    def __init__(
        self, values: Mapping[str, str], kept: KeptSecrets | None = None, approvals: Approvals | None = None
    ) -> None:
        self._values = {name: SecretStr(value) for name, value in values.items()}
        self._kept = kept
        self._approvals = approvals

    def approved(self, policy: str, target: str) -> bool:
        """Whether an approval of `policy` is in force that covers `target`; none is where none were handed over."""
        return self._approvals is not None and self._approvals.covers(policy, target)

    @property
    def kept(self) -> KeptSecrets:
        """The secrets that Finance OS keeps for this connection. `RuntimeError` where none were handed over."""
        if self._kept is None:
            raise RuntimeError(
                "these credentials came without kept secrets: hand `kept` to `find_credentials` or `Credentials`"
            )
        return self._kept

    def __getitem__(self, name: str) -> str:
        return self._values[name].get_secret_value()

    def get(self, name: str, default: str | None = None) -> str | None:
        """The value of an option, or `default`."""
        value = self._values.get(name)
        return default if value is None else value.get_secret_value()

    def __repr__(self) -> str:
        return f"Credentials({', '.join(sorted(self._values))})"


def find_credentials(
    reference: str,
    needed: Iterable[str],
    optional: Iterable[str] = (),
    kept: KeptSecrets | None = None,
    approvals: Approvals | None = None,
    *,
    environment: Mapping[str, str] = os.environ,
) -> Credentials:
    """The secrets that `reference` leads to (its forms: `secret_stores`), with those that Finance OS keeps.

    An option that is not set there is taken from the environment, without a prefix. Raises `CredentialsMissing`,
    `SourceError` where the place cannot be read (`secret_stores.look_up`), or `ValueError` for a reference of an
    unknown form.
    """
    place = parse_reference(reference)
    needed, optional = list(needed), list(optional)
    found = look_up(place, [*needed, *optional], environment)
    if missing := [place.prefix + name for name in needed if name not in found]:
        raise CredentialsMissing(missing, None if place.store == "env" else str(place))
    for name in optional:
        if name not in found and (value := environment.get(name)):
            found[name] = value
    return Credentials(found, kept, approvals)


def missing_credentials(
    reference: str, needed: Iterable[str], *, environment: Mapping[str, str] = os.environ
) -> list[str]:
    """Of `needed`, the names to set at `reference`, as they are called there; empty where the source can be read.

    For plans: looks for what is needed only. Raises as `find_credentials` does, but for `CredentialsMissing`.
    """
    place = parse_reference(reference)
    needed = list(needed)
    found = look_up(place, needed, environment)
    return [place.prefix + name for name in needed if name not in found]
