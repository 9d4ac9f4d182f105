"""How a command changes PostgreSQL: matrices, guards, moves, the unit of work, the idempotency claim.

quote = uow.apply(ACCEPT, command)     one UPDATE … WHERE guards … RETURNING, or the named refusal
"""

from __future__ import annotations

from domain.store.base import Aggregate, Base, Owned, append_only, as_json, ref, table_of, without
from domain.store.facts import Cause
from domain.store.idempotency import Answer, once, remember
from domain.store.matrix import Effect, Matrix
from domain.store.moves import Check, Guard, Move, is_one_of, param
from domain.store.unit_of_work import UnitOfWork, unit_of_work

__all__ = [
    "Aggregate",
    "Answer",
    "Base",
    "Cause",
    "Check",
    "Effect",
    "Guard",
    "Matrix",
    "Move",
    "Owned",
    "UnitOfWork",
    "append_only",
    "as_json",
    "is_one_of",
    "once",
    "param",
    "ref",
    "remember",
    "table_of",
    "unit_of_work",
    "without",
]
