"""Starts and ends the programs of the local stack, and finds those that a killed run left behind.

A process is recognised by a mark on its command line (which contains the data directory), not by a process id in a file.
After a reboot the id may belong to another program; the mark cannot. The mark is there from the first moment, so the next
start also finds what a start that was killed halfway left behind.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from workers.local.errors import StackError

POLL_SECONDS = 0.05
# A program that has not ended after this time is killed.
END_TIMEOUT_SECONDS = 15.0


class Program:
    """One child process with its log. `start` again after `stop` or `kill` runs the same command on the same port."""

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str], *, end: signal.Signals = signal.SIGTERM
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._environment = dict(environment)
        self._end = end
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id. Raises StackError when the program does not run."""
        if self._process is None or self._process.poll() is not None:
            raise StackError(f"{self.name} is not running: see {self.log}")
        return self._process.pid

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches only the stack, which then ends its services in order.
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment, start_new_session=True
            )

    def stop(self, timeout_seconds: float = END_TIMEOUT_SECONDS) -> None:
        """Ask it to end, and kill it when it has not ended after the time-out."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(self._end)
            try:
                self._process.wait(timeout_seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        """End it without warning (SIGKILL), as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def wait_until(self, ready: Callable[[], bool], timeout_seconds: float) -> None:
        """Wait for the condition. Raises StackError when the process ends, or when the condition is not true in time."""
        deadline = time.monotonic() + timeout_seconds
        while not ready():
            if not self.running():
                raise StackError(f"{self.name} stopped while starting ({last_complaint(self.log)}): see {self.log}")
            if time.monotonic() > deadline:
                raise StackError(f"{self.name} was not ready after {timeout_seconds:.0f} s: see {self.log}")
            time.sleep(POLL_SECONDS)


def end_leftovers(program: str, mark: str, end: signal.Signals = signal.SIGTERM) -> int:
    """End the processes of an earlier run: those of the program with exactly this argument. Returns their number."""
    left = [each for each in psutil.process_iter() if _is_ours(each, program, mark)]
    for process in left:
        process.send_signal(end)
    _, alive = psutil.wait_procs(left, timeout=END_TIMEOUT_SECONDS)
    for process in alive:
        process.kill()
    psutil.wait_procs(alive, timeout=END_TIMEOUT_SECONDS)
    return len(left)


def _is_ours(process: psutil.Process, program: str, mark: str) -> bool:
    try:
        command: list[str] = process.cmdline()
    except psutil.Error:
        return False
    return bool(command) and Path(command[0]).name == program and mark in command[1:]


def last_complaint(log: Path) -> str:
    """The line of a log that most likely names the cause, for a message of one line."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()[-200:] if line.strip()]
    telling = [line for line in lines if any(word in line for word in ("FATAL", "ERROR", "Caused by", "Exception"))]
    return (telling or lines or ["it wrote no log"])[-1][:300]
