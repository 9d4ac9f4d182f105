"""The secrets that prove a provider's callbacks. Several hold at a time, so that a new one is in place before the old one goes.

The rule it keeps: a secret that could be guessed, or that nobody could sign with, is refused at the start, and never shown.
"""

from __future__ import annotations

import base64

from workers.runtime.environment import SettingError
from workers.runtime.secret_files import Secret, log, reveal

_SECRET_BYTES = range(24, 65)  # Standard Webhooks 1.0
HOW_TO_MAKE = """make one with: echo "whsec_$(openssl rand -base64 32)\""""


class CallbackSecrets:
    """The secrets in a text, with commas, blanks or line breaks between them: the first one signs, each of them proves.

    Raises SettingError, which names an unusable secret by its position, and the variable it comes from (`source`). When a file gets an
    unusable one later, the last secrets stay in force.
    """

    def __init__(self, text: Secret, source: str = "Q2O_CALLBACK_SECRET") -> None:
        self._text = text
        self._seen = reveal(text)
        try:
            self._secrets = _usable(self._seen)
        except ValueError as error:
            raise SettingError(f"{source} cannot be used: {error}") from error

    def read(self) -> tuple[str, ...]:
        """The current secrets."""
        text = reveal(self._text)
        if text != self._seen:
            self._seen = text
            try:
                self._secrets = _usable(text)
            except ValueError as error:
                log().error("callback_secret_unusable", reason=str(error))
        return self._secrets


def split(text: str) -> tuple[str, ...]:
    """The secrets in a text, as they are written."""
    return tuple(text.replace(",", " ").split())


def secret_bytes(secret: str) -> bytes:
    """The key of a secret. Raises ValueError unless the secret is base64 of 24 to 64 bytes, with or without `whsec_`."""
    try:
        text = secret.removeprefix("whsec_").rstrip("=")
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError as error:
        raise ValueError(f"a callback secret must be base64, with or without whsec_ in front: {HOW_TO_MAKE}") from error
    if len(key) not in _SECRET_BYTES:
        raise ValueError(f"a callback secret must have 24 to 64 bytes, this one has {len(key)}: {HOW_TO_MAKE}")
    return key


def _usable(text: str) -> tuple[str, ...]:
    secrets = split(text)
    for number, secret in enumerate(secrets, start=1):
        try:
            secret_bytes(secret)
        except ValueError as error:
            raise ValueError(f"number {number} of {len(secrets)}: {error}") from error
    if not secrets:
        raise ValueError(f"it names no secret: {HOW_TO_MAKE}")
    return secrets
