"""The faults that the sandbox provider shows on request.

The rule: a fault strikes exactly as many requests as were ordered. It is counted in the transaction of the request that it strikes.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from workers.sandbox.store import Store


class FaultKind(StrEnum):
    """What goes wrong. The first two kinds strike any request, the others only the first request with a key.

    A callback can come late, twice, never, before the reply to its request (`early_`), with other content under the same id (`change_`),
    contradicted by another one (`contradict_`), or for a step that does not exist (`misaddress_`). The last three kinds strike a
    cancellation: it is refused although it comes in time, it reverses a request that is completed, or its decision comes later by callback.
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
    """The order of a fault: it will strike `remaining` more times of `times`, for one step code or (None) for any."""

    fault_id: int
    kind: FaultKind
    step_code: str | None
    times: int
    remaining: int
    seconds: float


class Faults:
    """The faults that have been ordered, oldest first."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(
        self, kind: FaultKind, *, times: int = 1, step_code: str | None = None, duration: timedelta = timedelta(seconds=5)
    ) -> Fault:
        """Order a fault. `duration`: how long it delays a reply, a callback or the decision on a cancellation; other kinds ignore it."""
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
    """Let the oldest fault that fits strike once. Returns its duration, or None when no fault fits."""
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
