"""Runs a process of the suite, life after life: as often as it dies, it is started again, as a platform does."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from functools import partial
from threading import Event, Lock, Thread
from types import TracebackType
from typing import Self
from unittest.mock import patch

from tests.faults.crashes.life import Life
from tests.faults.crashes.mortal import KilledError
from tests.faults.crashes.places import Places
from workers import suite
from workers.dispatch import Dispatcher
from workers.kafka.relay import Relay
from workers.runtime.process import Loop
from workers.runtime.settings import Settings

MORTAL = ("tasks", "dispatch", "relay", "inbox", "reconcile")
SHORT = {"Q2O_LOCK_DURATION_SECONDS": "3", "Q2O_ATTEMPT_STALE_AFTER_SECONDS": "4", "Q2O_START_SAFE_INTERVAL_SECONDS": "3"}
"""What a dead process held is free after seconds, so that a run of some hundred deaths takes minutes."""
LEASE = timedelta(seconds=3)
_building = Lock()


class Lives:
    """A process that is mortal while the block runs. `errors` are those of which it died otherwise."""

    def __init__(self, process: str, settings: Settings, places: Places) -> None:
        self._process = process
        self._settings = settings
        self._places = places
        self._ends = Event()
        self._life: Life | None = None
        self._thread = Thread(target=self._run, name=f"lives of {process}", daemon=True)
        self.errors: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ends.set()
        if self._life is not None:
            self._life.stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ends.is_set():
            self._life = life = Life(self._process, self._places)
            if self._ends.is_set():
                life.stop.set()
            try:
                with suppress(KilledError):
                    self._build(life).run(life.stop)
            except Exception as error:  # noqa: BLE001 - told at the end of the run
                if not life.is_dead:
                    self.errors.append(f"{self._process}: {type(error).__name__}: {error}")
            finally:
                life.close()

    def _build(self, life: Life) -> Loop:
        with (
            _building,
            patch.multiple(suite, connect=life.connect, engine_of=life.engine_of, providers_of=life.providers_of),
            patch.multiple(suite, Relay=partial(Relay, lease=LEASE), Dispatcher=partial(Dispatcher, lease=LEASE)),
        ):
            return suite.PROCESSES[self._process](self._settings.of(self._process))
