"""Starts the processes of fallout cases again whose start has failed, for a bounded time (domain/retry_rules.py, CASE_PROCESS).

No case is opened about them, because it would need such a process itself. Until one runs, the case is listed and resolved over HTTP.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.fallout.cases import FINAL, FalloutCase
from domain.retry_rules import CASE_PROCESS
from domain.store import UnitOfWork
from domain.workflows import open_starts, restarts, starts
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.rounds import Claimed


class CaseStarts:
    """Asks for these starts again; the wait doubles after each try."""

    kind = "case-start"

    def __init__(self, database: Database, repairs: Repairs) -> None:
        self._due = Claimed(database, self.kind, starts.CORRELATION, open_starts.failed_case_starts, dry_run=repairs.dry_run)
        self._repairs = repairs

    def sweep(self) -> int:
        """Ask for every such process that is due; returns how many were asked for."""
        return self._due.each(self._start_again)

    def _start_again(self, row: Row[Any]) -> bool:
        self._due.check_later([(row, CASE_PROCESS.wait_after(row.age))])
        evidence = {"workflow": row.workflow_name, "failedAt": row.updated_at}
        repair = Repair.of_case(CaseStarts.kind, Action.STARTED_AGAIN, row.tenant_id, row.aggregate_id, evidence)
        return self._repairs.make(repair, partial(_ask_again, row))


def _ask_again(row: Row[Any], uow: UnitOfWork) -> bool:
    if uow.read(FalloutCase, row.aggregate_id).status in FINAL:
        return False
    restarts.restart(uow, row.business_key, None)
    return True
