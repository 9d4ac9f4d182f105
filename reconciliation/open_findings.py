"""Open findings: one is repaired when the instance that it is about has ended, whoever has ended it, or when a person has closed its case.

The rule it keeps: a finding says that something is done only when the engine, or the case, says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain import findings
from domain.delivery import open_findings
from domain.store import Cause
from domain.store.unit_of_work import housekeeping
from reconciliation.alone import alone
from reconciliation.repairs import Repairs
from reconciliation.rounds import in_time
from reconciliation.walks import PAGE
from workers.runtime.commands import unit_of_work
from workers.runtime.engine import Engine
from workers.runtime.engine_history import EngineInstance

NIL = UUID(int=0)


class OpenFindings:
    """Walks through the open findings, in the order of their ids. All of a page cost one call to the engine."""

    kind = "finding"

    def __init__(self, database: Database, engine: Engine, repairs: Repairs) -> None:
        self._database = database
        self._engine = engine
        self._dry_run = repairs.dry_run
        self._last = NIL

    def sweep(self) -> int:
        """Look at one page; returns how many findings were repaired. Raises EngineError."""
        with housekeeping(self._database) as connection:
            rows = open_findings.open_after(connection, self._last, PAGE)
        known = self._engine.instances_by_id({row.instance_id for row in rows if row.instance_id is not None})
        settled = sum(alone(self.kind, self._settle, row) for row in self._going_on(rows) if _is_over(row, known))
        if not rows or (len(rows) < PAGE and self._last == rows[-1].id):
            self._last = NIL
        return settled

    def _going_on(self, rows: Sequence[Row[Any]]) -> Iterator[Row[Any]]:
        for row in in_time(rows):
            self._last = row.id
            yield row

    def _settle(self, row: Row[Any]) -> bool:
        if self._dry_run:
            return True
        cause = Cause(tenant_id=row.tenant_id, actor="reconciliation", command="settle-finding", business_key=row.business_key)
        with unit_of_work(self._database, cause) as uow:
            return findings.settle(uow, row.id)


def _is_over(row: Row[Any], known: Mapping[str, EngineInstance]) -> bool:
    if row.instance_id is None:
        return not row.has_case
    instance = known.get(row.instance_id)
    return instance is None or not instance.is_running
