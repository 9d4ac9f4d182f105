"""Late signatures: remind the approvers, then ask others. The offer and its requirements stay as they are.

Who is asked next is a rule of the process owner (DMN `approval-escalation`). A requirement is PENDING only while its request is open, because
both change in one transaction; so a guard on the requirement's own state is enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func
from sqlalchemy.dialects.postgresql import INTERVAL

from domain.errors import Conflict, SafeAction
from domain.offers.approvals import (
    REQUIREMENT_MATRIX,
    AlreadyEscalated,
    ApprovalAlreadyDecided,
    ApprovalRequirement,
    RequirementEvent,
    RequirementStatus,
    StaleApproval,
)
from domain.offers.deciding import DECIDED
from domain.store import Guard, Move, UnitOfWork, param


class AlreadyReminded(Conflict):
    """The present approvers were reminded before."""

    safe_action = SafeAction.NOTHING_TO_DO


NO_LONGER_ASKED = {RequirementStatus.INVALIDATED: StaleApproval, **dict.fromkeys(DECIDED, ApprovalAlreadyDecided)}

ESCALATE = Move(
    ApprovalRequirement,
    REQUIREMENT_MATRIX,
    RequirementEvent.ESCALATE,
    Guard(AlreadyEscalated, ApprovalRequirement.escalation_level == param("expected_escalation_level")),
    sets={
        ApprovalRequirement.approver_group: param("approver_group"),
        ApprovalRequirement.escalation_level: ApprovalRequirement.escalation_level + 1,
        ApprovalRequirement.remind_at: func.clock_timestamp() + param("remind_after", INTERVAL()),
        ApprovalRequirement.reminded_at: None,
        ApprovalRequirement.due_at: func.clock_timestamp() + param("sla", INTERVAL()),
    },
    emits="ApprovalEscalated",
    illegal=NO_LONGER_ASKED,
)
REMIND = Move(
    ApprovalRequirement,
    REQUIREMENT_MATRIX,
    RequirementEvent.REMIND,
    Guard(AlreadyReminded, ApprovalRequirement.reminded_at.is_(None)),
    sets={ApprovalRequirement.reminded_at: func.clock_timestamp()},
    emits="ApprovalReminded",
    illegal=NO_LONGER_ASKED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalateRequirement:
    """Ask this group from now on, for `sla`. `expected_escalation_level` counts the escalations before this one."""

    requirement_id: UUID
    expected_escalation_level: int
    approver_group: str
    sla: timedelta


def escalate(uow: UnitOfWork, command: EscalateRequirement) -> Row[Any]:
    """Ask another group for a signature. Raises AlreadyEscalated, StaleApproval, ApprovalAlreadyDecided."""
    return uow.apply(ESCALATE, command, remind_after=command.sla / 2)


def remind(uow: UnitOfWork, requirement_id: UUID) -> Row[Any]:
    """Remind the present approvers, once. Raises StaleApproval, ApprovalAlreadyDecided when nobody is asked any more."""
    try:
        return uow.apply(REMIND, requirement_id=requirement_id)
    except AlreadyReminded:
        return uow.read(ApprovalRequirement, requirement_id)
