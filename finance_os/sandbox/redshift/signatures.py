"""AWS Signature Version 4, as the service checks it: who signed a request, and that it was signed as it came.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

import hashlib
import hmac
import re
from collections.abc import Mapping
from urllib.parse import quote

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256 Credential=([^/,]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, ?"
    r"SignedHeaders=([a-z0-9;-]+), ?Signature=([0-9a-f]{64})"
)


class NotSigned(Exception):
    """A request that the service refuses: `code` is the exception that it answers."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def check_signature(
    method: str, path: str, headers: Mapping[str, str], body: bytes, *, keys: Mapping[str, str], service: str
) -> None:
    """Raise `NotSigned` unless the request bears a signature by one of `keys` (secrets by access key ID).

    `path` is as the client sent it; header names are lower case.
    """
    authorization = headers.get("authorization")
    if authorization is None:
        raise NotSigned("MissingAuthenticationTokenException", "Missing Authentication Token")
    found = _AUTHORIZATION.fullmatch(authorization)
    if found is None or "x-amz-date" not in headers:
        raise NotSigned("IncompleteSignatureException", "Authorization header requires existence of its parameters.")
    key_id, day, region, named, signed, signature = found.groups()
    if named != service:
        raise NotSigned("InvalidSignatureException", f"Credential should be scoped to correct service: '{service}'.")
    if key_id not in keys:
        raise NotSigned("UnrecognizedClientException", "The security token included in the request is invalid.")
    canonical = "\n".join(
        (
            method,
            quote(path, safe="/-_.~%"),
            "",
            *(f"{name}:{' '.join(headers.get(name, '').split())}" for name in signed.split(";")),
            "",
            signed,
            hashlib.sha256(body).hexdigest(),
        )
    )
    scope = f"{day}/{region}/{service}/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    text = "\n".join(("AWS4-HMAC-SHA256", headers["x-amz-date"], scope, digest))
    key = f"AWS4{keys[key_id]}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    if not hmac.compare_digest(hmac.digest(key, text.encode(), "sha256").hex(), signature):
        raise NotSigned(
            "InvalidSignatureException",
            "The request signature we calculated does not match the signature you provided.",
        )
