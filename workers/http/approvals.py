"""Approvals over HTTP: the list of an approver, and the decision.

A decision is recorded first; completing the engine's user task is a row in the same transaction, so the process follows and never leads.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import JSONResponse

from domain import approving, reading
from domain.errors import Invalid
from domain.quotes import Quote
from domain.store import Answer, UnitOfWork
from workers.http import answers, bodies
from workers.http.auth import APPROVERS
from workers.http.calls import Call, Reading, command, shown
from workers.http.described import described_command, described_read
from workers.http.paging import Limit

router = APIRouter(prefix="/approval-tasks", tags=["approvals"])

DECIDE = tuple(move.name for move in approving.DECIDE.values())


class OtherTask(Invalid):
    """The path names one approval task, the body another."""


@router.get("", responses=described_read(answers.TaskList))
def list_tasks(
    looking: Reading,
    status: Annotated[Literal["open"], Query(description="Only open ones are tasks")] = "open",  # noqa: ARG001 - part of the path's contract
    limit: Limit = 50,
) -> JSONResponse:
    """List the signatures that wait for somebody with one of the token's roles."""
    return shown({"items": looking.at(lambda uow: reading.approval_tasks(uow, looking.principal.roles, limit))})


@router.post(
    "/{taskId}/decisions",
    status_code=201,
    responses=described_command(answers.ShownDecision, 201, *DECIDE, refusals=(OtherTask,), versioned=False),
)
def decide(
    call: Annotated[Call, Depends(command("decide-approval", APPROVERS))],
    task_id: Annotated[UUID, Path(alias="taskId")],
    body: bodies.DecideBody,
) -> JSONResponse:
    """Decide one requirement, bound to the revision and price that the approver saw."""

    def work(uow: UnitOfWork) -> Answer:
        if body.requirement_id != task_id:
            raise OtherTask
        decision = approving.Decide(
            expected_version=body.expected_requirement_version,
            decided_by=call.principal.subject,
            roles=call.principal.roles,
            approval_task_id=str(task_id),
            **{
                name: getattr(body, name)
                for name in ("requirement_id", "quote_revision_id", "price_result_id", "decision", "reason_code", "comment")
            },
        )
        requirement = approving.decide(uow, decision)
        approving.tell_engine(uow, requirement, decision)
        quote = uow.read(Quote, reading.requirement(uow, requirement.id).quote_id)
        decided = answers.ShownDecision(
            requirement_id=requirement.id,
            requirement_status=requirement.status,
            requirement_version=requirement.version,
            quote_id=quote.id,
            quote_status=quote.status,
            quote_version=quote.version,
        )
        return decided.answer(HTTPStatus.CREATED)

    return call.run(body, work)
