"""Carries workflow commands to the engine: which commands are claimed, and in which threads they are carried out (workers/carrier.py).

The rule it keeps: a command stays in its row until it is proven done, no longer matters, or is left to a person with a case. A command that
was claimed and not sent is given back.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from threading import Event
from typing import Any
from uuid import UUID

import sqlalchemy
from sqlalchemy import Row

from domain.store.unit_of_work import housekeeping
from domain.workflows import requests
from workers.carrier import Carrier
from workers.dispatched import alone
from workers.runtime.engine import Engine, EngineRefusedError
from workers.runtime.retries import repeat

THREADS = 8  # calls at the same time; each takes the engine milliseconds
BATCH = 32  # commands per claim: four rounds of the threads
POLL = timedelta(milliseconds=50)  # the longest wait of a new command while no other is due
# Half of it covers one call with its time limits (3 s to connect, 10 s for the response).
LEASE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """Commands of one business key, in order, and the time (monotonic seconds) until which their lease covers a call."""

    rows: Sequence[Row[Any]]
    send_until: float


class Dispatcher:
    """Any number may run side by side: each command belongs to one dispatcher for the time of a lease.

    When a lease ends while a start is under way, the outcome of the start is unknown. So `lease` must be well above the engine's time
    limits.
    """

    def __init__(self, database: sqlalchemy.Engine, engine: Engine, lease: timedelta = LEASE) -> None:
        self._database = database
        self._engine = engine
        self._carrier = Carrier(database, engine)
        self._lease = lease
        self._has_answered = False
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="dispatch")

    def run(self, stop: Event) -> None:
        """Dispatch until `stop` is set, through outages of the database and the engine."""
        repeat(self._turn, stop, service="workflow dispatch", idle=POLL)

    def _turn(self) -> int:
        """Carry out the commands that are due. If there is none at the start, ask for the engine's version: the log tells when it is away."""
        claimed = self.run_once()
        if not claimed and not self._has_answered:
            with suppress(EngineRefusedError):  # whoever refuses has answered
                self._engine.version()
        self._has_answered = True
        return claimed

    def run_once(self) -> int:
        """Carry out the commands that are due now; returns how many were claimed.

        Raises EngineUnavailableError after giving back the commands that could not be sent, and the database's errors.
        """
        claimed_at = time.monotonic()
        with housekeeping(self._database) as connection:
            rows = requests.claim(connection, BATCH, self._lease)
        by_key: dict[tuple[UUID, str], list[Row[Any]]] = defaultdict(list)
        for row in rows:
            by_key[row.tenant_id, row.business_key].append(row)
        send_until = claimed_at + self._lease.total_seconds() / 2
        in_order = (sorted(same, key=lambda row: row.position) for same in by_key.values())
        work = [
            self._threads.submit(self._carry_out_all, _Claim(rows=rows_of_key, send_until=send_until)) for rows_of_key in in_order
        ]
        errors = [error for error in [future.exception() for future in work] if error is not None]
        if errors:
            raise errors[0]
        return len(rows)

    def _carry_out_all(self, claim: _Claim) -> None:
        rows = iter(claim.rows)
        try:
            for row in rows:
                with alone(row):
                    if time.monotonic() > claim.send_until:
                        self._carrier.give_back(row)
                    else:
                        self._carrier.carry_out(row)
        finally:
            # Only an outage leaves any. A start that stayed claimed would count as one that may have been sent.
            for row in rows:
                with alone(row):
                    self._carrier.give_back(row)
