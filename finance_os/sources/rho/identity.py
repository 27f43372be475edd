"""What names a transaction: the source ID of each row of an export, whatever the order of rows or of files."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from finance_os.sources.rho.problems import Problems


@dataclass(frozen=True, slots=True)
class Key:
    """What names one transaction of a file: the line it begins on, its day, and what its source ID is made of.

    `basis` is the source ID of a row without a transaction ID that is alone of its kind on its day; `digest` is the
    SHA-256 of the row as it was read.
    """

    line: int
    day: date
    transaction_id: str | None
    basis: str
    digest: bytes


def identify(keys: Sequence[Key], problems: Problems) -> list[str | None]:
    """The source ID of each row; `None` for one that only repeats an earlier row with the same transaction ID.

    That is the transaction ID; else `ref:<reference>@<day>`; else `row:<hash>` of what the row says of the
    transaction. References recur (a monthly rent), so they name a transaction on their day only. Rows that share a
    basis and a day are told apart by `:2`, `:3` … in the order of their contents, so that the order of the file
    does not matter. Adds a problem for a transaction ID that two different rows have.
    """
    source_ids: list[str | None] = [None] * len(keys)
    first_with: dict[str, Key] = {}
    alike: defaultdict[tuple[str, date], list[int]] = defaultdict(list)
    for position, key in enumerate(keys):
        if key.transaction_id is None:
            alike[key.basis, key.day].append(position)
            continue
        first = first_with.setdefault(key.transaction_id, key)
        if first is key:
            source_ids[position] = key.transaction_id
        elif first.digest != key.digest:
            problems.add(
                "transaction_id_twice",
                f"the transaction ID of row {first.line} is here again with other contents: an ID names one "
                "transaction; correct the file, or turn the field transaction_id off in the column map",
                key.line,
            )
    for (basis, _), positions in alike.items():
        for number, position in enumerate(sorted(positions, key=lambda position: keys[position].digest), start=1):
            source_ids[position] = basis if number == 1 else f"{basis}:{number}"
    return source_ids
