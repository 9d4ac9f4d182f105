"""Authority grants are delegated and revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from domain import authority
from tests.mutants.stories.commands import delegate, revoke
from tests.mutants.telling import refused_by
from tests.mutants.trial import Trial


def in_hours(number: int) -> datetime:
    return datetime.now(UTC) + timedelta(hours=number)


def read(trial: Trial, grant: Any) -> Any:
    with trial.uow() as uow:
        return uow.read(authority.AuthorityGrant, grant.id)


@refused_by("authority_grant.delegate/NOT_YOUR_AUTHORITY")
def delegating_the_grant_of_somebody_else(trial: Trial) -> None:
    delegate(trial, trial.grant_authority("rita"), delegated_by="robin", valid_until=in_hours(8))


@refused_by("authority_grant.delegate/GRANT_VERSION_CONFLICT")
def delegating_on_an_older_version(trial: Trial) -> None:
    delegate(trial, trial.grant_authority(), expected_version=0, valid_until=in_hours(8))


@refused_by("authority_grant.delegate/AUTHORITY_NOT_DELEGABLE")
def delegating_a_grant_that_was_revoked(trial: Trial) -> None:
    grant = trial.grant_authority()
    revoke(trial, grant)
    delegate(trial, read(trial, grant), valid_until=in_hours(8))


@refused_by("authority_grant.delegate/DELEGATION_TOO_WIDE")
def delegating_more_than_the_grant_allows(trial: Trial) -> None:
    grant = trial.grant_authority(max_discount_percent=Decimal(20))
    delegate(trial, grant, max_discount_percent=Decimal(21), valid_until=in_hours(8))


@refused_by("authority_grant.revoke/NOT_YOUR_AUTHORITY")
def revoking_the_grant_of_a_colleague(trial: Trial) -> None:
    revoke(trial, trial.grant_authority(), revoked_by="robin", as_administrator=False)


@refused_by("authority_grant.revoke/GRANT_VERSION_CONFLICT")
def revoking_on_an_older_version(trial: Trial) -> None:
    revoke(trial, trial.grant_authority(), expected_version=0)


@refused_by("the state in authority_grant.revoke")
def revoking_a_grant_that_was_revoked(trial: Trial) -> None:
    grant = trial.grant_authority()
    revoke(trial, grant)
    revoke(trial, read(trial, grant))


@refused_by("the state in authority_grant.end")
def ending_a_delegation_that_was_revoked(trial: Trial) -> None:
    grant = trial.grant_authority()
    revoke(trial, grant)
    with trial.uow() as uow:
        uow.apply(authority.REVOKE_DELEGATION, grant_id=grant.id)
