"""Findings: what a sweep found and how it repaired it. They prove that asking settled an unknown, not guessing (docs/domain.md#invariants, I15).

A finding is written in the transaction of its repair, so there is never one without the other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Connection, Index, select, text, tuple_
from sqlalchemy.orm import Mapped

from domain.store import Base, Owned, UnitOfWork, append_only, as_json, table_of


class FindingStatus(StrEnum):
    """Whether the finding is repaired, or a person has to look at it."""

    REPAIRED = "REPAIRED"
    OPEN = "OPEN"


class ReconciliationFinding(Owned, Base):
    """One disagreement between the database and the engine or a provider, and the action that followed."""

    __tablename__ = "reconciliation_finding"
    __table_args__ = (
        CheckConstraint("status IN ('REPAIRED', 'OPEN')", name="status"),
        Index("ix_reconciliation_finding_aggregate", "tenant_id", "aggregate_id"),
        Index("ix_reconciliation_finding_old", "created_at", postgresql_where=text("status = 'REPAIRED'")),
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


append_only(ReconciliationFinding, until_old=True)
FINDING = table_of(ReconciliationFinding)


def recorded_of(connection: Connection, kind: str, subjects: Collection[tuple[UUID, UUID]]) -> set[str]:
    """The process instances about which a sweep of this kind has recorded a finding, among those of these subjects (tenant, aggregate).

    They are found by their subject, because row level security keeps the planner from searching by an expression on JSON.
    """
    about = tuple_(FINDING.c.tenant_id, FINDING.c.aggregate_id).in_(list(subjects))
    query = select(FINDING.c.evidence["processInstanceId"].astext).where(FINDING.c.kind == kind, about)
    return set(connection.scalars(query))
