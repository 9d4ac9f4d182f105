"""The parameters of a database address. libpq refuses a wrong one only when it connects, in words that otherwise mean an outage.

The rule it keeps: libpq itself judges them, at a place where no server can be, so that nothing is connected to and no list of ours grows old.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl

from psycopg import Error
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from domain.texts import is_storable

NOWHERE: Final = "/dev/null"
"""A host that begins with a slash is a directory with a socket in it, and this is no directory."""
NUMBERS: Final = ("connect_timeout", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "tcp_user_timeout")
"""Parameters that libpq reads only while it connects over TCP."""
_NUMBER = re.compile(r"-?[0-9]{1,9}")


def flaw_in(address: str) -> str | None:
    """What is wrong with the parameters of an address, as the end of the sentence "it …"; None: nothing. It shows no password."""
    url = make_url(address)
    try:
        given = url.get_dialect()().create_connect_args(url)[1]
    except (ArgumentError, ValueError):
        return "has hosts and ports that do not fit together"
    for name, value in parse_qsl(address.partition("?")[2], keep_blank_values=True):
        if not value:  # SQLAlchemy would leave it out
            return f"has the parameter {name} without a value"
    for name, value in given.items():
        if isinstance(value, tuple):
            return f"has the parameter {name} more than once"
        if not is_storable(f"{name}{value}"):
            return f"has a text for {name} that cannot be sent"
        if name in NUMBERS and not _NUMBER.fullmatch(value):
            return f"has the parameter {name}, but no whole number for it"
    refused = _refusal({name: value for name, value in given.items() if name not in {"host", "hostaddr", "port"}})
    return f"has parameters that libpq does not take ({refused})" if refused else None


def _refusal(parameters: dict[str, str]) -> str | None:
    """What libpq says to parameters; None when it would connect."""
    try:
        connection = PGconn.connect_start(make_conninfo(**{**parameters, "host": NOWHERE}).encode())
    except Error as error:  # an unknown name
        return str(error).strip()
    said = connection.get_error_message().strip()
    connection.finish()
    # It names the place only after it has taken all parameters.
    return None if NOWHERE in said else said
