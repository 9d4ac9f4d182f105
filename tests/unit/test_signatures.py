"""A callback is accepted by its signature over the raw bytes (Standard Webhooks), a few minutes after it was signed at most."""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime, timedelta

import pytest
from standardwebhooks.webhooks import Webhook

from workers.providers.signatures import SignatureInvalidError, new_secret, verify

BODY = b'{"eventId": "evt-1"}'


def signed(secret: str, *, at: float | None = None, body: bytes = BODY) -> dict[str, str]:
    sent_at = datetime.fromtimestamp(time.time() if at is None else at, UTC)
    return {
        "Webhook-Id": "evt-1",
        "Webhook-Timestamp": str(int(sent_at.timestamp())),
        "Webhook-Signature": Webhook(secret).sign("evt-1", sent_at, body.decode()),
    }


def test_a_signature_by_the_new_or_the_old_secret_is_accepted_during_a_rotation() -> None:
    new, old = new_secret(), new_secret()

    verify(signed(new), BODY, [new, old])
    verify(signed(old), BODY, [new, old])
    both = f"v1a,AAAA {signed(new)['Webhook-Signature']} {signed(old)['Webhook-Signature']}"
    verify({**signed(new), "Webhook-Signature": both}, BODY, [old])


@pytest.mark.parametrize(
    "malformed", ["whatever", "v1", "v1,", "v1,AAAA", "v1,a,b", "v1,not base64!", "v1a,AAAA", f"v1,{'x' * 4_000}", ",", "v1,é"]
)
def test_a_malformed_signature_does_not_hide_a_good_one(malformed: str) -> None:
    secret = new_secret()
    headers = signed(secret)

    verify({**headers, "Webhook-Signature": f"{malformed} {headers['Webhook-Signature']}"}, BODY, [secret])
    verify({**headers, "Webhook-Signature": f"{headers['Webhook-Signature']}  {malformed}"}, BODY, [secret])


@pytest.mark.parametrize(
    ("changes", "body"),
    [
        pytest.param({}, BODY + b" ", id="altered body"),
        pytest.param({}, b"\xff\xfe", id="body that is no text"),
        pytest.param({"Webhook-Id": "evt-2"}, BODY, id="other id"),
        pytest.param({"Webhook-Timestamp": str(int(time.time()) - 30)}, BODY, id="other time"),
        pytest.param({"Webhook-Timestamp": "nan"}, BODY, id="no time"),
        pytest.param({"Webhook-Signature": "v1,AAAA"}, BODY, id="other signature"),
        pytest.param({"Webhook-Signature": "garbage"}, BODY, id="no signature"),
        pytest.param({"Webhook-Signature": ""}, BODY, id="empty signature"),
    ],
)
def test_a_tampered_callback_is_refused(changes: dict[str, str], body: bytes) -> None:
    secret = new_secret()

    with pytest.raises(SignatureInvalidError):
        verify({**signed(secret), **changes}, body, [secret])


def test_a_callback_without_signature_headers_is_refused() -> None:
    with pytest.raises(SignatureInvalidError):
        verify({}, BODY, [new_secret()])


def test_a_callback_is_refused_when_no_secret_is_configured() -> None:
    with pytest.raises(SignatureInvalidError):
        verify(signed(new_secret()), BODY, [])


@pytest.mark.parametrize("age_seconds", [301, -360])
def test_a_callback_signed_too_far_from_now_is_refused(age_seconds: int) -> None:
    secret = new_secret()

    with pytest.raises(SignatureInvalidError):
        verify(signed(secret, at=time.time() - age_seconds), BODY, [secret])


def test_a_narrower_tolerance_refuses_a_callback_that_the_default_accepts() -> None:
    secret = new_secret()
    headers = signed(secret, at=time.time() - 60)

    verify(headers, BODY, [secret])
    with pytest.raises(SignatureInvalidError):
        verify(headers, BODY, [secret], tolerance=timedelta(seconds=30))


@pytest.mark.parametrize("secret", ["whsec_c2hvcnQ=", "whsec_not base64!"])
def test_a_weak_or_malformed_secret_is_refused_as_a_fault_of_the_product(secret: str) -> None:
    with pytest.raises(ValueError, match="secret must"):
        verify(signed(new_secret()), BODY, [secret])


def test_a_secret_without_padding_is_understood() -> None:
    secret = "whsec_" + base64.b64encode(bytes(range(25))).decode().rstrip("=")

    verify(signed(secret), BODY, [secret])
