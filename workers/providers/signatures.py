"""Proof of who sent a callback: signatures by the Standard Webhooks specification.

The rule it keeps: the raw bytes are verified before anything is parsed; an unsigned, altered or old callback is refused.
"""

from __future__ import annotations

import base64
import secrets as randomness
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

# The library refuses older callbacks; a caller may set a narrower limit, not a wider one.
MAX_TOLERANCE = timedelta(minutes=5)
_SECRET_BYTES = range(24, 65)


class SignatureInvalidError(Exception):
    """The callback does not prove that the provider sent it, and recently."""


def verify(headers: Mapping[str, str], raw_body: bytes, secrets: Sequence[str], tolerance: timedelta = MAX_TOLERANCE) -> None:
    """Return if one of `secrets` (the new and the old one during a rotation) signed this body within `tolerance`.

    Raises SignatureInvalidError; ValueError if a secret or the tolerance itself is unusable, which is our own fault.
    """
    if tolerance > MAX_TOLERANCE:
        raise ValueError(f"a tolerance above {MAX_TOLERANCE} is not supported")
    webhooks = [Webhook(_secret_bytes(secret)) for secret in secrets]
    if not any(_is_signed(webhook, headers, raw_body) for webhook in webhooks):
        raise SignatureInvalidError(
            "the callback's signature is missing, wrong or too old: check the secret and the clocks of both sides"
        )
    if abs(time.time() - float(_header(headers, "webhook-timestamp"))) > tolerance.total_seconds():
        raise SignatureInvalidError("the callback was signed too long ago")


def new_secret() -> str:
    """Make a secret for one provider (`whsec_` and 32 random bytes)."""
    return "whsec_" + base64.b64encode(randomness.token_bytes(32)).decode()


def _is_signed(webhook: Webhook, headers: Mapping[str, str], raw_body: bytes) -> bool:
    try:
        webhook.verify(raw_body, dict(headers), json_parse=False)
    except (WebhookVerificationError, ValueError):  # ValueError: a header or a body that is no text, seen before any comparison
        return False
    return True


def _header(headers: Mapping[str, str], name: str) -> str:
    return next(value for key, value in headers.items() if key.lower() == name)


def _secret_bytes(secret: str) -> bytes:
    try:
        text = secret.removeprefix("whsec_").rstrip("=")
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError as error:
        raise ValueError("a callback secret must be base64, with or without whsec_ in front") from error
    if len(key) not in _SECRET_BYTES:
        raise ValueError(f"a callback secret must have 24 to 64 bytes, this one has {len(key)}: make one with new_secret()")
    return key
