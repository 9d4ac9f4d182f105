"""The kinds of values that a setting can have. A kind says in words what it wants, and whether a text is one.

The rule: a text is judged as it stands, by a pattern before any parser. Python's own parsers also take blanks, underscores and the digits of
other scripts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final
from unicodedata import category
from urllib.parse import urlsplit
from uuid import UUID

from domain.texts import is_identifier, is_storable

HIGHEST_PORT = 65_535
SHORTEST_SECRET_BYTES = 32
UNIQUE_WORKER_ID: Final = re.compile(r".+-[0-9a-f]{8,}")
_DECIMAL = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,6})?")
_WHOLE = re.compile(r"[0-9]{1,12}")
_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*")
_BROKER = re.compile(rf"(?:{_HOST.pattern.partition('|')[0]}|\[[0-9A-Fa-f:.]+\]):([0-9]{{1,5}})")
_DATABASE_NUMBER = re.compile(r"(?:/[0-9]{0,4})?")
_VISIBLE = re.compile(r"[!-~]+")
_UNSENDABLE = frozenset({"Cc", "Cs"})  # categories of Unicode: controls, halves of surrogate pairs
_LABEL = re.compile(r"(?:[^.]{1,63}\.)*[^.]{1,63}\.?")
DRIVER = "postgresql+psycopg"


def _flawless(_: str) -> None:
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """`wanted` ends the sentences "it is …" and "it is not …". `flaw` says what else is wrong with a text that is `wanted`."""

    wanted: str
    accepts: Callable[[str], bool]
    flaw: Callable[[str], str | None] = _flawless

    def fault(self, text: str) -> str | None:
        """What is wrong with a text, as the end of a sentence that begins with the name of its setting; None: nothing."""
        return self.flaw(text) if self.accepts(text) else f"is not {self.wanted}"


def number(low: float, high: float) -> Kind:
    """A decimal number, for seconds and rates."""
    return Kind(
        wanted=f"a number from {low:g} to {high:.0f}",
        accepts=lambda text: bool(_DECIMAL.fullmatch(text)) and low <= float(text) <= high,
    )


def whole(low: int, high: int) -> Kind:
    """A whole number."""
    return Kind(
        wanted=f"a whole number from {low} to {high}",
        accepts=lambda text: bool(_WHOLE.fullmatch(text)) and low <= int(text) <= high,
    )


def word_of(*words: str) -> Kind:
    """One of some words."""
    return Kind(wanted=f"one of {', '.join(words)}", accepts=lambda text: text in words)


def _is_uuid(text: str) -> bool:
    try:
        return str(UUID(text)) == text.lower()
    except ValueError:
        return False


def _is_url(text: str) -> bool:
    try:
        address = urlsplit(text)
        has_port = address.port is None or address.port > 0
    except ValueError:
        return False
    is_plain = text.isascii() and text.isprintable() and " " not in text and "@" not in address.netloc
    return is_plain and has_port and address.scheme in {"http", "https"} and _is_host(address.hostname or "")


def _is_redis(text: str) -> bool:
    try:
        address = urlsplit(text)
        has_port = address.port is None or address.port > 0
    except ValueError:
        return False
    is_plain = text.isprintable() and text.startswith(("redis://", "rediss://")) and not (address.query or address.fragment)
    return is_plain and has_port and _is_host(address.hostname or "") and bool(_DATABASE_NUMBER.fullmatch(address.path))


def _is_host(text: str) -> bool:
    return bool(_HOST.fullmatch(text)) and bool(":" in text or _LABEL.fullmatch(text))


def _are_brokers(text: str) -> bool:
    found = [_BROKER.fullmatch(part.strip()) for part in text.split(",")]
    return all(broker is not None and 0 < int(broker[1]) <= HIGHEST_PORT for broker in found)


def _is_database(text: str) -> bool:
    from sqlalchemy import make_url  # only here: the command line imports this module, and SQLAlchemy takes longer to load
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        return False
    return url.drivername == DRIVER and 0 < (url.port or 1) <= HIGHEST_PORT


def _flaw_of_database(text: str) -> str | None:
    from workers.runtime.database_parameters import flaw_in

    return flaw_in(text)


TEXT = Kind(wanted="a text on one line", accepts=lambda text: text.isprintable() and text == text.strip())
NAMES = Kind(wanted="a list of names, separated by commas", accepts=lambda text: all(map(str.strip, text.split(","))))
PORT = Kind(wanted=f"a port from 0 to {HIGHEST_PORT}", accepts=whole(0, HIGHEST_PORT).accepts)
HOST = Kind(wanted="a host name or an IP address", accepts=_is_host)
IDENTITY = Kind(wanted="a UUID", accepts=_is_uuid)
URL = Kind(wanted="an address such as https://host:443/path, without a user in it", accepts=_is_url)
KEY_SET = Kind(wanted="a file, or an address such as https://host/keys", accepts=lambda text: "://" not in text or _is_url(text))
BROKERS = Kind(wanted="a list of brokers: host:port,host:port", accepts=_are_brokers)
DATABASE = Kind(
    wanted=f"a database address: write it as {DRIVER}://user:password@host:port/database",
    accepts=_is_database,
    flaw=_flaw_of_database,
)
REDIS = Kind(wanted="an address such as rediss://user:password@host:6379/0, without parameters", accepts=_is_redis)
WORKER_ID = Kind(
    wanted="a name that ends in a dash and eight random hex digits, so that no other process has it",
    accepts=lambda text: bool(UNIQUE_WORKER_ID.fullmatch(text)),
)
PATH = Kind(wanted="a path", accepts=lambda text: "\0" not in text)
# A control character cannot be proved with Basic (RFC 7617) or SASL (RFC 4013), and half of a surrogate pair cannot be sent at all.
SECRET = Kind(
    wanted="a secret on one line, in UTF-8", accepts=lambda text: bool(text) and not _UNSENDABLE & set(map(category, text))
)
SIGNING_SECRETS = Kind(wanted="one secret or several", accepts=bool)
BEARER = Kind(wanted="a bearer token: visible ASCII characters, no blank", accepts=lambda text: bool(_VISIBLE.fullmatch(text)))
# RFC 7518, section 3.2: the key is at least as long as the hash.
HS256_SECRET = Kind(
    wanted="long enough: give at least 32 random bytes",
    accepts=lambda text: is_storable(text) and len(text.encode()) >= SHORTEST_SECRET_BYTES,
)
NAME = Kind(wanted="a name: 1 to 200 visible characters, no blank at its ends", accepts=is_identifier)
LIFETIME = number(0.001, 8_760)
