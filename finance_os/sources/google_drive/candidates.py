"""Which files may be publisher agreements: the live files of the configured folders that a declared rule matches."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from finance_os.sources.google_drive.answers import File
from finance_os.sources.google_drive.listing import Listing, Tree
from finance_os.sources.google_drive.settings import Rule


@dataclass(frozen=True)
class Candidate:
    """A file with the first rule that it matches; in which configured folders and by which shortcuts it was found."""

    file: File
    rule: str
    folders: tuple[str, ...]
    shortcuts: tuple[str, ...]

    def payload(self) -> dict[str, Any]:
        """The file as Drive describes it, and why it is a candidate."""
        found = {"rule": self.rule, "folders": list(self.folders), "shortcuts": list(self.shortcuts)}
        return {**self.file, "candidate": found}


def find_candidates(listing: Listing, rules: Iterable[Rule]) -> list[Candidate]:
    """The candidates of a listing, by ID. What lies in the bin is none."""
    matched: dict[str, str] = {}
    files: dict[str, File] = {}
    folders: dict[str, list[str]] = {}
    shortcuts: dict[str, set[str]] = {}
    matchers = [_Matcher(rule, listing.trees) for rule in rules]
    for tree in listing.trees:
        for file_id, file in tree.files.items():
            rule = None if file["trashed"] else next((each.rule.name for each in matchers if each.matches(file)), None)
            if rule is not None:
                matched[file_id], files[file_id] = rule, file
                folders.setdefault(file_id, []).append(tree.folder["id"])
                shortcuts.setdefault(file_id, set()).update(tree.reached_by.get(file_id, ()))
    return [
        Candidate(files[each], matched[each], tuple(sorted(folders[each])), tuple(sorted(shortcuts[each])))
        for each in sorted(files)
    ]


class _Matcher:
    """A rule with what it needs to judge files: its pattern, and all that lies below its folders."""

    def __init__(self, rule: Rule, trees: Iterable[Tree]) -> None:
        self.rule = rule
        self._pattern = re.compile(rule.name_pattern or "")
        self._below = {file for tree in trees for folder in rule.folders for file in tree.below(folder)}

    def matches(self, file: File) -> bool:
        return (
            file["mimeType"] in self.rule.mime_types
            and self._pattern.search(file["name"]) is not None
            and (not self.rule.folders or file["id"] in self._below)
        )
