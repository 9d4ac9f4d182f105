"""Ports of the local stack: fixed ones for people, who keep addresses; free ones for tests, which run side by side.

A stack takes free ports, and the same ones again after a restart, unless its environment asks for a port. `with_fixed_ports` asks for one for every part.
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from workers.local.errors import StackError

HOST = "127.0.0.1"
# Below the ports that systems hand out for outgoing connections: one of those could be taken by any client at the moment
# in which a part is down, and the part could never come back to its address.
CHOICE = range(20_000, 32_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """Who needs a port, which one is theirs, and the variable that names a service of the user's own instead."""

    whose: str
    port: int
    unless: str | None = None


# By the variable that chooses another port. Outside of CHOICE, so that no test takes them, and not those that servers have by default.
NEEDS: Mapping[str, Need] = {
    "Q2O_HTTP_PORT": Need(whose="the HTTP edge", port=18080),
    "Q2O_ENGINE_PORT": Need(whose="Camunda (REST, Tasklist, Cockpit)", port=18081, unless="Q2O_ENGINE_URL"),
    "Q2O_PROVIDER_PORT": Need(whose="the sandbox provider", port=18082),
    "Q2O_DATABASE_PORT": Need(whose="PostgreSQL", port=15432, unless="Q2O_DATABASE_URL"),
    "Q2O_KAFKA_PORT": Need(whose="Kafka", port=19092, unless="Q2O_KAFKA"),
    "Q2O_KAFKA_CONTROLLER_PORT": Need(whose="Kafka's controller", port=19093, unless="Q2O_KAFKA"),
}


def with_fixed_ports(environment: Mapping[str, str]) -> dict[str, str]:
    """Ask for the fixed port of every part that is started and for which no port is chosen, unless Q2O_PORTS is `free`.

    Raises StackError when Q2O_PORTS is anything else than `fixed` or `free`.
    """
    ports = environment.get("Q2O_PORTS") or "fixed"
    if ports not in {"fixed", "free"}:
        raise StackError(f"Q2O_PORTS={ports} makes no sense: set it to fixed or free, or unset it")
    needed = {name: need for name, need in NEEDS.items() if not (environment.get(name) or environment.get(need.unless or ""))}
    return {**environment, **({name: str(need.port) for name, need in needed.items()} if ports == "fixed" else {})}


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
        raise StackError(
            f"Port {text} is in use, and {NEEDS[name].whose} needs it: stop what listens there, set {name} to another port, "
            "or set Q2O_PORTS=free to give every part a free port"
        )
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
