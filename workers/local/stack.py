"""The whole suite's services on one machine without Docker: PostgreSQL, Kafka and Camunda, up together and down together.

A part whose address is given (Q2O_DATABASE_URL, Q2O_KAFKA, Q2O_ENGINE_URL) is not started but checked. Whatever goes wrong
is one StackError, and nothing is left running: a start that fails stops what it had started, and what a killed run left
behind is ended by the next one.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from workers.local.camunda import Camunda, EngineDatabase
from workers.local.credentials import Credentials, load_credentials
from workers.local.errors import StackError, check_space, explained
from workers.local.given import check_database, check_engine, check_kafka, engine_database
from workers.local.guard import directory_lock, terminable, undisturbed
from workers.local.jars import JarStore, default_jar_directory, read_lock
from workers.local.java import check_platform, find_java
from workers.local.kafka import Kafka
from workers.local.ports import NEEDS, PortBook, check_fixed
from workers.local.postgres import Postgres
from workers.local.source import CONFIGURATION

_Part = TypeVar("_Part")
ALL_PARTS = frozenset({"postgres", "kafka", "engine"})


class LocalStack:
    """Context manager: on entry the parts are up and checked, on exit they are down.

    `environment` holds every `Q2O_*` that a process of the suite needs to reach them: what was given, and what was made.
    Raises StackError on entry with one line that says what to do.
    """

    def __init__(self, data_dir: Path, parts: Collection[str] = ALL_PARTS, environment: Mapping[str, str] = os.environ) -> None:
        # One directory has one name: what a killed run left is known by it.
        self.data_dir = data_dir.resolve()
        self.environment = {name: value for name, value in environment.items() if name.startswith("Q2O_") and value}
        self._given = dict(environment)
        self._parts = frozenset(parts)
        self._signals = ExitStack()
        self._cleanup = ExitStack()
        self._postgres: Postgres | None = None
        self._kafka: Kafka | None = None
        self._engine: Camunda | None = None

    @property
    def postgres(self) -> Postgres:
        """The PostgreSQL that this stack started. Raises StackError when it did not."""
        return _started(self._postgres, "postgres")

    @property
    def kafka(self) -> Kafka:
        """The Kafka that this stack started. Raises StackError when it did not."""
        return _started(self._kafka, "kafka")

    @property
    def engine(self) -> Camunda:
        """The engine that this stack started. Raises StackError when it did not."""
        return _started(self._engine, "engine")

    def __enter__(self) -> Self:
        try:
            with explained(self.data_dir):
                self._start()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    def _stop(self) -> None:
        with self._signals, undisturbed():
            self._cleanup.close()

    def _start(self) -> None:
        check_platform()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        check_space(self.data_dir)
        self._cleanup.enter_context(directory_lock(self.data_dir))
        self._signals.enter_context(terminable())
        for kind in (Camunda, Kafka, Postgres):
            kind.end_leftovers(self.data_dir)
        self._begin_logs()
        fixed = {name: check_fixed(name, self._given) for name in NEEDS}
        credentials = load_credentials(self.data_dir / "credentials.json")
        self.environment |= {"Q2O_DATA_DIR": str(self.data_dir)}
        self.environment.setdefault("Q2O_JWT_SECRET", credentials.jwt_secret)
        self.environment.setdefault("Q2O_CALLBACK_SECRET", credentials.callback_secret)
        self._check_given()
        self._choose(credentials, fixed)
        self._run()

    def _begin_logs(self) -> None:
        """Give each run its own logs and keep those of the run before: they are what tells why it went wrong."""
        logs = self.data_dir / "logs"
        logs.mkdir(exist_ok=True)
        for log in logs.glob("*.log"):
            log.replace(log.with_suffix(".log.before"))

    def _check_given(self) -> None:
        if "postgres" in self._parts and (url := self._given.get("Q2O_DATABASE_URL")):
            check_database("Q2O_DATABASE_URL", url)
        if "kafka" in self._parts and (bootstrap := self._given.get("Q2O_KAFKA")):
            check_kafka(bootstrap)
        if "engine" in self._parts and self._given.get("Q2O_ENGINE_URL"):
            check_engine(self._given)

    def _starts(self, part: str, variable: str) -> bool:
        return part in self._parts and not self._given.get(variable)

    def _choose(self, credentials: Credentials, fixed: Mapping[str, int | None]) -> None:
        """Decide which parts are started, and with which ports and addresses."""
        ports = PortBook(self.data_dir / "ports.json")
        engine = self._starts("engine", "Q2O_ENGINE_URL")
        own_database = self._starts("postgres", "Q2O_DATABASE_URL")
        if own_database or (engine and not self._given.get("Q2O_ENGINE_DATABASE_URL")):
            self._postgres = Postgres(self.data_dir, ports.take("postgres", fixed["Q2O_DATABASE_PORT"]), credentials)
            if own_database:
                self.environment["Q2O_DATABASE_URL"] = self._postgres.database_url
        if self._starts("kafka", "Q2O_KAFKA"):
            addresses = (
                ports.take("kafka", fixed["Q2O_KAFKA_PORT"]),
                ports.take("kafka-controller", fixed["Q2O_KAFKA_CONTROLLER_PORT"]),
            )
            self._kafka = Kafka(self.data_dir, addresses, find_java(self._given))
            self.environment["Q2O_KAFKA"] = self._kafka.bootstrap
        if engine:
            self._engine = self._new_engine(credentials, ports.take("engine", fixed["Q2O_ENGINE_PORT"]))

    def _new_engine(self, credentials: Credentials, port: int) -> Camunda:
        admin = self._given.get("Q2O_ENGINE_USER") or "admin", self._given.get("Q2O_ENGINE_PASSWORD") or credentials.engine_admin
        if url := self._given.get("Q2O_ENGINE_DATABASE_URL"):
            database = engine_database(url)
        else:
            jdbc = f"jdbc:postgresql://{self.postgres.host}:{self.postgres.port}/camunda"
            database = EngineDatabase(jdbc_url=jdbc, user="camunda", password=credentials.camunda)
        engine = Camunda(self.data_dir, port, find_java(self._given), database, admin)
        self.environment |= {"Q2O_ENGINE_URL": engine.url, "Q2O_ENGINE_USER": engine.user, "Q2O_ENGINE_PASSWORD": engine.password}
        return engine

    def _run(self) -> None:
        parts = [part for part in (self._postgres, self._kafka, self._engine) if part is not None]
        jars = {part.name: self._jars(part.name) for part in parts if part.name != "postgres"}
        for part in parts:
            self._cleanup.callback(part.stop)
        # Entered last, so that on the way out its thread has ended before the parts are stopped.
        pool = self._cleanup.enter_context(ThreadPoolExecutor(1))
        kafka = pool.submit(self._launch_kafka, jars)
        if self._postgres is not None:
            self._postgres.start()
        kafka.result()
        self._serve(jars)

    def _launch_kafka(self, jars: Mapping[str, Sequence[Path]]) -> None:
        if self._kafka is not None:
            self._kafka.launch(jars["kafka"])

    def _serve(self, jars: Mapping[str, Sequence[Path]]) -> None:
        if self._engine is not None:
            self._engine.launch(jars["engine"])
        if self._kafka is not None:
            self._kafka.wait()
        if self._engine is not None:
            self._engine.wait()

    def _jars(self, part: str) -> Sequence[Path]:
        return JarStore(default_jar_directory(self._given)).provide(read_lock(CONFIGURATION / part / "jgo.lock.toml"))


def _started(part: _Part | None, name: str) -> _Part:
    if part is None:
        raise StackError(f"{name} is not run by this stack: ask for the part, and give no address for it")
    return part
