"""User tasks of approvers that are still open although nobody is asked any more: what should have ended them is said once more.

A decision that was made over HTTP completes its task, the end of an approval ends its process; each by the request that the command made the
first time.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, and_, exists, func, or_, select

from domain import messages
from domain.findings import FINDING
from domain.offers import approvals, deciding, quotes
from domain.offers.approvals import ApprovalDecision, ApprovalRequest, ApprovalRequirement, RequestStatus, RequirementStatus
from domain.store import UnitOfWork, is_one_of, table_of
from domain.store.facts import WorkflowCommandKind, WorkflowCommandStatus
from domain.workflows.instances import INSTANCE
from domain.workflows.requests import COMMAND

REQUIREMENT, REQUEST, DECISION = table_of(ApprovalRequirement), table_of(ApprovalRequest), table_of(ApprovalDecision)
ENDING = {
    RequestStatus.RECALLED: messages.QUOTE_APPROVAL_RECALLED,
    RequestStatus.EXPIRED: messages.QUOTE_EXPIRED,
    RequestStatus.INVALIDATED: messages.QUOTE_REVISION_SUPERSEDED,
}
"""What ends the process of an approval that was not decided."""


def needless(connection: Connection, process_instance_ids: Collection[str], grace: timedelta, sweep: str) -> list[Row[Any]]:
    """The requirements, not pending for longer than `grace`, that these instances ask approvers about.

    Those that the engine is still being told about are left out. `times_told` is how often this sweep has told it, `told_since` since when.
    """
    # The instances come first: the planner assumes that row level security hides nearly all requirements, and would look each of them up.
    named = select(*INSTANCE.c).where(INSTANCE.c.process_instance_id.in_(list(process_instance_ids)))
    asking = named.cte("asking").prefix_with("MATERIALIZED")
    is_on_its_way = exists(
        select(COMMAND.c.id).where(
            COMMAND.c.tenant_id == asking.c.tenant_id,
            COMMAND.c.business_key == asking.c.business_key,
            COMMAND.c.status == WorkflowCommandStatus.PENDING,
        )
    )
    told = and_(FINDING.c.tenant_id == REQUIREMENT.c.tenant_id, FINDING.c.aggregate_id == REQUIREMENT.c.id, FINDING.c.kind == sweep)
    query = (
        select(*REQUIREMENT.c, asking.c.process_instance_id, REQUEST.c.status.label("request_status"))
        .add_columns(
            select(func.count()).where(told).scalar_subquery().label("times_told"),
            select(func.min(FINDING.c.created_at)).where(told).scalar_subquery().label("told_since"),
        )
        .join_from(
            asking, REQUIREMENT, and_(REQUIREMENT.c.tenant_id == asking.c.tenant_id, REQUIREMENT.c.id == asking.c.subject_id)
        )
        .join(REQUEST, and_(REQUEST.c.tenant_id == REQUIREMENT.c.tenant_id, REQUEST.c.id == REQUIREMENT.c.request_id))
        .where(~is_on_its_way)
        .where(or_(~is_one_of(REQUIREMENT.c.status, RequirementStatus.PENDING), ~is_one_of(REQUEST.c.status, RequestStatus.OPEN)))
        .where(REQUIREMENT.c.updated_at < func.clock_timestamp() - grace)
    )
    return list(connection.execute(query))


def end_task(uow: UnitOfWork, requirement_id: UUID) -> bool:
    """Ask the engine once more to end the task of a requirement; returns False when its signature is still wanted."""
    requirement = uow.read(ApprovalRequirement, requirement_id)
    request = uow.read(ApprovalRequest, requirement.request_id)
    if requirement.status == RequirementStatus.PENDING and request.status == RequestStatus.OPEN:
        return False
    message = ENDING.get(RequestStatus(request.status))
    if message is not None:
        message.correlate(uow, quotes.business_key(uow.tenant_id, request.quote_id, request.quote_revision_id))
        return True
    key = approvals.business_key(uow.tenant_id, requirement_id)
    uow.ask_engine(WorkflowCommandKind.COMPLETE_TASK, deciding.TASK, key, _decided(uow, requirement_id))
    return True


def _decided(uow: UnitOfWork, requirement_id: UUID) -> dict[str, Any]:
    query = select(DECISION.c.decision, DECISION.c.reason_code, DECISION.c.comment)
    row = uow.connection.execute(query.filter_by(tenant_id=uow.tenant_id, requirement_id=requirement_id)).one_or_none()
    return {"decision": row.decision, "reason_code": row.reason_code, "comment": row.comment or ""} if row is not None else {}
