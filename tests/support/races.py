"""Forced races: the test locks a row, its rivals queue at the row, and the test lets go when every one of them waits."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection, Engine, Table, select, text

from tests.support.waiting import eventually

_Value = TypeVar("_Value")
# pg_locks is read anew each time; pg_stat_activity stays the same for the whole transaction of the holder.
_WAITING = text("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted")


def race_for_row(engine: Engine, table: Table, row_id: object, *callers: Callable[[], _Value]) -> list[Future[_Value]]:
    """Let the callers queue at a row, in their order, then release the row; returns their finished futures (read `exception()`).

    A caller starts when the one before it waits, so the order of the queue is known.
    """
    with engine.connect() as holder, ThreadPoolExecutor(len(callers)) as pool:
        holder.execute(select(table.c.id).where(table.c.id == row_id).with_for_update()).one()
        futures = [_started(pool, holder, caller, number) for number, caller in enumerate(callers, start=1)]
        holder.rollback()
        for future in futures:
            future.exception()
    return futures


def _started(pool: ThreadPoolExecutor, holder: Connection, caller: Callable[[], _Value], waiting: int) -> Future[_Value]:
    future = pool.submit(caller)
    eventually(lambda: future.done() or holder.scalar(_WAITING) >= waiting, f"{waiting} callers wait for the row")
    return future
