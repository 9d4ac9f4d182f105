"""Proof of who sent a callback: signatures by the Standard Webhooks specification.

The rule it keeps: the raw bytes are verified before anything is parsed; an unsigned, altered or old callback is refused.
"""

from __future__ import annotations

import base64
import re
import secrets as randomness
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from workers.runtime.callback_secrets import secret_bytes

# The library refuses older callbacks; a caller may set a narrower limit, not a wider one.
MAX_TOLERANCE = timedelta(minutes=5)
# The HMAC-SHA256 of version 1 of the scheme: 32 bytes in base64.
_SECONDS = re.compile("[0-9]{1,12}")
_SIGNATURE = re.compile(r"v1,[A-Za-z0-9+/]{43}=")


class SignatureInvalidError(Exception):
    """The callback does not prove that the provider sent it, and recently."""


def verify(headers: Mapping[str, str], raw_body: bytes, secrets: Sequence[str], tolerance: timedelta = MAX_TOLERANCE) -> None:
    """Return if one of `secrets` (the new and the old one during a rotation) signed this body within `tolerance`.

    Raises SignatureInvalidError; ValueError if a secret or the tolerance itself is unusable, which is our own fault.
    """
    if tolerance > MAX_TOLERANCE:
        raise ValueError(f"a tolerance above {MAX_TOLERANCE} is not supported")
    webhooks = [Webhook(secret_bytes(secret)) for secret in secrets]
    readable = _readable(headers)
    if not any(_is_signed(webhook, readable, raw_body) for webhook in webhooks):
        raise SignatureInvalidError(
            "the callback's signature is missing, wrong or too old: check the secret and the clocks of both sides"
        )
    if abs(time.time() - float(readable["webhook-timestamp"])) > tolerance.total_seconds():
        raise SignatureInvalidError("the callback was signed too long ago")


def new_secret() -> str:
    """Make a secret for one provider (`whsec_` and 32 random bytes)."""
    return "whsec_" + base64.b64encode(randomness.token_bytes(32)).decode()


def _readable(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers without the signatures that the library cannot read: it gives up at the first of them, and a good one may follow."""
    found = {name.lower(): value for name, value in headers.items()}
    signatures = found.get("webhook-signature", "").split()
    if not _SECONDS.fullmatch(found.get("webhook-timestamp", "")):
        found["webhook-timestamp"] = ""
    return {**found, "webhook-signature": " ".join(filter(_SIGNATURE.fullmatch, signatures))}


def _is_signed(webhook: Webhook, headers: dict[str, str], raw_body: bytes) -> bool:
    try:
        webhook.verify(raw_body, headers, json_parse=False)
    except (WebhookVerificationError, ValueError):  # ValueError: a header or a body that is no text, seen before any comparison
        return False
    return True
