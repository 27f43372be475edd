"""Files that hold secrets: only their owner may open them."""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from finance_os.evidence.extraction import SourceError

MAX_BYTES = 1024 * 1024
"""A file of secrets is small: a larger one was named by mistake."""


def read_private(path: Path) -> bytes:
    """A file's bytes; links are followed, and what they lead to is judged.

    Raises `SourceError`: `secret_not_found`, `secret_denied`, `secret_file_exposed` for one that its group or others
    may open, `secret_unreadable` for what is not a plain file or too large.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a pipe would wait for somebody to write
    except (FileNotFoundError, NotADirectoryError):
        raise SourceError("secret_not_found", f"there is no file {path}", permanent=True) from None
    except PermissionError:
        message = f"this process may not open {path}: give it to the user that runs Finance OS"
        raise SourceError("secret_denied", message, permanent=True) from None
    except OSError as error:
        message = f"{path} could not be opened: {error.strerror}"
        raise SourceError("secret_unreadable", message, permanent=True) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise SourceError("secret_unreadable", f"{path} is not a plain file", permanent=True)
        mode = stat.S_IMODE(status.st_mode)
        if mode & 0o077:
            message = (
                f"{path} has mode {mode:04o}: others than its owner may open it. "
                f"Run `chmod 600 {path}`, and replace its secrets if anybody may have read them"
            )
            raise SourceError("secret_file_exposed", message, permanent=True)
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(data) > MAX_BYTES:
        raise SourceError("secret_unreadable", f"{path} is larger than {MAX_BYTES:,} bytes", permanent=True)
    return data


def create_private(path: Path, data: bytes) -> None:
    """Make a file that is there as a whole or not at all; leave it as it is where there already is one.

    Of several processes at once, one makes the file, and what it wrote is what all of them read. Raises
    `SourceError` where the folder cannot be written to.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            with suppress(FileExistsError):
                os.link(unfinished, path)  # unlike a rename, never replaces what is there
        finally:
            unfinished.unlink(missing_ok=True)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        message = f"{path} could not be made: {error.strerror}"
        raise SourceError("secret_file_not_made", message, permanent=True) from None
