"""Runs the whole suite on one machine: the local stack, the sandbox provider, and every loop as a thread of this process.

The loops are the same objects that the service processes run: no code is special to this way of running them.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from secrets import token_urlsafe
from threading import Event, Thread
from types import TracebackType
from typing import Self
from uuid import UUID

from domain import granting
from domain.authority import GrantStatus
from domain.catalog import FIBRE, ROUTER, SUPPORT
from domain.granting import ConfirmAuthority, GrantAuthority
from domain.migrations import migrate
from domain.offers import price_books, reading
from domain.store import Cause, UnitOfWork
from workers import suite
from workers.accounts import set_up_accounts
from workers.demo.people import ADMINISTRATORS, AUTHORITY, PEOPLE
from workers.deployment import add_people, deploy, set_up
from workers.kafka.topics import all_topics
from workers.local.credentials import environment_file
from workers.local.ports import HOST, check_fixed
from workers.local.stack import LocalStack
from workers.needs import needs_of
from workers.runtime.commands import unit_of_work
from workers.runtime.database_roles import logins_of
from workers.runtime.engine_connection import SET_UP_TIMEOUT
from workers.runtime.environment import with_files_read
from workers.runtime.health import serve_health
from workers.runtime.kafka import ensure_topics
from workers.runtime.process import EXIT_SOFTWARE, Loop, run_loops
from workers.runtime.readiness import Readiness
from workers.runtime.secret_files import reveal
from workers.runtime.settings import Settings
from workers.sandbox.provider import SandboxProvider

# The password of the demo's people. It satisfies the engine's password policy (length, case, digit, special character).
PEOPLE_PASSWORD = "Demo-2026-q2o"  # noqa: S105 - the demo prints it, for logins on loopback
PRICE_BOOK, PRICE_BOOK_VERSION = "STANDARD", "p-44"
# (list price, unit cost), in euros per piece and month.
PRICES = {
    FIBRE: (Decimal("89.00"), Decimal("38.00")),
    ROUTER: (Decimal("12.00"), Decimal("5.50")),
    SUPPORT: (Decimal("9.90"), Decimal("2.40")),
}


class LocalSuite:
    """Context manager: on entry everything is up except the loops. `start` runs loops until `stopped` is set, or until exit.

    With `stack`, a stack that is up already is used, and stays up. `say` gets a sentence before each long part of the start.
    """

    def __init__(
        self,
        data_dir: Path,
        environment: Mapping[str, str] = os.environ,
        *,
        stack: LocalStack | None = None,
        say: Callable[[str], object] = lambda _: None,
    ) -> None:
        self._given = with_files_read(environment)
        self._say = say
        self._brings_stack = stack is None
        self.stack = stack or LocalStack(data_dir, environment=self._given)
        self._cleanup = ExitStack()
        self._stop = Event()
        self._readiness = Readiness(self._stop)
        self._early_ends: list[str] = []
        self._exit_codes: list[int] = []
        self.settings: Settings
        self.provider: SandboxProvider

    def __enter__(self) -> Self:
        try:
            if self._brings_stack:
                self._say(f"Starting PostgreSQL, Kafka and Camunda; their data are in {self.stack.data_dir} …")
                self._cleanup.enter_context(self.stack)
            self._say("Creating the schema, and deploying models and people …")
            self._prepare()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._cleanup.close()

    @property
    def api_url(self) -> str:
        """The address of the HTTP edge."""
        return f"http://{self.settings.http_host}:{self.settings.http_port}"

    @property
    def environment(self) -> dict[str, str]:
        """The settings that a process of the suite needs to work with this one."""
        added = {
            "Q2O_PROVIDER_URL": self.settings.provider_url,
            "Q2O_PROVIDER_LEDGER_URL": f"{self.settings.provider_url}/sandbox/ledger",
            "Q2O_PROVIDER_TOKEN": reveal(self.settings.provider_token),
            "Q2O_HTTP_PORT": str(self.settings.http_port),
            "Q2O_API": self.api_url,
        }
        return {**self._own_environment, **added}

    @property
    def environment_file(self) -> Path:
        """The file that has `environment` for other shells."""
        return environment_file(self.stack.data_dir)

    @property
    def _own_environment(self) -> dict[str, str]:
        given = {name: value for name, value in self._given.items() if name.startswith("Q2O_") and value}
        whole = {**given, **self.stack.environment}
        whole.pop("Q2O_HEALTH_PORT", None)  # this program has it; a process that joins in would not start on the same one
        return whole

    def start(self, only: frozenset[str] = frozenset(suite.PROCESSES)) -> None:
        """Run the loops of these processes as threads."""
        loops = {name: build(self.settings.of(name)) for name, build in suite.PROCESSES.items() if name in only}
        self._readiness.watch(
            {
                f"{process}: {need}": ask
                for process, loop in loops.items()
                for need, ask in needs_of(process, self.settings.of(process), loop, self._cleanup).items()
            }
        )
        runner = Thread(target=self._run, args=(loops,), name="loops")
        runner.start()
        self._cleanup.callback(runner.join)
        self._cleanup.callback(self._stop.set)

    def _run(self, loops: Mapping[str, Loop]) -> None:
        self._exit_codes.append(run_loops(loops, self._stop, say=self._early_ends.append))

    @contextmanager
    def detour(self, name: str, engine_url: str) -> Iterator[None]:
        """Run the loop of one process while the block runs, with another address of the engine. If it ends early, the suite stops."""
        over = Event()
        loop = suite.PROCESSES[name](self.settings.of(name).having(engine_url=engine_url))

        def run() -> None:
            if run_loops({name: loop}, over, say=self._early_ends.append) != 0:
                self._stop.set()

        runner = Thread(target=run, name="detour")
        runner.start()
        try:
            yield
        finally:
            over.set()
            runner.join()

    def end_early(self, why: str) -> None:
        """Ask the loops to end, because a part of the suite has ended by itself."""
        self._early_ends.append(why)
        self._stop.set()

    @property
    def stopped(self) -> Event:
        """Set when the loops are asked to end, or when one of them has died."""
        return self._stop

    @property
    def early_ends(self) -> list[str]:
        """A sentence for each loop that ended before it was asked to, with its error, and for each that did not end."""
        return list(self._early_ends)

    @property
    def exit_code(self) -> int:
        """0, or 70 when a loop ended early or did not end. Final when the context has been left."""
        return EXIT_SOFTWARE if self._early_ends or any(self._exit_codes) else 0

    @property
    def log_file(self) -> Path:
        """The log of the loops."""
        return self.stack.data_dir / "logs" / "suite.log"

    def add_tenant(self, tenant_id: UUID, name: str = "Demo") -> None:
        """Give a tenant its models, let the demo's people work for it, and seed its rows, unless that has been done."""
        with closing(suite.engine_of(self.settings, response_timeout=SET_UP_TIMEOUT)) as engine:
            deploy(engine, tenant_id, name)
            for person in PEOPLE:
                engine.ensure_user_in_tenant(tenant_id, person.id)
        self._seed(tenant_id)

    def _seed(self, tenant_id: UUID) -> None:
        """Publish the demo's price book for a tenant, and grant authority to its approvers."""
        book = price_books.PublishPriceBook(
            price_book=PRICE_BOOK, expected_active_version=None, price_book_version=PRICE_BOOK_VERSION, entries=PRICES
        )
        database = suite.connect(self.settings, "http")
        cause = Cause(tenant_id=tenant_id, actor="demo", command="seed")
        try:
            with unit_of_work(database, cause) as uow, suppress(price_books.PriceBookConflict):
                price_books.publish(uow, book)
            with unit_of_work(database, cause) as uow:
                if not reading.grants_of(uow, None, None, limit=1, after=None):
                    for given in AUTHORITY:
                        _grant(uow, given)
        finally:
            database.dispose()

    def _prepare(self) -> None:
        ports = self.stack.ports
        http_port = ports.take("http", check_fixed("Q2O_HTTP_PORT", self._given))
        provider_port = ports.take("provider", check_fixed("Q2O_PROVIDER_PORT", self._given))
        callbacks = f"http://{HOST}:{http_port}/callbacks/sandbox"
        self.settings = Settings(
            {
                **self._own_environment,
                "Q2O_HTTP_PORT": str(http_port),
                "Q2O_PROVIDER_URL": f"http://{HOST}:{provider_port}",
                "Q2O_PROVIDER_TOKEN": token_urlsafe(24),
            }
        )
        database = suite.connect(self.settings, "migrate")
        migrate(database, logins_of(self.settings))
        database.dispose()
        with closing(suite.engine_of(self.settings, response_timeout=SET_UP_TIMEOUT)) as engine:
            set_up_accounts(engine, self.settings)
            set_up(engine)
            add_people(engine, PEOPLE, PEOPLE_PASSWORD)
        ensure_topics(self.settings.kafka, all_topics())
        self.provider = SandboxProvider(
            self.stack.data_dir,
            callbacks,
            self.settings.callback_secrets.read()[0],
            port=provider_port,
            token=reveal(self.settings.provider_token),
        )
        self._cleanup.enter_context(self.provider)
        self._serve_health(ports.take("health", check_fixed("Q2O_HEALTH_PORT", self._given)))
        self._write_environment()

    def _serve_health(self, port: int) -> None:
        server = self._cleanup.enter_context(serve_health(HOST, port, self._readiness.complaints))
        self._cleanup.callback(server.shutdown)

    def _write_environment(self) -> None:
        """Write the settings to a file that other shells can source. Only its owner can read it, because it has secrets."""
        lines = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(self.environment.items()))
        with os.fdopen(os.open(self.environment_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
            out.write(lines)


def _grant(uow: UnitOfWork, given: GrantAuthority) -> None:
    granted = granting.grant(uow, given)
    if granted.status == GrantStatus.PROPOSED:
        second = ConfirmAuthority(grant_id=granted.id, expected_version=granted.version, confirmed_by=ADMINISTRATORS[1])
        granting.confirm(uow, second)
