"""Approvals over HTTP: the list of an approver, the decision, and the explanation of what was decided.

A decision is recorded first; completing the engine's user task is a row in the same transaction, so the process follows and never leads.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import JSONResponse

from domain.errors import Invalid
from domain.offers import deciding, explaining, reading
from domain.offers.quotes import Quote
from domain.store import Answer, UnitOfWork
from workers.http.auth import APPROVERS, SELLERS
from workers.http.calls import Call, Commanding, Look, Looking, shown
from workers.http.document.responses import described_command, described_read
from workers.http.paging import After, Limit, page
from workers.http.routes.quotes import QuoteId
from workers.http.shapes import approval_answers, bodies

router = APIRouter(tags=["approvals"])

DECIDE = tuple(move.name for move in deciding.DECIDE.values())


class OtherTask(Invalid):
    """The path names one approval task, the body another."""


@router.get("/approval-tasks", responses=described_read(approval_answers.TaskPage))
def list_tasks(
    looking: Annotated[Look, Depends(Looking(APPROVERS))],
    status: Annotated[Literal["open"], Query(description="Only open ones are tasks")] = "open",  # noqa: ARG001 - part of the path's contract
    limit: Limit = 50,
    after: After = None,
) -> JSONResponse:
    """List the signatures that wait for somebody with one of the token's roles, the most urgent first."""
    roles = looking.principal.roles
    return shown(page(looking.at(lambda uow: reading.approval_tasks(uow, roles, limit + 1, after)), limit, "taskId"))


@router.get("/quotes/{quoteId}/approvals", responses=described_read(approval_answers.RequestPage, of_one=True))
def explain_approvals(
    looking: Annotated[Look, Depends(Looking(SELLERS | APPROVERS))], quote_id: QuoteId, limit: Limit = 50, after: After = None
) -> JSONResponse:
    """Explain every approval of a quote: what was asked and why, who signed, and by which authority."""
    found = looking.at(lambda uow: explaining.approvals_of(uow, quote_id, limit + 1, after))
    return shown(page(found, limit, "requestId"))


@router.post(
    "/approval-tasks/{taskId}/decisions",
    status_code=201,
    responses=described_command(approval_answers.ShownDecision, 201, *DECIDE, refusals=(OtherTask,), versioned=False),
)
def decide(
    call: Annotated[Call, Depends(Commanding("decide-approval", APPROVERS))],
    task_id: Annotated[UUID, Path(alias="taskId")],
    body: bodies.DecideBody,
) -> JSONResponse:
    """Decide one requirement, bound to the revision and price that the approver saw."""

    def work(uow: UnitOfWork) -> Answer:
        if body.requirement_id != task_id:
            raise OtherTask
        decision = deciding.Decide(
            expected_version=body.expected_requirement_version,
            decided_by=call.principal.subject,
            roles=call.principal.roles,
            approval_task_id=str(task_id),
            **{
                name: getattr(body, name)
                for name in ("requirement_id", "quote_revision_id", "price_result_id", "decision", "reason_code", "comment")
            },
        )
        requirement = deciding.decide(uow, decision)
        deciding.complete_approval_task(uow, requirement, decision)
        quote = uow.read(Quote, reading.requirement(uow, requirement.id).quote_id)
        decided = approval_answers.ShownDecision(
            requirement_id=requirement.id,
            requirement_status=requirement.status,
            requirement_version=requirement.version,
            quote_id=quote.id,
            quote_status=quote.status,
            quote_version=quote.version,
        )
        return decided.answer(HTTPStatus.CREATED)

    return call.run(body, work)
