"""The reconciliation loop: every sweep in turn. An outage of the engine stops only the sweeps that ask it.

The rule it keeps: any number of loops may run side by side, at any time; a sweep acts by compare-and-set, and loses to a faster command. A
sweep that fails for a reason of its own stops no other; it is made again after a pause that doubles.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from threading import Event
from typing import Protocol

from sqlalchemy import Engine as Database

from domain.delivery.unanswered import Silence
from domain.errors import OutcomeUnknownError, TryAgain
from domain.retry_rules import PROVIDER_UNKNOWN
from reconciliation.approvals import Approvals
from reconciliation.assignees import Assignees
from reconciliation.audits import Audits
from reconciliation.called import Called
from reconciliation.cancellations import Cancellations
from reconciliation.case_starts import CaseStarts
from reconciliation.cases import Cases
from reconciliation.contradictions import Contradictions
from reconciliation.deadlines import Deadlines
from reconciliation.duplicates import Duplicates
from reconciliation.gauges import Gauges
from reconciliation.incidents import Incidents
from reconciliation.instances import Instances
from reconciliation.open_findings import OpenFindings
from reconciliation.orders import Orders
from reconciliation.orphans import Orphans
from reconciliation.projections import Projections
from reconciliation.quotes import Quotes
from reconciliation.refused_events import RefusedEvents
from reconciliation.repairs import Repairs
from reconciliation.starts import Starts
from reconciliation.steps import Steps
from reconciliation.unattended import Unattended
from reconciliation.unmatched import Unmatched
from workers.providers.port import Provider
from workers.runtime.engine import Engine, EngineError
from workers.runtime.outages import is_outage
from workers.runtime.retries import OutageLog, repeat
from workers.runtime.set_aside import Pauses, set_aside
from workers.runtime.settings import Settings
from workers.runtime.turns import Turns

INTERVAL = timedelta(seconds=2)  # an unknown outcome waits this long at most for the first question
IN_TURN = frozenset({Projections.kind, Orphans.kind})
"""Sweeps whose walks read the same in every reconciler, without leases, so that one at a time is enough (docs/settings.md#redis)."""
RESTS = INTERVAL * 0.9  # the turn is free again when the next round begins
EVALUATION_GRACE = timedelta(seconds=5)  # the normal path takes milliseconds from a step to its order
CASE_GRACE = timedelta(minutes=1)  # the process of a held step opens its case, and may have to wait for a pod
PROJECTION_LIMIT = timedelta(minutes=1)  # the inbox takes milliseconds, and a relay or an inbox that is restarted takes seconds
GATE_GRACE = timedelta(minutes=2)  # a new instance comes to the registration gate when a pod is free
AUDIT = timedelta(seconds=10)  # some tenths of a second of work in ten seconds: 18,000 quotes in an hour
DONE_GRACE = timedelta(minutes=15)  # a process that missed a message asks the domain by itself within ten minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """How long each kind of open matter is left to the normal path. A request that is on its way has arrived by then."""

    start_safe_interval: timedelta
    attempt_stale_after: timedelta
    request_safe_interval: timedelta
    evaluation_grace: timedelta = EVALUATION_GRACE
    case_grace: timedelta = CASE_GRACE
    gate_grace: timedelta = GATE_GRACE
    done_grace: timedelta = DONE_GRACE
    give_up_after: timedelta = PROVIDER_UNKNOWN.time
    projection_limit: timedelta = PROJECTION_LIMIT
    audit: timedelta = AUDIT

    @classmethod
    def of(cls, settings: Settings) -> Intervals:
        # A worker that is silent for that long has given up its call, so its request has arrived, or never will.
        stale = settings.attempt_stale_after
        return cls(
            start_safe_interval=settings.start_safe_interval,
            attempt_stale_after=stale,
            request_safe_interval=stale,
            projection_limit=settings.projection_limit,
            audit=settings.audit_interval,
        )


class Sweep(Protocol):
    """A search, over all tenants, for one kind of thing that a fault can leave behind."""

    kind: str

    def sweep(self) -> int: ...


class Reconciler:
    """Finds and repairs. With `dry_run` it logs what it would do (`reconciliation_would_act`) and changes nothing."""

    def __init__(
        self,
        database: Database,
        engine: Engine,
        providers: Mapping[str, Provider],
        intervals: Intervals,
        *,
        dry_run: bool = False,
        turns: Turns | None = None,
    ) -> None:
        repairs = Repairs(database, dry_run=dry_run)
        silence = Silence(
            attempt_stale_after=intervals.attempt_stale_after,
            request_safe_interval=intervals.request_safe_interval,
            give_up_after=intervals.give_up_after,
        )
        self._sweeps: tuple[Sweep, ...] = (
            Starts(database, engine, repairs, intervals.start_safe_interval),
            Steps(database, providers, repairs, silence),
            Cancellations(database, providers, repairs, silence),
            Contradictions(database, providers, repairs, silence),
            Orders(database, repairs, intervals.evaluation_grace),
            Cases(database, repairs, intervals.case_grace),
            Assignees(database, engine, repairs),
            Quotes(database, repairs),
            Projections(database, repairs, intervals.projection_limit),
            Unmatched(database, repairs),
            Deadlines(database, repairs),
            Orphans(database, repairs, intervals.case_grace),
            Approvals(database, engine, repairs, intervals.case_grace),
            Instances(database, engine, repairs, intervals.done_grace),
            Called(database, engine, repairs),
            Unattended(database, engine, repairs, intervals.done_grace),
            Duplicates(database, engine, repairs, intervals.gate_grace),
            Incidents(database, engine, repairs, intervals.case_grace),
            OpenFindings(database, engine, repairs),
            Audits(database, intervals.audit, dry_run=dry_run),
            CaseStarts(database, repairs),
            RefusedEvents(database, repairs),
            Gauges(database),
        )
        self._turns = turns or Turns()
        self._outages = {sweep.kind: OutageLog(f"{sweep.kind} sweep") for sweep in self._sweeps}
        self._pauses = Pauses()

    def run(self, stop: Event) -> None:
        """Sweep every two seconds until `stop` is set."""
        repeat(self._round, stop, service="database", idle=INTERVAL)

    def run_once(self) -> int:
        """Make every sweep once; returns how many things were changed (in a dry run: would be). Raises the database's errors.

        It asks for no turn: the person who runs it wants everything looked at.
        """
        return sum(self._sweep(sweep) for sweep in self._sweeps)

    def _round(self) -> int:
        for sweep in self._sweeps:
            self._in_turn(sweep)
        return 0  # what is left needs time: the next round comes after the interval

    def _in_turn(self, sweep: Sweep) -> None:
        """Make a sweep, unless another reconciler makes or has just made one that would do the same."""
        if sweep.kind not in IN_TURN:
            self._sweep(sweep)
            return
        with self._turns.turn(sweep.kind, rests=RESTS) as is_ours:
            if is_ours:
                self._sweep(sweep)

    def _sweep(self, sweep: Sweep) -> int:
        if sweep.kind in self._pauses:
            return 0
        try:
            changed = sweep.sweep()
        except (EngineError, TryAgain, OutcomeUnknownError) as error:
            # This sweep alone is interrupted: the others may not need what it lacks. An unreachable database stops them all.
            self._outages[sweep.kind].failed(error)
            return 0
        except Exception as error:
            if is_outage(error):
                raise
            set_aside("reconcile", "sweep", error, sweep=sweep.kind, pause=self._pauses.prolong(sweep.kind))
            return 0
        self._outages[sweep.kind].worked()
        self._pauses.end(sweep.kind)
        return changed
