"""What the parts of the stack have in common: one program each, which fault tests may stop, kill and start again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from workers.local.errors import StackError
from workers.local.processes import Program


class Part(ABC):
    """One service of the stack. It keeps its port and its data over `stop`, `kill`, `start` and `restart`."""

    name: ClassVar[str]
    _program: Program | None = None

    @property
    def pid(self) -> int:
        """Process id. Raises StackError when the part is not running."""
        return self._launched.pid

    def running(self) -> bool:
        return self._program is not None and self._program.running()

    @abstractmethod
    def start(self) -> None:
        """Start again after `stop` or `kill`, on the same port and data, and wait until it serves."""

    def stop(self) -> None:
        """End it in good order; nothing happens when it does not run."""
        if self._program is not None:
            self._program.stop()

    def kill(self) -> None:
        """End it without warning, as a crash would."""
        self._launched.kill()

    def restart(self) -> None:
        self.stop()
        self.start()

    @classmethod
    @abstractmethod
    def end_leftovers(cls, data_dir: Path) -> None:
        """End what a killed run on the same data directory left behind."""

    @property
    def _launched(self) -> Program:
        if self._program is None:
            raise StackError(f"{self.name} was not started: start it first")
        return self._program
