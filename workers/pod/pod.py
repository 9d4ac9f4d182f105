"""The pod: fetches external tasks, runs their handlers and reports the outcomes.

One long poll for all topics, never more tasks than can start at once, a lock that is kept alive while a handler runs, and an end that
gives back the tasks that were not started. The rules it keeps: tasks that ask a provider never take all places; a task that another worker
has locked is never reported; a task keeps its lock only while a thread works on it; a handler that raises never ends the pod.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from threading import Condition, Event, Thread

import structlog

from workers.pod import worker_ids
from workers.pod.contract import BpmnError, GiveUp, Handler, RetryLater, Task, Topic
from workers.pod.heartbeat import Heartbeat
from workers.pod.lease import Clock, Lease
from workers.pod.outcomes import Failed, run_handler
from workers.pod.places import NOTHING, Offer, Places
from workers.pod.polls import Polls
from workers.pod.report import Reporter, Settled
from workers.pod.worker_ids import WorkerIdError
from workers.runtime.engine import Engine, EngineError, ExternalTask, TopicRequest
from workers.runtime.metrics import (
    EXTERNAL_TASK_CAPACITY_FREE,
    EXTERNAL_TASK_DURATION,
    EXTERNAL_TASK_IN_FLIGHT,
    EXTERNAL_TASK_LOCK_LOST,
    EXTERNAL_TASK_LOCK_REMAINING,
)
from workers.runtime.retries import OutageLog, until_available
from workers.runtime.set_aside import Pauses, isolated, set_aside

__all__ = ["BpmnError", "GiveUp", "Handler", "Pod", "RetryLater", "Task", "Topic", "WorkerIdError"]

CAPACITY = 16  # handlers mostly wait for the database, the provider and the engine
LOCK_DURATION = timedelta(seconds=20)
POLL = timedelta(seconds=10)  # also the longest time until a task that another engine node created is seen
DRAIN = timedelta(seconds=30)
CANCEL_GRACE = timedelta(seconds=3)
# After an answer of the engine that nobody understands: its tasks stay locked for a lock duration, and others wait.
FIRST_PAUSE, LONGEST_PAUSE = timedelta(milliseconds=250), timedelta(seconds=30)
_GATHER = 0.02  # seconds in which a busy pod frees more than one place: a fetch per task costs the engine half its throughput

_log = structlog.get_logger()


class Pod:
    """Works on `topics` with at most `capacity` tasks at a time. Raises WorkerIdError when its engine's worker id may be shared."""

    def __init__(
        self,
        engine: Engine,
        topics: Mapping[str, Topic],
        *,
        capacity: int = CAPACITY,
        lock_duration: timedelta = LOCK_DURATION,
        poll: timedelta = POLL,
        drain_timeout: timedelta = DRAIN,
        cancel_grace: timedelta = CANCEL_GRACE,
        clock: Clock = time.monotonic,
    ) -> None:
        worker_ids.check(engine.worker_id)
        self._engine = engine
        self._topics = topics
        self._capacity = capacity
        self._lock_duration = lock_duration
        self._poll = poll
        self._drain_timeout = drain_timeout
        self._cancel_grace = cancel_grace
        self._clock = clock
        self._reporter = Reporter(engine, clock=clock)
        self._database_outage = OutageLog("database of the tasks")
        self._in_flight: dict[str, Lease] = {}
        self._changed = Condition()
        self._draining = False
        self._pauses = Pauses(FIRST_PAUSE, LONGEST_PAUSE)
        self._requests = [
            TopicRequest(name=topic.name, lock_duration=topic.lock_duration or lock_duration, variables=topic.variables)
            for topic in topics.values()
        ]
        self._places = Places(topics, self._requests, capacity)
        # Each run has its own threads, made by `_open`.
        self._heartbeat: Heartbeat
        self._polls: Polls

    def run_once(self, poll: timedelta = timedelta()) -> int:
        """Fetch once, run everything to its end, and return how many tasks that was. Raises EngineError when the fetch fails."""
        with self._open():
            requested_at = self._clock()
            leases = self._new_leases(self._polls.fetch(self._offer(), poll), requested_at)
            self._begin_all(leases, Event())
            self._await_idle(None)
            return len(leases)

    def run(self, stop: Event) -> None:
        """Work until `stop` is set, then drain."""
        with self._open():
            Thread(target=self._finish_poll, args=(stop, self._polls), name="poll-finisher", daemon=True).start()
            _log.info("pod_started", workerId=self._engine.worker_id, topics=sorted(self._topics), capacity=self._capacity)
            while not stop.is_set():
                self._isolated_turn(stop)
            self._drain()

    def _isolated_turn(self, stop: Event) -> None:
        try:
            until_available(lambda: self._turn(stop), stop, service="engine", outages_too=(EngineError,))
        except Exception as error:  # noqa: BLE001 - what one answer of the engine raises must not end the tasks that are in work
            set_aside("tasks", "poll", error)
            stop.wait(self._pauses.prolong("poll").total_seconds())
        else:
            self._pauses.end("poll")

    def _turn(self, stop: Event) -> int:
        offer = self._await_room(stop)
        if not offer.room:
            return 0
        requested_at = self._clock()
        leases = self._new_leases(self._polls.wait_for_tasks(offer), requested_at)
        self._begin_all(leases, stop)
        return len(leases)

    @staticmethod
    def _finish_poll(stop: Event, polls: Polls) -> None:
        stop.wait()
        polls.finish()

    @contextmanager
    def _open(self) -> Iterator[None]:
        with worker_ids.polling(self._engine.worker_id):
            self._draining = False
            self._heartbeat = Heartbeat(self._engine, self._clock)
            self._polls = Polls(
                self._engine, self._poll, in_flight=lambda: list(self._in_flight), offer=self._offer, clock=self._clock
            )
            self._heartbeat.start()
            self._polls.start()
            try:
                yield
            finally:
                self._polls.stop()
                self._heartbeat.stop()

    def _await_room(self, stop: Event) -> Offer:
        with self._changed:
            self._changed.wait_for(lambda: stop.is_set() or self._room() > 0, timeout=1)
            if self._in_flight:
                self._changed.wait_for(self._is_worth_a_fetch, timeout=_GATHER)
            return NOTHING if stop.is_set() else self._offer()

    def _is_worth_a_fetch(self) -> bool:
        return self._room() >= self._capacity // 2 and not self._offer().is_narrow

    def _offer(self) -> Offer:
        return self._places.offer([lease.task.topic for lease in list(self._in_flight.values())])

    def _room(self) -> int:
        return self._capacity - len(self._in_flight)

    def _new_leases(self, tasks: Sequence[ExternalTask], requested_at: float) -> list[Lease]:
        """Make leases of the fetched tasks; a task in work only gets its lease renewed."""
        durations = {request.name: request.lock_duration for request in self._requests}
        leases = []
        for task in tasks:
            with isolated("tasks", "task", topic=task.topic, taskId=task.id):
                lease = Lease(task, self._topics[task.topic], durations[task.topic], requested_at=requested_at, clock=self._clock)
                leases.append(lease)
        return [lease for lease in leases if not self._is_known(lease, requested_at)]

    def _is_known(self, lease: Lease, requested_at: float) -> bool:
        with self._changed:
            running = self._in_flight.get(lease.task.id)
            if running is None:
                return False
            if running.is_reporting:
                # Its failure was reported, and its next attempt is due already: it starts when this one is put away.
                running.successor = lease
            else:
                running.renew(requested_at)
            return True

    def _begin_all(self, leases: Sequence[Lease], stop: Event) -> None:
        """Begin tasks until `stop` is set. What is not begun is given back, also when the process gets no more threads."""
        waiting = deque(leases)
        try:
            while waiting and not stop.is_set():
                self._begin(waiting[0])
                waiting.popleft()
        finally:
            for lease in waiting:
                self._give_back(lease)

    def _begin(self, lease: Lease) -> None:
        """Run a task in a thread of its own. Raises RuntimeError when there is none, and then keeps nothing of the task."""
        self._take(lease)
        try:
            # A daemon, so that a handler that hangs cannot keep the process from ending.
            Thread(target=self._work, args=(lease,), name=lease.task.topic, daemon=True).start()
        except BaseException:
            self._put_away(lease)
            raise

    def _take(self, lease: Lease) -> None:
        with self._changed:
            self._in_flight[lease.task.id] = lease
            EXTERNAL_TASK_CAPACITY_FREE.set(self._room())
        EXTERNAL_TASK_IN_FLIGHT.labels(lease.task.topic).inc()
        self._heartbeat.keep(lease)

    def _work(self, first: Lease) -> None:
        """Run a task, and its next attempt when that is due already: it needs no further thread."""
        lease: Lease | None = first
        while lease is not None:
            try:
                self._work_on(lease)
            finally:
                lease = self._put_away(lease)

    def _work_on(self, lease: Lease) -> None:
        with structlog.contextvars.bound_contextvars(**lease.log_fields()):
            try:
                self._run(lease)
            except Exception as error:  # noqa: BLE001 - one task never ends the pod; the engine offers it again when its lock expires
                set_aside("tasks", "task", error)

    def _run(self, lease: Lease) -> None:
        topic, started = lease.task.topic, self._clock()
        outcome = run_handler(lease.topic, lease.task, lease.cancelled, self._database_outage)
        EXTERNAL_TASK_LOCK_REMAINING.labels(topic).observe(max(0.0, lease.seconds_left()) / lease.duration.total_seconds())
        if self._draining and lease.cancelled.is_set() and isinstance(outcome, Failed) and not lease.is_over:
            self._give_back(lease)
            return
        with self._changed:
            lease.is_reporting = True
        settled, reported = self._reporter.report(lease, outcome)
        lease.is_settled = settled.ends_the_task
        if isinstance(reported, Failed) and reported.retries:
            self._polls.expect(lease.task.id, reported.retry_after)
        EXTERNAL_TASK_DURATION.labels(topic, settled).observe(self._clock() - started)
        if settled is Settled.LOCK_LOST:
            EXTERNAL_TASK_LOCK_LOST.labels(topic).inc()
        message = reported.message if isinstance(reported, Failed) else None
        _log.info(
            "task_settled", outcome=settled, seconds=round(self._clock() - started, 4), **({"message": message} if message else {})
        )

    def _put_away(self, lease: Lease) -> Lease | None:
        """Forget a task that is over; returns its next attempt, if that is already fetched and may run."""
        self._heartbeat.drop(lease)
        EXTERNAL_TASK_IN_FLIGHT.labels(lease.task.topic).dec()
        with self._changed:
            self._in_flight.pop(lease.task.id, None)
            EXTERNAL_TASK_CAPACITY_FREE.set(self._room())
            # What was fetched while a lock had expired is no next attempt when the report has ended the task.
            successor = None if lease.is_settled else lease.successor
            self._changed.notify_all()
        self._polls.look_again()
        if successor is None:
            return None
        if self._draining:
            self._give_back(successor)
            return None
        self._take(successor)
        return successor

    def _give_back(self, lease: Lease) -> None:
        """Unlock a task without using an attempt, while the lock is certainly ours: the engine does not check whose it is."""
        if lease.is_over or lease.seconds_left() <= 0:
            return
        try:
            self._engine.unlock(lease.task.id)
        except EngineError as error:
            # It is fetched again when the lock expires.
            _log.warning("task_not_given_back", taskId=lease.task.id, reason=str(error))
        else:
            _log.info("task_given_back", taskId=lease.task.id, topic=lease.task.topic)

    def _await_idle(self, timeout: timedelta | None) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: not self._in_flight, None if timeout is None else timeout.total_seconds())

    def _drain(self) -> None:
        """Let handlers finish, then ask them to stop. A task that still runs keeps its lock until it expires, or it would run twice."""
        self._draining = True
        if not self._await_idle(self._drain_timeout):
            with self._changed:
                running = list(self._in_flight.values())
            for lease in running:
                lease.cancelled.set()
            self._await_idle(self._cancel_grace)
        with self._changed:
            left = sorted(lease.task.topic for lease in self._in_flight.values())
        _log.info("pod_drained", abandoned=left)
