"""Callbacks that matched no step when they came: each acts by the command of a callback once its step is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import callbacks
from domain.store import UnitOfWork
from domain.store.unit_of_work import housekeeping
from reconciliation.alone import alone
from reconciliation.repairs import Action, Repair, Repairs
from reconciliation.rounds import in_time
from reconciliation.walks import PAGE


class Unmatched:
    """Goes through the unmatched callbacks page by page: most of them will never match, and must not delay the others."""

    kind = "callback"

    def __init__(self, database: Database, repairs: Repairs) -> None:
        self._database = database
        self._repairs = repairs
        self._last: tuple[datetime, str] | None = None

    def sweep(self) -> int:
        """Match one page of unmatched callbacks; returns how many have matched."""
        with housekeeping(self._database) as connection:
            rows = callbacks.unmatched_after(connection, self._last, PAGE)
        matched = sum(alone(self.kind, self._match, row) for row in self._going_on(rows) if row.order_id is not None)
        if not rows or (len(rows) < PAGE and self._last == _place(rows[-1])):
            self._last = None
        return matched

    def _going_on(self, rows: Sequence[Row[Any]]) -> Iterator[Row[Any]]:
        for row in in_time(rows):
            self._last = _place(row)
            yield row

    def _match(self, row: Row[Any]) -> bool:
        evidence = {"provider": row.provider_name, "externalEventId": row.external_event_id, "receivedAt": row.received_at}
        repair = Repair.of_step(self.kind, Action.MATCHED, row.tenant_id, row.step_id, evidence)
        return self._repairs.make_and_evaluate(repair, partial(_match, row), row.order_id)


def _place(row: Row[Any]) -> tuple[datetime, str]:
    return row.received_at, row.external_event_id


def _match(row: Row[Any], uow: UnitOfWork) -> bool:
    return callbacks.match(uow, row.provider_name, row.external_event_id)
