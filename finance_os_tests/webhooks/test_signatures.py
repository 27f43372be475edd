"""Signatures: what the vendors' own libraries accept is accepted, and nothing else."""

import base64
import time

import pytest
import stripe

from finance_os.webhooks.settings import TOLERANCE_SECONDS
from finance_os.webhooks.signatures import BadSignature, UnfitSecrets, secrets_of, verify_intuit, verify_stripe
from finance_os_tests.webhooks.senders import STRIPE_SECRET, VERIFIER, intuit_header, stripe_header

BODY = '{"id": "evt_1", "name": "Zoë"}'.encode()
NOW = int(time.time())


def reason(header: str | None, body: bytes = BODY, *secrets: str) -> str | None:
    """Why Stripe's header is refused; `None` if it is not. The SDK decides the same."""
    secrets = secrets or (STRIPE_SECRET,)
    try:
        verify_stripe(body, header, secrets)
        refused = None
    except BadSignature as bad:
        refused = bad.reason
    accepted_by_sdk = False
    for secret in secrets:
        try:
            stripe.WebhookSignature.verify_header(body, header, secret, TOLERANCE_SECONDS)
            accepted_by_sdk = True
        except (stripe.SignatureVerificationError, TypeError):  # the SDK stumbles over what is not ASCII
            pass
    assert (refused is None) == accepted_by_sdk
    return refused


def test_what_stripe_signs_is_accepted() -> None:
    assert reason(stripe_header(BODY)) is None
    made = stripe.WebhookSignature.generate_signature_header(BODY.decode(), STRIPE_SECRET)
    assert reason(made) is None
    time_part, good = stripe_header(BODY).split(",")
    assert reason(f"{time_part},v0={'0' * 64},v1={'0' * 64},{good}") is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, "signature_missing"),
        ("", "signature_missing"),
        ("nonsense", "signature_malformed"),
        (f"t={NOW}", "signature_malformed"),
        (f"t=soon,v1={'0' * 64}", "signature_malformed"),
        (f"v1={'0' * 64}", "signature_malformed"),
        (f"t={NOW},v1={'0' * 64}", "signature_wrong"),
        (f"t={NOW},v1=\u00e9", "signature_wrong"),
        (stripe_header(BODY).replace("v1=", "v0="), "signature_malformed"),
        (stripe_header(BODY + b" "), "signature_wrong"),
        (stripe_header(BODY, "whsec_other"), "signature_wrong"),
        (stripe_header(BODY, at=NOW - 310), "signature_old"),
        (stripe_header(BODY, at=NOW).replace(f"t={NOW}", f"t={NOW - 1}"), "signature_wrong"),
    ],
    ids=[
        "no header",
        "empty",
        "nonsense",
        "no signature",
        "no time",
        "no time at all",
        "zeros",
        "not ascii",
        "an older scheme",
        "another body",
        "another secret",
        "too old",
        "another time",
    ],
)
def test_what_stripe_did_not_sign_just_now_is_refused(header: str | None, expected: str) -> None:
    assert reason(header) == expected


def test_an_old_signature_that_is_wrong_too_does_not_say_that_it_is_old() -> None:
    assert reason(stripe_header(BODY, "whsec_other", NOW - 4_000)) == "signature_wrong"


def test_two_secrets_count_while_they_are_rotated() -> None:
    both = secrets_of("whsec_new, whsec_old")
    for secret in ("whsec_new", "whsec_old"):
        assert reason(stripe_header(BODY, secret), BODY, *both) is None
    assert reason(stripe_header(BODY, "whsec_older"), BODY, *both) == "signature_wrong"
    for setting in ("", " , ", "a,b,c"):
        with pytest.raises(UnfitSecrets):
            secrets_of(setting)


def test_a_body_that_is_no_text_can_be_signed() -> None:
    body = b"\xff\x00"
    verify_stripe(body, stripe_header(body), [STRIPE_SECRET])


def test_intuits_signature_is_over_the_raw_body() -> None:
    verify_intuit(BODY, intuit_header(BODY), [VERIFIER])
    verify_intuit(BODY, intuit_header(BODY, "old"), ["new", "old"])
    good = intuit_header(BODY)
    bad = [
        (BODY + b"\n", good),
        (BODY, intuit_header(BODY, "another")),
        (BODY, base64.b64decode(good).hex()),
        (BODY, good[:-2] + "=="),
        (BODY, "\u00e9"),
    ]
    for body, header in bad:
        with pytest.raises(BadSignature, match="signature_wrong"):
            verify_intuit(body, header, [VERIFIER])
    with pytest.raises(BadSignature, match="signature_missing"):
        verify_intuit(BODY, None, [VERIFIER])
