"""Every guard of the registry by name, and context managers that remove one layer: guards, the check of the state, an index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Engine, text

from domain import schema
from domain.store.moves import Check, Guard, Move
from tests.support.database import empty

LOADED = schema.METADATA  # moves register when their module is imported


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedGuard:
    """A guard, and its place in its move or check."""

    name: str
    check: Check
    position: int

    @property
    def guard(self) -> Guard:
        return self.check.guards[self.position]


def every_guard() -> list[NamedGuard]:
    """`move/CODE`, and `move/CODE#2` for the second guard of one move with the same code."""
    found = []
    for check in Check.registry.values():
        seen: Counter[str] = Counter()
        for position, guard in enumerate(check.guards):
            seen[guard.refusal.code] += 1
            again = f"#{seen[guard.refusal.code]}" if seen[guard.refusal.code] > 1 else ""
            found.append(NamedGuard(name=f"{check.name}/{guard.refusal.code}{again}", check=check, position=position))
    return found


@contextmanager
def without(check: Check, *positions: int) -> Iterator[None]:
    """Run the block without these guards, in the write and in the diagnosis."""
    kept = check.guards
    check.protect(tuple(guard for position, guard in enumerate(kept) if position not in positions))
    try:
        yield
    finally:
        check.protect(kept)


@contextmanager
def allowed_in(move: Move, *states: StrEnum) -> Iterator[None]:
    """Run the block with a move that is also made in these states: its check of the state is removed."""
    kept = move.targets
    move.targets = {**kept, **{state: state for state in states}}
    move.protect(move.guards)
    try:
        yield
    finally:
        move.targets = kept
        move.protect(move.guards)


@contextmanager
def without_unique(engine: Engine, *indexes: str) -> Iterator[None]:
    """Run the block without these unique indexes or constraints. The database is empty when they come back."""
    with engine.begin() as connection:
        found = [row for of in (_NEEDING, _DEFINITION) for index in indexes for row in connection.execute(of, {"index": index})]
        for each in found:
            connection.execute(text(each.dropping))
    try:
        yield
    finally:
        empty(engine)
        with engine.begin() as connection:
            for each in reversed(found):
                connection.execute(text(each.making))


# A foreign key rests on a unique index.
_NEEDING = text("""
    SELECT format('ALTER TABLE %I DROP CONSTRAINT %I', t.relname, c.conname) AS dropping,
        format('ALTER TABLE %I ADD CONSTRAINT %I %s', t.relname, c.conname, pg_get_constraintdef(c.oid)) AS making
    FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid JOIN pg_class i ON i.oid = c.conindid
    WHERE c.contype = 'f' AND i.relname = :index
""")
_DEFINITION = text("""
    SELECT CASE WHEN c.oid IS NULL THEN format('DROP INDEX %I', i.relname)
            ELSE format('ALTER TABLE %I DROP CONSTRAINT %I', t.relname, c.conname) END AS dropping,
        CASE WHEN c.oid IS NULL THEN pg_get_indexdef(i.oid)
            ELSE format('ALTER TABLE %I ADD CONSTRAINT %I %s', t.relname, c.conname, pg_get_constraintdef(c.oid)) END AS making
    FROM pg_class i JOIN pg_index x ON x.indexrelid = i.oid JOIN pg_class t ON t.oid = x.indrelid
    LEFT JOIN pg_constraint c ON c.conindid = i.oid AND c.contype = 'u'
    WHERE i.relname = :index
""")
