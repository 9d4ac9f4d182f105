"""Carries workflow commands to the engine: which commands are claimed, and in which threads they are carried out (workers/carrier.py).

The rule it keeps: a command stays in its row until it is proven done, no longer matters, or is left to a person with a case. A command that
was claimed and not sent is given back.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from threading import Event
from typing import Any

import sqlalchemy
from sqlalchemy import Row

from domain.store.unit_of_work import housekeeping
from domain.workflows import requests
from workers.carrier import Carrier
from workers.dispatched import alone
from workers.runtime.engine import Engine, EngineRefusedError
from workers.runtime.retries import repeat

THREADS = 8  # calls at the same time; each takes the engine milliseconds
BATCH = 32  # business keys under way, and commands per claim: four rounds of the threads
POLL = timedelta(milliseconds=50)  # the longest wait of a new command while no other is due
# Half of it covers one call with its time limits (3 s to connect, 10 s for the response). A message that is looked for takes two: an engine
# that needs the whole time for both may get it twice.
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
        self._under_way: dict[Future[None], str] = {}
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="dispatch")

    def run(self, stop: Event) -> None:
        """Dispatch until `stop` is set, through outages of the database and the engine, and carry out what is under way then."""
        try:
            repeat(self._turn, stop, service="workflow dispatch", idle=POLL)
        finally:
            wait(self._under_way)

    def run_once(self) -> int:
        """Carry out the commands that are due now; returns how many were claimed.

        Raises EngineUnavailableError after giving back the commands that could not be sent, and the database's errors.
        """
        claimed = self._claim()
        self._wait(left=0)
        return claimed

    def _turn(self) -> int:
        """Claim what is due, and wait until there is room for more: a slow call keeps its thread, and nobody else waiting.

        At the start and after an outage it waits for one answer at least, and asks for the engine's version if nothing was due: so the log
        tells when the engine is away, and does not say that it is there again while calls still fail.
        """
        answered, self._has_answered = self._has_answered, False
        claimed = self._claim()
        self._wait(left=THREADS if answered else min(THREADS, len(self._under_way) - 1))
        if not claimed and not answered:
            with suppress(EngineRefusedError):  # whoever refuses has answered
                self._engine.version()
        self._has_answered = True
        return claimed

    def _claim(self) -> int:
        """Claim as many commands as there is room for, and hand them to the threads, those of one key to one of them, in order."""
        claimed_at = time.monotonic()
        with housekeeping(self._database) as connection:
            # A later command for a key that is under way would overtake the one that is being sent.
            rows = requests.claim(connection, BATCH - len(self._under_way), self._lease, skip=self._under_way.values())
        by_key: dict[str, list[Row[Any]]] = defaultdict(list)
        for row in rows:
            by_key[row.business_key].append(row)
        send_until = claimed_at + self._lease.total_seconds() / 2
        for key, same in by_key.items():
            claim = _Claim(rows=sorted(same, key=lambda row: row.position), send_until=send_until)
            self._under_way[self._threads.submit(self._carry_out_all, claim)] = key
        return len(rows)

    def _wait(self, left: int) -> None:
        """Wait until at most so many keys are under way; when one has met an outage, wait for all of them, and raise it."""
        while len(running := [each for each in self._under_way if not each.done()]) > max(left, 0):
            wait(running, return_when=FIRST_COMPLETED)
        ended = self._under_way.keys() - running
        outages = [error for each in ended if (error := each.exception())]
        if outages:
            # It concerns them all, and one that was raised later would look like another outage.
            ended, _ = wait(self._under_way)
        for each in ended:
            del self._under_way[each]
        if outages:
            raise outages[0]

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
