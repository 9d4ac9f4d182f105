"""Runs the services that the suite needs on one machine, without Docker: PostgreSQL, Kafka and Camunda.

A service whose address is given (Q2O_DATABASE_URL, Q2O_KAFKA, Q2O_ENGINE_URL) is not started but checked. Every failure is
a StackError, and nothing is left running: a start that fails stops what it has started, and the next start ends what a
killed run left behind.
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
from workers.local.logins import addresses_of_processes
from workers.local.ports import NEEDS, PortBook, check_fixed
from workers.local.postgres import Postgres
from workers.local.source import CONFIGURATION
from workers.runtime.environment import ENGINE_USERS, variable

_Service = TypeVar("_Service")
ALL_SERVICES = frozenset({"postgres", "kafka", "engine"})


class LocalStack:
    """Context manager: the services are up and checked on entry, and down on exit.

    `environment` has every `Q2O_*` variable that a process of the suite needs to reach them: those that were given, and those of the
    services that were started. Raises StackError on entry, with one line that says what to do.
    """

    def __init__(
        self, data_dir: Path, services: Collection[str] = ALL_SERVICES, environment: Mapping[str, str] = os.environ
    ) -> None:
        # A directory may have several paths, and processes of a killed run are recognised by its path: always use the resolved one.
        self.data_dir = data_dir.resolve()
        self.environment = {name: value for name, value in environment.items() if name.startswith("Q2O_") and value}
        self._given = dict(environment)
        self._services = frozenset(services)
        self._signals = ExitStack()
        self._cleanup = ExitStack()
        self.ports = PortBook(self.data_dir / "ports.json")
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
        for process, user in ENGINE_USERS.items():
            self.environment.setdefault(variable(f"{process}_engine_user"), user)
            self.environment.setdefault(variable(f"{process}_engine_password"), getattr(credentials, f"engine_{process}"))
        self._check_given()
        self._choose(credentials, fixed)
        self._run()

    def _begin_logs(self) -> None:
        """Give each run its own logs, and keep those of the run before: they tell why it failed."""
        logs = self.data_dir / "logs"
        logs.mkdir(exist_ok=True)
        for log in logs.glob("*.log"):
            log.replace(log.with_suffix(".log.before"))

    def _check_given(self) -> None:
        if "postgres" in self._services and (url := self._given.get("Q2O_DATABASE_URL")):
            check_database("Q2O_DATABASE_URL", url)
        if "kafka" in self._services and self._given.get("Q2O_KAFKA"):
            check_kafka(self._given)
        if "engine" in self._services and self._given.get("Q2O_ENGINE_URL"):
            check_engine(self._given)

    def _starts(self, service: str, variable: str) -> bool:
        return service in self._services and not self._given.get(variable)

    def _choose(self, credentials: Credentials, fixed: Mapping[str, int | None]) -> None:
        """Decide which services are started, and choose their ports and addresses."""
        ports = self._cleanup.enter_context(self.ports)
        engine = self._starts("engine", "Q2O_ENGINE_URL")
        own_database = self._starts("postgres", "Q2O_DATABASE_URL")
        if own_database or (engine and not self._given.get("Q2O_ENGINE_DATABASE_URL")):
            self._postgres = Postgres(self.data_dir, ports.take("postgres", fixed["Q2O_DATABASE_PORT"]), credentials)
            if own_database:
                self.environment["Q2O_DATABASE_URL"] = self._postgres.database_url
                self.environment |= addresses_of_processes(self._postgres.database_url)
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
        services = [each for each in (self._postgres, self._kafka, self._engine) if each is not None]
        jars = {each.name: self._jars(each.name) for each in services if each.name != "postgres"}
        for each in services:
            self._cleanup.callback(each.stop)
        # Entered last, so that its thread ends before the services are stopped.
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

    def _jars(self, service: str) -> Sequence[Path]:
        return JarStore(default_jar_directory(self._given)).provide(read_lock(CONFIGURATION / service / "jgo.lock.toml"))


def _started(service: _Service | None, name: str) -> _Service:
    if service is None:
        raise StackError(f"this stack did not start {name}: add it to the services, and give no address for it")
    return service
