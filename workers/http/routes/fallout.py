"""Fallout cases over HTTP: find one, claim it, work on it, and decide how it is resolved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import Row

from domain.delivery import cases_shown, proposing, resolving
from domain.delivery.repairing import RepairMissing, RepairNotFitting
from domain.delivery.resolving import EvidenceMissing
from domain.delivery.step_moves import DECISIONS
from domain.errors import Refusal
from domain.fallout import casework
from domain.fallout.cases import FalloutCase, FalloutStatus, Queue
from domain.fallout.casework import CaseCommand
from domain.store import Answer, Cause, UnitOfWork
from workers.http.auth import CASE_WORKERS, FULFILLERS, SELLERS, Principal
from workers.http.calls import Call, Commanding, Read, Reading, read_response
from workers.http.document.responses import Responses, command_responses, read_responses
from workers.http.paging import After, Limit, page
from workers.http.preconditions import IfMatch, Precondition
from workers.http.routes.evaluation import evaluate
from workers.http.shapes import bodies, order_answers, order_bodies

router = APIRouter(prefix="/fallout-cases", tags=["fallout"])
CaseId = Annotated[UUID, Path(alias="caseId")]
ANSWERERS = CASE_WORKERS | SELLERS | FULFILLERS
"""The roles that may answer a case worker's question."""


def _command(principal: Principal, case_id: UUID, version: int) -> CaseCommand:
    return CaseCommand(case_id=case_id, expected_version=version, person=principal.subject, roles=principal.roles)


def _body(uow: UnitOfWork, principal: Principal, row: Row[Any]) -> dict[str, Any]:
    return cases_shown.case(uow, row, _command(principal, row.id, row.version))


def _answer(uow: UnitOfWork, principal: Principal, row: Row[Any]) -> Answer:
    return Answer(status=HTTPStatus.CREATED, body=_body(uow, principal, row), version=row.version)


def _act(
    call: Call, body: BaseModel, case_id: UUID, if_match: IfMatch, act: Callable[[UnitOfWork, CaseCommand], Row[Any]]
) -> JSONResponse:
    def work(uow: UnitOfWork) -> Answer:
        return _answer(uow, call.principal, act(uow, _command(call.principal, case_id, if_match.required())))

    return call.run(body, work)


def _responses(*moves: str, refusals: Iterable[type[Refusal]] = ()) -> Responses:
    return command_responses(order_answers.ShownCase, 201, *moves, refusals=refusals)


@router.get("", responses=read_responses(order_answers.CasePage))
def list_cases(  # noqa: PLR0917 - a filter and its page
    read: Annotated[Read, Depends(Reading(CASE_WORKERS | FULFILLERS))],
    status: FalloutStatus | None = None,
    queue: Queue | None = None,
    order_id: Annotated[UUID | None, Query(alias="orderId")] = None,
    limit: Limit = 50,
    after: After = None,
) -> JSONResponse:
    """List fallout cases by status, queue and order."""
    found = read.run(lambda uow: cases_shown.cases_of(uow, limit + 1, after, status=status, queue=queue, order_id=order_id))
    return read_response(page(found, limit, "caseId"))


@router.get("/{caseId}", responses=read_responses(order_answers.ShownCase, has_version=True))
def read_case(read: Annotated[Read, Depends(Reading(CASE_WORKERS | FULFILLERS))], case_id: CaseId) -> JSONResponse:
    """Read a case, with the resolutions that you may choose."""
    return read_response(read.run(lambda uow: _body(uow, read.principal, uow.read(FalloutCase, case_id))))


@router.post("/{caseId}/claims", status_code=201, responses=_responses("fallout_case.claim", "fallout_case.expire_claim"))
def claim_case(
    call: Annotated[Call, Depends(Commanding("claim-case", CASE_WORKERS))],
    if_match: Precondition,
    case_id: CaseId,
    body: bodies.EmptyBody,
) -> JSONResponse:
    """Claim a case. Its owner prolongs the lease by claiming it again; anybody else is refused, and told who the owner is."""
    return _act(call, body, case_id, if_match, casework.claim)


@router.post("/{caseId}/releases", status_code=201, responses=_responses("fallout_case.release"))
def release_case(
    call: Annotated[Call, Depends(Commanding("release-case", CASE_WORKERS))],
    if_match: Precondition,
    case_id: CaseId,
    body: bodies.EmptyBody,
) -> JSONResponse:
    """Return a case to its queue."""
    return _act(call, body, case_id, if_match, casework.release)


@router.post("/{caseId}/information-requests", status_code=201, responses=_responses("fallout_case.request_information"))
def request_information(
    call: Annotated[Call, Depends(Commanding("request-information", CASE_WORKERS))],
    if_match: Precondition,
    case_id: CaseId,
    body: order_bodies.QuestionBody,
) -> JSONResponse:
    """Ask for information. The case waits for it, and you stay its owner."""
    return _act(call, body, case_id, if_match, lambda uow, command: casework.request_information(uow, command, body.question))


@router.post("/{caseId}/information", status_code=201, responses=_responses("fallout_case.receive_information"))
def give_information(
    call: Annotated[Call, Depends(Commanding("give-information", ANSWERERS))],
    if_match: Precondition,
    case_id: CaseId,
    body: order_bodies.InformationBody,
) -> JSONResponse:
    """Give the information that a case waits for. Its owner goes on with it."""
    return _act(call, body, case_id, if_match, lambda uow, command: casework.receive_information(uow, command, body.information))


@router.post("/{caseId}/holds", status_code=201, responses=_responses("fallout_case.hold"))
def hold_case(
    call: Annotated[Call, Depends(Commanding("hold-case", CASE_WORKERS))],
    if_match: Precondition,
    case_id: CaseId,
    body: order_bodies.HoldBody,
) -> JSONResponse:
    """Put a case on hold, with a reason."""
    return _act(call, body, case_id, if_match, lambda uow, command: casework.hold(uow, command, body.reason))


@router.post("/{caseId}/resumptions", status_code=201, responses=_responses("fallout_case.resume"))
def resume_case(
    call: Annotated[Call, Depends(Commanding("resume-case", CASE_WORKERS))],
    if_match: Precondition,
    case_id: CaseId,
    body: bodies.EmptyBody,
) -> JSONResponse:
    """Resume a case that you put on hold."""
    return _act(call, body, case_id, if_match, casework.resume)


@router.post("/{caseId}/escalations", status_code=201, responses=_responses("fallout_case.hand_on"))
def escalate_case(
    call: Annotated[Call, Depends(Commanding("escalate-case", CASE_WORKERS))],
    if_match: Precondition,
    case_id: CaseId,
    body: bodies.EmptyBody,
) -> JSONResponse:
    """Hand a case on to the next level."""
    return _act(call, body, case_id, if_match, casework.hand_on)


@router.post(
    "/{caseId}/proposals",
    status_code=201,
    responses=_responses("fallout_case.propose", refusals=(EvidenceMissing, RepairNotFitting)),
)
def propose_resolution(
    call: Annotated[Call, Depends(Commanding("propose-resolution", CASE_WORKERS))],
    if_match: Precondition,
    case_id: CaseId,
    body: order_bodies.ResolutionBody,
) -> JSONResponse:
    """Propose a resolution of your case for a second person to confirm. MARK_COMPLETED needs one."""

    def propose(uow: UnitOfWork, command: CaseCommand) -> Row[Any]:
        proposing.propose(uow, body.command(command))
        return uow.read(FalloutCase, case_id)

    return _act(call, body, case_id, if_match, propose)


@router.post(
    "/{caseId}/confirmations",
    status_code=201,
    responses=_responses("fallout_case.confirm", "fallout_case.resolve", *(move.name for move in DECISIONS.values())),
)
def confirm_proposal(
    call: Annotated[Call, Depends(Commanding("confirm-proposal", CASE_WORKERS))],
    if_match: Precondition,
    case_id: CaseId,
    body: order_bodies.SecondOpinionBody,
) -> JSONResponse:
    """Confirm, as the second person, exactly what the first has proposed; it is carried out in the first one's name."""

    def confirm(uow: UnitOfWork) -> Row[Any]:
        return proposing.confirm(uow, body.command(_command(call.principal, case_id, if_match.required())))

    return _resolved(call, body, confirm)


@router.post("/{caseId}/declines", status_code=201, responses=_responses("fallout_case.confirm"))
def decline_proposal(
    call: Annotated[Call, Depends(Commanding("decline-proposal", CASE_WORKERS))],
    if_match: Precondition,
    case_id: CaseId,
    body: order_bodies.SecondOpinionBody,
) -> JSONResponse:
    """Decline, as the second person, what the first has proposed; the case keeps the reason, and stays as it is."""

    def decline(uow: UnitOfWork, command: CaseCommand) -> Row[Any]:
        proposing.decline(uow, body.command(command))
        return uow.read(FalloutCase, case_id)

    return _act(call, body, case_id, if_match, decline)


@router.post(
    "/{caseId}/resolutions",
    status_code=201,
    responses=_responses(
        "fallout_case.resolve",
        *(move.name for move in DECISIONS.values()),
        refusals=(EvidenceMissing, RepairMissing, RepairNotFitting),
    ),
)
def resolve_case(
    call: Annotated[Call, Depends(Commanding("resolve-case", CASE_WORKERS))],
    if_match: Precondition,
    case_id: CaseId,
    body: order_bodies.ResolutionBody,
) -> JSONResponse:
    """Resolve your case. Its step changes with it, and then its order."""

    def resolve(uow: UnitOfWork) -> Row[Any]:
        return resolving.resolve(uow, body.command(_command(call.principal, case_id, if_match.required())))

    return _resolved(call, body, resolve)


def _resolved(call: Call, body: BaseModel, act: Callable[[UnitOfWork], Row[Any]]) -> JSONResponse:
    orders: list[UUID] = []

    def work(uow: UnitOfWork) -> Answer:
        resolved = act(uow)
        if resolved.order_id is not None:
            orders.append(resolved.order_id)
        return _answer(uow, call.principal, resolved)

    answer = call.run(body, work)
    _evaluate(call, orders)
    return answer


def _evaluate(call: Call, orders: Sequence[UUID]) -> None:
    for order_id in orders[-1:]:  # a unit of work that was repeated has appended its order twice
        cause = Cause(tenant_id=call.principal.tenant_id, actor=call.principal.subject, command="evaluate-order")
        evaluate(call.executor, cause, order_id)
