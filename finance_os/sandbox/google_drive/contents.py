"""What the company keeps in its Drive, and how that changes while the world's clock moves.

Every publisher but the last has one contract; its terms are those that Gravity has, except where `PLANTED` says
otherwise. Everything follows from the world's seed, start and publishers, in whatever steps the clock is moved.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from ..books import DAY, HOUR, seconds
from ..company import REVENUE_SHARE_BPS, Planted, Publisher
from ..world import World
from . import documents
from .store import DOC, DOCX, FOLDER, PDF, SHEET, SHORTCUT, TEXT, Node, Store

PLANTED: dict[str, str] = {
    "contract_share_differs": "The 2nd publisher's contract says another revenue share than Gravity does.",
    "publisher_without_contract": "The last publisher has no contract in the Drive.",
}

_PLANTED_BPS = REVENUE_SHARE_BPS + 500
_KINDS = (DOC, PDF, DOCX, TEXT)
_ENDINGS = {DOC: "", PDF: ".pdf", DOCX: ".docx", TEXT: ".txt"}


@dataclass
class Folders:
    """The folders that tests and settings name, by ID.

    `agreements` (My Drive, with subfolders) and `amendments` (My Drive) are shared with the service account,
    `countersigned` lies in a shared drive that it is a member of; `empty` is shared and holds nothing; `private` is
    not shared.
    """

    agreements: str
    amendments: str
    countersigned: str
    empty: str
    private: str

    @property
    def configured(self) -> tuple[str, ...]:
        return (self.agreements, self.countersigned, self.amendments)


class Contents:
    """Fills a store; `follow` brings it up to the world's present."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.store = Store(lambda: self._now)
        self.planted: list[Planted] = []
        self._now = seconds(world.start)
        self._queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._sequence = 0
        self._contracts: dict[str, Node] = {}
        root = self.store.add("My Drive", FOLDER, None).id
        finance = self.store.add("Finance", FOLDER, root).id
        legal = self.store.add_drive("Legal")
        self.folders = Folders(
            agreements=self.store.add("Publisher Agreements", FOLDER, finance, shared=True).id,
            amendments=self.store.add("Publisher Amendments", FOLDER, finance, shared=True).id,
            countersigned=self.store.add("Countersigned", FOLDER, legal.id).id,
            empty=self.store.add("Publisher Agreements (next year)", FOLDER, finance, shared=True).id,
            private=self.store.add("Board", FOLDER, finance).id,
        )
        self.signed = self.store.add("Signed", FOLDER, self.folders.agreements).id
        self.drafts = self.store.add("Drafts", FOLDER, self.folders.agreements).id
        self.archive = self.store.add("Archive", FOLDER, self.folders.agreements).id
        self._at(9 * HOUR, self._file_away)
        self._at(3 * DAY + 10 * HOUR, self._draft)
        self._weekly_notes(0)

    def follow(self) -> None:
        """Let everything happen that is due by the world's clock."""
        while self._queue and self._queue[0][0] <= self.world.now:
            self._now, _, action, args = heapq.heappop(self._queue)
            action(*args)
        self._now = self.world.now

    def _at(self, offset: int, action: Callable[..., None], *args: Any) -> None:
        """Plan something for `offset` seconds after the world's start."""
        self._sequence += 1
        heapq.heappush(self._queue, (seconds(self.world.start) + offset, self._sequence, action, args))

    @property
    def _day(self) -> date:
        return datetime.fromtimestamp(self._now, UTC).date()

    # --- the first morning

    def _file_away(self) -> None:
        """What was there from the beginning: contracts, and the things that lie around them."""
        store, folders = self.store, self.folders
        for index, publisher in enumerate(self.world.publishers):
            if index == len(self.world.publishers) - 1:
                self._plant("publisher_without_contract", publisher, "no contract")
            else:
                self._at(9 * HOUR + index * (DAY + HOUR), self._sign, index, publisher)
        store.add("Finance logo.png", "image/png", folders.agreements, content=documents.png())
        store.add("Payout tracker", SHEET, folders.agreements, content=b"publisher,paid\r\n")
        store.add("payouts.csv", "text/csv", self.archive, content=b"publisher,paid\n")
        store.add("Publisher contract template (scan).pdf", PDF, folders.countersigned, content=documents.scan())
        store.add("All of it", SHORTCUT, self.signed, target=folders.agreements)
        store.add("Countersigned (Legal)", SHORTCUT, folders.agreements, target=folders.countersigned)
        store.add("Board papers", SHORTCUT, self.archive, target=folders.private)
        store.add("Minutes.txt", TEXT, folders.private, content=b"Not for everyone.\n")
        old = store.add(
            "Publisher contract (superseded).pdf",
            PDF,
            self.archive,
            content=documents.pdf(["PUBLISHER AGREEMENT", "Superseded."]),
        )
        self._at(5 * DAY + 11 * HOUR, store.trash, old)
        self._at(20 * DAY + 11 * HOUR, store.delete, old)

    def _sign(self, index: int, publisher: Publisher) -> None:
        """A publisher's contract is filed; the 1st has an amendment at once, the 2nd a side letter and a scan."""
        kind = _KINDS[index % len(_KINDS)]
        bps = REVENUE_SHARE_BPS
        if index == 1:
            bps = _PLANTED_BPS
            self._plant("contract_share_differs", publisher, f"{bps} basis points instead of {REVENUE_SHARE_BPS}")
        lines = self._contract(publisher, bps, self._day)
        name = f"Publisher Agreement - {publisher.name}{_ENDINGS[kind]}"
        node = self.store.add(name, kind, self.signed, content=_written(kind, lines))
        self._contracts[publisher.id] = node
        if index == 1:
            letter = ["Side letter to the publisher agreement", f"Café terms apply to {publisher.name}."]
            self.store.add(
                f"Side letter to publisher agreement - {publisher.name}.txt",
                TEXT,
                self.signed,
                content=_written(TEXT, letter),
            )
            self.store.add(
                f"Publisher Agreement - {publisher.name} (countersigned).pdf",
                PDF,
                self.folders.countersigned,
                content=documents.scan(48, 64),
            )
        if kind == DOC:
            self._at(self._offset() + 8 * DAY, self._reword, publisher, 1)
        rng = self.world.rng("drive", publisher.id)
        first = self._offset() if index == 0 else self._offset() + rng.randrange(6, 12) * DAY
        self._at(first, self._amend, publisher, 1)

    # --- later

    def _amend(self, publisher: Publisher, number: int) -> None:
        """Every now and then the payout terms change; the revenue share never does."""
        rng = self.world.rng("drive", publisher.id, str(number))
        days = rng.choice((15, 30, 45, 60))
        kind = DOCX if number == 1 else rng.choice((DOCX, PDF, DOC))
        lines = [
            f"AMENDMENT No. {number}",
            f"to the publisher agreement with {publisher.name} LLC ({publisher.id})",
            f"Effective date: {self._day + timedelta(days=10)}",
            f"Payout terms: Net {days}",
            "All other terms stay as they are.",
        ]
        name = f"Amendment {number} - {publisher.name}{_ENDINGS[kind]}"
        self.store.add(name, kind, self.folders.amendments, content=_written(kind, lines))
        self._at(self._offset() + rng.randrange(20, 50) * DAY, self._amend, publisher, number + 1)

    def _reword(self, publisher: Publisher, number: int) -> None:
        """Somebody edits a contract that is a Google document, in a clause that has nothing to do with money."""
        node = self._contracts[publisher.id]
        if node.id in self.store.nodes:
            self.store.write(node, node.content + f"\nNotice clause, wording {number}.".encode())
        self._at(self._offset() + 17 * DAY, self._reword, publisher, number + 1)

    def _draft(self) -> None:
        """A draft is written, and a week later it is renamed and moved to the signed ones."""
        lines = ["REFERRAL AGREEMENT", "between the company and a publisher yet to be named", "Revenue share: none"]
        node = self.store.add("Referral agreement DRAFT", DOC, self.drafts, content=_written(DOC, lines))
        self._at(self._offset() + 7 * DAY, self._finish, node)

    def _finish(self, node: Node) -> None:
        self.store.rename(node, "Referral agreement")
        self.store.move(node, self.signed)

    def _weekly_notes(self, week: int) -> None:
        """Notes that are no contract: only the folder's inventory changes by them."""
        if week:
            text = f"Notes of week {week}: nothing to report.".encode()
            self.store.add(f"Notes week {week}", DOC, self.folders.agreements, content=text)
        self._at((week + 1) * 7 * DAY + 14 * HOUR, self._weekly_notes, week + 1)

    def _offset(self) -> int:
        return self._now - seconds(self.world.start)

    def _contract(self, publisher: Publisher, bps: int, effective: date) -> list[str]:
        row = self.world.gravity.rows["publishers"][publisher.id]
        return [
            "PUBLISHER AGREEMENT",
            f"between {self.world.stripe.company} and {row['legal_name']}",
            f"Publisher reference: {publisher.id}",
            f"Effective date: {effective}",
            f"Revenue share: {bps // 100}.{bps % 100:02d} % of ad spend ({bps} basis points)",
            "Payout terms: Net 15, paid on the 1st and the 15th of each month",
            f"Payout currency: {row['payout_currency'].upper()}",
            "Signed by both parties.",
        ]

    def _plant(self, kind: str, publisher: Publisher, detail: str) -> None:
        self.planted.append(Planted(kind, "google_drive", publisher.id, detail))


def _written(kind: str, lines: list[str]) -> bytes:
    """The bytes of a file of `kind`; plain text is Latin-1, as old editors left it."""
    if kind == PDF:
        return documents.pdf(lines)
    if kind == DOCX:
        return documents.docx(lines, [("Document", lines[0])])
    return "\n".join(lines).encode("latin-1" if kind == TEXT else "utf-8")
