"""Ports of the local stack: free ones by default, the same ones again after a restart, fixed ones when asked for."""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Mapping
from pathlib import Path

from workers.local.errors import StackError

HOST = "127.0.0.1"
# Below the ports that systems hand out for outgoing connections: one of those could be taken by any client at the moment
# in which a part is down, and the part could never come back to its address.
CHOICE = range(20_000, 32_000)


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now (a port in TIME_WAIT counts as free, as it does for the servers)."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def accepts(host: str, port: int, timeout_seconds: float = 1.0) -> bool:
    """Whether something listens there."""
    try:
        with socket.create_connection((host, port), timeout_seconds):
            return True
    except OSError:
        return False


def check_fixed(name: str, environment: Mapping[str, str]) -> int | None:
    """Read the port that the variable asks for, None when it is not set. Raises StackError when it is no port or in use."""
    text = environment.get(name)
    if not text:
        return None
    if not (text.isdecimal() and 0 < int(text) < 65536):  # noqa: PLR2004 - the range of TCP ports
        raise StackError(f"{name}={text} is not a port: give a number from 1 to 65535, or unset it")
    if not is_free(int(text)):
        raise StackError(f"Port {text} is in use ({name}): stop what listens there, or set {name} to another port")
    return int(text)


class PortBook:
    """Remembers the port of each part in the data directory, so that an address stays the same from run to run."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._ports: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}

    def take(self, part: str, fixed: int | None = None) -> int:
        """Give a part its port: the fixed one, else the last one when it is still free, else any free one."""
        known = self._ports.get(part)
        if fixed is None and known is not None and is_free(known):
            return known
        self._ports[part] = fixed or _any_free()
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(self._ports))
        new.replace(self._file)
        return self._ports[part]


def _any_free() -> int:
    # By chance and not by counting: stacks that start at the same moment would all count to the same port.
    for port in random.sample(CHOICE, len(CHOICE)):
        if is_free(port):
            return port
    raise StackError(f"No port from {CHOICE.start} to {CHOICE.stop} is free: end some servers, or set Q2O_ENGINE_PORT and the like")
