"""The protocol of one connection: uvicorn's, with a time limit for the head of a request.

The rule: who opens a connection and does not finish the head of a request gives it up after a while, however the bytes trickle in. uvicorn itself
ends a connection only while it waits for the first byte of a next request.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol


class HeadLimit(H11Protocol):
    """A connection whose request heads each arrive within `head_time`."""

    def __init__(self, *args: Any, head_time: timedelta, **options: Any) -> None:
        super().__init__(*args, **options)
        self._head_seconds = head_time.total_seconds()
        self._patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as in uvicorn
        super().connection_made(transport)
        self._expect_head()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._expect_head()
        else:
            self._expect_nothing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        # Never prolonged: a head that comes byte by byte makes progress, and occupies its connection all the same.
        if self._patience is None:
            self._patience = self.loop.call_later(self._head_seconds, self.transport.close)

    def _expect_nothing(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
