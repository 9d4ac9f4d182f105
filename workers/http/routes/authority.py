"""Authority over HTTP: who may sign how much, for whom, until when; and passing it on for the time of an absence."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import JSONResponse
from sqlalchemy import Row

from domain.errors import Invalid
from domain.offers import authority, reading
from domain.store import Answer, UnitOfWork
from workers.http.auth import APPROVERS, AUTHORITY_ADMINS, Role
from workers.http.calls import Call, Commanding, Look, Looking, shown
from workers.http.document.responses import described_command, described_read
from workers.http.paging import After, Limit, page
from workers.http.preconditions import Precondition
from workers.http.shapes import approval_answers, bodies

router = APIRouter(prefix="/authority-grants", tags=["authority"])

GrantId = Annotated[UUID, Path(alias="grantId")]
HOLDERS = AUTHORITY_ADMINS | APPROVERS


def _granted(row: Row[Any], status: HTTPStatus) -> Answer:
    return Answer(status=status, body=reading.grant(row), version=row.version)


@router.post("", status_code=201, responses=described_command(approval_answers.ShownGrant, 201, refusals=(Invalid,)))
def grant_authority(
    call: Annotated[Call, Depends(Commanding("grant-authority", AUTHORITY_ADMINS))], body: bodies.GrantBody
) -> JSONResponse:
    """Let somebody sign in a role, as far as this says."""
    given = {name: getattr(body, name) for name in bodies.GrantBody.model_fields}

    def work(uow: UnitOfWork) -> Answer:
        return _granted(authority.grant(uow, authority.GrantAuthority(**given)), HTTPStatus.CREATED)

    return call.run(body, work)


@router.get("", responses=described_read(approval_answers.GrantPage))
def list_grants(
    looking: Annotated[Look, Depends(Looking(HOLDERS))],
    subject: Annotated[str | None, Query(max_length=200, pattern=r"^[^\x00]+$")] = None,
    limit: Limit = 50,
    after: After = None,
) -> JSONResponse:
    """List grants, of one subject or of all; who is no administrator sees their own and those that they passed on."""
    principal = looking.principal
    concerning = None if Role.AUTHORITY_ADMIN in principal.roles else principal.subject
    return shown(page(looking.at(lambda uow: reading.grants_of(uow, subject, concerning, limit + 1, after)), limit, "grantId"))


@router.post(
    "/{grantId}/delegations",
    status_code=201,
    responses=described_command(approval_answers.ShownGrant, 201, "authority_grant.delegate", refusals=(Invalid,)),
)
def delegate_authority(
    call: Annotated[Call, Depends(Commanding("delegate-authority", APPROVERS))],
    if_match: Precondition,
    grant_id: GrantId,
    body: bodies.DelegateBody,
) -> JSONResponse:
    """Pass your own grant on, at most as far as it reaches. If-Match names the version of the grant; the answer is the new one."""
    given = {name: getattr(body, name) for name in bodies.DelegateBody.model_fields}

    def work(uow: UnitOfWork) -> Answer:
        version, delegated_by = if_match.required(), call.principal.subject
        delegation = authority.DelegateAuthority(grant_id=grant_id, expected_version=version, delegated_by=delegated_by, **given)
        return _granted(authority.delegate(uow, delegation), HTTPStatus.CREATED)

    return call.run(body, work)


@router.post(
    "/{grantId}/revocations",
    status_code=201,
    responses=described_command(approval_answers.ShownGrant, 201, "authority_grant.revoke"),
)
def revoke_authority(
    call: Annotated[Call, Depends(Commanding("revoke-authority", HOLDERS))],
    if_match: Precondition,
    grant_id: GrantId,
    body: bodies.EmptyBody,
) -> JSONResponse:
    """End a grant and what was passed on from it; whoever passed one on may end that one. What was signed stays signed."""
    principal = call.principal

    def work(uow: UnitOfWork) -> Answer:
        revocation = authority.RevokeAuthority(
            grant_id=grant_id,
            expected_version=if_match.required(),
            revoked_by=principal.subject,
            as_administrator=Role.AUTHORITY_ADMIN in principal.roles,
        )
        return _granted(authority.revoke(uow, revocation), HTTPStatus.CREATED)

    return call.run(body, work)
