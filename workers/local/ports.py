"""Chooses the ports of the local stack: fixed ones for people, who remember addresses; free ones for tests, which run at the same time.

A stack takes free ports, and the same ones after a restart, unless its environment asks for a port. `with_fixed_ports` asks for the fixed
port of every service.
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from workers.local.errors import StackError

HOST = "127.0.0.1"
# Below the ports that the system gives to outgoing connections: while a service is down, a client could get one of those, and the service
# could not come back on its port.
CHOICE = range(20_000, 32_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """The server that needs a port, its fixed port, and the variable that names a running server to use instead (then no port is needed)."""

    whose: str
    port: int
    unless: str | None = None


# Keys are the variables that choose another port. The ports are outside of CHOICE, so that no test takes them, and are no default ports.
NEEDS: Mapping[str, Need] = {
    "Q2O_HTTP_PORT": Need(whose="the HTTP edge", port=18080),
    "Q2O_ENGINE_PORT": Need(whose="Camunda (REST, Tasklist, Cockpit)", port=18081, unless="Q2O_ENGINE_URL"),
    "Q2O_PROVIDER_PORT": Need(whose="the sandbox provider", port=18082),
    "Q2O_HEALTH_PORT": Need(whose="health and metrics", port=18083),
    "Q2O_DATABASE_PORT": Need(whose="PostgreSQL", port=15432, unless="Q2O_DATABASE_URL"),
    "Q2O_KAFKA_PORT": Need(whose="Kafka", port=19092, unless="Q2O_KAFKA"),
    "Q2O_KAFKA_CONTROLLER_PORT": Need(whose="Kafka's controller", port=19093, unless="Q2O_KAFKA"),
}


def with_fixed_ports(environment: Mapping[str, str]) -> dict[str, str]:
    """Ask for the fixed port of every server that is started and for which no port is chosen, unless Q2O_PORTS is `free`.

    Raises StackError when Q2O_PORTS is neither `fixed` nor `free`.
    """
    ports = environment.get("Q2O_PORTS") or "fixed"
    if ports not in {"fixed", "free"}:
        raise StackError(f"Q2O_PORTS={ports} is neither fixed nor free: set it to one of them, or unset it")
    needed = {name: need for name, need in NEEDS.items() if not (environment.get(name) or environment.get(need.unless or ""))}
    return {**environment, **({name: str(need.port) for name, need in needed.items()} if ports == "fixed" else {})}


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now. A port in TIME_WAIT counts as free, because our servers can use it."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def accepts(host: str, port: int, timeout_seconds: float = 1.0) -> bool:
    """Whether a server listens on the port."""
    try:
        with socket.create_connection((host, port), timeout_seconds):
            return True
    except OSError:
        return False


def check_fixed(name: str, environment: Mapping[str, str]) -> int | None:
    """Read the port that the variable asks for; None when it is not set. Raises StackError when it is not a port, or is in use."""
    text = environment.get(name)
    if not text:
        return None
    if not (text.isdecimal() and 0 < int(text) < 65536):  # noqa: PLR2004 - the range of TCP ports
        raise StackError(f"{name}={text} is not a port: give a number from 1 to 65535, or unset it")
    if not is_free(int(text)):
        raise StackError(
            f"Port {text} is in use, and {NEEDS[name].whose} needs it: stop the program that listens there, set {name} to another port, "
            "or set Q2O_PORTS=free to use free ports"
        )
    return int(text)


class PortBook:
    """Remembers the port of each server in the data directory, so that addresses stay the same from run to run.

    A context manager: until it ends, no other book takes one of its ports, in this process or another, even while the server is down.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._ports: dict[str, int] = {}
        self._claims: list[socket.socket] = []

    def __enter__(self) -> Self:
        self._ports = json.loads(self._file.read_text()) if self._file.exists() else {}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for claim in self._claims:
            claim.close()
        self._claims.clear()

    def take(self, server: str, fixed: int | None = None) -> int:
        """Choose the port of a server: the fixed one, else the last one if it is free, else any free one. Raises StackError when none is."""
        port = self._ports[server] = fixed or self._claim(self._ports.get(server))
        new = self._file.with_suffix(".new")
        new.write_text(json.dumps(self._ports))
        new.replace(self._file)
        return port

    def _claim(self, known: int | None) -> int:
        claim = (claim_of(known) if known else None) or claim_of_any()
        self._claims.append(claim)
        return int(claim.getsockname()[1])


def claim_of_any() -> socket.socket:
    """Claim a free port, which is that of the socket. Raises StackError when none is free."""
    for port in random.sample(CHOICE, len(CHOICE)):
        if claim := claim_of(port):
            return claim
    raise StackError(
        f"No port from {CHOICE.start} to {CHOICE.stop} is free: end some servers, or set Q2O_ENGINE_PORT and the other Q2O_…_PORT variables"
    )


def claim_of(port: int) -> socket.socket | None:
    """Claim a port until the returned socket is closed; None when it is claimed or in use. The claim is a UDP socket with the same number, which no server uses."""
    claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with suppress(OSError):
        claim.bind((HOST, port))
        if is_free(port):
            return claim
    claim.close()
    return None
