"""Connections to the product's database, with limits that keep one slow command, or one silent server, from stopping the others.

docs/database.md has all limits in one table, with their reasons.
"""

from __future__ import annotations

import os
import re
import select
import socket
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import URL, Connection, Dialect, Engine, create_engine, event, make_url, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DisconnectionError

from domain.store.isolation import ONLY_TENANT
from domain.store.limits import LIMITS, Limits
from workers.runtime.database_connection import MARGIN, PatientConnection
from workers.runtime.database_states import is_useless
from workers.runtime.environment import SettingError, variable
from workers.runtime.lock_waits import time_locks
from workers.runtime.outages import sqlstate_of
from workers.runtime.secret_files import Secret, reveal
from workers.runtime.setting_kinds import DATABASE

POOL_WAIT: Final = timedelta(seconds=5)
"""The longest wait for a connection of the pool: as long as for a row. By then, each command that waits for a row has given back its own."""
NO_LIMIT: Final = timedelta(0)
OF_MIGRATION: Final = Limits(statement=NO_LIMIT, transaction=NO_LIMIT)
"""An index on a large table takes its time. A wait for a lock stays short, because every command waits behind it."""
OF_REPORTS: Final = Limits(statement=timedelta(minutes=5), idle=timedelta(minutes=1), transaction=timedelta(minutes=15))
"""An audit reads all rows of a tenant in one snapshot, and locks none."""
LONGEST_NAME: Final = 63
"""PostgreSQL keeps so many bytes of a session's name."""
_OF_A_PROCESS: Final = re.compile(r"q2o (?P<process>\S+)(?: start| health)? (?P<host>\S*):(?P<pid>\d+)")
"""The name of a session that a running process has: for its work, its start, or the question of its health."""
_FRESH: Final = "is_fresh"


def connect(
    database_url: Secret, process: str, pool_size: int = 10, only_tenant: UUID | None = None, limits: Limits | None = None
) -> Engine:
    """A pool for one service process, named so that `pg_stat_activity` shows which process has a connection, and on which host it runs.

    With `only_tenant`, the machinery of the process sees the rows of this tenant alone. `limits`: those of its transactions, if they are
    not a command's. An address in a file holds for every new connection as it is at that time. Raises SettingError when it is no address.
    """
    limits = limits or Limits()
    ours: dict[str, Any] = {
        "application_name": _session_name(process),
        "prepare_threshold": None,  # `domain.store.declared` prepares the statements that are worth it
    }
    engine = create_engine(
        parsed(reveal(database_url)), pool_size=pool_size, max_overflow=pool_size, pool_timeout=POOL_WAIT.total_seconds()
    )
    engine.update_execution_options(**{LIMITS: limits, **({ONLY_TENANT: only_tenant} if only_tenant else {})})
    event.listen(engine, "connect", _note_that_it_is_fresh)
    event.listen(engine, "checkout", _refuse_a_dead_connection)
    event.listen(engine, "handle_error", _drop_a_useless_session)
    time_locks(engine)

    def open_by_the_current_address(
        dialect: Dialect, _record: object, _arguments: object, _parameters: object
    ) -> PatientConnection:
        parameters = dialect.create_connect_args(parsed(reveal(database_url)))[1]
        return PatientConnection.open(limits.statement + MARGIN if limits.statement else None, **{**parameters, **ours})

    event.listen(engine, "do_connect", open_by_the_current_address)
    return engine


def parsed(text: str, name: str = "database_url") -> URL:
    """The parts of a database address. Raises SettingError, which names the setting, for one with which nobody can connect."""
    if fault := DATABASE.fault(text):
        raise SettingError(f"{variable(name)} {fault}")
    return make_url(text)


def _note_that_it_is_fresh(_connection: object, record: Any) -> None:
    record.info[_FRESH] = True


def _refuse_a_dead_connection(connection: Any, record: Any, _proxy: object) -> None:
    # On an idle connection there is nothing to read but its end. A question to the server would be a round trip for every command.
    if record.info.pop(_FRESH, False):
        return  # it takes the place of a dead one: to refuse it too would be an error that is not one of the database's
    readable = select.poll()
    if not connection.closed:
        readable.register(connection.fileno(), select.POLLIN)
    if connection.closed or readable.poll(0):
        raise DisconnectionError


def _drop_a_useless_session(context: ExceptionContext) -> None:
    # The driver sees only that the connection itself has ended.
    if is_useless(sqlstate_of(context.sqlalchemy_exception)):
        context.is_disconnect = True


def _session_name(process: str) -> str:
    host = "".join(sign for sign in socket.gethostname() if sign.isascii() and sign.isprintable() and not sign.isspace())
    name, pid = f"q2o {process} ", f":{os.getpid()}"
    return f"{name}{host[: LONGEST_NAME - len(name) - len(pid)]}{pid}"


@dataclass(frozen=True, slots=True)
class AtWork:
    """A process that has sessions in the database now."""

    process: str
    host: str
    pid: int
    sessions: int


def processes_at_work(connection: Connection) -> list[AtWork]:
    """Every process of the suite with a session in this database, by the name that each gives its sessions (`connect`).

    A person's command that works with the login of a process is none.
    """
    query = """SELECT application_name, count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND application_name LIKE 'q2o %' GROUP BY application_name"""
    sessions: Counter[tuple[str, str, int]] = Counter()
    for name, number in connection.execute(text(query)):
        if found := _OF_A_PROCESS.fullmatch(name):
            sessions[found["process"], found["host"], int(found["pid"])] += number
    return [AtWork(*process, number) for process, number in sorted(sessions.items())]
