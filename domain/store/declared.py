"""Executes statements that are declared once, by handing them to libpq directly (decision 0015).

SQLAlchemy compiles such a statement, and keeps the pool, the transaction, the errors and the listeners; psycopg encodes its parameters and decodes
its rows. The rest of what both do at every execution (a context, a cursor, a parsed query, a description of the result) costs more processor
time than all of that, and is the same every time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple, TypeVar

from psycopg import OperationalError
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.generators import execute as response
from psycopg.pq import ExecStatus
from sqlalchemy import Connection, Insert, Result, Select, TextClause, Update
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData

Statement = Select[Any] | Insert | Update | TextClause

_NAMED, _NUMBERED = (PGDialect_psycopg(paramstyle=style) for style in ("pyformat", "numeric_dollar"))  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
_SUCCESS: Final = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)
_ONE_EXECUTION: Final = (None, False)  # the listeners' last arguments: no execution context of SQLAlchemy's, not `executemany`
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Declared:
    """A statement as text, and how its parameters are encoded.

    Listeners see `text`, with named parameters; the server gets `sent`, with numbered ones, in the order of `names`.
    """

    text: str
    sent: bytes
    names: Sequence[str]
    formats: Sequence[PyFormat]
    constants: Mapping[str, Any]
    encoders: Mapping[str, Callable[[Any], Any]]

    def parameters(self, values: Mapping[str, Any]) -> dict[str, Any]:
        parameters = {**self.constants, **values}
        for name, encode in self.encoders.items():
            parameters[name] = encode(parameters[name])
        return parameters


@cache
def _declared(statement: Statement, given: tuple[str, ...]) -> _Declared:
    named, numbered = (statement.compile(dialect=style, column_keys=list(given)) for style in (_NAMED, _NUMBERED))
    names = numbered.positiontup or []
    encoders = {name: bind.type.dialect_impl(_NAMED).bind_processor(_NAMED) for name, bind in named.binds.items()}
    return _Declared(
        text=str(named),
        sent=str(numbered).encode(),
        names=names,
        formats=[PyFormat.TEXT] * len(names),
        constants={name: value for name, value in named.params.items() if name not in given},
        encoders={name: encode for name, encode in encoders.items() if encode},
    )


@dataclass(slots=True)
class _Prepared:
    """A statement that one server session has prepared. Its columns are known after the first result."""

    name: bytes
    columns: SimpleResultMetaData | None = None


class _Outgoing(NamedTuple):
    """A statement after the listeners have seen it. A listener may rewrite the text, as with SQLAlchemy's own executions."""

    text: str
    parameters: dict[str, Any]
    is_rewritten: bool


class _ServerSession:
    """One connection: how its values travel, and which statements its server session has prepared."""

    def __init__(self, driver: Any) -> None:
        if driver.prepare_threshold is not None:
            # psycopg deallocates everything, ours too, after a rollback: it must have prepared nothing.
            raise ValueError("connect with prepare_threshold=None, as workers.runtime.database.connect does")
        self.driver = driver
        self._types = Transformer(driver)
        self._prepared: dict[_Declared, _Prepared] = {}

    def execute(self, declared: _Declared, parameters: Mapping[str, Any]) -> Result[Any]:
        prepared = self._prepared.get(declared) or self._prepare(declared)
        values = self._types.dump_sequence([parameters[name] for name in declared.names], declared.formats)
        self.driver.pgconn.send_query_prepared(prepared.name, values)
        result = self._result()
        if prepared.columns is None:
            prepared.columns = SimpleResultMetaData([result.fname(number).decode() for number in range(result.nfields)])
        if not result.ntuples:
            return IteratorResult(prepared.columns, iter(()))
        self._types.set_pgresult(result)
        return IteratorResult(prepared.columns, iter(self._types.load_rows(0, result.ntuples, tuple)))

    def execute_text(self, text: str, parameters: Mapping[str, Any]) -> Result[Any]:
        cursor = self.driver.execute(text, parameters)
        names = [column.name for column in cursor.description or []]
        return IteratorResult(SimpleResultMetaData(names), iter(cursor.fetchall() if names else ()))

    def send(self, text: str) -> None:
        self.driver.pgconn.send_query(text.encode())
        self._result()

    def _result(self) -> Any:
        """The last result of what was sent; the connection says how long the server may take (`workers.runtime.database_connection`)."""
        for result in (results := self.driver.wait(response(self.driver.pgconn))):
            if result.status not in _SUCCESS:
                error = error_from_result(result)
                # An error without an SQLSTATE comes from libpq, not from the server: the connection is lost.
                raise error if error.sqlstate else OperationalError(str(error))
        return results[-1]

    def _prepare(self, declared: _Declared) -> _Prepared:
        name = b"declared_%d" % len(self._prepared)
        # The server infers the types: each parameter stands where its type is clear, or is cast.
        self.driver.pgconn.send_prepare(name, declared.sent)
        self._result()
        self._prepared[declared] = _Prepared(name)
        return self._prepared[declared]


def run(connection: Connection, statement: Statement, values: Mapping[str, Any]) -> Result[Any]:
    """Execute a statement that is the same object every time: each new object would be compiled and kept anew.

    Raises what `Connection.execute` raises.
    """
    declared = _declared(statement, tuple(values))

    def execute(session: _ServerSession, outgoing: _Outgoing) -> Result[Any]:
        if outgoing.is_rewritten:
            return session.execute_text(outgoing.text, outgoing.parameters)
        return session.execute(declared, outgoing.parameters)

    return _with_listeners(connection, declared.text, declared.parameters(values), execute)


def send(connection: Connection, text: str) -> None:
    """Send a text that has no parameters and returns no rows, in one round trip. Raises what `Connection.execute` raises."""
    _with_listeners(connection, text, {}, lambda session, outgoing: session.send(outgoing.text))


def server_version(connection: Connection) -> int:
    """The version of the server as libpq writes it (180006 is 18.6), without a round trip."""
    return int(_session_of(connection).driver.pgconn.server_version)


def _with_listeners(
    connection: Connection, text: str, parameters: dict[str, Any], execute: Callable[[_ServerSession, _Outgoing], _T]
) -> _T:
    # As SQLAlchemy does it: it calls the listeners, and decides which errors mean that the connection is lost.
    session = _session_of(connection)
    declared_text = text
    try:
        for listener in connection.dispatch.before_cursor_execute:
            text, parameters = listener(connection, None, text, parameters, *_ONE_EXECUTION)
        result = execute(session, _Outgoing(text, parameters, is_rewritten=text != declared_text))
        connection.dispatch.after_cursor_execute(connection, None, text, parameters, *_ONE_EXECUTION)
    except Exception as error:  # noqa: BLE001 - SQLAlchemy sorts it out, and raises it or an error of its own
        connection._handle_dbapi_exception(error, text, parameters, None, None)  # noqa: SLF001 - the only way to have it do so
    return result


def _session_of(connection: Connection) -> _ServerSession:
    session: _ServerSession | None = connection.info.get(_ServerSession)
    if session is None:
        session = connection.info[_ServerSession] = _ServerSession(connection.connection.driver_connection)
    return session
