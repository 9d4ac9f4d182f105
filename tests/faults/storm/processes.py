"""The processes of the suite, each a process of the machine, started again when it ends: what a platform does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event, RLock, Thread
from types import TracebackType
from typing import Self

ALL = ("http", "tasks", "dispatch", "relay", "inbox", "reconcile", "retain")
ARGUMENTS = {"retain": ("--loop",)}
LOOK_SECONDS = 0.2
END_SECONDS = 30.0


@dataclass(slots=True)
class _Running:
    process: subprocess.Popen[bytes]
    is_killed: bool = False
    is_over: bool = False


class Processes:
    """Runs all of them while the block runs. `ends` has a sentence for each that ended by itself: none ever may."""

    def __init__(self, environments: Mapping[str, Mapping[str, str]], log_dir: Path) -> None:
        self._environments, self._log_dir = environments, log_dir
        self._running: dict[str, _Running] = {}
        self._hours: dict[str, int] = {}
        self._lock = RLock()
        self._over = Event()
        self._watch = Thread(target=self._keep_alive, name="platform", daemon=True)
        self.ends: list[str] = []

    def __enter__(self) -> Self:
        for name in ALL:
            self._start(name)
        self._watch.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._watch.join()
        for running in self._running.values():
            running.process.send_signal(signal.SIGCONT)
            running.process.terminate()
        for running in self._running.values():
            try:
                running.process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                running.process.kill()
                running.process.wait()

    def kill(self, name: str) -> None:
        """End a process with SIGKILL."""
        with self._lock:
            self._running[name].is_killed = True
            self._running[name].process.kill()

    def stop(self, name: str) -> None:
        """Let a process stand still (SIGSTOP)."""
        with self._lock:
            self._running[name].process.send_signal(signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        """Let a process go on after `stop`."""
        with self._lock:
            self._running[name].process.send_signal(signal.SIGCONT)

    def end(self, name: str) -> None:
        """Let a process end as a platform lets it end, and start it no more."""
        with self._lock:
            self._running[name].is_over = True
            self._running[name].process.terminate()
        self._running[name].process.wait(END_SECONDS)

    def set_clock(self, name: str, hours: int) -> None:
        """Kill a process, and start it with a clock that is so many hours off."""
        with self._lock:
            self._hours[name] = hours
            self.kill(name)

    def heal(self) -> None:
        """Let every process go on, with the right clock."""
        with self._lock:
            for name in [name for name, hours in self._hours.items() if hours]:
                self.set_clock(name, 0)
            for name in ALL:
                self.go_on(name)

    def _start(self, name: str) -> None:
        hours = self._hours.get(name, 0)
        program = ["tests.faults.storm.shifted", str(hours), name] if hours else ["workers", name, *ARGUMENTS.get(name, ())]
        with (self._log_dir / f"storm-{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", *program],
                env={**os.environ, **self._environments[name]},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._running[name] = _Running(process)

    def _keep_alive(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            with self._lock:
                for name, running in list(self._running.items()):
                    code = running.process.poll()
                    if code is None or running.is_over:
                        continue
                    if not running.is_killed:
                        self.ends.append(f"{name} ended by itself with exit code {code} (storm-{name}.log)")
                    self._start(name)
