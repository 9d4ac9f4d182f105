"""What a storm acts on: the services, the links to them, the processes, and the tenant whose business goes on meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from threading import Event, Lock
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import psycopg
from sqlalchemy import make_url

from tests.faults.storm.processes import ALL, Processes
from tests.support.links.link import Link
from tests.support.links.protocols import HOST, Http, Postgres
from tests.support.suite import Shop
from workers.demo.local_suite import LocalSuite
from workers.local.stack import LocalStack
from workers.runtime.secret_files import reveal
from workers.runtime.setting_table import variable
from workers.runtime.settings import Settings

LOCK_SECONDS = 3
LOOK_SECONDS = 0.2
SHORT = {
    "Q2O_LOCK_DURATION_SECONDS": str(LOCK_SECONDS),
    "Q2O_ATTEMPT_STALE_AFTER_SECONDS": "5",
    "Q2O_START_SAFE_INTERVAL_SECONDS": "5",
}
"""Shorter than in production: what a dead process has locked must be free before the suite has to be quiet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Links:
    """A link to each service that the processes use, and two links to the edge: one for the clients, one for the provider's callbacks."""

    database: Link
    engine: Link
    kafka: Link
    provider: Link
    edge: Link
    callbacks: Link

    @property
    def all(self) -> tuple[Link, ...]:
        return self.database, self.engine, self.kafka, self.provider, self.edge, self.callbacks


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """`calm` is set when the faults are over: whoever causes one waits for it, and no longer than its fault lasts."""

    stack: LocalStack
    local: LocalSuite
    shop: Shop
    links: Links
    processes: Processes
    calm: Event = field(default_factory=Event)
    heavy: Lock = field(default_factory=Lock)

    def last(self, seconds: float) -> None:
        """Let a fault last; shorter when the storm ends before."""
        self.calm.wait(seconds)

    def sees(self, condition: Callable[[], bool], *, within: float) -> bool:
        """Whether a condition comes true within so many seconds, and before the storm ends."""
        ends = monotonic() + within
        while not (is_true := condition()) and monotonic() < ends and not self.calm.wait(LOOK_SECONDS):
            pass
        return is_true

    def as_superuser(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement as the administrator of the server; returns its rows."""
        with self.stack.postgres._connect() as connection:
            connection.execute("SET default_transaction_read_only = off")
            cursor: psycopg.Cursor[Any] = connection.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def heal(self) -> None:
        """Mend everything that is still broken."""
        for link in self.links.all:
            link.clear()
            link.mend()
        self.local.provider.faults.clear()
        self.as_superuser("ALTER SYSTEM RESET default_transaction_read_only")
        self.as_superuser("SELECT pg_reload_conf()")
        self.processes.heal()


@contextmanager
def linked(stack: LocalStack, local: LocalSuite) -> Iterator[tuple[Links, Mapping[str, Mapping[str, str]]]]:
    """Open the links, and give the settings by which each process uses them."""
    settings = local.settings
    engine, provider = urlsplit(settings.engine_url), urlsplit(settings.provider_url)
    kafka_host, kafka_port = stack.environment["Q2O_KAFKA"].split(":")
    with ExitStack() as opened:
        links = Links(
            database=opened.enter_context(Link(HOST, stack.postgres.port, Postgres())),
            engine=opened.enter_context(Link(str(engine.hostname), int(engine.port or 80), Http())),
            kafka=opened.enter_context(Link.to_kafka(kafka_host, int(kafka_port))),
            provider=opened.enter_context(Link(str(provider.hostname), int(provider.port or 80), Http())),
            edge=opened.enter_context(Link(HOST, settings.http_port, Http())),
            callbacks=opened.enter_context(Link(HOST, settings.http_port, Http())),
        )
        courier = local.provider._courier
        courier._url = courier._url.copy_with(port=links.callbacks.port)
        by_links = {
            "Q2O_ENGINE_URL": f"http://{HOST}:{links.engine.port}{engine.path}",
            "Q2O_PROVIDER_URL": f"http://{HOST}:{links.provider.port}",
            "Q2O_KAFKA": f"{HOST}:{links.kafka.port}",
        }
        yield links, {name: {**settings.variables, **by_links, **through(links.database.port, settings, name)} for name in ALL}


def through(port: int, settings: Settings, process: str) -> dict[str, str]:
    """The variable that leads a process to its database by another port: its own one, which goes before the common one."""
    address = make_url(reveal(settings.of(process).database_url)).set(host=HOST, port=port)
    return {variable(f"{process}_database_url"): address.render_as_string(hide_password=False)}
