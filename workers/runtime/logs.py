"""Structured logs: one JSON object per line, with the context bound at the edge.

The rule it keeps: an event has a constant snake_case name, and its facts are fields; a secret is never written, whatever a caller passes.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from functools import lru_cache
from typing import Any, TextIO

import structlog
from structlog.typing import Processor

_SECRETS = ("password", "secret", "token", "authorization", "signature")
_HIDDEN = "***"


def warnings_only(command: str) -> None:
    """Send warnings and errors of a command to standard error, so that standard output has its answer alone."""
    # A logger that kept this would stay silent in a process, which configures its logs after its settings are checked.
    configure_logs(command, level="WARNING", is_kept=False)


def configure_logs(process: str, *, level: str = "INFO", stream: TextIO | None = None, is_kept: bool = True) -> None:
    """Send the logs of this process, and what libraries log, to `stream` (default: standard error) as JSON lines.

    `is_kept`: a logger stays as it was when it was first used, which is faster.
    """
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Without the local variables of each frame: some of them must not be logged.
    tracebacks = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=False))
    structlog.configure(
        processors=[*shared, tracebacks, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=is_kept,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, tracebacks],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                _with_process(process),
                # Last before rendering, so that it sees every field.
                _redacted,
                structlog.processors.JSONRenderer(default=str),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # These libraries log every connection at INFO or below, with addresses.
    for library in ("urllib3", "httpx", "httpcore"):
        logging.getLogger(library).setLevel(logging.WARNING)


def _with_process(process: str) -> Processor:
    def add(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event.setdefault("process", process)
        return event

    return add


def _redacted(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in event:
        if _is_secret(key):
            event[key] = _HIDDEN
    return event


@lru_cache(1_000)
def _is_secret(key: str) -> bool:
    return any(secret in key.lower() for secret in _SECRETS)
