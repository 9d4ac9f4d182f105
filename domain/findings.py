"""Findings: what a sweep found and how it repaired it. They prove that asking settled an unknown, not guessing (docs/domain.md#invariants, I15).

A finding is written in the transaction of its repair, so there is never one without the other. What the engine or a person has still to do is
OPEN; it becomes REPAIRED when that is done, and nothing else of a finding ever changes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Connection, Index, select, text, tuple_, update
from sqlalchemy.orm import Mapped

from domain.store import Base, Owned, UnitOfWork, append_only, as_json, table_of


class FindingStatus(StrEnum):
    """Whether nothing is left to do about the finding, or something is: by the engine, or by a person."""

    REPAIRED = "REPAIRED"
    OPEN = "OPEN"


IS_OPEN = f"status = '{FindingStatus.OPEN}'"
IS_SETTLED = (
    f"OLD.status = '{FindingStatus.OPEN}' AND NEW.status = '{FindingStatus.REPAIRED}' "
    "AND to_jsonb(OLD) - 'status' = to_jsonb(NEW) - 'status'"
)


class ReconciliationFinding(Owned, Base):
    """One disagreement between the database and the engine or a provider, and the action that followed."""

    __tablename__ = "reconciliation_finding"
    __table_args__ = (
        CheckConstraint("status IN ('REPAIRED', 'OPEN')", name="status"),
        Index("ix_reconciliation_finding_aggregate", "tenant_id", "aggregate_id"),
        Index("ix_reconciliation_finding_old", "created_at", postgresql_where=text("status = 'REPAIRED'")),
        Index("ix_reconciliation_finding_open", "id", postgresql_where=text(IS_OPEN)),
    )
    kind: Mapped[str]
    aggregate_type: Mapped[str]
    aggregate_id: Mapped[UUID]
    business_key: Mapped[str | None]
    evidence: Mapped[dict[str, Any]]
    action: Mapped[str]
    status: Mapped[str]


def record(
    uow: UnitOfWork,
    *,
    kind: str,
    aggregate_type: str,
    aggregate_id: UUID,
    evidence: Mapping[str, Any],
    action: str,
    status: FindingStatus = FindingStatus.REPAIRED,
) -> None:
    """Record what was found, in the transaction of its repair."""
    finding = {
        "kind": kind,
        "aggregate_type": aggregate_type,
        "aggregate_id": aggregate_id,
        "business_key": uow.cause.business_key,
        "evidence": as_json(evidence),
        "action": action,
        "status": status,
    }
    uow.add(ReconciliationFinding, finding)


append_only(ReconciliationFinding, until_old=True, may=IS_SETTLED)
FINDING = table_of(ReconciliationFinding)


def settle(uow: UnitOfWork, finding_id: UUID) -> bool:
    """Record that nothing is left to do about a finding; returns False when that is recorded already."""
    is_it = (FINDING.c.tenant_id == uow.tenant_id) & (FINDING.c.id == finding_id) & (FINDING.c.status == FindingStatus.OPEN)
    return uow.connection.execute(update(FINDING).where(is_it).values(status=FindingStatus.REPAIRED)).rowcount > 0


def recorded_of(connection: Connection, kind: str, subjects: Collection[tuple[UUID, UUID]]) -> dict[str, set[str]]:
    """The process instances about which a sweep of this kind has recorded findings, and the actions of these findings.

    Only those of these subjects (tenant, aggregate). They are found by their subject, because row level security keeps the planner from searching by an expression on JSON.
    """
    about = tuple_(FINDING.c.tenant_id, FINDING.c.aggregate_id).in_(list(subjects))
    query = select(FINDING.c.evidence["processInstanceId"].astext, FINDING.c.action).where(FINDING.c.kind == kind, about)
    recorded: dict[str, set[str]] = {}
    for instance_id, action in connection.execute(query):
        recorded.setdefault(instance_id, set()).add(action)
    return recorded
