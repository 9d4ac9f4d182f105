"""The long poll of a pod, and when to cut it short.

The rules it keeps: nothing in the engine ends a poll when the wait of a failed task is over. So the pod remembers when the failures that
it reported fall due, and no poll lasts longer; nor does one that leaves out topics when they have a place again. The pod never closes the connection of a poll, because the engine would lock tasks for a
response that nobody reads; it sends a new request of the same worker, at which the engine ends the old one. When a response is lost all
the same, the tasks that it locked are unlocked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from datetime import timedelta
from http import HTTPStatus
from threading import Condition, Event, Thread

import structlog

from workers.pod.lease import Clock
from workers.pod.places import Offer
from workers.runtime.engine import Engine, EngineError, EngineOutcomeUnknownError, ExternalTask
from workers.runtime.metrics import EXTERNAL_TASK_POLL_DURATION, EXTERNAL_TASK_POLLS
from workers.runtime.set_aside import set_aside

_DUE_MARGIN = 0.02  # seconds; a task can be fetched just after its wait, not yet at its end
_WORTH = 0.05  # seconds; cutting a poll that has less left is not worth a request
_CUT_WAIT = 0.25  # seconds for the engine to end a replaced poll; the request may also have overtaken the poll
_CUTS = 3  # tries per poll: an engine without unique-worker-request never ends one before its time

_log = structlog.get_logger()


class Polls:
    """Fetches for one worker id. `start` before the first fetch, `stop` after the last."""

    def __init__(
        self,
        engine: Engine,
        longest: timedelta,
        *,
        in_flight: Callable[[], Collection[str]],
        offer: Callable[[], Offer],
        clock: Clock = time.monotonic,
    ) -> None:
        self._engine = engine
        self._longest = longest
        self._clock = clock
        self._in_flight = in_flight
        self._offer = offer
        self._is_narrow = False
        self._due: dict[str, float] = {}
        self._response_lost = False
        self._changed = Condition()
        self._number = 0
        self._ends_at: float | None = None
        self._cuts = 0
        self._finishing = False
        self._stopped = Event()
        self._thread = Thread(target=self._cut_short, name="poll-cutter", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._notify()
        self._thread.join()

    def finish(self) -> None:
        """Let the running poll end as soon as the engine can."""
        self._finishing = True
        self._notify()

    def expect(self, task_id: str, wait: timedelta) -> None:
        """Remember that a task falls due after `wait`."""
        with self._changed:
            self._due[task_id] = self._clock() + wait.total_seconds() + _DUE_MARGIN
            self._changed.notify_all()

    def look_again(self) -> None:
        """Cut the running poll short if it leaves out topics that have a place now."""
        self._notify()

    def wait_for_tasks(self, offer: Offer) -> list[ExternalTask]:
        """Fetch what `offer` allows; wait for the first task until the next known one falls due."""
        if self._response_lost:
            self._free_lost_tasks()
        now = self._clock()
        with self._changed:
            self._due = {task_id: due for task_id, due in self._due.items() if due > now}
            ends_at = min([now + self._longest.total_seconds(), *self._due.values()])
            self._number += 1
            self._cuts = 0
            self._ends_at = ends_at
            self._is_narrow = offer.is_narrow
            self._changed.notify_all()
        try:
            return self.fetch(offer, timedelta(seconds=ends_at - now))
        except EngineOutcomeUnknownError as error:
            # So the engine ends a poll that another one of this worker has replaced.
            if error.status == HTTPStatus.SERVICE_UNAVAILABLE and self._cuts:
                return []
            self._response_lost = True
            raise
        finally:
            with self._changed:
                self._ends_at = None
                self._changed.notify_all()

    def fetch(self, offer: Offer, poll: timedelta) -> list[ExternalTask]:
        """Fetch what `offer` allows, waiting `poll` for the first task."""
        try:
            with EXTERNAL_TASK_POLL_DURATION.time():
                tasks = self._engine.fetch_and_lock(offer.topics, max_tasks=offer.room, poll=poll)
        except EngineError:
            EXTERNAL_TASK_POLLS.labels("error").inc()
            raise
        EXTERNAL_TASK_POLLS.labels("tasks" if tasks else "empty").inc()
        return tasks

    def _free_lost_tasks(self) -> None:
        """Unlock the tasks of a poll whose response was lost: otherwise they stay locked for a whole lock duration."""
        self._engine.end_poll()
        locked = self._engine.locked_tasks()
        with self._changed:
            known = {*self._in_flight(), *self._due}
        for task in locked:
            if task.id not in known:
                self._engine.unlock(task.id)
                _log.info("lost_task_freed", taskId=task.id, topic=task.topic)
        self._response_lost = False

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _cut_short(self) -> None:
        while not self._stopped.is_set():
            with self._changed:
                self._changed.wait_for(lambda: self._stopped.is_set() or self._lasts_too_long())
                if self._stopped.is_set():
                    return
                number = self._number
                self._cuts += 1
            try:
                self._engine.end_poll()
            except EngineError as error:
                _log.debug("poll_not_cut", reason=str(error))
            except Exception as error:  # noqa: BLE001 - without this thread no poll would end before its time
                set_aside("tasks", "poll", error)
            with self._changed:
                self._changed.wait_for(lambda: self._stopped.is_set() or self._number != number, timeout=_CUT_WAIT)  # noqa: B023 - waits in place

    def _lasts_too_long(self) -> bool:
        if self._ends_at is None or self._cuts >= _CUTS:
            return False
        if self._finishing or (self._is_narrow and not self._offer().is_narrow):
            return True
        return min(self._due.values(), default=self._ends_at) < self._ends_at - _WORTH
