"""Approvals over HTTP: the open tasks of an approver, the decision on one, and the explanation of every approval of a quote.

The rule: the decision is recorded first. The request that completes the engine's user task is a row of the same transaction, so the process
follows the decision.
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
from workers.http.calls import Call, Commanding, Read, Reading, read_response
from workers.http.document.responses import command_responses, read_responses
from workers.http.paging import After, Limit, page
from workers.http.routes.quotes import QuoteId
from workers.http.shapes import approval_answers, approval_bodies

router = APIRouter(tags=["approvals"])

DECIDE = tuple(move.name for move in deciding.DECIDE.values())


class OtherTask(Invalid):
    """The path names one approval task, the body another."""


@router.get("/approval-tasks", responses=read_responses(approval_answers.TaskPage))
def list_tasks(
    read: Annotated[Read, Depends(Reading(APPROVERS))],
    status: Annotated[Literal["open"], Query(description="Only open requirements are tasks")] = "open",  # noqa: ARG001 - part of the path's contract
    limit: Limit = 50,
    after: After = None,
) -> JSONResponse:
    """List the requirements that somebody with one of the token's roles may decide, the most urgent first."""
    roles = read.principal.roles
    return read_response(page(read.run(lambda uow: reading.approval_tasks(uow, roles, limit + 1, after)), limit, "taskId"))


@router.get("/quotes/{quoteId}/approvals", responses=read_responses(approval_answers.RequestPage, of_one=True))
def explain_approvals(
    read: Annotated[Read, Depends(Reading(SELLERS | APPROVERS))], quote_id: QuoteId, limit: Limit = 50, after: After = None
) -> JSONResponse:
    """Explain every approval of a quote: which signatures it needed and why, who signed, and by which authority."""
    found = read.run(lambda uow: explaining.approvals_of(uow, quote_id, limit + 1, after))
    return read_response(page(found, limit, "requestId"))


@router.post(
    "/approval-tasks/{taskId}/decisions",
    status_code=201,
    responses=command_responses(approval_answers.ShownDecision, 201, *DECIDE, refusals=(OtherTask,), versioned=False),
)
def decide(
    call: Annotated[Call, Depends(Commanding("decide-approval", APPROVERS))],
    task_id: Annotated[UUID, Path(alias="taskId")],
    body: approval_bodies.DecideBody,
) -> JSONResponse:
    """Decide one requirement, for exactly the revision and price that the approver saw."""

    def work(uow: UnitOfWork) -> Answer:
        if body.requirement_id != task_id:
            raise OtherTask
        decision = body.command(call.principal.subject, call.principal.roles)
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
