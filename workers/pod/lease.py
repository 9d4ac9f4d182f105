"""A task that this pod has locked: until when, and whether its outcome still counts.

The rule it keeps: time is the pod's own monotonic clock, read before the request for the lock is sent. So the lease never lasts longer
than the engine's lock, however far the two wall clocks differ.
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
_SETTLING = 0.1  # of the lock duration: most handlers are done by then, and their tasks need no extension

Clock = Callable[[], float]


class LockState(StrEnum):
    """LOCKED; EXPIRED by our clock, perhaps not taken yet; LOST to another worker; GONE: completed or cancelled."""

    LOCKED = "locked"
    EXPIRED = "expired"
    LOST = "lost"
    GONE = "gone"


class Lease:
    """One locked task in work. `calls` keeps an extension and a report of the task apart: together they collide in the engine."""

    def __init__(
        self, task: ExternalTask, topic: Topic, duration: timedelta, *, requested_at: float, clock: Clock = time.monotonic
    ) -> None:
        self.task = task
        self.topic = topic
        self.duration = duration
        self.lock_state = LockState.LOCKED
        self.cancelled = Event()
        self.calls = Lock()
        self.is_reporting = False
        self.is_settled = False
        self.successor: Lease | None = None
        self._clock = clock
        self._seconds = duration.total_seconds()
        self.deadline = requested_at + self._seconds
        self.next_beat = max(requested_at + self._seconds / _BEATS, clock() + self._seconds * _SETTLING)

    @property
    def is_over(self) -> bool:
        return self.lock_state in (LockState.LOST, LockState.GONE)

    def renew(self, requested_at: float) -> None:
        """Note that the engine granted the lock again; the request for it was sent at `requested_at`."""
        self.lock_state = LockState.LOCKED
        self.deadline = requested_at + self._seconds
        self.next_beat = requested_at + self._seconds / _BEATS

    def end(self, lock_state: LockState) -> None:
        """Note that the outcome no longer counts."""
        self.lock_state = lock_state
        self.cancelled.set()

    def check_clock(self) -> None:
        """Note that the lock has expired, once the deadline has passed."""
        if self.lock_state is LockState.LOCKED and self._clock() >= self.deadline:
            self.lock_state = LockState.EXPIRED

    def postpone_beat(self) -> None:
        """Try to extend again soon."""
        self.check_clock()
        self.next_beat = self._clock() + min(self._seconds / (4 * _BEATS), 1.0)

    def seconds_left(self) -> float:
        return self.deadline - self._clock()

    def described(self) -> Task:
        return Task.of(self.task, self.cancelled)

    def log_fields(self) -> dict[str, str]:
        """What every line of the log says that is written while a handler works on the task."""
        return {
            "topic": self.task.topic,
            "taskId": self.task.id,
            "tenantId": self.task.tenant_id,
            "processInstanceId": self.task.process_instance_id,
            "businessKey": self.task.business_key,
            "activityId": self.task.activity_id,
        }


def regain(engine: Engine, lease: Lease, clock: Clock = time.monotonic) -> None:
    """Lock a task again whose lock has expired or is in doubt, unless another worker has locked it; the lease has the result.

    Raises EngineError when the engine cannot be asked.
    """
    requested_at = clock()
    try:
        engine.lock(lease.task.id, lease.duration)
    except EngineRefusedError:
        examine(engine, lease)
    else:
        lease.renew(requested_at)


def examine(engine: Engine, lease: Lease) -> ExternalTask | None:
    """Read the task, and end the lease when the task is gone or locked by another worker."""
    current = engine.external_task(lease.task.id)
    if current is None:
        lease.end(LockState.GONE)
    elif current.worker_id != engine.worker_id:
        lease.end(LockState.LOST)
    return current
