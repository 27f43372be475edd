"""Receivers of messages on this machine: a webhook's HTTP server, and a mail server as strict as RFC 5321 is."""

import base64
import json
import socketserver
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass
class Webhook:
    """What a webhook got. `status` is what it answers; `drop` closes the connection instead of answering."""

    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    status: int = 200
    location: str | None = None
    drop: bool = False

    @property
    def texts(self) -> list[str]:
        """The text of each message."""
        return [body["text"] for body in self.bodies]


@contextmanager
def webhook() -> Iterator[Webhook]:
    """A webhook at `http://127.0.0.1:…/services/T0/B0/secret`."""
    got = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.headers["Content-Type"] == "application/json"
            got.paths.append(self.path)
            got.bodies.append(json.loads(body))
            if got.drop:
                self.close_connection = True
                return
            answer = b"ok" if got.status == 200 else b"invalid_payload"
            self.send_response(got.status)
            if got.location:
                self.send_header("Location", got.location)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as port:
        got.url = f"http://127.0.0.1:{port}/services/T0/B0/secret"
        yield got


@dataclass
class Mailbox:
    """What a mail server took. `answers` replaces its answer to a verb, or to `END` of a message's data.

    `None` for an answer closes the connection.
    """

    port: int = 0
    mails: list[bytes] = field(default_factory=list)
    envelopes: list[tuple[str, list[str]]] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    answers: dict[str, str | None] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    encrypted: list[bool] = field(default_factory=list)

    @property
    def messages(self) -> list[EmailMessage]:
        """The mails, parsed."""
        return [message_from_bytes(mail, policy=default) for mail in self.mails]  # type: ignore[arg-type]


@contextmanager
def mailbox(tls: ssl.SSLContext | None = None, *, at_once: bool = False) -> Iterator[Mailbox]:
    """A mail server at 127.0.0.1: with `tls` it offers STARTTLS, or speaks TLS `at_once`."""
    got = Mailbox()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with suppress(OSError, EOFError):  # the other side went away
                _Conversation(got, self.request, tls, at_once=at_once).hold()

    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    with _serving(server) as port:
        got.port = port
        yield got


@dataclass
class _Conversation:
    got: Mailbox
    socket: Any
    tls: ssl.SSLContext | None
    at_once: bool
    secure: bool = False
    greeted: bool = False
    sender: str | None = None
    recipients: list[str] = field(default_factory=list)

    def hold(self) -> None:
        if self.at_once:
            self._secure()
        self._reader = self.socket.makefile("rb")
        if not self._say("HELO?", "220 localhost ready"):
            return
        while line := self._line():
            verb, _, rest = line.decode("ascii").partition(" ")
            if not self._answer(verb.upper(), rest):
                return

    def _secure(self) -> None:
        assert self.tls is not None
        self.socket = self.tls.wrap_socket(self.socket, server_side=True)
        self.secure = True

    def _line(self) -> bytes:
        line = self._reader.readline(2_000)
        if line and not line.endswith(b"\r\n"):
            raise EOFError
        return line.removesuffix(b"\r\n")

    def _say(self, verb: str, answer: str) -> bool:
        """Whether the conversation goes on."""
        said = self.got.answers.get(verb, answer)
        if said is None:
            self.socket.close()
            return False
        self.socket.sendall(said.encode() + b"\r\n")
        return True

    def _answer(self, verb: str, rest: str) -> bool:
        match verb:
            case "EHLO":
                self.greeted = True
                offers = [*(["STARTTLS"] if self.tls and not self.secure else []), "AUTH PLAIN"]
                return self._say(verb, "\r\n".join(["250-localhost", *(f"250-{each}" for each in offers), "250 HELP"]))
            case "STARTTLS" if self.tls and not self.secure:
                if not self._say(verb, "220 go ahead"):
                    return False
                self._secure()
                self._reader, self.greeted = self.socket.makefile("rb"), False
                return True
            case "AUTH" if self.greeted:
                _, user, password = base64.b64decode(rest.removeprefix("PLAIN ")).decode().split("\0")
                self.got.logins.append((user, password))
                return self._say(verb, "235 welcome" if password == "right" else "535 no")
            case "MAIL" if self.greeted and rest.upper().startswith("FROM:<"):
                self.sender, self.recipients = rest[6:].partition(">")[0], []
                return self._say(verb, "250 ok")
            case "RCPT" if self.sender is not None and rest.upper().startswith("TO:<"):
                name = rest[4:].partition(">")[0]
                if name in self.got.refused:
                    return self._say(verb, "550 no such mailbox")
                self.recipients.append(name)
                return self._say(verb, "250 ok")
            case "DATA" if self.recipients:
                return self._say(verb, "354 end with a dot") and (verb in self.got.answers or self._take())
            case "QUIT":
                self._say(verb, "221 bye")
                return False
            case "RSET":
                self.sender = None
                return self._say(verb, "250 ok")
            case _:
                return self._say(verb, "503 bad sequence of commands")

    def _take(self) -> bool:
        lines: list[bytes] = []
        while (line := self._reader.readline()) != b".\r\n":
            if not line:
                return False
            lines.append(line[1:] if line.startswith(b".") else line)
        mail = b"".join(lines)
        if b"\n" in mail.replace(b"\r\n", b""):
            return self._say("END", "521 bare LF")  # RFC 5321, 2.3.8
        if not mail.isascii():
            return self._say("END", "554 8BITMIME was not offered")  # RFC 6152
        if any(len(each) > 998 for each in mail.split(b"\r\n")):
            return self._say("END", "500 line too long")  # RFC 5321, 4.5.3.1.6
        if "END" not in self.got.answers or (self.got.answers["END"] or "").startswith("250"):
            self.got.mails.append(mail)
            self.got.envelopes.append((self.sender or "", list(self.recipients)))
            self.got.encrypted.append(self.secure)
        return self._say("END", "250 taken")


@contextmanager
def _serving(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.server_address[1]  # type: ignore[index, misc]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def closed_port() -> int:
    """A port of this machine at which nobody listens."""
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as server:
        return server.server_address[1]


def certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """A certificate for `localhost` that vouches for itself: its file, and a server's context with it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path, private = folder / "certificate.pem", folder / "key.pem"
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path, private)
    return path, context
