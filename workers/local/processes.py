"""Child processes that never outlive their data directory's owner unnoticed.

The rule: a process is known by the mark on its command line (the data directory stands in it), not by a number in a
file. A number can belong to a stranger after a reboot; the mark cannot, and it is there from the first instant, so that
even a start-up that was killed halfway leaves nothing that the next start would not find.
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
# What a part may take to end in good order before it is killed.
PATIENCE_SECONDS = 15.0


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
        """Process id. Raises StackError when it does not run."""
        if self._process is None or self._process.poll() is not None:
            raise StackError(f"{self.name} is not running: see {self.log}")
        return self._process.pid

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches only the stack, which ends its parts in order.
            self._process = subprocess.Popen(  # noqa: S603 - the command is ours
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment, start_new_session=True
            )

    def stop(self, patience_seconds: float = PATIENCE_SECONDS) -> None:
        """Ask it to end, and kill it when it has not after the patience."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(self._end)
            try:
                self._process.wait(patience_seconds)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._process.wait()

    def kill(self) -> None:
        """End it without warning (SIGKILL), as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def wait_until(self, ready: Callable[[], bool], timeout_seconds: float) -> None:
        """Wait for the condition. Raises StackError when the process ends or the time is over."""
        deadline = time.monotonic() + timeout_seconds
        while not ready():
            if not self.running():
                raise StackError(f"{self.name} stopped while starting ({last_complaint(self.log)}): see {self.log}")
            if time.monotonic() > deadline:
                raise StackError(f"{self.name} was not ready after {timeout_seconds:.0f} s: see {self.log}")
            time.sleep(POLL_SECONDS)


def end_leftovers(program: str, mark: str, end: signal.Signals = signal.SIGTERM) -> int:
    """End what an earlier run left behind: processes of that program with that exact argument. Returns how many."""
    left = [each for each in psutil.process_iter() if _is_ours(each, program, mark)]
    for process in left:
        process.send_signal(end)
    _, stubborn = psutil.wait_procs(left, timeout=PATIENCE_SECONDS)
    for process in stubborn:
        process.kill()
    psutil.wait_procs(stubborn, timeout=PATIENCE_SECONDS)
    return len(left)


def _is_ours(process: psutil.Process, program: str, mark: str) -> bool:
    try:
        command: list[str] = process.cmdline()
    except psutil.Error:
        return False
    return bool(command) and Path(command[0]).name == program and mark in command[1:]


def last_complaint(log: Path) -> str:
    """Find the line of a log that most likely says why, for a one-line message."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines()[-200:] if line.strip()]
    telling = [line for line in lines if any(word in line for word in ("FATAL", "ERROR", "Caused by", "Exception"))]
    return (telling or lines or ["it wrote no log"])[-1][:300]
