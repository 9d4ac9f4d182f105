"""What PostgreSQL, Kafka and the engine have in common in the local stack: each is one program that tests can stop, kill and start again."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from workers.local.errors import StackError
from workers.local.processes import Program


class Service(ABC):
    """One service of the local stack. It keeps its port and its data over `stop`, `kill`, `start` and `restart`."""

    name: ClassVar[str]
    _program: Program | None = None

    @property
    def pid(self) -> int:
        """Process id. Raises StackError when the service does not run."""
        return self._launched.pid

    def running(self) -> bool:
        return self._program is not None and self._program.running()

    @abstractmethod
    def start(self) -> None:
        """Start again after `stop` or `kill`, on the same port and data, and wait until the service is ready."""

    def stop(self) -> None:
        """End it in an orderly way; nothing happens when it does not run."""
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
        """End the processes that a killed run on the same data directory left behind."""

    @property
    def _launched(self) -> Program:
        if self._program is None:
            raise StackError(f"{self.name} was not started: start it first")
        return self._program
