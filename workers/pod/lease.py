"""A task that this pod holds: until when, and whether its result still counts.

The rule it keeps: time is the pod's own monotonic clock, read before the request that took the lock was sent, so that the pod never
believes longer than the engine that it holds a task, whatever the two wall clocks say.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta
from enum import StrEnum
from threading import Event, Lock

from workers.pod.contract import Task, Topic
from workers.runtime.engine import Engine, EngineRefusedError, ExternalTask

_BEATS = 3  # extensions within one lock duration: one may be lost, and one may be late
_SETTLING = 0.1  # of the lock duration: most handlers are done by then, and their tasks need no extension at all

Clock = Callable[[], float]


class LockState(StrEnum):
    """LOCKED; EXPIRED (by our clock; perhaps nobody else took it yet); LOST (another worker has it); GONE (completed or cancelled)."""

    LOCKED = "locked"
    EXPIRED = "expired"
    LOST = "lost"
    GONE = "gone"


class Lease:
    """One locked task in work. `calls` keeps an extension and a report of the same task apart: together they collide in the engine."""

    def __init__(
        self, task: ExternalTask, topic: Topic, duration: timedelta, *, asked_at: float, clock: Clock = time.monotonic
    ) -> None:
        self.task = task
        self.topic = topic
        self.duration = duration
        self.lock_state = LockState.LOCKED
        self.cancelled = Event()
        self.calls = Lock()
        self.is_reporting = False
        self.successor: Lease | None = None
        self._clock = clock
        self._seconds = duration.total_seconds()
        self.deadline = asked_at + self._seconds
        self.next_beat = max(asked_at + self._seconds / _BEATS, clock() + self._seconds * _SETTLING)

    @property
    def is_over(self) -> bool:
        return self.lock_state in (LockState.LOST, LockState.GONE)

    def renew(self, asked_at: float) -> None:
        """Note that the engine granted the lock again, asked for at `asked_at`."""
        self.lock_state = LockState.LOCKED
        self.deadline = asked_at + self._seconds
        self.next_beat = asked_at + self._seconds / _BEATS

    def end(self, lock_state: LockState) -> None:
        """Note that the result does not count any more."""
        self.lock_state = lock_state
        self.cancelled.set()

    def look_at_clock(self) -> None:
        """Past the deadline the lock counts as expired."""
        if self.lock_state is LockState.LOCKED and self._clock() >= self.deadline:
            self.lock_state = LockState.EXPIRED

    def postpone_beat(self) -> None:
        """Try to extend again soon."""
        self.look_at_clock()
        self.next_beat = self._clock() + min(self._seconds / (4 * _BEATS), 1.0)

    def seconds_left(self) -> float:
        return self.deadline - self._clock()

    def described(self) -> Task:
        return Task.of(self.task, self.cancelled)


def regain(engine: Engine, lease: Lease, clock: Clock = time.monotonic) -> None:
    """Lock a task again whose lock expired or is in doubt, unless another worker has it; the lease says how it ended.

    Raises the errors of the engine's door where they leave the question open.
    """
    asked_at = clock()
    try:
        engine.lock(lease.task.id, lease.duration)
    except EngineRefusedError:
        examine(engine, lease)
    else:
        lease.renew(asked_at)


def examine(engine: Engine, lease: Lease) -> ExternalTask | None:
    """Read the task and end the lease when it is gone or another worker's."""
    current = engine.external_task(lease.task.id)
    if current is None:
        lease.end(LockState.GONE)
    elif current.worker_id != engine.worker_id:
        lease.end(LockState.LOST)
    return current
