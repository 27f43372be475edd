"""The service account: its key, the token endpoint that takes signed assertions, and the tokens it has given out.

https://developers.google.com/identity/protocols/oauth2/service-account#httprest · RFC 7523
"""

import base64
import binascii
import secrets
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from starlette.requests import Request
from starlette.responses import Response

from ..ids import letters
from .wire import DriveError, json_response

GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
AUDIENCE = "https://oauth2.googleapis.com/token"
LIFETIME = 3_600
_SKEW = 300
_SCOPE = "https://www.googleapis.com/auth/"
_SCOPES = frozenset(
    _SCOPE + name
    for name in (
        "drive",
        "drive.appdata",
        "drive.file",
        "drive.meet.readonly",
        "drive.metadata",
        "drive.metadata.readonly",
        "drive.photos.readonly",
        "drive.readonly",
        "drive.scripts",
    )
)


@dataclass(frozen=True, slots=True)
class Token:
    """An access token: its scopes, and when it ends (real time, in seconds)."""

    scopes: frozenset[str]
    ends: float


class _Refused(Exception):
    """An assertion that is not accepted."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.body = {"error": error, "error_description": description}


class ServiceAccount:
    """One service account with one key, made anew for each room."""

    def __init__(self, seed: int) -> None:
        number = int.from_bytes(letters(f"service-account:{seed}", 9).encode()) % 10**21
        self.email = "finance-os@sandbox-ads.iam.gserviceaccount.com"
        self.client_id = f"1{number:020d}"
        self.key_id = secrets.token_hex(20)
        self.tokens: dict[str, Token] = {}
        self._key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)

    def key_json(self, base: str) -> str:
        """The key file that Google's console would hand out, its token endpoint being this sandbox at `base`."""
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return msgspec.json.encode(
            {
                "type": "service_account",
                "project_id": "sandbox-ads",
                "private_key_id": self.key_id,
                "private_key": pem.decode(),
                "client_email": self.email,
                "client_id": self.client_id,
                "auth_uri": "https://accounts.google.com/o/oauth2/auth",
                "token_uri": f"{base}/token",
                "auth_provider_x509_cert_url": "https://www.googleapis.com/oauth2/v1/certs",
                "universe_domain": "googleapis.com",
            }
        ).decode()

    async def token(self, request: Request) -> Response:
        """`POST /token`: an access token for an assertion that is signed with the account's key."""
        form = dict(parse_qsl((await request.body()).decode("latin-1"), keep_blank_values=True))
        try:
            if form.get("grant_type") != GRANT:
                raise _Refused("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type', '')}")
            scopes = self._scopes_of(form.get("assertion", ""), str(request.url))
        except _Refused as refused:
            return json_response(refused.body, 400)
        secret = "ya29.c." + secrets.token_urlsafe(90)
        self.tokens[secret] = Token(scopes, time.time() + LIFETIME)
        return json_response({"access_token": secret, "expires_in": LIFETIME - 1, "token_type": "Bearer"})

    def authenticate(self, authorization: str | None) -> Token:
        """The token that a request bears. 403 without one (Drive takes it for an unknown caller), 401 for a bad one."""
        if authorization is None:
            raise DriveError(
                403,
                "forbidden",
                "Method doesn't allow unregistered callers (callers without established identity). Please use API Key "
                "or other form of API consumer identity to call this API.",
                grpc="PERMISSION_DENIED",
            )
        scheme, _, secret = authorization.partition(" ")
        token = self.tokens.get(secret.strip()) if scheme.lower() == "bearer" else None
        if token is None or token.ends < time.time():
            raise DriveError(
                401,
                "authError",
                "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other "
                "valid authentication credential. See "
                "https://developers.google.com/identity/sign-in/web/devconsole-project.",
                short="Invalid Credentials",
                location="Authorization",
                location_type="header",
                grpc="UNAUTHENTICATED",
                headers={"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/", error="invalid_token"'},
            )
        return token

    def _scopes_of(self, assertion: str, endpoint: str) -> frozenset[str]:
        signed, _, signature = assertion.rpartition(".")
        try:
            head, claims = (msgspec.json.decode(_unpadded(part)) for part in signed.split("."))
            proof = _unpadded(signature)
            algorithm, issuer = head["alg"], claims["iss"]
        except (ValueError, binascii.Error, KeyError, TypeError, msgspec.MsgspecError):
            raise _Refused("invalid_grant", "Bad Request") from None
        if issuer != self.email:
            raise _Refused("invalid_grant", "Invalid grant: account not found")
        try:
            if algorithm != "RS256" or head.get("kid") not in (None, self.key_id):
                raise InvalidSignature
            self._key.public_key().verify(proof, signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except InvalidSignature:
            raise _Refused("invalid_grant", "Invalid JWT Signature.") from None
        if claims.get("aud") not in (AUDIENCE, endpoint):
            raise _Refused("invalid_grant", "Invalid JWT: Failed audience check.")
        self._check_times(claims)
        scopes = frozenset(str(claims.get("scope", "")).split())
        if not scopes or not scopes <= _SCOPES:
            raise _Refused("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        return scopes

    @staticmethod
    def _check_times(claims: dict[str, Any]) -> None:
        now = time.time()
        begins, ends = claims.get("iat"), claims.get("exp")
        if (
            type(begins) is not int
            or type(ends) is not int
            or begins > now + _SKEW
            or ends < now - _SKEW
            or ends - begins > LIFETIME + _SKEW
        ):
            raise _Refused(
                "invalid_grant",
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your "
                "iat and exp values in the JWT claim.",
            )


def _unpadded(part: str) -> bytes:
    return base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
