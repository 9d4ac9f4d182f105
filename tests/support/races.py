"""Forced races: the test locks a row, its rivals queue at the row, and the test lets go when every one of them waits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias, TypeVar

from sqlalchemy import Connection, Engine, Table, select, text

from tests.support.http import Api
from tests.support.offers import Offers
from tests.support.waiting import eventually

NewOffers: TypeAlias = Callable[[], Offers]
ApiOf: TypeAlias = Callable[[Offers], Api]
"""What the fixtures `new_offers` and `api_of` give."""
_Value = TypeVar("_Value")
# pg_locks is read anew each time; pg_stat_activity stays the same for the whole transaction of the holder.
_WAITING = text("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted")


def race_for_row(
    engine: Engine,
    table: Table,
    row_id: object,
    *callers: Callable[[], _Value],
    meanwhile: Callable[[Connection], object] | None = None,
) -> list[Future[_Value]]:
    """Let the callers queue at a row, in their order, then release the row; returns their finished futures (read `exception()`).

    A caller starts when the one before it waits, so the order of the queue is known. `meanwhile` is what the holder of the row does
    while all of them wait; it commits that when it lets go.
    """
    with engine.connect() as holder, ThreadPoolExecutor(len(callers)) as pool:
        holder.execute(select(table.c.id).where(table.c.id == row_id).with_for_update()).one()
        futures = [started(pool, holder, caller, number) for number, caller in enumerate(callers, start=1)]
        if meanwhile:
            meanwhile(holder)
        holder.commit()
        for future in futures:
            future.exception()
    return futures


def refusals(rivals: Sequence[Future[Any]]) -> list[type[BaseException] | None]:
    """How each rival was refused, in the order of the queue; None stands for a rival that was not."""
    return [type(error) if (error := rival.exception()) else None for rival in rivals]


def started(pool: ThreadPoolExecutor, holder: Connection, caller: Callable[[], _Value], waiting: int = 1) -> Future[_Value]:
    """Start a caller, and return once it is done or waits for a lock, the number `waiting` of those that wait."""
    future = pool.submit(caller)
    eventually(lambda: future.done() or holder.scalar(_WAITING) >= waiting, f"{waiting} callers wait for the row")
    return future
