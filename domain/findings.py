"""Findings: what a sweep found and how it repaired it. They prove that asking settled an unknown, not guessing (docs/domain.md#invariants, I15).

A finding is written in the transaction of its repair, so there is never one without the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index
from sqlalchemy.orm import Mapped

from domain.store import Base, Owned, UnitOfWork, append_only, as_json


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


append_only(ReconciliationFinding)
