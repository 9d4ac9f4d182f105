"""One service process: its loops as threads, its signals, its exit code.

The rule it keeps: a signal only sets an event, and the loops end by themselves in good order. A loop that dies of anything but an outage
ends the process, so that the platform restarts it: a process without one of its loops must not look healthy. It says so in a sentence.
"""

from __future__ import annotations

import _thread
import signal
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from threading import Event, Thread
from types import FrameType
from typing import Protocol

import structlog

from domain.texts import reason_of

EXIT_SOFTWARE = 70  # sysexits.h: internal software error
STOP_TIMEOUT = timedelta(seconds=60)  # a pod's poll, drain and grace together, with room

Say = Callable[[str], object]
"""Gets a sentence for the person who started the process: which loop ended before it was told to, or did not end, and why."""

_log = structlog.get_logger()


class Loop(Protocol):
    """Work that goes on until `stop` is set."""

    def run(self, stop: Event) -> None: ...


def stop_on_signals() -> Event:
    """Return an event that SIGTERM and SIGINT set; a second SIGINT interrupts the waiting too. Call it in the main thread."""
    stop, is_requested = Event(), False

    def tell(number: int) -> None:
        _log.info("stop_requested", signal=signal.Signals(number).name)
        stop.set()

    def request(number: int, _: FrameType | None) -> None:
        nonlocal is_requested
        if not is_requested:  # a platform and `timeout` send a second signal, to the whole group
            is_requested = True
            # The main thread may hold the event's lock, or that of the log, in this moment: here it would wait for itself for ever.
            _thread.start_new_thread(tell, (number,))
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, request)
    return stop


def run_loops(loops: Mapping[str, Loop], stop: Event, *, stop_timeout: timedelta = STOP_TIMEOUT, say: Say = lambda _: None) -> int:
    """Run all loops until `stop` is set and they have ended; return the exit code: 0, or 70 when one of them ended early or not at all."""
    died = Event()
    threads = [Thread(target=_guarded, args=(name, loop, stop, died, say), name=name, daemon=True) for name, loop in loops.items()]
    for thread in threads:
        thread.start()
    stop.wait()
    late = _join(threads, stop_timeout)
    if late:
        _log.error("loops_did_not_end", loops=late, seconds=stop_timeout.total_seconds())
        for name in late:
            say(f"the loop `{name}` did not end within {stop_timeout.total_seconds():g} s")
    return EXIT_SOFTWARE if died.is_set() or late else 0


def _join(threads: list[Thread], timeout: timedelta) -> list[str]:
    end = time.monotonic() + timeout.total_seconds()
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return [thread.name for thread in threads if thread.is_alive()]


def _guarded(name: str, loop: Loop, stop: Event, died: Event, say: Say) -> None:
    try:
        loop.run(stop)
        if not stop.is_set():
            died.set()
            _log.error("loop_ended", loop=name)
            say(f"the loop `{name}` ended by itself")
    except BaseException as error:  # noqa: BLE001 - a thread's SystemExit would vanish without a trace
        died.set()
        stop.set()  # first, so that nobody takes the process for ready any more
        _log.exception("loop_died", loop=name)
        say(f"the loop `{name}` died of {type(error).__name__}: {reason_of(error)}")
    finally:
        # Also when a loop returns before `stop` is set: the process must not go on without it.
        stop.set()
