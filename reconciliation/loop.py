"""The reconciliation loop: every sweep in turn, each on through the outage of what it asks.

The rule it keeps: any number may run side by side, at any time; a sweep acts by compare-and-set and loses to whoever was faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from threading import Event
from typing import Protocol

import structlog
from sqlalchemy import Engine as Database
from sqlalchemy.exc import InterfaceError, OperationalError

from domain.errors import OutcomeUnknownError, TryAgain
from reconciliation.assignees import Assignees
from reconciliation.cancellations import Cancellations
from reconciliation.cases import Cases
from reconciliation.contradictions import Contradictions
from reconciliation.orders import Orders
from reconciliation.questions import Silence
from reconciliation.quotes import Quotes
from reconciliation.repairs import Repairs
from reconciliation.starts import Starts
from reconciliation.steps import Steps
from workers.providers.port import Provider
from workers.runtime.engine import Engine, EngineError
from workers.runtime.retries import repeat
from workers.runtime.settings import Settings

INTERVAL = timedelta(seconds=2)  # an unknown outcome waits this long at most before it is first looked into
EVALUATION_GRACE = timedelta(seconds=5)  # the normal path takes milliseconds from a step to its order
CASE_GRACE = timedelta(minutes=1)  # the process of a held step opens its case; it may have to wait for a worker
GIVE_UP_AFTER = timedelta(hours=1)  # longer than most outages, shorter than a customer's patience
DATABASE_OUTAGES = (OperationalError, InterfaceError)

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """How long each thing may stay open before it is looked into; what is on its way must have arrived by then."""

    start_safe: timedelta
    attempt_stale: timedelta
    absence: timedelta
    evaluation_grace: timedelta = EVALUATION_GRACE
    case_grace: timedelta = CASE_GRACE
    give_up_after: timedelta = GIVE_UP_AFTER

    @classmethod
    def of(cls, settings: Settings) -> Intervals:
        # A worker that is silent for that long has given up its call, so its request has arrived or never will.
        stale = settings.attempt_stale_after
        return cls(start_safe=settings.start_safe_interval, attempt_stale=stale, absence=stale)


class Sweep(Protocol):
    """One kind of thing that a fault can leave behind."""

    kind: str

    def sweep(self) -> int: ...


class Reconciler:
    """Finds and repairs. With `dry_run` it tells what it would do (log event `reconciliation_would_act`) and changes nothing."""

    def __init__(
        self,
        database: Database,
        engine: Engine,
        providers: Mapping[str, Provider],
        intervals: Intervals,
        *,
        dry_run: bool = False,
    ) -> None:
        repairs = Repairs(database, dry_run=dry_run)
        silence = Silence(
            stale_after=intervals.attempt_stale, absence_interval=intervals.absence, give_up_after=intervals.give_up_after
        )
        self._sweeps: tuple[Sweep, ...] = (
            Starts(database, engine, repairs, intervals.start_safe),
            Steps(database, providers, repairs, silence),
            Cancellations(database, providers, repairs, silence),
            Contradictions(database, providers, repairs, silence),
            Orders(database, repairs, intervals.evaluation_grace),
            Cases(database, repairs, intervals.case_grace),
            Assignees(database, engine, repairs),
            Quotes(database, repairs),
        )
        self._interrupted: set[str] = set()

    def run(self, stop: Event) -> None:
        """Sweep every two seconds until `stop` is set."""
        repeat(self._round, stop, service="database", outages=DATABASE_OUTAGES, idle=INTERVAL)

    def run_once(self) -> int:
        """Make every sweep once; returns how many things were changed (in a dry run: would be). Raises the database's errors."""
        return sum(self._sweep(sweep) for sweep in self._sweeps)

    def _round(self) -> int:
        self.run_once()
        return 0  # what is left needs time, not haste

    def _sweep(self, sweep: Sweep) -> int:
        try:
            changed = sweep.sweep()
        except (EngineError, TryAgain, OutcomeUnknownError) as error:
            if sweep.kind not in self._interrupted:
                self._interrupted.add(sweep.kind)
                _log.warning("sweep_interrupted", kind=sweep.kind, reason=str(error))
            return 0
        self._interrupted.discard(sweep.kind)
        return changed
