"""Steps that are ready and whose process has ended: nobody would ever send them, and their order would wait for ever.

A process can also end normally without doing its work, when somebody has completed its task by hand or moved its token. As with a process
that was ended from outside (`reconciliation/called.py`), the root counts as lost, and a person restarts it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from typing import Any, TypeAlias
from uuid import UUID

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import steps, unattended
from domain.store.unit_of_work import housekeeping
from domain.workflows import watching
from domain.workflows.starts import CorrelationStatus
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.rounds import Leased
from workers.runtime.engine import Engine
from workers.runtime.engine_history import EngineInstance

_Root: TypeAlias = tuple[UUID, str]  # its tenant, and its id in the engine
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
        left = {_root_of(row): row for row in rows if _is_left(row, known)}  # one for each root
        with housekeeping(self._database) as connection:
            found = watching.registered(connection, {root_id for _, root_id in left})
        roots = {(one.tenant_id, one.process_instance_id): one for one in found if one.status == CorrelationStatus.STARTED}
        waiting = [row for root, row in left.items() if root in roots]
        self._ready.looked_at(row for row in rows if row not in waiting)
        return self._ready.act_on(waiting, partial(self._lose, roots=roots, known=known))

    def _lose(self, row: Row[Any], roots: Mapping[_Root, Row[Any]], known: Mapping[str, EngineInstance]) -> bool:
        root = roots[_root_of(row)]
        key = steps.business_key(row.tenant_id, row.id)
        instance = known.get(row.process_instance_id)
        state = instance.state if instance is not None else UNKNOWN
        evidence = {"processInstanceId": root.process_instance_id, "called": key, "state": state, "stepStatus": row.status}
        repair = Repair.of_process(self.kind, Action.LOST, root, evidence)
        lose = partial(unattended.lose, row=row, root=root, state=state)
        return self._repairs.make(repair, lose)


def _root_of(row: Row[Any]) -> _Root:
    return row.tenant_id, row.caller_instance_id


def _is_left(row: Row[Any], known: Mapping[str, EngineInstance]) -> bool:
    """Whether the step's process has ended while the one that has called it goes on."""
    process, caller = known.get(row.process_instance_id), known.get(row.caller_instance_id)
    return (process is None or not process.is_running) and caller is not None and caller.is_running
