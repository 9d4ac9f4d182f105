"""What each process needs of other services to do its work: one table, asked by `/readyz` and shown in docs/settings.md.

The rule: a process is ready when each of its needs answers. The provider is no need: while it is away, its steps wait and are asked about,
and everything else goes on, so a process that is taken out of service would help nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack

from workers import suite
from workers.accounts import ACCOUNTS
from workers.runtime.database_fitness import require_fit
from workers.runtime.engine import Engine
from workers.runtime.environment import ENGINE_USERS
from workers.runtime.kafka import KafkaUnavailableError, is_reachable
from workers.runtime.process import Loop
from workers.runtime.readiness import LIMIT, Ask
from workers.runtime.settings import Settings


class RightMissingError(Exception):
    """The engine's user of a process lacks a right that its work needs; the text says which, and what to do."""


def needs_of(process: str, settings: Settings, loop: Loop, opened: ExitStack) -> dict[str, Ask]:
    """The questions of one process, by the names of its needs; what they open is closed with `opened`."""
    return {need: QUESTIONS[need](process, settings, loop, opened) for need in NEEDS[process]}


def _database(process: str, settings: Settings, _: Loop, opened: ExitStack) -> Ask:
    database = suite.connect(settings, process, "health")
    opened.callback(database.dispose)
    return lambda: require_fit(database)


def _engine(process: str, settings: Settings, _: Loop, opened: ExitStack) -> Ask:
    engine = suite.engine_of(settings, response_timeout=LIMIT)
    opened.callback(engine.close)
    return lambda: _require_rights(engine, process)


def _require_rights(engine: Engine, process: str) -> None:
    """Raises EngineError, also for a login that is refused, and RightMissingError."""
    for right in ACCOUNTS[process].rights:
        if not engine.may(right.permissions[-1], right.kind, right.ids[0]):
            raise RightMissingError(f"user {engine.user} may not {right.needed_for}: run `q2o deploy --accounts-only`")


def _kafka(_process: str, settings: Settings, _: Loop, _opened: ExitStack) -> Ask:
    kafka = settings.kafka

    def ask() -> None:
        if not is_reachable(kafka, LIMIT):
            raise KafkaUnavailableError(f"no broker responds at {kafka.bootstrap}")

    return ask


def _keys(_process: str, _settings: Settings, loop: Loop, _opened: ExitStack) -> Ask:
    from workers.http.edge import HttpEdge  # here, because no other process needs the edge
    from workers.http.tokens import Tokens

    tokens = loop.authenticate if isinstance(loop, HttpEdge) else None
    return tokens.require_keys if isinstance(tokens, Tokens) else lambda: None


QUESTIONS: Mapping[str, Callable[[str, Settings, Loop, ExitStack], Ask]] = {
    "database": _database,
    "engine": _engine,
    "Kafka": _kafka,
    "keys of tokens": _keys,
}
NEEDS: Mapping[str, tuple[str, ...]] = {
    "http": ("database", "keys of tokens"),
    **dict.fromkeys(("relay", "inbox"), ("database", "Kafka")),
    "retain": ("database",),
    **dict.fromkeys(ENGINE_USERS, ("database", "engine")),
}
"""Process -> what must answer before it is ready."""
