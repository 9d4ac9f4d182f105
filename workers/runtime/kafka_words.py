"""Kafka's own words in settings."""

from __future__ import annotations

from enum import StrEnum


class Protocol(StrEnum):
    """Kafka's own words for a listener: with TLS or without, with a user (SASL) or without."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"

    @property
    def has_tls(self) -> bool:
        return self in {Protocol.SSL, Protocol.SASL_SSL}

    @property
    def has_user(self) -> bool:
        return self in {Protocol.SASL_PLAINTEXT, Protocol.SASL_SSL}


class Mechanism(StrEnum):
    """How a user proves the password to a broker; PLAIN sends the password itself."""

    SCRAM_SHA_512 = "SCRAM-SHA-512"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    PLAIN = "PLAIN"
