"""What a read of Google Drive holds: folder inventories, candidates and their texts, by day.

A snapshot shows all that there is now, so what has left the folders, or lies in the bin, is removed by it. A past day
holds the candidates (and their texts) that are there now and were last modified on it: Drive does not tell what was
modified in between, moved or removed. A text whose file shows another one is removed by every kind of read.
"""

from collections.abc import Iterator
from datetime import date, datetime

from finance_os.evidence.canonical import payload_hash
from finance_os.evidence.extraction import Extraction, Item, Kind, Notice, Page, Record, Request, SourceError
from finance_os.evidence.windows import day_of
from finance_os.sources.google_drive.answers import File
from finance_os.sources.google_drive.candidates import Candidate, find_candidates
from finance_os.sources.google_drive.client import DriveReader
from finance_os.sources.google_drive.listing import Listing, inventory_id, read_listing
from finance_os.sources.google_drive.objects import API_VERSION, DriveObject
from finance_os.sources.google_drive.texts import read_text, text_ids_held


def extract(drive: DriveReader, obj: DriveObject, request: Request) -> Extraction:
    """Read what `request` asks for of `obj`, lazily; drawing from it raises `SourceError`.

    A targeted read takes the ID of a configured folder for its inventory, and file IDs for candidates and texts (the
    source ID of a text will do). A file that is no candidate any more is a removal.
    """
    reading = _Reading(drive, request)
    items = {"inventory": reading.inventories, "candidate": reading.candidates, "text": reading.texts}[obj.detail]()
    return Extraction(items, requested=drive.sent, api_version=API_VERSION)


class _Reading:
    """One read of one object type."""

    def __init__(self, drive: DriveReader, request: Request) -> None:
        self.drive = drive
        self.request = request
        self.now = request.now

    # --- the three objects

    def inventories(self) -> Iterator[Item]:
        listing = read_listing(self.drive, self._folders(), self.now)
        yield from self._notices(listing)
        records: list[Record] = []
        for tree in listing.trees:
            payload = tree.inventory()
            record = Record(inventory_id(payload), payload, self._today)
            records.append(record)
            if self.request.kind is Kind.TARGETED:
                earlier = self.request.held.ids_where(("folder_id",), tree.folder["id"])
                records += self._removals(each for each in earlier if each != record.source_id)
        yield Page(records, listing.requested_at)

    def candidates(self) -> Iterator[Item]:
        listing, chosen = self._chosen()
        yield from self._notices(listing)
        records = [self._candidate_record(each) for each in chosen]
        if self.request.kind is Kind.TARGETED:
            found = {each.file["id"] for each in chosen}
            records += self._removals(each for each in self._targets() if each not in found)
        yield Page(records, listing.requested_at, None, {"inventories": listing.inventories()})

    def texts(self) -> Iterator[Item]:
        """One page a file. A crashed read goes on behind the last file, if the folders still hold the very same."""
        listing, chosen = self._chosen()
        yield from self._notices(listing)
        state = payload_hash([each.file for each in chosen]).hex()
        provenance = {"inventories": listing.inventories()}
        resume = self.request.resume or {}
        done = resume["file"] if resume.get("state") == state else ""
        if self.request.kind is Kind.TARGETED:
            found = {each.file["id"] for each in chosen}
            gone = [each for target in self._targets() if target not in found for each in self._held(target)]
            yield Page(list(self._removals(gone)), listing.requested_at)
        vanished = 0
        for each in chosen:
            file_id = each.file["id"]
            if file_id <= done:
                continue
            place = {"state": state, "file": file_id}
            text = read_text(self.drive, each.file, listing.requested_at, self.now, self.request.held)
            if text is None:
                vanished += 1
                yield Page(list(self._removals(self._held(file_id))), self.now(), place)
                continue
            record = self._record(text.source_id, text.payload(), text.file)
            others = [held for held in self._held(file_id) if held != text.source_id]
            yield Page([record, *self._removals(others)], text.requested_at, place, provenance)
        if vanished:
            yield Notice(f"{vanished} file(s) went away while they were read.")

    # --- which files, and which days

    def _chosen(self) -> tuple[Listing, list[Candidate]]:
        """The folders, and those of their candidates that this read is about."""
        listing = read_listing(self.drive, self.drive.settings.folders, self.now)
        candidates = find_candidates(listing, self.drive.settings.rules)
        if self.request.kind is Kind.TARGETED:
            targets = set(self._targets())
            return listing, [each for each in candidates if each.file["id"] in targets]
        if self.request.kind is Kind.WINDOW:
            days = self.request.days
            return listing, [each for each in candidates if self._modified_on(each.file) in days]
        return listing, candidates

    def _targets(self) -> list[str]:
        """File IDs, each once; of a text's source ID the file's part."""
        return list(dict.fromkeys(target.partition(":")[0] for target in self.request.targets))

    def _folders(self) -> tuple[str, ...]:
        if self.request.kind is not Kind.TARGETED:
            return self.drive.settings.folders
        unknown = [target for target in self.request.targets if target not in self.drive.settings.folders]
        if unknown:
            raise SourceError("invalid_request", f"{', '.join(unknown)}: not a configured folder", permanent=True)
        return self.request.targets

    def _held(self, file_id: str) -> list[str]:
        return text_ids_held(self.request.held, file_id)

    def _modified_on(self, file: File) -> date:
        return day_of(datetime.fromisoformat(file["modifiedTime"]), self.request.zone)

    @property
    def _today(self) -> date:
        """The present day, or the last one asked for where midnight has passed since."""
        today = day_of(self.now(), self.request.zone)
        return today if today in self.request.days else self.request.days.last

    # --- records

    def _candidate_record(self, candidate: Candidate) -> Record:
        return self._record(candidate.file["id"], candidate.payload(), candidate.file)

    def _record(self, source_id: str, payload: dict[str, object], file: File) -> Record:
        return Record(
            source_id,
            payload,
            self._modified_on(file) if self.request.kind is Kind.WINDOW else self._today,
            int(file["version"]),
            datetime.fromisoformat(file["createdTime"]) if "createdTime" in file else None,
            datetime.fromisoformat(file["modifiedTime"]),
        )

    def _removals(self, source_ids: Iterator[str] | list[str]) -> Iterator[Record]:
        return (Record(each, None, self._today) for each in source_ids)

    def _notices(self, listing: Listing) -> Iterator[Notice]:
        lost = sum(len(tree.unreadable) for tree in listing.trees)
        if lost:
            yield Notice(f"{lost} shortcut(s) lead to files that are gone or not shared with the service account.")
        if self.request.kind is Kind.WINDOW:
            yield Notice(
                "Drive tells when a file was last modified: what was modified again, moved or removed since is not in "
                "these days."
            )
