"""Runs a process of the suite, life after life: as often as it dies, it is started again, as a platform does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from functools import partial
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Self
from unittest.mock import patch

from domain.retry_rules import SERVICE_AWAY, START_UNKNOWN, TASK_IN_OUTAGE
from tests.faults.crashes.life import Life
from tests.faults.crashes.mortal import KilledError
from tests.faults.crashes.places import Places
from workers import suite
from workers.dispatch import Dispatcher
from workers.kafka.relay import Relay
from workers.pod.pod import Pod
from workers.runtime.process import Loop
from workers.runtime.settings import Settings

MORTAL = ("tasks", "dispatch", "relay", "inbox", "reconcile")
SHORT = {"Q2O_LOCK_DURATION_SECONDS": "3", "Q2O_ATTEMPT_STALE_AFTER_SECONDS": "4", "Q2O_START_SAFE_INTERVAL_SECONDS": "3"}
"""What a dead process held is free after seconds, so that a run of some hundred deaths takes minutes."""
LEASE = timedelta(seconds=3)
POLL = timedelta(seconds=1)
"""The engine gives tasks to the poll of a dead pod for so long."""
SECOND = timedelta(seconds=1)
WAITS: Mapping[str, object] = {
    "workers.runtime.retries.SERVICE_AWAY": replace(SERVICE_AWAY, longest_wait=SECOND / 3),
    "workers.pod.outcomes.TASK_IN_OUTAGE": replace(TASK_IN_OUTAGE, first_wait=SECOND / 5, longest_wait=SECOND / 3),
    "reconciliation.loop.INTERVAL": SECOND / 3,
    **{f"reconciliation.{module}.LEASE": LEASE for module in ("rounds", "questions")},
    "reconciliation.starts.START_UNKNOWN": replace(START_UNKNOWN, longest_wait=SECOND),
    "reconciliation.questions.LONGEST_WAIT": SECOND,
    "reconciliation.questions.LONGEST_WAIT_WITHOUT_REPLY": SECOND,
    "domain.store.leases.LONGEST_WAIT": LEASE,
    "workers.kafka.relay.Relay": partial(Relay, lease=LEASE),
    "workers.dispatch.Dispatcher": partial(Dispatcher, lease=LEASE),
    "workers.pod.pod.Pod": partial(Pod, poll=POLL),
}
"""The waits of loops that have died or lost a session, by the name that holds them. As they are, each death costs up to half a minute (the
lease of a dead reconciler, the wait in an outage), and there are several hundred."""
_building = Lock()


@contextmanager
def short_waits() -> Iterator[None]:
    """Shorten `WAITS` while the block runs."""
    with ExitStack() as patches:
        for name, wait in WAITS.items():
            patches.enter_context(patch(name, wait))
        yield


class Lives:
    """A process that may be killed while the block runs. `errors` has whatever else ended it, and `failed` is set then."""

    def __init__(self, process: str, settings: Settings, places: Places, failed: Event) -> None:
        self._process = process
        self._settings = settings
        self._places = places
        self._failed = failed
        self._ends = Event()
        self._life: Life | None = None
        self._bodies: list[Thread] = []
        self._lived: list[Life] = []
        self._thread = Thread(target=self._run, name=f"lives of {process}", daemon=True)
        self.errors: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ends.set()
        if self._life is not None:
            self._life.stop.set()
        for thread in (self._thread, *self._bodies):
            thread.join()
        for life in self._lived:
            life.close()

    def _run(self) -> None:
        while not self._ends.is_set():
            self._life = life = Life(self._process, self._places)
            self._lived.append(life)
            if self._ends.is_set():
                life.stop.set()
            body = Thread(target=self._live, args=(life,), name=f"{self._process} that may die", daemon=True)
            body.start()
            # The thread of a dead pod may still wait for a reply of the engine; the next life does not wait for that.
            life.over.wait()
            self._bodies = [each for each in (*self._bodies, body) if each.is_alive()]

    def _live(self, life: Life) -> None:
        try:
            with suppress(KilledError):
                self._build(life).run(life.stop)
        except Exception as error:  # noqa: BLE001 - told at the end of the run
            if not life.is_dead:
                self.errors.append(f"{self._process}: {type(error).__name__}: {error}")
                self._ends.set()
                self._failed.set()
        finally:
            life.over.set()
            life.close()

    def _build(self, life: Life) -> Loop:
        with (
            _building,
            patch.multiple(suite, connect=life.connect, engine_of=life.engine_of, providers_of=life.providers_of),
        ):
            return suite.PROCESSES[self._process](self._settings.of(self._process))
