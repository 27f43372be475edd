"""Google Drive: what the folders of publisher agreements hold, and the agreements' text, read by a service account.

Completeness is proven by Drive's own words: every list is read until it gives no token for a further page, every search
must call itself complete, and the logs of changes must be silent about the folders while they are walked. Drive tells
no number of files, so there is no remote count. A folder that cannot be read is an error, never an empty inventory.

Candidates and texts of today are a snapshot; those of a past day are what is still there and was last modified on it.
A file's text is fetched anew by each read: what is held cannot be shown again without fetching it.
https://developers.google.com/workspace/drive/api/guides/about-sdk
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from finance_os.evidence.extraction import Extraction, Request
from finance_os.sources.credentials import Credentials
from finance_os.sources.google_drive.objects import (
    API_BASE_OPTION,
    API_VERSION,
    FOLDERS,
    LIMITS_OPTION,
    OBJECTS,
    READS,
    RULES_OPTION,
    SERVICE_ACCOUNT,
)
from finance_os.sources.source import Cadence, EvidenceSource, Source, SourceObject


@contextmanager
def _open(credentials: Credentials) -> Iterator[Any]:
    from finance_os.sources.google_drive.client import connect  # Google's library: slow to import

    with connect(credentials) as drive:
        yield drive


def _extract(drive: Any, obj: SourceObject[Any], request: Request) -> Extraction:
    from finance_os.sources.google_drive.reading import extract

    return extract(drive, obj, request)


GOOGLE_DRIVE = Source(
    system="google_drive",
    title="Google Drive",
    order=3,
    description="Publisher agreements: inventories of their folders, candidate files, and the text of each.",
    cadence=Cadence.DAILY,
    sla=timedelta(days=2),
    credentials=(SERVICE_ACCOUNT, FOLDERS),
    options=(API_BASE_OPTION, RULES_OPTION, LIMITS_OPTION),
    reads=READS,
    read_scope="Drive API read-only scope",
    cursor_strategy="Nightly Drive folder inventory by page token/file modified time; file ID + revision/version "
    "anchor replay.",
    evidence_policy="Store folder inventory hash, file ID/name/MIME/version/revision/checksums, extracted text hash, "
    "and sync run ID before human term approval.",
    objects=OBJECTS,
    open=_open,
    extract=_extract,
    api_version=API_VERSION,
    kinds=("googledrive",),
    evidence=(
        EvidenceSource("folder_inventory", "Google Drive", tuple(obj.object_type for obj in OBJECTS if obj.label), 1),
    ),
)
