"""Which transaction settles which: payments with invoices and credit memos, bill payments with bills, deposits."""

from collections import defaultdict
from collections.abc import Mapping

from .entries import Entry, Key


class Links:
    """What payers have applied to targets, in hundredths, from both sides; and which deposit holds a payment."""

    def __init__(self) -> None:
        self._by_target: dict[Key, dict[Key, int]] = defaultdict(dict)
        self._by_payer: dict[Key, dict[Key, int]] = {}
        self._deposit_of: dict[str, str] = {}

    def put(self, payer: Entry, targets: Mapping[Key, int]) -> set[Key]:
        """Replace what a payer settles; returns every transaction that this concerns."""
        concerned = self.clear(payer) | targets.keys()
        if payer.kind.name == "Deposit":
            self._deposit_of |= {payment: payer.id for _, payment in targets}
        for target, cents in targets.items():
            self._by_target[target][payer.key] = cents
        self._by_payer[payer.key] = dict(targets)
        return concerned

    def clear(self, payer: Entry) -> set[Key]:
        """Take back what a payer settles; returns its targets and those who settle them too."""
        concerned: set[Key] = set()
        for target in self._by_payer.pop(payer.key, {}):
            del self._by_target[target][payer.key]
            concerned |= {target, *self._by_target[target]}
            if payer.kind.name == "Deposit":
                self._deposit_of.pop(target[1], None)
        return concerned

    def payers(self, target: Key) -> dict[Key, int]:
        """Who settles a transaction, in the order of their Ids; deposits of a payment are not among them."""
        payers = self._by_target.get(target, {})
        return dict(sorted(((k, c) for k, c in payers.items() if k[0] != "Deposit"), key=lambda item: int(item[0][1])))

    def applied(self, target: Key) -> int:
        return sum(self.payers(target).values())

    def between(self, payer: Key, target: Key) -> int:
        return self._by_payer.get(payer, {}).get(target, 0)

    def deposit_of(self, payment: str) -> str | None:
        return self._deposit_of.get(payment)
