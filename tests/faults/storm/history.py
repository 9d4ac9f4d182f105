"""What clients did and what was broken meanwhile, as JSON lines: the file from which a run is judged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Any


@dataclass(slots=True, kw_only=True)
class Operation:
    """One command or read of one client, from the first attempt to the answer. Times are seconds of the run; `answered` None: no answer.

    `version` and `status` are those of the aggregate that a read has shown. A command is known by its key. `order`: the one that the answer
    to an acceptance names.
    """

    number: int
    client: str
    request: str
    invoked: float
    key: str | None = None
    aggregate: str | None = None
    answered: float | None = None
    code: int | None = None
    problem: str | None = None
    version: int | None = None
    status: str | None = None
    body: str | None = None
    order: str | None = None
    unknown: int = 0

    @property
    def is_write(self) -> bool:
        return self.key is not None

    @property
    def succeeded(self) -> bool:
        return self.code is not None and self.code < 300

    @property
    def was_refused(self) -> bool:
        return self.code is not None and 400 <= self.code < 500


class History:
    """Appends to a file while the storm goes on. Any thread may write."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self._out = file.open("w")
        self._lock = Lock()
        self._began = monotonic()
        self._number = 0
        self.operations = 0
        self.unknown = 0

    def close(self) -> None:
        self._out.close()

    def invoked(self, **facts: Any) -> int:
        """Note that a client sends a request; returns the number of the operation."""
        with self._lock:
            self._number += 1
            number = self._number
        self._write("invoked", op=number, **facts)
        return number

    def lost(self, number: int, why: str) -> None:
        """Note an attempt whose outcome is not known."""
        self.unknown += 1
        self._write("unknown", op=number, why=why)

    def answered(self, number: int, **facts: Any) -> None:
        """Note the answer of an operation."""
        self.operations += 1
        self._write("answered", op=number, **facts)

    def note(self, event: str, **facts: Any) -> None:
        """Note what is no operation: a fault, its end, a phase."""
        self._write(event, **facts)

    def _write(self, event: str, **facts: Any) -> None:
        line = json.dumps({"at": round(monotonic() - self._began, 4), "event": event, **facts}, default=str)
        with self._lock:
            self._out.write(line + "\n")
            self._out.flush()


@dataclass(slots=True)
class Read:
    """A history as it was read."""

    operations: list[Operation] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)


def read(lines: Iterable[str]) -> Read:
    """Read a history."""
    found, known = Read(), dict[int, Operation]()
    for line in _parsed(lines):
        match line["event"]:
            case "invoked":
                known[line["op"]] = Operation(
                    number=line["op"], client=line["client"], request=line["request"], invoked=line["at"], key=line.get("key")
                )
            case "unknown":
                known[line["op"]].unknown += 1
            case "answered":
                operation = known[line["op"]]
                operation.answered = line["at"]
                for name in ("code", "problem", "aggregate", "version", "status", "body", "order"):
                    setattr(operation, name, line.get(name))
            case "fault":
                found.faults.append(line)
            case _:
                pass
    found.operations = list(known.values())
    return found


def _parsed(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    yield from (json.loads(line) for line in lines if line.strip())
