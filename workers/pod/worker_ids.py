"""Which worker ids poll in this process: two pods never share one, which is all that the engine tells them apart by."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

from workers.runtime.setting_kinds import UNIQUE_WORKER_ID

_polling: set[str] = set()
_lock = Lock()


class WorkerIdError(Exception):
    """The worker id may be that of another pod too."""


@contextmanager
def polling(worker_id: str) -> Iterator[None]:
    """Reserve a worker id while the block polls under it. Raises WorkerIdError."""
    with _lock:
        check(worker_id)
        _polling.add(worker_id)
    try:
        yield
    finally:
        with _lock:
            _polling.discard(worker_id)


def check(worker_id: str) -> None:
    """Raises WorkerIdError when another pod may have this id."""
    if not UNIQUE_WORKER_ID.fullmatch(worker_id):
        raise WorkerIdError(
            f"worker id {worker_id!r} may be shared with another pod, and the engine tells pods apart by nothing else: "
            "leave it out (one is made per process), or let it end in a dash and eight random hex digits"
        )
    if worker_id in _polling:
        raise WorkerIdError(f"worker id {worker_id!r} already polls in this process: give each pod its own Engine")
