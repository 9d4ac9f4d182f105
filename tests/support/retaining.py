"""For tests of retention: a tenant whose business is over, and what its tables and its archive still hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, func, select, text

from domain import archives
from domain.fallout import triaging
from domain.fallout.triaging import CASE
from domain.retaining.dossiers import PARTS
from domain.schema import METADATA
from domain.workflows import requests
from domain.workflows.requests import COMMAND
from reconciliation.archive_files import as_written, entries
from reconciliation.archiving import Archiving
from reconciliation.audit import Audit, Outside, compare
from reconciliation.audit_report import AuditReport
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.offers import Offers
from tests.support.settled import IN_ORDER, Settled

AT_ONCE = timedelta()


class AuditOfArchive(Audit):
    """An audit whose other sides are records."""

    def __init__(self, settled: Settled, outside: Outside, archive: Path | None) -> None:
        self._database = acting(settled.offers.engine, "audit")
        self._archive = archive
        self._outside = outside
        self._settled = settled

    def report(self) -> AuditReport:
        return compare(*self.inspect(self._settled.tenant_id), self._outside)


def audit(settled: Settled, outside: Outside, archive: Path | None) -> AuditReport:
    """Audit a tenant as the login of the audit, with its archive."""
    return AuditOfArchive(settled, outside, archive).report()


def archiving(database: Engine, directory: Path, wait: timedelta = timedelta()) -> Archiving:
    """Archive as the login of retention."""
    return Archiving(acting(database, "retain"), directory, wait=wait)


def rows_of(database: Engine, tenant_id: UUID) -> dict[str, int]:
    """Count the rows of a tenant in each table whose rows are archived, without empty tables."""
    with database.connect() as connection:
        counted = {
            name: connection.scalar(select(func.count()).select_from(table).where(table.c.tenant_id == tenant_id)) or 0
            for name, table in METADATA.tables.items()
            if name in PARTS
        }
    return {name: number for name, number in counted.items() if number}


def lines_of(database: Engine, directory: Path, tenant_id: UUID) -> Sequence[Mapping[str, Any]]:
    """Every line of a tenant's registered files, verified."""
    with database.connect() as connection:
        files = archives.files_of(connection, tenant_id)
    written = as_written(tenant_id, files, archives.beginning(tenant_id))
    return [line for file in written for line in entries(directory, file)]


def key_of(line: Mapping[str, Any]) -> tuple[Any, ...]:
    """The table of a line, and its primary key."""
    table = METADATA.tables[line["table"]]
    return (table.name, *(line["row"][column.name] for column in table.primary_key.columns))


def fulfilled_order(offers: Offers) -> Fulfilment:
    """Make an order of which nothing is open, neither here nor in the engine."""
    work = Fulfilment.running(offers)
    work.complete(*IN_ORDER)
    with offers.engine.begin() as connection:
        connection.execute(text("UPDATE workflow_correlation SET status = 'ENDED'"))
    assert work.status == "FULFILLED"
    return work


def end_every_case(settled: Settled) -> None:
    """Nobody has anything to do with the tenant's orders any more: their cases are cancelled, and the engine has heard of it."""
    offers = settled.offers
    with offers.uow() as uow:
        for key in uow.connection.scalars(select(CASE.c.dedupe_key).where(CASE.c.tenant_id == settled.tenant_id)).all():
            triaging.cancel_cases(uow, key)
        uow.connection.execute(text("UPDATE step_contradiction SET answer = 'LEFT_TO_A_PERSON', answered_at = clock_timestamp()"))
    with offers.uow("dispatch") as uow:
        for command_id in uow.connection.scalars(
            select(COMMAND.c.id).filter_by(tenant_id=settled.tenant_id, status="PENDING")
        ).all():
            requests.finish(uow, command_id, "DONE")
    with offers.engine.begin() as connection:
        connection.execute(text("DELETE FROM outbox_event"))
