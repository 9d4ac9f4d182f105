"""Fallout cases over HTTP: find them, take one, and decide on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import Row

from domain.delivery import cases_shown, resolving
from domain.delivery.resolving import EvidenceMissing, ResolutionNeedsAuthority, ResolveCase
from domain.delivery.step_moves import DECISIONS
from domain.fallout import casework
from domain.fallout.cases import FalloutCase, FalloutStatus, Queue
from domain.fallout.casework import CaseCommand
from domain.store import Answer, Cause, UnitOfWork
from workers.http.auth import CASE_WORKERS, FULFILLERS, SELLERS, Principal
from workers.http.calls import Call, Commanding, Look, Looking, shown
from workers.http.document.responses import described_command, described_read
from workers.http.paging import After, Limit, page
from workers.http.preconditions import Precondition
from workers.http.routes.evaluation import evaluate
from workers.http.shapes import bodies, order_answers

router = APIRouter(prefix="/fallout-cases", tags=["fallout"])
CaseId = Annotated[UUID, Path(alias="caseId")]
ANSWERERS = CASE_WORKERS | SELLERS | FULFILLERS
"""Whoever may know what a case worker asks."""


def _named(principal: Principal, case_id: UUID, version: int) -> CaseCommand:
    return CaseCommand(case_id=case_id, expected_version=version, person=principal.subject, roles=principal.roles)


def _shown(uow: UnitOfWork, principal: Principal, row: Row[Any]) -> Answer:
    looking = _named(principal, row.id, row.version)
    return Answer(status=HTTPStatus.CREATED, body=cases_shown.case(uow, row, looking), version=row.version)


def _act(
    call: Call, body: BaseModel, case_id: UUID, if_match: Any, act: Callable[[UnitOfWork, CaseCommand], Row[Any]]
) -> JSONResponse:
    def work(uow: UnitOfWork) -> Answer:
        return _shown(uow, call.principal, act(uow, _named(call.principal, case_id, if_match.required())))

    return call.run(body, work)


def _described(*moves: str, **more: Any) -> Any:
    return described_command(order_answers.ShownCase, 201, *moves, **more)


@router.get("", responses=described_read(order_answers.CasePage))
def list_cases(  # noqa: PLR0917 - a question and its page
    looking: Annotated[Look, Depends(Looking(CASE_WORKERS | FULFILLERS))],
    status: FalloutStatus | None = None,
    queue: Queue | None = None,
    order_id: Annotated[UUID | None, Query(alias="orderId")] = None,
    limit: Limit = 50,
    after: After = None,
) -> JSONResponse:
    """List cases, by status, queue and order."""
    wanted = {"status": status, "queue": queue, "order_id": order_id}
    return shown(page(looking.at(lambda uow: cases_shown.cases_of(uow, limit + 1, after, **wanted)), limit, "caseId"))


@router.get("/{caseId}", responses=described_read(order_answers.ShownCase, has_version=True))
def read_case(looking: Annotated[Look, Depends(Looking(CASE_WORKERS | FULFILLERS))], case_id: CaseId) -> JSONResponse:
    """Read a case, with what you may decide on it."""

    def look(uow: UnitOfWork) -> dict[str, Any]:
        row = uow.read(FalloutCase, case_id)
        return cases_shown.case(uow, row, _named(looking.principal, case_id, row.version))

    return shown(looking.at(look))


@router.post("/{caseId}/claims", status_code=201, responses=_described("fallout_case.claim", "fallout_case.expire_claim"))
def claim_case(
    call: Annotated[Call, Depends(Commanding("claim-case", CASE_WORKERS))],
    if_match: Precondition,
    case_id: CaseId,
    body: bodies.EmptyBody,
) -> JSONResponse:
    """Take a case; who has it already prolongs the lease, and everybody else is told who that is."""
    return _act(call, body, case_id, if_match, casework.claim)


@router.post("/{caseId}/releases", status_code=201, responses=_described("fallout_case.release"))
def release_case(
    call: Annotated[Call, Depends(Commanding("release-case", CASE_WORKERS))],
    if_match: Precondition,
    case_id: CaseId,
    body: bodies.EmptyBody,
) -> JSONResponse:
    """Give a case back to its queue."""
    return _act(call, body, case_id, if_match, casework.release)


@router.post("/{caseId}/information-requests", status_code=201, responses=_described("fallout_case.request_information"))
def request_information(
    call: Annotated[Call, Depends(Commanding("request-information", CASE_WORKERS))],
    if_match: Precondition,
    case_id: CaseId,
    body: bodies.QuestionBody,
) -> JSONResponse:
    """Ask somebody something; the case waits, and stays yours."""
    return _act(call, body, case_id, if_match, lambda uow, command: casework.request_information(uow, command, body.question))


@router.post("/{caseId}/information", status_code=201, responses=_described("fallout_case.receive_information"))
def give_information(
    call: Annotated[Call, Depends(Commanding("give-information", ANSWERERS))],
    if_match: Precondition,
    case_id: CaseId,
    body: bodies.InformationBody,
) -> JSONResponse:
    """Answer what was asked; its owner goes on."""
    return _act(call, body, case_id, if_match, lambda uow, command: casework.receive_information(uow, command, body.information))


@router.post("/{caseId}/holds", status_code=201, responses=_described("fallout_case.hold"))
def hold_case(
    call: Annotated[Call, Depends(Commanding("hold-case", CASE_WORKERS))],
    if_match: Precondition,
    case_id: CaseId,
    body: bodies.HoldBody,
) -> JSONResponse:
    """Put a case aside, for a reason."""
    return _act(call, body, case_id, if_match, lambda uow, command: casework.hold(uow, command, body.reason))


@router.post("/{caseId}/resumptions", status_code=201, responses=_described("fallout_case.resume"))
def resume_case(
    call: Annotated[Call, Depends(Commanding("resume-case", CASE_WORKERS))],
    if_match: Precondition,
    case_id: CaseId,
    body: bodies.EmptyBody,
) -> JSONResponse:
    """Go on with a case that you put aside."""
    return _act(call, body, case_id, if_match, casework.resume)


@router.post("/{caseId}/escalations", status_code=201, responses=_described("fallout_case.escalate"))
def escalate_case(
    call: Annotated[Call, Depends(Commanding("escalate-case", CASE_WORKERS))],
    if_match: Precondition,
    case_id: CaseId,
    body: bodies.EmptyBody,
) -> JSONResponse:
    """Pass a case one level up."""
    return _act(call, body, case_id, if_match, casework.escalate)


@router.post("/{caseId}/confirmations", status_code=201, responses=_described("fallout_case.to_be_worked_on"))
def confirm_reference(
    call: Annotated[Call, Depends(Commanding("confirm-reference", CASE_WORKERS))],
    if_match: Precondition,
    case_id: CaseId,
    body: bodies.ConfirmationBody,
) -> JSONResponse:
    """Attest, as the second person, that the provider has this reference."""
    return _act(call, body, case_id, if_match, lambda uow, command: casework.confirm(uow, command, body.external_ref, body.text))


@router.post(
    "/{caseId}/resolutions",
    status_code=201,
    responses=_described(
        "fallout_case.resolve",
        *(move.name for move in DECISIONS.values()),
        refusals=(EvidenceMissing, ResolutionNeedsAuthority),
    ),
)
def resolve_case(
    call: Annotated[Call, Depends(Commanding("resolve-case", CASE_WORKERS))],
    if_match: Precondition,
    case_id: CaseId,
    body: bodies.ResolutionBody,
) -> JSONResponse:
    """Decide on your case; the step, and then its order, follow."""
    orders: list[UUID] = []

    def work(uow: UnitOfWork) -> Answer:
        named = _named(call.principal, case_id, if_match.required())
        given = {name: getattr(body, name) for name in bodies.ResolutionBody.model_fields}
        command = ResolveCase(
            case_id=named.case_id, expected_version=named.expected_version, person=named.person, roles=named.roles, **given
        )
        resolved = resolving.resolve(uow, command)
        if resolved.order_id is not None:
            orders.append(resolved.order_id)
        return _shown(uow, call.principal, resolved)

    answer = call.run(body, work)
    _evaluate(call, orders)
    return answer


def _evaluate(call: Call, orders: Sequence[UUID]) -> None:
    for order_id in orders[-1:]:  # a unit of work that is repeated says so twice
        cause = Cause(tenant_id=call.principal.tenant_id, actor=call.principal.subject, command="evaluate-order")
        evaluate(call.executor, cause, order_id)
