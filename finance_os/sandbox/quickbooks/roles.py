"""The accounts that QuickBooks itself posts to, by role."""

from typing import Any

from .entries import Entry


class Chart:
    """Which account has which role, such as `undeposited` or `exchange_gain`."""

    def __init__(self) -> None:
        self._refs: dict[str, dict[str, Any]] = {}

    def set(self, role: str, account: Entry) -> None:
        self._refs[role] = {"value": account.id, "name": account.name}

    def id(self, role: str) -> str:
        return self._refs[role]["value"]

    def ref(self, role: str) -> dict[str, Any]:
        return dict(self._refs[role])

    def has(self, name: str) -> bool:
        return any(each["name"] == name for each in self._refs.values())
