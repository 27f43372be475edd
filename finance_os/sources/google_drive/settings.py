"""What a connection to Google Drive is set to: the service account, the folders, the candidate rules and the bounds."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

import msgspec

from finance_os.evidence.extraction import SourceError
from finance_os.sources.credentials import Credentials
from finance_os.sources.google_drive.objects import (
    API_BASE_OPTION,
    FOLDERS,
    LIMITS_OPTION,
    READABLE_MIMES,
    RULES_OPTION,
    SERVICE_ACCOUNT,
)

API_BASE = "https://www.googleapis.com"
TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105 (an address)

_FOLDER_ID = re.compile(r"[A-Za-z0-9_-]{5,200}")
_GOOGLE = (".googleapis.com", ".google.com")

Positive = Annotated[int, msgspec.Meta(gt=0)]


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What makes a file a candidate: its kind and, where they are given, its name and a folder above it.

    `name_pattern` is a regular expression that is searched for in the name; `folders` are folder IDs, of which one
    must lie above the file, however far.
    """

    name: Annotated[str, msgspec.Meta(pattern="^[a-z0-9_-]{1,64}$")]
    mime_types: tuple[str, ...] = READABLE_MIMES
    name_pattern: str | None = None
    folders: tuple[str, ...] = ()


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bounds. Files and texts beyond them are recorded as too large; a tree beyond them is an error.

    `page_size` is at most 1,000. Drive's own quota is 12,000 requests a minute and project, of which
    `requests_per_second` leaves most to others: https://developers.google.com/workspace/drive/api/guides/limits
    `extraction_seconds` is the processor time for one document, and a quarter of its time by the clock.
    """

    page_size: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1_000
    requests_per_second: Positive = 20
    max_files: Positive = 50_000
    max_file_bytes: Positive = 25_000_000
    max_text_characters: Positive = 4_000_000
    extraction_seconds: Positive = 30
    extraction_memory_mb: Annotated[int, msgspec.Meta(ge=256)] = 1_024


DEFAULT_RULES = (Rule("agreement_names", name_pattern=r"(?i)\b(agreement|contract|amendment|addendum)s?\b"),)


@dataclass(frozen=True)
class DriveSettings:
    """Settings that have been looked at. `key` is the service account's key as parsed; printing leaves it out."""

    key: Mapping[str, Any] = field(repr=False)
    token_uri: str
    api_base: str
    folders: tuple[str, ...]
    rules: tuple[Rule, ...]
    limits: Limits


def read_settings(credentials: Credentials) -> DriveSettings:
    """The settings in `credentials`.

    Raises `SourceError`: `key_refused` for what is not the key of a service account, `invalid_setting` for the rest.
    """
    key = _key(credentials[SERVICE_ACCOUNT])
    token_uri = key.get("token_uri", TOKEN_URI)
    api_base = (credentials.get(API_BASE_OPTION) or API_BASE).rstrip("/")
    if not re.fullmatch(r"https?://[^\s?#@]+", api_base):
        raise _invalid(API_BASE_OPTION, "is not a URL of scheme and host")
    if not isinstance(token_uri, str) or not re.fullmatch(r"https?://[^\s?#@]+/token", token_uri):
        raise SourceError("key_refused", f"{SERVICE_ACCOUNT}: its token_uri is not one of Google's", permanent=True)
    if _is_google(token_uri) and not (token_uri.startswith("https://") and api_base.startswith("https://")):
        raise _invalid(API_BASE_OPTION, "must be https for a key of Google's")
    folders = tuple(dict.fromkeys(part.strip() for part in credentials[FOLDERS].split(",") if part.strip()))
    if not folders or not all(_FOLDER_ID.fullmatch(folder) for folder in folders):
        raise _invalid(FOLDERS, "is not a list of folder IDs, separated by commas")
    rules = _parsed(RULES_OPTION, credentials.get(RULES_OPTION), tuple[Rule, ...], DEFAULT_RULES)
    _check_rules(rules)
    limits = _parsed(LIMITS_OPTION, credentials.get(LIMITS_OPTION), Limits, Limits())
    return DriveSettings(key, token_uri, api_base, folders, rules, limits)


Parsed = TypeVar("Parsed")


def _parsed(name: str, text: str | None, kind: type[Parsed], default: Parsed) -> Parsed:
    if text is None:
        return default
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.MsgspecError as error:
        raise _invalid(name, f"cannot be used: {error}") from None


def _check_rules(rules: tuple[Rule, ...]) -> None:
    if not rules or len({rule.name for rule in rules}) != len(rules):
        raise _invalid(RULES_OPTION, "needs at least one rule, and another name for each")
    for rule in rules:
        unknown = set(rule.mime_types) - set(READABLE_MIMES)
        if unknown or not rule.mime_types:
            raise _invalid(RULES_OPTION, f"rule {rule.name}: mime_types are among {', '.join(READABLE_MIMES)}")
        try:
            re.compile(rule.name_pattern or "")
        except re.error:
            raise _invalid(RULES_OPTION, f"rule {rule.name}: name_pattern is not a regular expression") from None


def _key(given: str) -> dict[str, Any]:
    """The key file's JSON, handed over itself or by its path."""
    text = given.strip()
    if not text.startswith("{"):
        try:
            text = Path(text).expanduser().read_text()
        except (OSError, ValueError) as error:
            reason = type(error).__name__
            raise _invalid(SERVICE_ACCOUNT, f"is neither JSON nor a file that can be read ({reason})") from None
    try:
        key = msgspec.json.decode(text)
    except msgspec.MsgspecError:
        key = None
    if not isinstance(key, dict) or key.get("type") != "service_account":
        raise SourceError("key_refused", f"{SERVICE_ACCOUNT} is not the key of a service account", permanent=True)
    return key


def _is_google(url: str) -> bool:
    return ("." + (urlsplit(url).hostname or "")).endswith(_GOOGLE)


def _invalid(name: str, fault: str) -> SourceError:
    return SourceError("invalid_setting", f"{name} {fault}", permanent=True)
