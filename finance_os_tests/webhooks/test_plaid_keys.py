"""Plaid's JWTs: signed here with cryptography alone, verified with a key that a server gives for its ID."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from finance_os.evidence.businesses import Connection, ensure_connection
from finance_os.evidence.database import Database
from finance_os.evidence.extraction import SourceError
from finance_os.sources.credentials import Credentials
from finance_os.webhooks import plaid_keys
from finance_os.webhooks.plaid_keys import verify_plaid
from finance_os.webhooks.settings import WebhookSettings
from finance_os.webhooks.signatures import BadSignature
from finance_os.webhooks.walk import request_reads
from finance_os_tests.web.conftest import Browse

BODY = b'{"webhook_type": "TRANSACTIONS", "webhook_code": "SYNC_UPDATES_AVAILABLE", "item_id": "item1"}\n'
KEY_ID = "bfbd5111-8e33-4643-8ced-b2e642a72f3c"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Plaid:
    """A server that gives webhook keys as Plaid does, and signs with them."""

    def __init__(self) -> None:
        self.keys: dict[str, ec.EllipticCurvePrivateKey] = {KEY_ID: ec.generate_private_key(ec.SECP256R1())}
        self.expired: dict[str, int] = {}
        self.asked: list[dict[str, Any]] = []
        self.down = False
        plaid = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                plaid.asked.append({"path": self.path, **asked})
                status, body = plaid.answer(self.path, asked)
                text = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the name it has)
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.base = f"http://127.0.0.1:{self.server.server_port}"

    def answer(self, path: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        if self.down:
            return 500, {"error_type": "API_ERROR", "error_code": "INTERNAL_SERVER_ERROR", "error_message": "x"}
        key = self.keys.get(asked["key_id"])
        if path != "/webhook_verification_key/get" or key is None:
            code = "INVALID_WEBHOOK_VERIFICATION_KEY_ID"
            return 400, {"error_type": "INVALID_INPUT", "error_code": code, "error_message": "x"}
        numbers = key.public_key().public_numbers()
        expired = self.expired.get(asked["key_id"])
        return 200, {
            "request_id": "r",
            "key": {
                "alg": "ES256",
                "created_at": 1_560_466_143,
                "crv": "P-256",
                "expired_at": expired,
                "kid": asked["key_id"],
                "kty": "EC",
                "use": "sig",
                "x": encoded(numbers.x.to_bytes(32)),
                "y": encoded(numbers.y.to_bytes(32)),
            },
        }

    def sign(
        self,
        body: bytes = BODY,
        *,
        at: float | None = None,
        key_id: str = KEY_ID,
        key: ec.EllipticCurvePrivateKey | None = None,
        header: dict[str, Any] | None = None,
        claims: dict[str, Any] | None = None,
    ) -> str:
        """https://plaid.com/docs/api/webhooks/webhook-verification/"""
        head = {"alg": "ES256", "kid": key_id, "typ": "JWT", **(header or {})}
        said = {
            "iat": int(time.time() if at is None else at),
            "request_body_sha256": hashlib.sha256(body).hexdigest(),
            **(claims or {}),
        }
        signed = f"{encoded(json.dumps(head).encode())}.{encoded(json.dumps(said).encode())}"
        made = (key or self.keys[KEY_ID]).sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
        r, s = decode_dss_signature(made)
        return f"{signed}.{encoded(r.to_bytes(32) + s.to_bytes(32))}"


@pytest.fixture
def plaid() -> Iterator[Plaid]:
    plaid_keys.forget()
    served = Plaid()
    yield served
    served.server.shutdown()
    served.server.server_close()
    plaid_keys.forget()


def settings_of(plaid: Plaid, **more: str) -> dict[str, str]:
    return {
        "FINANCE_OS_PLAID_CLIENT_ID": "client",
        "FINANCE_OS_PLAID_SECRET": "s3cret",
        "FINANCE_OS_PLAID_ACCESS_TOKEN": "access-sandbox-1",
        "FINANCE_OS_PLAID_ENABLED": "1",
        "FINANCE_OS_PLAID_API_BASE": plaid.base,
        **more,
    }


def verdict(plaid: Plaid, header: str | None, body: bytes = BODY, connection_id: int = 1) -> str | None:
    try:
        verify_plaid(body, header, connection_id, Credentials(settings_of(plaid)))
    except BadSignature as bad:
        return bad.reason
    return None


def test_what_plaid_signs_is_accepted_and_its_key_asked_for_once(plaid: Plaid) -> None:
    for _ in range(3):
        assert verdict(plaid, plaid.sign()) is None
    asked = {"path": "/webhook_verification_key/get", "key_id": KEY_ID, "client_id": "client", "secret": "s3cret"}
    assert [{name: each.get(name) for name in asked} for each in plaid.asked] in (
        [asked],
        [{**asked, "client_id": None, "secret": None}],  # where the library puts them into headers
    )


BAD: dict[str, tuple[Callable[[Plaid], str | None], str]] = {
    "missing": (lambda _: None, "signature_missing"),
    "nonsense": (lambda _: "a.b.c", "signature_malformed"),
    "not a token": (lambda _: "nonsense", "signature_malformed"),
    "another body": (lambda plaid: plaid.sign(BODY.rstrip()), "signature_wrong"),
    "another key": (lambda plaid: plaid.sign(key=ec.generate_private_key(ec.SECP256R1())), "signature_wrong"),
    "unknown key": (lambda plaid: plaid.sign(key_id="unknown"), "signature_wrong"),
    "old": (lambda plaid: plaid.sign(at=time.time() - 301), "signature_old"),
    "ahead": (lambda plaid: plaid.sign(at=time.time() + 120), "signature_old"),
    "undated": (lambda plaid: plaid.sign(claims={"iat": None}), "signature_malformed"),
    "dated true": (lambda plaid: plaid.sign(claims={"iat": True}), "signature_malformed"),
    "no hash": (lambda plaid: plaid.sign(claims={"request_body_sha256": None}), "signature_wrong"),
    "no algorithm": (lambda plaid: plaid.sign(header={"alg": "none"}), "signature_malformed"),
    "a shared secret": (lambda plaid: plaid.sign(header={"alg": "HS256"}), "signature_malformed"),
    "no key ID": (lambda plaid: plaid.sign(header={"kid": None}), "signature_malformed"),
    "a path for a key ID": (lambda plaid: plaid.sign(header={"kid": "../item/remove"}), "signature_malformed"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_plaid_did_not_sign_just_now_is_refused(plaid: Plaid, case: str) -> None:
    made, expected = BAD[case]
    assert verdict(plaid, made(plaid)) == expected


def test_an_expired_key_signs_nothing(plaid: Plaid) -> None:
    plaid.expired[KEY_ID] = int(time.time()) - 1
    assert verdict(plaid, plaid.sign()) == "signature_wrong"


def test_made_up_keys_do_not_have_plaid_asked_without_end(plaid: Plaid) -> None:
    for number in range(plaid_keys.LOOKUPS_A_MINUTE):
        assert verdict(plaid, plaid.sign(key_id=f"made-up-{number}")) == "signature_wrong"
        assert verdict(plaid, plaid.sign(key_id=f"made-up-{number}")) == "signature_wrong"
    assert len(plaid.asked) == plaid_keys.LOOKUPS_A_MINUTE
    with pytest.raises(SourceError, match="rate_limited"):
        verdict(plaid, plaid.sign(key_id="one-more"))
    assert verdict(plaid, plaid.sign(), connection_id=2) is None


def test_over_the_socket(
    plaid: Plaid, database: Database, acme: Connection, browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = ensure_connection(database, "acme", "plaid")
    client = browse(database)
    place = f"/webhooks/acme/plaid/{connection.connection_id}"

    def send(header: str) -> httpx.Response:
        return client.post(place, content=BODY, headers={"Plaid-Verification": header})

    assert send(plaid.sign()).json() == {"error": "secret_not_set"}
    for name, value in settings_of(plaid).items():
        monkeypatch.setenv(name, value)
    plaid.down = True
    assert (send(plaid.sign()).status_code, send(plaid.sign()).json()) == (503, {"error": "unreachable"})
    plaid.down = False
    at = int(time.time())
    assert send(plaid.sign(at=at)).json() == {"stored": 1, "known": 0, "unknown_realm": 0}
    assert send(plaid.sign(at=at)).json() == {"stored": 0, "known": 1, "unknown_realm": 0}
    assert send(plaid.sign(b"other")).json() == {"error": "signature_wrong"}
    [event] = database.fetch("SELECT event_key, event_type FROM finance_os.webhook_events")
    assert event == {
        "event_key": f"sha256:{hashlib.sha256(BODY).hexdigest()}@{at}",
        "event_type": "TRANSACTIONS.SYNC_UPDATES_AVAILABLE",
    }
    # The same said again at another time is something new: there is no ID and no time in its body.
    assert send(plaid.sign(at=at - 1)).json() == {"stored": 1, "known": 0, "unknown_realm": 0}
    assert {each.reads["plaid_transaction"] is None for each in request_reads(database, WebhookSettings())} == {True}
    [row] = database.fetch(
        "SELECT count(*) AS events, count(DISTINCT body_id) AS bodies FROM finance_os.webhook_events"
    )
    assert row == {"events": 2, "bodies": 1}
    monkeypatch.setenv("FINANCE_OS_PLAID_ENABLED", "0")
    plaid_keys.forget()
    assert send(plaid.sign()).json() == {"error": "feature_flag_off"}
