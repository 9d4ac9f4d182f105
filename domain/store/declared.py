"""Statements that were declared once, handed to libpq as they are (decision 0015).

SQLAlchemy compiles such a statement, and keeps the pool, the transaction, the errors and the events; psycopg dumps its parameters and loads its
rows. What both do anew at every execution (a context, a cursor, a parsed query, a description of the result) costs more processor
time than all the rest, and tells nothing new of a statement that is always the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeVar

from psycopg import OperationalError
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import error_from_result
from psycopg.pq import ExecStatus
from sqlalchemy import Connection, Insert, Result, Select, TextClause, Update
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.engine.result import IteratorResult, SimpleResultMetaData

Statement = Select[Any] | Insert | Update | TextClause

_NAMED, _NUMBERED = (PGDialect_psycopg(paramstyle=style) for style in ("pyformat", "numeric_dollar"))  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
_GOOD: Final = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK)
_ONE: Final = (None, False)  # what listeners are told besides: no context of SQLAlchemy's own, and one set of parameters
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Declared:
    """A statement as text, and what its parameters need on their way.

    `text` is what listeners see, with named parameters; `sent` has numbered ones, in the order of `names`.
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
    """A declared statement as one server session knows it; its answers tell their columns."""

    name: bytes
    columns: SimpleResultMetaData | None = None


class _Line:
    """What one connection has learned: how values travel, and which statements the server has prepared."""

    def __init__(self, driver: Any) -> None:
        if driver.prepare_threshold is not None:
            # psycopg deallocates everything, ours too, after a rollback: it must have prepared nothing.
            raise ValueError("connect with prepare_threshold=None, as workers.runtime.database.connect does")
        self.driver = driver
        self._types = Transformer(driver)
        self._prepared: dict[_Declared, _Prepared] = {}

    def carry_out(self, declared: _Declared, parameters: Mapping[str, Any]) -> Result[Any]:
        prepared = self._prepared.get(declared) or self._prepare(declared)
        values = self._types.dump_sequence([parameters[name] for name in declared.names], declared.formats)
        answer = _good(self.driver.pgconn.exec_prepared(prepared.name, values))
        if prepared.columns is None:
            prepared.columns = SimpleResultMetaData([answer.fname(number).decode() for number in range(answer.nfields)])
        if not answer.ntuples:
            return IteratorResult(prepared.columns, iter(()))
        self._types.set_pgresult(answer)
        return IteratorResult(prepared.columns, iter(self._types.load_rows(0, answer.ntuples, tuple)))

    def execute(self, text: str, parameters: Mapping[str, Any]) -> Result[Any]:
        cursor = self.driver.execute(text, parameters)
        names = [column.name for column in cursor.description or []]
        return IteratorResult(SimpleResultMetaData(names), iter(cursor.fetchall() if names else ()))

    def _prepare(self, declared: _Declared) -> _Prepared:
        name = b"declared_%d" % len(self._prepared)
        # Types are left to the server: each parameter stands where its type is known, or is cast.
        _good(self.driver.pgconn.prepare(name, declared.sent))
        self._prepared[declared] = _Prepared(name)
        return self._prepared[declared]


def run(connection: Connection, statement: Statement, values: Mapping[str, Any]) -> Result[Any]:
    """Carry out a statement that is the same object every time: what is built anew would be kept anew each time.

    Raises what `Connection.execute` raises.
    """
    declared = _declared(statement, tuple(values))

    def act(line: _Line, text: str, parameters: dict[str, Any]) -> Result[Any]:
        if text is declared.text:
            return line.carry_out(declared, parameters)
        return line.execute(text, parameters)  # a listener wrote it anew, as SQLAlchemy lets it

    return _told(connection, declared.text, declared.parameters(values), act)


def send(connection: Connection, text: str) -> None:
    """Send a text without parameters or an answer, in one round trip. Raises what `Connection.execute` raises."""
    _told(connection, text, {}, lambda line, sent, _: _good(line.driver.pgconn.exec_(sent.encode())))


def _told(connection: Connection, text: str, parameters: dict[str, Any], act: Callable[[_Line, str, dict[str, Any]], _T]) -> _T:
    # As SQLAlchemy does it itself: listeners hear of it, and it tells which errors mean that the connection is lost.
    line = connection.info.get(_Line)
    if line is None:
        line = connection.info[_Line] = _Line(connection.connection.driver_connection)
    try:
        for listener in connection.dispatch.before_cursor_execute:
            text, parameters = listener(connection, None, text, parameters, *_ONE)
        answer = act(line, text, parameters)
        connection.dispatch.after_cursor_execute(connection, None, text, parameters, *_ONE)
    except Exception as error:  # noqa: BLE001 - sorted out by SQLAlchemy, which raises it or its own
        connection._handle_dbapi_exception(error, text, parameters, None, None)  # noqa: SLF001 - the only way to have it do so
    return answer


def _good(answer: Any) -> Any:
    if answer.status in _GOOD:
        return answer
    error = error_from_result(answer)
    # Without a state it was not the server that spoke, but libpq, which has lost it.
    raise error if error.sqlstate else OperationalError(str(error))
