"""Runs the engine of the local stack: Camunda 7 with REST, Cockpit and Tasklist in one JVM, on one port."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import requests

from workers.local.errors import StackError
from workers.local.java import class_path, jvm_command
from workers.local.ports import HOST
from workers.local.processes import Program, end_leftovers
from workers.local.service import Service
from workers.local.source import CONFIGURATION
from workers.runtime.engine_connection import PUBLIC_AUTHORITIES
from workers.runtime.transport import ClientTls

START_TIMEOUT_SECONDS = 120.0
REQUEST_TIMEOUT_SECONDS = 5.0
HEAP_MIB = 256
# Our files come first on the class path and replace the vendor's of the same name: a tab of Cockpit, and the setting that loads it.
WEBAPP = CONFIGURATION / "engine" / "webapp"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineDatabase:
    """The database with the engine's tables, addressed the way JDBC needs it."""

    jdbc_url: str
    user: str
    password: str


class Camunda(Service):
    """One engine node. `url` is the address of REST and ends in /engine-rest; `webapps` is the address where people log in."""

    name = "engine"

    def __init__(self, data_dir: Path, port: int, java: Path, database: EngineDatabase, admin: tuple[str, str]) -> None:
        self.port = port
        self.url = f"http://{HOST}:{port}/engine-rest"
        self.webapps = f"http://{HOST}:{port}/camunda"
        self.user, self.password = admin
        self._java = java
        self._log = data_dir / "logs" / "engine.log"
        self._mark = _mark(data_dir)
        self._database = database

    def launch(self, jars: Sequence[Path]) -> None:
        """Start the JVM; `wait` returns when it serves requests."""
        self._program = Program("The engine", self._command(), self._log, class_path([WEBAPP, *jars]) | self._settings())
        self._program.start()

    def wait(self) -> None:
        """Wait until REST responds and the administrator can log in. Raises StackError with the reason when that does not happen."""
        self._launched.wait_until(self._responds, START_TIMEOUT_SECONDS)
        check_login(self.url, self.user, self.password)

    @classmethod
    def end_leftovers(cls, data_dir: Path) -> None:
        end_leftovers("java", _mark(data_dir))

    def start(self) -> None:
        self._launched.start()
        self.wait()

    def _command(self) -> list[str]:
        arguments = [
            f"--spring.main.sources=file:{CONFIGURATION / 'engine' / 'engine.xml'}",
            f"--spring.config.location=file:{CONFIGURATION / 'engine' / 'application.yaml'}",
        ]
        main = "org.springframework.boot.SpringApplication"
        return jvm_command(self._java, mark=self._mark, heap_mib=HEAP_MIB, main=main, arguments=arguments)

    def _settings(self) -> dict[str, str]:
        return {
            "Q2O_ENGINE_HOST": HOST,
            "Q2O_ENGINE_PORT": str(self.port),
            "Q2O_ENGINE_JDBC_URL": self._database.jdbc_url,
            "Q2O_ENGINE_DATABASE_USER": self._database.user,
            "Q2O_ENGINE_DATABASE_PASSWORD": self._database.password,
            "Q2O_ENGINE_USER": self.user,
            "Q2O_ENGINE_PASSWORD": self.password,
        }

    def _responds(self) -> bool:
        try:
            # The list of engines needs no login. The first login of a cold JVM takes longer, and is answered when the engine is ready.
            if not _get(f"{self.url}/engine").ok:
                return False
            _get(f"{self.url}/version", (self.user, self.password))
        except requests.RequestException:
            return False
        return True


def check_login(url: str, user: str, password: str, tls: ClientTls = PUBLIC_AUTHORITIES) -> None:
    """Raise StackError when no engine responds at the address, or when it does not accept the user's password or certificate."""
    try:
        response = _get(f"{url}/version", (user, password), tls)
    except requests.RequestException as error:
        if reason := tls.explain(error, url):
            raise StackError(f"The engine at {url} cannot be asked: {reason}") from error
        raise StackError(
            f"No engine responds at {url} ({type(error).__name__}): start it, correct Q2O_ENGINE_URL, or unset it"
        ) from error
    if response.status_code in {401, 403}:
        raise StackError(
            f"The engine at {url} refuses the password of user {user}: set Q2O_ENGINE_USER and Q2O_ENGINE_PASSWORD to a user that it accepts"
        )
    if not response.ok:
        raise StackError(
            f"The server at {url} is not the engine's REST API (status {response.status_code}): correct Q2O_ENGINE_URL"
        )


def _mark(data_dir: Path) -> str:
    return f"-Dq2o.engine={data_dir}"


def _get(url: str, auth: tuple[str, str] | None = None, tls: ClientTls = PUBLIC_AUTHORITIES) -> requests.Response:
    with requests.Session() as session:
        # A proxy of the user's network cannot reach ports of this machine, so it is ignored for them.
        session.trust_env = not url.startswith(f"http://{HOST}:")
        verify, cert = tls.of_requests
        return session.get(url, auth=auth, timeout=REQUEST_TIMEOUT_SECONDS, verify=verify, cert=cert)
