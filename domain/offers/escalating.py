"""Late signatures: remind the approvers, then ask others. The offer and its requirements stay as they are.

Who is asked next is a rule of the process owner (DMN `approval-escalation`). A requirement is PENDING only while its request is open, because
both change in one transaction; so a guard on the requirement's own state is enough.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func
from sqlalchemy.dialects.postgresql import ARRAY, INTERVAL, TEXT

from domain.authority import AuthorityGrant, is_granted
from domain.errors import Conflict, SafeAction
from domain.offers.approvals import (
    REQUIREMENT_MATRIX,
    AlreadyEscalated,
    ApprovalRequirement,
    FourEyesViolation,
    NotAsked,
    RequirementEvent,
)
from domain.offers.deciding import NO_LONGER_ASKED, NOT_THE_OWNER
from domain.store import Guard, Move, UnitOfWork, param
from domain.workflows.instances import NotThisProcess, acts_for
from domain.workflows.timers import NotDue, is_due


class AlreadyReminded(Conflict):
    """The present approvers were reminded before."""

    safe_action = SafeAction.NOTHING_TO_DO


# Whoever hands a signature on is somebody who is asked for it, however far their authority reaches.
IS_ASKED = is_granted(ApprovalRequirement.tenant_id, param("decided_by"), AuthorityGrant.role == ApprovalRequirement.approver_group)
ESCALATE_GUARDS = (
    Guard(NotThisProcess, acts_for(ApprovalRequirement.id)),
    Guard(AlreadyEscalated, ApprovalRequirement.escalation_level == param("expected_escalation_level")),
)
NEXT_GROUP = {
    ApprovalRequirement.approver_group: param("approver_group"),
    ApprovalRequirement.escalation_level: ApprovalRequirement.escalation_level + 1,
    ApprovalRequirement.remind_at: func.clock_timestamp() + param("remind_after", INTERVAL()),
    ApprovalRequirement.reminded_at: None,
    ApprovalRequirement.due_at: func.clock_timestamp() + param("sla", INTERVAL()),
    ApprovalRequirement.escalation_notice: param("notice"),
    ApprovalRequirement.refusal_notice: None,
}
ESCALATE = Move(
    ApprovalRequirement,
    REQUIREMENT_MATRIX,
    RequirementEvent.ESCALATE,
    *ESCALATE_GUARDS,
    Guard(NotDue, is_due(ApprovalRequirement.due_at)),
    sets=NEXT_GROUP,
    emits="ApprovalEscalated",
    illegal=NO_LONGER_ASKED,
)
HAND_ON = Move(
    ApprovalRequirement,
    REQUIREMENT_MATRIX,
    RequirementEvent.HAND_ON,
    *ESCALATE_GUARDS,
    Guard(FourEyesViolation, NOT_THE_OWNER),
    Guard(NotAsked, ApprovalRequirement.approver_group == func.any(param("roles", ARRAY(TEXT)))),
    Guard(NotAsked, IS_ASKED),
    sets=NEXT_GROUP,
    emits="ApprovalEscalated",
    illegal=NO_LONGER_ASKED,
)
REMIND = Move(
    ApprovalRequirement,
    REQUIREMENT_MATRIX,
    RequirementEvent.REMIND,
    Guard(NotThisProcess, acts_for(ApprovalRequirement.id)),
    Guard(AlreadyReminded, ApprovalRequirement.reminded_at.is_(None)),
    Guard(NotDue, is_due(ApprovalRequirement.remind_at)),
    sets={ApprovalRequirement.reminded_at: func.clock_timestamp()},
    emits="ApprovalReminded",
    illegal=NO_LONGER_ASKED,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EscalateRequirement:
    """Ask this group from now on, for `sla`, and tell it why (`notice`). `expected_escalation_level` counts the escalations before this one.

    `process_instance_id` is the process that asks for the signature; None: no process sends the command.
    """

    requirement_id: UUID
    expected_escalation_level: int
    approver_group: str
    sla: timedelta
    notice: str | None = None
    process_instance_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOn(EscalateRequirement):
    """A person who is asked for a signature hands it on."""

    decided_by: str
    roles: Sequence[str]


def escalate(uow: UnitOfWork, command: EscalateRequirement) -> Row[Any]:
    """Ask another group for a late signature. Raises AlreadyEscalated, NotDue, StaleApproval, ApprovalAlreadyDecided, NotThisProcess."""
    return uow.apply(ESCALATE, command, remind_after=command.sla / 2)


def hand_on(uow: UnitOfWork, command: HandOn) -> Row[Any]:
    """Ask another group, because somebody who is asked does not want to decide.

    Raises FourEyesViolation, NotAsked, and what `escalate` raises except NotDue.
    """
    return uow.apply(HAND_ON, command, remind_after=command.sla / 2)


def remind(uow: UnitOfWork, requirement_id: UUID, process_instance_id: str | None = None) -> Row[Any]:
    """Remind the present approvers, once. Raises NotDue; StaleApproval, ApprovalAlreadyDecided when nobody is asked any more."""
    try:
        return uow.apply(REMIND, requirement_id=requirement_id, process_instance_id=process_instance_id)
    except AlreadyReminded:
        requirement = uow.read(ApprovalRequirement, requirement_id)
        uow.summary.repeat("approval_requirement", requirement)
        return requirement
