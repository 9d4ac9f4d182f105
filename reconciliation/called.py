"""Processes that others have called, and that somebody ended from outside: their callers wait for them for ever (docs/domain.md#reconcilers).

The rule it keeps: only the process at the root has a start that can be asked for again. So it counts as lost, although it still runs; a person
restarts it, and it goes on where the business stands.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import incidents
from domain.store.unit_of_work import housekeeping
from domain.workflows import watching
from domain.workflows.starts import CorrelationStatus
from reconciliation.alone import alone
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.walks import PAGE, Walk
from workers.runtime.engine import Engine
from workers.runtime.engine_history import EngineInstance


class Called:
    """Walks through the instances that were ended from outside; there are few, because nothing in the models ends one like that."""

    kind = "called"

    def __init__(self, database: Database, engine: Engine, repairs: Repairs) -> None:
        self._database = database
        self._engine = engine
        self._repairs = repairs
        self._walk = Walk()

    def sweep(self) -> int:
        """Look at one page; returns how many processes were found to be lost. Raises EngineError."""
        page = self._engine.ended_from_outside(self._walk.first, PAGE)
        gone = [one for one in page if one.caller_id is not None and one.root_id is not None]
        with housekeeping(self._database) as connection:
            found = watching.registered(connection, {str(one.root_id) for one in gone})
        roots = {row.process_instance_id: row for row in found if row.status == CorrelationStatus.STARTED}
        callers = self._engine.instances_by_id({str(one.caller_id) for one in gone if one.root_id in roots})
        waited_for = {one.root_id: one for one in gone if (caller := callers.get(str(one.caller_id))) and caller.is_running}
        lost = (one for one in self._walk.through(page) if waited_for.get(one.root_id) is one)
        return sum(alone(self.kind, self._lose, roots[str(one.root_id)], one) for one in lost)

    def _lose(self, row: Row[Any], gone: EngineInstance) -> bool:
        evidence = {"processInstanceId": row.process_instance_id, "called": gone.business_key, "state": gone.state}
        repair = Repair.of_process(self.kind, Action.LOST, row, evidence)
        lost = (row.business_key, row.process_instance_id, gone.state)
        return self._repairs.make(repair, lambda uow: incidents.lose(uow, *lost, called=gone.business_key))
