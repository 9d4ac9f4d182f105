"""Keeps two stacks out of one data directory, and lets signals end a stack in an orderly way."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from workers.local.errors import StackError

Handler = Callable[[int, FrameType | None], object] | int


@contextmanager
def directory_lock(data_dir: Path) -> Iterator[None]:
    """Lock the data directory. Raises StackError when another living process has locked it.

    The kernel releases the lock when its owner ends, however it ends, and no child process inherits it.
    """
    with (data_dir / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise StackError(
                f"A local stack is already running on {data_dir} (process {owner}): use that one, stop it, or set Q2O_DATA_DIR to another directory"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM and a closed terminal (SIGHUP) end the process as Ctrl-C does: by an exception that leaves every `with` block."""
    unhandled = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]
    with _handled(dict.fromkeys(unhandled, _leave)):
        yield


@contextmanager
def undisturbed() -> Iterator[None]:
    """Ignore further signals while the stack stops: an interrupted stop would leave services running, and its time is limited anyway."""
    with _handled(dict.fromkeys((signal.SIGINT, signal.SIGTERM, signal.SIGHUP), signal.SIG_IGN)):
        yield


@contextmanager
def _handled(handlers: Mapping[signal.Signals, Handler]) -> Iterator[None]:
    # Python lets only the main thread set signal handlers. In another thread, the program that owns the process has set them.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)
