"""Steps that are ready and whose process has ended: nobody would ever send them, and their order would wait for ever.

A process can also end normally without doing its work, when somebody has completed its task by hand or moved its token. As with a process
that was ended from outside (`reconciliation/called.py`), the root counts as lost, and a person restarts it.
"""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import steps, unattended
from domain.store.unit_of_work import housekeeping
from domain.workflows import watching
from domain.workflows.starts import CorrelationStatus
from reconciliation.alone import alone
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.rounds import Leased, in_time
from workers.runtime.engine import Engine
from workers.runtime.engine_history import EngineInstance

UNKNOWN = "UNKNOWN"  # what we say of an instance that the engine's history does not have


class Unattended:
    """`grace`: longer than a process needs to send a step that is ready. All steps of a sweep cost one call to the engine."""

    kind = unattended.KIND

    def __init__(self, database: Database, engine: Engine, repairs: Repairs, grace: timedelta) -> None:
        self._database = database
        self._engine = engine
        self._repairs = repairs
        self._grace = grace
        self._ready = Leased(database, self.kind, dry_run=repairs.dry_run)

    def sweep(self) -> int:
        """Look at one round of steps; returns how many processes were found to be lost. Raises EngineError."""
        rows = self._ready.take(partial(unattended.waiting_to_be_sent, grace=self._grace))
        known = self._engine.instances_by_id({each for row in rows for each in (row.process_instance_id, row.caller_instance_id)})
        left = {row.caller_instance_id: row for row in rows if _is_left(row, known)}  # one for each root
        with housekeeping(self._database) as connection:
            roots = watching.registered(connection, set(left))
        running = [root for root in roots if root.status == CorrelationStatus.STARTED]
        return sum(alone(self.kind, self._lose, left[root.process_instance_id], root, known) for root in in_time(running))

    def _lose(self, row: Row[Any], root: Row[Any], known: dict[str, EngineInstance]) -> bool:
        key = steps.business_key(row.tenant_id, row.id)
        instance = known.get(row.process_instance_id)
        state = instance.state if instance is not None else UNKNOWN
        evidence = {"processInstanceId": root.process_instance_id, "called": key, "state": state, "stepStatus": row.status}
        repair = Repair.of_process(self.kind, Action.LOST, root, evidence)
        lose = partial(unattended.lose, row=row, root=root, state=state)
        return self._ready.settle(row, lambda _: self._repairs.make(repair, lose))


def _is_left(row: Row[Any], known: dict[str, EngineInstance]) -> bool:
    """Whether the step's process has ended while the one that has called it goes on."""
    process, caller = known.get(row.process_instance_id), known.get(row.caller_instance_id)
    return (process is None or not process.is_running) and caller is not None and caller.is_running
