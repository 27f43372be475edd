"""The object types of Google Drive, what may be asked for, and what people look for in the payloads.

Fields with Google's spelling (`mimeType`) are Drive's own, as text where Drive gives 64-bit integers as text:
https://developers.google.com/workspace/drive/api/reference/rest/v3/files. Names of files may be personal data: they are
evidence, and never shown.
"""

from typing import Literal, TypeAlias

from finance_os.sources.guard import Get, Post
from finance_os.sources.source import Column, Reads, SourceObject

API_VERSION = "v3"
SERVICE_ACCOUNT = "FINANCE_OS_GOOGLE_DRIVE_SERVICE_ACCOUNT"
FOLDERS = "FINANCE_OS_GOOGLE_DRIVE_FOLDERS"
API_BASE_OPTION = "FINANCE_OS_GOOGLE_DRIVE_API_BASE"
RULES_OPTION = "FINANCE_OS_GOOGLE_DRIVE_CANDIDATE_RULES"
LIMITS_OPTION = "FINANCE_OS_GOOGLE_DRIVE_LIMITS"

SCOPE = "https://www.googleapis.com/auth/drive.readonly"
READS = (
    Get("/drive/v3/files"),
    Get("/drive/v3/files/*"),
    Get("/drive/v3/changes"),
    Get("/drive/v3/changes/startPageToken"),
    Post("/token", at="oauth"),
)

FOLDER_MIME = "application/vnd.google-apps.folder"
SHORTCUT_MIME = "application/vnd.google-apps.shortcut"
DOCUMENT_MIME = "application/vnd.google-apps.document"
PDF_MIME = "application/pdf"
WORD_MIME = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
TEXT_MIME = "text/plain"

READABLE_MIMES = (DOCUMENT_MIME, PDF_MIME, WORD_MIME, TEXT_MIME)
"""The kinds of files that text can be taken from, and so the only ones that can be candidates."""

FILE_FIELDS = (
    "id",
    "name",
    "mimeType",
    "version",
    "headRevisionId",
    "md5Checksum",
    "sha256Checksum",
    "size",
    "createdTime",
    "modifiedTime",
    "parents",
    "driveId",
    "trashed",
    "explicitlyTrashed",
    "shortcutDetails",
)
"""What is asked of a file, and nothing else: no owners, no users, no links."""

Subject: TypeAlias = Literal["inventory", "candidate", "text"]
DriveObject: TypeAlias = SourceObject[Subject]

_FILE_COLUMNS = (
    Column("id", "string", "Drive's file ID."),
    Column("name", "string"),
    Column("mimeType", "string"),
    Column("version", "string", "Counts every change on the server, even those that nobody sees."),
    Column("headRevisionId", "string", "Revision of the content; Google documents have none."),
    Column("md5Checksum", "string", "Of the content; Google documents have none."),
    Column("sha256Checksum", "string", "Of the content; Google documents have none."),
    Column("size", "string", "Bytes."),
    Column("createdTime", "timestamp"),
    Column("modifiedTime", "timestamp", "When the content or the name was last changed; moving a file leaves it."),
    Column("parents", "array", "The folder that it lies in."),
    Column("driveId", "string", "The shared drive that it lies in, if any."),
    Column("trashed", "boolean"),
)

OBJECTS: tuple[DriveObject, ...] = (
    SourceObject(
        "folder_inventory",
        "Everything in a configured folder and the folders below it: one record a folder.",
        "inventory",
        reads=Reads.SNAPSHOT,
        label="folder_inventory",
        columns=(
            Column("folder_id", "string", "Drive's ID of the configured folder."),
            Column("folder", "object", "The folder itself, as the files below."),
            Column("files", "array", "Every file, folder and shortcut, by ID; what lies in the bin is marked trashed."),
            Column("shortcuts", "array", "Each shortcut with its target, and whether that can be read."),
            Column("counts", "object", "Live files, folders and shortcuts, and what lies in the bin."),
        ),
        shown=("folder_id", "counts"),
    ),
    SourceObject(
        "publisher_contract_candidate",
        "Files that may be publisher agreements by the declared rules: kind, name, folder.",
        "candidate",
        reads=Reads.UPDATED,
        label="publisher_contract_candidate",
        columns=(
            *_FILE_COLUMNS,
            Column("candidate", "object", "The rule that it matched, and the configured folders that it was found in."),
        ),
        shown=("id", "mimeType", "version", "sha256Checksum", "modifiedTime"),
    ),
    SourceObject(
        "contract_text",
        "The text of each candidate, or why it has none.",
        "text",
        reads=Reads.UPDATED,
        label="contract_text",
        columns=(
            Column("file_id", "string", "Drive's file ID."),
            Column("mime_type", "string"),
            Column("version", "string", "The file's version that the text was taken from."),
            Column("head_revision_id", "string", "The revision of its content; Google documents have none."),
            Column("md5", "string", "Of the file's content; Google documents have none."),
            Column("sha256", "string", "Of the file's content; Google documents have none."),
            Column("size", "string", "Bytes of the file."),
            Column("modified_time", "timestamp"),
            Column("text", "string", "Lines end with LF; empty where none could be taken."),
            Column("text_sha256", "string", "Of the text as UTF-8."),
            Column("characters", "integer", "Length of the text in Unicode characters."),
            Column(
                "extraction",
                "object",
                "How the text was taken: status (extracted, no_text, too_large, timed_out, unreadable, encrypted), "
                "library and its version.",
            ),
        ),
        shown=("file_id", "mime_type", "version", "text_sha256", "characters", "modified_time"),
    ),
)
