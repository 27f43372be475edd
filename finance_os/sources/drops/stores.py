"""Where drops lie: a local folder or an S3 prefix, behind the same few operations.

What is read is proved not to have changed meanwhile; what is removed is what was read, or is left alone.
"""

import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from finance_os.evidence.extraction import SourceError

if TYPE_CHECKING:
    from cloudpathlib import S3Path


@dataclass(frozen=True)
class Stamp:
    """What must not change while a file is read: size in bytes, modification time in ns, and the file's identity.

    The identity is inode and change time in a folder, the ETag on S3.
    """

    size: int
    mtime_ns: int
    identity: str


class Store(Protocol):
    """Where drops lie. Keys are relative to the drop location, with `/` between their parts."""

    def entries(self, folder: str) -> Iterator[tuple[str, Stamp | None]]:
        """Names in a folder; without a stamp if it is not a plain file. Nothing if there is no such folder."""
        ...

    def read(self, key: str, limit: int | None) -> tuple[bytes, Stamp]:
        """A file's bytes with a stamp that was the same before and after; `FileNotFoundError` if there is none."""
        ...

    def write(self, key: str, data: bytes) -> None:
        """Write a file so that it is there as a whole or not at all, and stays."""
        ...

    def remove(self, key: str, stamp: Stamp) -> None:
        """Remove a file, unless it is not the one that `stamp` was taken of."""
        ...

    def move(self, key: str, stamp: Stamp, to: str, data: bytes) -> None:
        """Move a file, whose bytes are `data`, unless it is not the one that `stamp` was taken of."""
        ...

    def shown(self, key: str) -> str:
        """The path or URL of a key, for people."""
        ...


def open_store(location: str) -> Store:
    """The store at a folder or an `s3://bucket/prefix`. Its methods raise `SourceError` where S3 does not answer."""
    if not location.startswith("s3://"):
        return Folder(Path(location))
    from cloudpathlib import S3Path  # brings boto3, which is slow to import and not needed for a folder

    return Bucket(S3Path(location))


def _too_large(size: int, limit: int) -> SourceError:
    return SourceError("drop_too_large", f"the file is {size:,} bytes; the most that is read is {limit:,}: split it")


class Folder:
    """Drops in a local folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def entries(self, folder: str) -> Iterator[tuple[str, Stamp | None]]:
        with suppress(FileNotFoundError), os.scandir(self._root / folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):
                    yield entry.name, _stamp(entry.stat(follow_symlinks=False))

    def read(self, key: str, limit: int | None) -> tuple[bytes, Stamp]:
        descriptor = os.open(self._root / key, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with open(descriptor, "rb") as file:
            before = os.fstat(descriptor)
            if limit is not None and before.st_size > limit:
                raise _too_large(before.st_size, limit)
            data = file.read(before.st_size + 1)
            stamp = _stamp(os.fstat(descriptor))
        if stamp is None or stamp != _stamp(before) or len(data) != stamp.size:
            return data, Stamp(-1, 0, "changed while it was read")
        return data, stamp

    def write(self, key: str, data: bytes) -> None:
        path = self._root / key
        self.make_folder(os.path.dirname(key))
        unfinished = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.tmp")
        try:
            with open(unfinished, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        _sync_folder(path.parent)

    def remove(self, key: str, stamp: Stamp) -> None:
        path = self._root / key
        with suppress(FileNotFoundError):
            if _stamp(path.lstat()) == stamp:
                path.unlink()

    def move(self, key: str, stamp: Stamp, to: str, data: bytes) -> None:  # noqa: ARG002
        """The file itself is moved: whoever still has it open goes on writing to what was moved, and loses nothing."""
        path = self._root / key
        with suppress(FileNotFoundError):
            if _stamp(path.lstat()) == stamp:
                os.replace(path, self._root / to)

    def shown(self, key: str) -> str:
        return str(self._root / key)

    def make_folder(self, key: str) -> None:
        """Make a folder and those above it, so that they outlast a loss of power."""
        path = self._root / key
        missing = [folder for folder in (path, *path.parents) if not folder.is_dir()]
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            _sync_folder(folder.parent)


def _stamp(status: os.stat_result) -> Stamp | None:
    if not stat.S_ISREG(status.st_mode):
        return None
    return Stamp(status.st_size, status.st_mtime_ns, f"{status.st_ino}/{status.st_ctime_ns}")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Bucket:
    """Drops under an S3 prefix.

    By single requests rather than through cloudpathlib's file cache: an answer to GetObject has the bytes together
    with their ETag, and an object is deleted only if it still has it.
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-deletes.html
    """

    def __init__(self, root: "S3Path") -> None:
        self._client: Any = root.client.client
        self._bucket = root.bucket
        self._prefix = f"{root.key.rstrip('/')}/" if root.key else ""

    def entries(self, folder: str) -> Iterator[tuple[str, Stamp | None]]:
        prefix = f"{self._prefix}{folder}/"
        with _answering():
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=prefix, Delimiter="/"
            )
            for page in pages:
                for item in page.get("CommonPrefixes", ()):
                    yield item["Prefix"][len(prefix) : -1], None
                for item in page.get("Contents", ()):
                    if item["Key"] != prefix:  # the marker that a console makes for a folder
                        yield item["Key"][len(prefix) :], _object_stamp(item["Size"], item)

    def read(self, key: str, limit: int | None) -> tuple[bytes, Stamp]:
        with _answering():
            answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key)
            with answer["Body"] as body:
                size = answer["ContentLength"]
                if limit is not None and size > limit:
                    raise _too_large(size, limit)
                return body.read(), _object_stamp(size, answer)

    def write(self, key: str, data: bytes) -> None:
        with _answering():
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + key, Body=data)

    def remove(self, key: str, stamp: Stamp) -> None:
        with suppress(FileNotFoundError), _answering():
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + key, IfMatch=stamp.identity)

    def move(self, key: str, stamp: Stamp, to: str, data: bytes) -> None:
        self.write(to, data)
        self.remove(key, stamp)

    def shown(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key}"


def _object_stamp(size: int, item: Mapping[str, Any]) -> Stamp:
    return Stamp(size, int(item["LastModified"].timestamp()) * 10**9, item["ETag"])


@contextmanager
def _answering() -> Iterator[None]:
    """Turn S3's errors into ours: no such object, another one than expected, and everything else."""
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "")
        if code in ("NoSuchKey", "404", "PreconditionFailed", "ConditionalRequestConflict"):
            raise FileNotFoundError(code) from None
        message = f"S3 answered {code or 'with an error'}: check the bucket, the credentials and what they may do"
        raise SourceError("drops_unreachable", message) from error
    except BotoCoreError as error:
        message = f"S3 could not be reached ({type(error).__name__}): check the endpoint and the credentials"
        raise SourceError("drops_unreachable", message) from error
