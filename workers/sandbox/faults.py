"""The misbehaviours that the sandbox provider shows on request.

The rule: a fault strikes exactly as many requests as it was ordered for; it is used up in the transaction of the request it strikes.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from workers.sandbox.store import Store


class FaultKind(StrEnum):
    """What goes wrong; the first two strike any request, the others only the first request of a key.

    A callback can come late, twice, never, before its answer is given (`early_`), under its id with other content (`change_`), contradicted by
    another one (`contradict_`), or for a step that nobody knows (`misaddress_`). The last three strike a cancellation: it is refused though it
    is in time, what was completed is taken back, or the decision comes by callback.
    """

    LOSE_ANSWER = "lose_answer"
    HOLD_ANSWER = "hold_answer"
    DELAY_CALLBACK = "delay_callback"
    DUPLICATE_CALLBACK = "duplicate_callback"
    LOSE_CALLBACK = "lose_callback"
    EARLY_CALLBACK = "early_callback"
    CHANGE_CALLBACK = "change_callback"
    CONTRADICT_CALLBACK = "contradict_callback"
    MISADDRESS_CALLBACK = "misaddress_callback"
    REJECT = "reject"
    REJECT_LATER = "reject_later"
    REFUSE_CANCEL = "refuse_cancel"
    TAKE_BACK = "take_back"
    CANCEL_LATER = "cancel_later"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """An order to misbehave: `remaining` of `times` still to come, for one step code or (None) for any."""

    fault_id: int
    kind: FaultKind
    step_code: str | None
    times: int
    remaining: int
    seconds: float


class Faults:
    """The faults ordered so far, oldest first."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(
        self, kind: FaultKind, *, times: int = 1, step_code: str | None = None, duration: timedelta = timedelta(seconds=5)
    ) -> Fault:
        """Order a fault; `duration` is how long an answer is held, a callback delayed or a cancellation undecided; the other kinds do not use it."""
        with self._store.transaction() as connection:
            row = connection.execute(
                "INSERT INTO fault (kind, step_code, times, remaining, seconds) VALUES (?, ?, ?, ?, ?) RETURNING *",
                (kind, step_code, times, times, duration.total_seconds()),
            ).fetchone()
        return _fault(row)

    def all(self) -> list[Fault]:
        with self._store.transaction() as connection:
            return [_fault(row) for row in connection.execute("SELECT * FROM fault ORDER BY fault_id")]

    def clear(self) -> None:
        with self._store.transaction() as connection:
            connection.execute("DELETE FROM fault")


def strike(connection: sqlite3.Connection, kind: FaultKind, step_code: str) -> timedelta | None:
    """Use up one occurrence of the oldest fault that fits; its duration, or None when there is none."""
    row = connection.execute(
        """
        UPDATE fault SET remaining = remaining - 1 WHERE fault_id = (
            SELECT fault_id FROM fault
            WHERE kind = ? AND remaining > 0 AND (step_code IS NULL OR step_code = ?) ORDER BY fault_id LIMIT 1
        ) RETURNING seconds
        """,
        (kind, step_code),
    ).fetchone()
    return None if row is None else timedelta(seconds=row["seconds"])


def _fault(row: sqlite3.Row) -> Fault:
    return Fault(
        fault_id=row["fault_id"],
        kind=FaultKind(row["kind"]),
        step_code=row["step_code"],
        times=row["times"],
        remaining=row["remaining"],
        seconds=row["seconds"],
    )
