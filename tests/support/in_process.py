"""What a process sets for itself, and a test that runs it inside the test run must give back: signal handlers and logging."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import structlog
from structlog.dev import ConsoleRenderer, plain_traceback


@contextmanager
def keeping_signals_and_logs() -> Iterator[None]:
    """Give the signal handlers and the logging of the test run back at the end of the block.

    A logger of the product keeps the configuration with which it was first used, so one left behind would hide its records from other tests.
    """
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        with keeping_logs():
            yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


@contextmanager
def keeping_logs() -> Iterator[None]:
    """Give the logging of the test run back at the end of the block."""
    root = logging.getLogger()
    log_handlers, level = root.handlers, root.level
    try:
        yield
    finally:
        root.handlers = log_handlers
        root.setLevel(level)
        log_plainly()


def log_plainly() -> None:
    """Log as structlog does by default, but write traces plainly.

    A trace that is drawn with its variables takes seconds on busy processors, which a sweep or a relay does not have.
    """
    structlog.reset_defaults()
    *others, _ = structlog.get_config()["processors"]
    structlog.configure(processors=[*others, ConsoleRenderer(exception_formatter=plain_traceback)])
