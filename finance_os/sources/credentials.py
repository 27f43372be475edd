"""A connection's secrets: named by its source, found by its secret reference, shown to nobody."""

import os
from collections.abc import Iterable, Mapping

from pydantic import SecretStr


class CredentialsMissing(Exception):
    """A connection lacks some of the secrets that its source needs; `names` are those to set."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"credentials are missing: set {', '.join(names)}")
        self.names = names


class Credentials:
    """Secrets and options by name. Printing it shows the names only."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = {name: SecretStr(value) for name, value in values.items()}

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
    environment: Mapping[str, str] = os.environ,
) -> Credentials:
    """The secrets that `reference` leads to.

    `env` takes each name from the environment; `env:PREFIX` puts PREFIX before each name, and an option that
    is not set with the prefix is taken without. Raises `CredentialsMissing`, or `ValueError` for a reference of
    an unknown form.
    """
    scheme, _, prefix = reference.partition(":")
    if scheme != "env":
        raise ValueError(f"a secret reference is 'env' or 'env:PREFIX', not {reference!r}")
    found: dict[str, str] = {}
    missing: list[str] = []
    for name in needed:
        if value := environment.get(prefix + name):
            found[name] = value
        else:
            missing.append(prefix + name)
    if missing:
        raise CredentialsMissing(missing)
    for name in optional:
        if value := environment.get(prefix + name) or environment.get(name):
            found[name] = value
    return Credentials(found)
