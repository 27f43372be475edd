"""A TCP front door before PostgreSQL, at which Amazon's driver finds a Redshift.

The driver's start-up packet holds parameters that PostgreSQL refuses, it takes a password the way Redshift asks for it,
and looks for Redshift's version. Here it is asked for its password (MD5, https://www.postgresql.org/docs/8.0/
protocol-flow.html), then libpq logs in to PostgreSQL in its place, and from there on bytes go to and fro. Statements
that Redshift would refuse are replaced by ones that PostgreSQL refuses too.
"""

import hashlib
import os
import secrets
import socket
import socketserver
import struct
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from typing import BinaryIO

import psycopg
from psycopg.conninfo import make_conninfo
from typing_extensions import override

from .dialect import Dialect

_VERSION_3 = 196_608
_TLS, _GSS = 80_877_103, 80_877_104
_STATUS = {
    "client_encoding": "UNICODE",
    "DateStyle": "ISO, MDY",
    "integer_datetimes": "on",
    "server_encoding": "UNICODE",
    "server_version": "8.0.2",
    "session_authorization": "",
    "TimeZone": "UTC",
}


class FrontDoor:
    """Listens on a port of 127.0.0.1. `logins` are passwords by user, `address` is how PostgreSQL is reached.

    `statements` are the latest that were sent, in order.
    """

    def __init__(self, address: str, database: str, logins: Mapping[str, str]) -> None:
        self.address = address
        self.database = database
        self.logins = logins
        self.statements: deque[str] = deque(maxlen=10_000)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Visit, self)
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.1,), name="redshift", daemon=True).start()

    def enter(self, visitor: socket.socket) -> None:
        with self._lock:
            self._open.add(visitor)

    def leave(self, visitor: socket.socket) -> None:
        with self._lock:
            self._open.discard(visitor)

    def drop_connections(self) -> int:
        """Break every connection in the middle of whatever it does; how many there were."""
        with self._lock:
            dropped = list(self._open)
        for visitor in dropped:
            with suppress(OSError):
                visitor.shutdown(socket.SHUT_RDWR)
        return len(dropped)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self.drop_connections()


class _Server(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], visit: type["_Visit"], door: FrontDoor) -> None:
        self.door = door
        super().__init__(address, visit)


class _Visit(socketserver.StreamRequestHandler):
    """One connection of a client."""

    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]
    rfile: BinaryIO  # pyright: ignore[reportIncompatibleVariableOverride]
    disable_nagle_algorithm = True

    @override
    def handle(self) -> None:
        self.server.door.enter(self.connection)
        try:
            with suppress(OSError, EOFError):
                self._visit()
        finally:
            self.server.door.leave(self.connection)

    def _visit(self) -> None:
        door = self.server.door
        wishes = self._start()
        user, database = wishes.get("user", ""), wishes.get("database", "")
        if not self._knows_password(user):
            self._refuse("28000", f'password authentication failed for user "{user}"')
            return
        if database != door.database:
            self._refuse("3D000", f'database "{database}" does not exist')
            return
        address = make_conninfo(
            door.address,
            user=user,
            password=door.logins[user],
            application_name=wishes.get("application_name", ""),
            options="-c timezone=UTC",
        )
        with psycopg.connect(address, autocommit=True) as connection:
            self._welcome(user, connection.info.backend_pid)
            # libpq stays quiet from here on: its connection is ours.
            with socket.socket(fileno=os.dup(connection.pgconn.socket)) as postgres:
                postgres.setblocking(True)
                back = threading.Thread(target=self._bring_back, args=(postgres,), daemon=True)
                back.start()
                try:
                    self._take(postgres)
                finally:
                    with suppress(OSError):
                        postgres.shutdown(socket.SHUT_RDWR)
                    back.join()

    def _start(self) -> dict[str, str]:
        """What the client says at start-up: user, database, application_name and whatever else."""
        while True:
            (length,) = struct.unpack("!i", self._read(4))
            body = self._read(length - 4)
            (code,) = struct.unpack("!i", body[:4])
            if code not in (_TLS, _GSS):
                break
            self.wfile.write(b"N")
        if code != _VERSION_3:
            raise EOFError
        words = [word.decode() for word in body[4:].split(b"\0")]
        return dict(zip(words[::2], words[1::2], strict=False))

    def _knows_password(self, user: str) -> bool:
        salt = secrets.token_bytes(4)
        self._say(b"R", struct.pack("!i", 5) + salt)
        kind, body = self._message()
        password = self.server.door.logins.get(user)
        if kind != b"p" or password is None:
            return False
        inner = hashlib.md5((password + user).encode(), usedforsecurity=False).hexdigest().encode()
        expected = b"md5" + hashlib.md5(inner + salt, usedforsecurity=False).hexdigest().encode()
        return secrets.compare_digest(body.rstrip(b"\0"), expected)

    def _welcome(self, user: str, pid: int) -> None:
        self._say(b"R", struct.pack("!i", 0))
        for name, value in {**_STATUS, "session_authorization": user}.items():
            self._say(b"S", name.encode() + b"\0" + value.encode() + b"\0")
        self._say(b"K", struct.pack("!ii", pid, 0))
        self._say(b"Z", b"I")

    def _refuse(self, code: str, message: str) -> None:
        fields = {"S": "FATAL", "C": code, "M": message}
        self._say(b"E", b"".join(f"{name}{value}".encode() + b"\0" for name, value in fields.items()) + b"\0")

    def _take(self, postgres: socket.socket) -> None:
        """Take what the client sends to PostgreSQL, until it says goodbye."""
        translator = _Translator(self.server.door.statements)
        while True:
            kind, body = self._message()
            body = translator.translated(kind, body)
            postgres.sendall(kind + struct.pack("!i", len(body) + 4) + body)
            if kind == b"X":
                return

    def _bring_back(self, postgres: socket.socket) -> None:
        """Bring what PostgreSQL answers to the client; hang up when it does."""
        with suppress(OSError):
            while data := postgres.recv(65_536):
                self.connection.sendall(data)
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _message(self) -> tuple[bytes, bytes]:
        kind = self._read(1)
        (length,) = struct.unpack("!i", self._read(4))
        return kind, self._read(length - 4)

    def _read(self, count: int) -> bytes:
        data = self.rfile.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def _say(self, kind: bytes, body: bytes) -> None:
        self.wfile.write(kind + struct.pack("!i", len(body) + 4) + body)


class _Translator:
    """Follows the statements of one connection, prepared ones too, and replaces those that Redshift would refuse."""

    def __init__(self, statements: deque[str]) -> None:
        self._dialect = Dialect()
        self._statements = statements
        self._prepared: dict[bytes, str] = {}

    def translated(self, kind: bytes, body: bytes) -> bytes:
        """The body of a message as PostgreSQL gets it."""
        if kind == b"Q":
            statement = body.partition(b"\0")[0].decode()
            return self._replaced(statement, run=True) + b"\0"
        if kind == b"P":
            name, _, rest = body.partition(b"\0")
            text, _, types = rest.partition(b"\0")
            self._prepared[name] = text.decode()
            return name + b"\0" + self._replaced(text.decode(), run=False) + b"\0" + types
        if kind == b"B":
            _, _, rest = body.partition(b"\0")
            self._ran(self._prepared.get(rest.partition(b"\0")[0], ""))
        return body

    def _replaced(self, statement: str, *, run: bool) -> bytes:
        complaint = self._dialect.complaint(statement)
        if run:
            self._ran(statement)
        return (statement if complaint is None else f"redshift: {complaint}").encode()

    def _ran(self, statement: str) -> None:
        self._statements.append(statement)
        self._dialect.ran(statement)
