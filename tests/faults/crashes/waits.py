"""A session that is ended while it waits for a row that another transaction has locked."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from sqlalchemy import text

from domain.schema import METADATA
from tests.races.explorer.stage import Stage
from tests.support.waiting import eventually

_LOCKS = re.compile(r"\bFOR (?:NO KEY )?(?:UPDATE|SHARE)\b")
_CHANGES = re.compile(r"\b(?:UPDATE|DELETE FROM)\s+(\w+)|\bINSERT INTO (\w+)(?=.*\bDO UPDATE\b)", re.DOTALL)
_READS = re.compile(r"\b(?:FROM|JOIN)\s+(\w+)")
_END_WAITING = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE %(holder)s = ANY(pg_blocking_pids(pid))"


class Wait(NamedTuple):
    """Another transaction has all rows of a table when the command meets it."""

    table: str

    def __str__(self) -> str:
        return f"session cut while it waited for a row of {self.table}"


def locked_tables(gates: Sequence[str]) -> list[str]:
    """The tables whose rows these statements change or lock, in the order of their last statement."""
    named = [name for label in gates for name in _named(label)]
    return [name for number, name in enumerate(named) if name in METADATA.tables and name not in named[number + 1 :]]


def _named(statement: str) -> list[str]:
    changed = [name for names in _CHANGES.findall(statement) for name in names if name]
    return changed + (_READS.findall(statement) if _LOCKS.search(statement) else [])


def held(stage: Stage, table: str, attempt: Callable[[], str]) -> str:
    """Make an attempt while another transaction has all rows of a table; when it waits for one, its session ends. Raises OperationalError then."""
    with stage.engine.connect() as holder, ThreadPoolExecutor(1) as pool:
        # The lock that an UPDATE takes: foreign keys to these rows do not wait for it.
        holder.execute(text(f"SELECT FROM {table} FOR NO KEY UPDATE"))
        number = holder.scalar(text("SELECT pg_backend_pid()"))
        trying = pool.submit(attempt)
        eventually(lambda: trying.done() or stage.look(_END_WAITING, {"holder": number}), "the command ends, or waits and is ended")
        trying.exception()
        holder.rollback()
    return trying.result()
