"""State machines as data: what each event does in each state.

CHECK constraints, guarded writes, `docs/matrices.md` and the exhaustive tests all come from these tables, so no cell is written twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from sqlalchemy import CheckConstraint

State = TypeVar("State", bound=StrEnum)
Event = TypeVar("Event", bound=StrEnum)


class CellKind(StrEnum):
    """What an event does in a state: it changes the state, keeps it, or contradicts it. An event without a cell is refused."""

    MOVE = "MOVE"
    KEEP = "KEEP"
    CONTRADICTION = "CONTRADICTION"


@dataclass(frozen=True, slots=True)
class Cell(Generic[State]):
    """One cell. `target` is the state after the event (for KEEP: the same state)."""

    kind: CellKind
    target: State


class Matrix(Generic[State, Event]):
    """Event -> {state: cell}. `moves`, `keeps` and `contradicts` are the new state, `=` and `!` of `docs/matrices.md`."""

    def __init__(
        self,
        states: type[State],
        events: type[Event],
        *,
        moves: Mapping[Event, Mapping[State, State]],
        keeps: Mapping[Event, frozenset[State]] | None = None,
        contradicts: Mapping[Event, Mapping[State, State]] | None = None,
    ) -> None:
        self.states = states
        self.events = events
        self._cells: dict[tuple[Event, State], Cell[State]] = {}
        for event, row in moves.items():
            for state, target in row.items():
                self._put(event, state, Cell(CellKind.MOVE, target))
        for event, kept in (keeps or {}).items():
            for state in kept:
                self._put(event, state, Cell(CellKind.KEEP, state))
        for event, row in (contradicts or {}).items():
            for state, target in row.items():
                self._put(event, state, Cell(CellKind.CONTRADICTION, target))

    def _put(self, event: Event, state: State, cell: Cell[State]) -> None:
        if (event, state) in self._cells:
            raise ValueError(f"two cells for {event} in {state}")
        self._cells[event, state] = cell

    def cell(self, event: Event, state: State) -> Cell[State] | None:
        """What the event does in this state; None: it is refused."""
        return self._cells.get((event, state))

    def targets(self, event: Event) -> dict[State, State]:
        """State -> state after, for every cell that writes. A contradiction always does: its fact must be kept."""
        return {
            state: cell.target
            for (candidate, state), cell in self._cells.items()
            if candidate == event and cell.kind is not CellKind.KEEP
        }

    @property
    def final(self) -> frozenset[State]:
        """The states that no event leaves."""
        left = {state for (_, state), cell in self._cells.items() if cell.target is not state}
        return frozenset(self.states) - left

    def check_status(self) -> CheckConstraint:
        """The CHECK that keeps a status column inside this matrix."""
        names = ", ".join(f"'{state.value}'" for state in self.states)
        return CheckConstraint(f"status IN ({names})", name="status")
