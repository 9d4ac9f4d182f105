"""The story of an order: what happened to its offer and to itself, what was refused, what was found and repaired, and who did it.

Reads only, of one tenant. It adds to the timeline of the order what came before it and what left no change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, or_, select

from domain.delivery.cancellations import CancellationRequest
from domain.delivery.jeopardy import ALERT
from domain.delivery.orders import ORDER
from domain.delivery.steps import of_order
from domain.delivery.timelines import Entry, among, entries, entry, in_order, transitions
from domain.fallout.triaging import CASE
from domain.findings import ReconciliationFinding
from domain.offers.acceptances import QuoteAcceptance
from domain.offers.approvals import ApprovalDecision, ApprovalRequest, ApprovalRequirement
from domain.offers.quotes import QuoteRevision
from domain.store import UnitOfWork, table_of
from domain.store.facts import ConflictLog
from domain.workflows.starts import CORRELATION

REQUEST, REQUIREMENT, DECISION, ACCEPTANCE, REFUSAL, FINDING, REVISION, CANCELLATION = (
    table_of(entity)
    for entity in (
        ApprovalRequest,
        ApprovalRequirement,
        ApprovalDecision,
        QuoteAcceptance,
        ConflictLog,
        ReconciliationFinding,
        QuoteRevision,
        CancellationRequest,
    )
)


def find_orders(connection: Connection, named: str, tenant_id: UUID | None = None) -> list[Row[Any]]:
    """The orders with this number or id, of one tenant or of all: numbers count per tenant."""
    order_id = _as_uuid(named)
    query = select(*ORDER.c).where(or_(ORDER.c.order_number == named, ORDER.c.id == order_id))
    query = query.where(ORDER.c.tenant_id == tenant_id) if tenant_id else query
    return list(connection.execute(query))


def story(uow: UnitOfWork, order: Row[Any]) -> list[dict[str, Any]]:
    """Everything that is known of an order and of its offer, oldest first."""
    steps = {step.id: step for step in of_order(uow, order.id)}
    cases = {case.id: case for case in among(uow, CASE, "order_id", [order.id])}
    requests = [row.id for row in among(uow, REQUEST, "quote_id", [order.quote_id])]
    requirements = {row.id: row for row in among(uow, REQUIREMENT, "request_id", requests)}
    subjects = [order.id, order.quote_id, *steps, *cases, *requests, *requirements, *_others(uow, order)]
    processes = {row.id: row for row in among(uow, CORRELATION, "aggregate_id", subjects)}
    return in_order(
        [
            *entries(uow, order.id),
            *transitions(
                uow, {"quote": [order.quote_id], "approval_request": requests, "approval_requirement": requirements}, {}, {}
            ),
            *_decisions(uow, requirements),
            *_acceptances(uow, order.quote_id),
            *_cases(cases.values()),
            *_refusals(uow, [*subjects, *processes], steps),
            *_findings(uow, [*subjects, *processes], steps, processes),
            *_processes(uow, processes),
        ]
    )


def _others(uow: UnitOfWork, order: Row[Any]) -> Iterator[UUID]:
    """What else belongs to an order and its quote: revisions, which their approval processes are about, cancellations, and alerts."""
    belonging = ((REVISION, "quote_id", order.quote_id), (CANCELLATION, "order_id", order.id), (ALERT, "order_id", order.id))
    for table, column, owner in belonging:
        yield from (row.id for row in among(uow, table, column, [owner]))


def _as_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _decisions(uow: UnitOfWork, requirements: Mapping[UUID, Row[Any]]) -> Iterator[Entry]:
    for row in among(uow, DECISION, "requirement_id", requirements):
        asked = requirements[row.requirement_id]
        yield entry(
            "DECISION",
            row.created_at,
            id=row.id,
            actor=row.decided_by,
            status=row.decision,
            reason=row.reason_code,
            signature=asked.type,
            level=asked.level,
            authority=_role(row.authority_snapshot),
        )


def _role(snapshot: Any) -> Any:
    """The role of a grant; a snapshot of another form is told as it is."""
    return snapshot.get("role") if isinstance(snapshot, Mapping) else snapshot


def _acceptances(uow: UnitOfWork, quote_id: UUID) -> Iterator[Entry]:
    for row in among(uow, ACCEPTANCE, "quote_id", [quote_id]):
        yield entry(
            "ACCEPTANCE",
            row.created_at,
            id=row.id,
            actor=row.accepted_by,
            price_book_version=row.price_book_version,
            active_version=row.active_price_book_version_seen,
            policy=row.staleness_policy,
        )


def _cases(cases: Iterable[Row[Any]]) -> Iterator[Entry]:
    for row in cases:
        facts = {"type": row.type, "severity": row.severity, "queue": row.queue, "detail": row.detail}
        yield entry("CASE", row.created_at, id=row.id, case_number=row.case_number, **facts)


def _refusals(uow: UnitOfWork, subjects: list[UUID], steps: Mapping[UUID, Row[Any]]) -> Iterator[Entry]:
    for row in among(uow, REFUSAL, "aggregate_id", subjects):
        yield entry(
            "REFUSAL",
            row.created_at,
            steps.get(row.aggregate_id),
            id=row.id,
            actor=row.actor,
            command=row.command,
            code=row.conflict_code,
            aggregate_type=row.aggregate_type,
            expected_version=row.expected_version,
            actual_version=row.actual_version,
        )


def _findings(
    uow: UnitOfWork, subjects: list[UUID], steps: Mapping[UUID, Row[Any]], processes: Mapping[UUID, Row[Any]]
) -> Iterator[Entry]:
    for row in among(uow, FINDING, "aggregate_id", subjects):
        process = processes.get(row.aggregate_id)
        facts = {"id": row.id, "sweep": row.kind, "status": row.action, "evidence": row.evidence, "finding_status": row.status}
        facts["workflow"] = process.workflow_name if process is not None else None
        yield entry("FINDING", row.created_at, steps.get(row.aggregate_id), **facts)


def _processes(uow: UnitOfWork, processes: Mapping[UUID, Row[Any]]) -> Iterator[Entry]:
    for change in transitions(uow, {"workflow_correlation": processes}, {}, {}):
        yield {**change, "workflow": processes[change["aggregate_id"]].workflow_name}
    for row in processes.values():
        yield entry(
            "PROCESS",
            row.updated_at,
            id=row.id,
            workflow=row.workflow_name,
            status=row.status,
            process_instance_id=row.process_instance_id,
            attempts=row.attempts,
        )
