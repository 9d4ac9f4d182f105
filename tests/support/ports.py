"""Ports for tests."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from workers.local.ports import claim_of_any

_CLAIMS: list[socket.socket] = []


@contextmanager
def free_port_that_refuses() -> Iterator[int]:
    """Bind a port without listening on it, so that no other process can take it."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def free_port() -> int:
    """A port for a program that takes no open socket: until this process ends, no stack and no other test gets it."""
    _CLAIMS.append(claim_of_any())
    return int(_CLAIMS[-1].getsockname()[1])
