"""Keeps the locks of running tasks alive, and notices when a task was taken by another worker or cancelled.

The rule it keeps: a lock is extended three times within its duration. After a refusal the task is read from the engine; the text of the
refusal proves nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from threading import Condition, Thread

import structlog

from workers.pod.contract import Task
from workers.pod.lease import Clock, Lease, LockState, regain
from workers.runtime.engine import Engine, EngineError, EngineRefusedError
from workers.runtime.metrics import EXTERNAL_TASK_LOCK_EXTENSIONS
from workers.runtime.set_aside import set_aside

LONGEST_CALL = timedelta(seconds=5)  # a silent engine must not keep the other locks waiting

_log = structlog.get_logger()


class Heartbeat:
    """One thread that extends the locks of the leases it is given, earliest first."""

    def __init__(self, engine: Engine, clock: Clock = time.monotonic) -> None:
        self._engine = engine
        self._clock = clock
        self._leases: set[Lease] = set()
        self._changed = Condition()
        self._stopped = False
        self._thread = Thread(target=self._run, name="heartbeat", daemon=True)
        # Signs of life go to the database: a slow database must not delay the locks.
        self._signs = ThreadPoolExecutor(1, thread_name_prefix="sign-of-life")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()
        self._signs.shutdown(wait=False, cancel_futures=True)

    def keep(self, lease: Lease) -> None:
        with self._changed:
            self._leases.add(lease)
            self._changed.notify()

    def drop(self, lease: Lease) -> None:
        with self._changed:
            self._leases.discard(lease)

    def _run(self) -> None:
        while (lease := self._next_due()) is not None:
            try:
                self._beat(lease)
            except Exception as error:  # noqa: BLE001 - what one task raises must not end the locks of the others
                set_aside("tasks", "lock", error, topic=lease.task.topic, taskId=lease.task.id)
                lease.postpone_beat()

    def _next_due(self) -> Lease | None:
        with self._changed:
            while not self._stopped:
                first = min((lease for lease in self._leases if not lease.is_over), key=lambda lease: lease.next_beat, default=None)
                wait = None if first is None else first.next_beat - self._clock()
                if first is not None and wait is not None and wait <= 0:
                    return first
                self._changed.wait(wait)
        return None

    def _beat(self, lease: Lease) -> None:
        # A report that is under way settles the task by itself.
        if not lease.calls.acquire(blocking=False):
            lease.postpone_beat()
            return
        try:
            result = self._extend(lease)
        finally:
            lease.calls.release()
        EXTERNAL_TASK_LOCK_EXTENSIONS.labels(result).inc()
        if lease.is_over:
            _log.warning("task_lock_over", topic=lease.task.topic, taskId=lease.task.id, lockState=lease.lock_state)
        elif result == "extended" and lease.topic.heartbeat is not None:
            self._sign(lease.topic.heartbeat, lease)

    def _extend(self, lease: Lease) -> str:
        requested_at = self._clock()
        try:
            self._engine.extend_lock(lease.task.id, lease.duration, timeout=min(lease.duration / 3, LONGEST_CALL))
        except EngineRefusedError as refusal:
            if refusal.is_not_found:
                lease.end(LockState.GONE)
            else:
                self._regain(lease)
        except EngineError:
            lease.postpone_beat()
            return "error"
        else:
            lease.renew(requested_at)
            return "extended"
        return lease.lock_state if lease.is_over else "error"

    def _regain(self, lease: Lease) -> None:
        lease.postpone_beat()
        with suppress(EngineError):
            regain(self._engine, lease, self._clock)

    def _sign(self, heartbeat: Callable[[Task], None], lease: Lease) -> None:
        with suppress(RuntimeError):  # the pod is closing
            self._signs.submit(_signed, heartbeat, lease)


def _signed(heartbeat: Callable[[Task], None], lease: Lease) -> None:
    try:
        heartbeat(lease.described())
    except Exception:  # noqa: BLE001 - a missing sign of life costs one question to the provider, and nothing else
        _log.exception("sign_of_life_failed", topic=lease.task.topic, taskId=lease.task.id)
