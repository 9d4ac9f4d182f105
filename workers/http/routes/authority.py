"""Authority grants over HTTP: how far a person's signature reaches and until when, and how that person delegates it during an absence."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import JSONResponse
from sqlalchemy import Row

from domain import granting
from domain.errors import Invalid
from domain.granting import OwnAuthority
from domain.offers import reading
from domain.store import Answer, UnitOfWork
from workers.http.auth import APPROVERS, AUTHORITY_ADMINS, CASE_WORKERS, FULFILLERS, Role
from workers.http.calls import Call, Commanding, Read, Reading, read_response
from workers.http.document.responses import command_responses, read_responses
from workers.http.paging import After, Limit, page
from workers.http.preconditions import Precondition
from workers.http.shapes import approval_answers, approval_bodies, bodies
from workers.http.shapes.fields import Text

router = APIRouter(prefix="/authority-grants", tags=["authority"])

GrantId = Annotated[UUID, Path(alias="grantId")]
DELEGATORS = APPROVERS | CASE_WORKERS | FULFILLERS
HOLDERS = AUTHORITY_ADMINS | DELEGATORS


def _granted(row: Row[Any]) -> Answer:
    return Answer(status=HTTPStatus.CREATED, body=reading.grant(row), version=row.version)


@router.post("", status_code=201, responses=command_responses(approval_answers.ShownGrant, 201, refusals=(Invalid, OwnAuthority)))
def grant_authority(
    call: Annotated[Call, Depends(Commanding("grant-authority", AUTHORITY_ADMINS))], body: approval_bodies.GrantBody
) -> JSONResponse:
    """Let somebody else act in a role, up to these limits. A wide grant is only PROPOSED, until another administrator confirms it."""

    def work(uow: UnitOfWork) -> Answer:
        return _granted(granting.grant(uow, body.command(call.principal.subject)))

    return call.run(body, work)


@router.post(
    "/{grantId}/confirmations",
    status_code=201,
    responses=command_responses(approval_answers.ShownGrant, 201, "authority_grant.confirm"),
)
def confirm_grant(
    call: Annotated[Call, Depends(Commanding("confirm-grant", AUTHORITY_ADMINS))],
    if_match: Precondition,
    grant_id: GrantId,
    body: bodies.EmptyBody,
) -> JSONResponse:
    """Let a wide grant count that another administrator has proposed."""

    def work(uow: UnitOfWork) -> Answer:
        confirmation = granting.ConfirmAuthority(
            grant_id=grant_id, expected_version=if_match.required(), confirmed_by=call.principal.subject
        )
        return _granted(granting.confirm(uow, confirmation))

    return call.run(body, work)


@router.get("", responses=read_responses(approval_answers.GrantPage))
def list_grants(
    read: Annotated[Read, Depends(Reading(HOLDERS))],
    subject: Annotated[Text | None, Query()] = None,
    limit: Limit = 50,
    after: After = None,
) -> JSONResponse:
    """List grants, of one subject or of all. Administrators get every grant, others their own and those that they delegated."""
    principal = read.principal
    concerning = None if Role.AUTHORITY_ADMIN in principal.roles else principal.subject
    return read_response(
        page(read.run(lambda uow: reading.grants_of(uow, subject, concerning, limit + 1, after)), limit, "grantId")
    )


@router.post(
    "/{grantId}/delegations",
    status_code=201,
    responses=command_responses(approval_answers.ShownGrant, 201, "authority_grant.delegate", refusals=(Invalid,)),
)
def delegate_authority(
    call: Annotated[Call, Depends(Commanding("delegate-authority", DELEGATORS))],
    if_match: Precondition,
    grant_id: GrantId,
    body: approval_bodies.DelegateBody,
) -> JSONResponse:
    """Delegate your own grant, at most up to its limits. If-Match names the version of your grant; the answer is the new grant."""

    def work(uow: UnitOfWork) -> Answer:
        delegation = body.command(grant_id, if_match.required(), call.principal.subject)
        return _granted(granting.delegate(uow, delegation))

    return call.run(body, work)


@router.post(
    "/{grantId}/revocations",
    status_code=201,
    responses=command_responses(approval_answers.ShownGrant, 201, "authority_grant.revoke"),
)
def revoke_authority(
    call: Annotated[Call, Depends(Commanding("revoke-authority", HOLDERS))],
    if_match: Precondition,
    grant_id: GrantId,
    body: bodies.EmptyBody,
) -> JSONResponse:
    """End a grant and every delegation of it. A person may end what they delegated. Signatures that were made by it stay valid."""
    principal = call.principal

    def work(uow: UnitOfWork) -> Answer:
        revocation = granting.RevokeAuthority(
            grant_id=grant_id,
            expected_version=if_match.required(),
            revoked_by=principal.subject,
            as_administrator=Role.AUTHORITY_ADMIN in principal.roles,
        )
        return _granted(granting.revoke(uow, revocation))

    return call.run(body, work)
