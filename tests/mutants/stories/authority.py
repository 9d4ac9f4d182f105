"""Authority grants are confirmed, delegated and revoked."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from domain import authority, granting
from tests.mutants.stories.commands import delegate, revoke
from tests.mutants.telling import refused_by
from tests.mutants.trial import Trial


def in_hours(number: int) -> datetime:
    return datetime.now(UTC) + timedelta(hours=number)


def read(trial: Trial, grant: Any) -> Any:
    with trial.uow() as uow:
        return uow.read(authority.AuthorityGrant, grant.id)


def confirm(trial: Trial, by: str, **changes: Any) -> None:
    """Have a wide grant of rita confirmed that `admin` has proposed."""
    given = granting.GrantAuthority(subject="rita", role="approverRsm", granted_by="admin")
    with trial.uow("admin") as uow:
        grant = granting.grant(uow, given)
    confirmation = {"grant_id": grant.id, "expected_version": grant.version, **changes}
    with trial.uow(by) as uow:
        granting.confirm(uow, granting.ConfirmAuthority(confirmed_by=by, **confirmation))


@refused_by("authority_grant.confirm/GRANT_VERSION_CONFLICT")
def confirming_on_an_older_version(trial: Trial) -> None:
    confirm(trial, "second admin", expected_version=0)


@refused_by("authority_grant.confirm/OWN_AUTHORITY", masked_by=("ck_authority_grant_second_person",))
def confirming_ones_own_authority(trial: Trial) -> None:
    confirm(trial, "rita")


@refused_by("authority_grant.confirm/SECOND_ADMINISTRATOR_MISSING", masked_by=("ck_authority_grant_second_person",))
def confirming_what_one_has_proposed(trial: Trial) -> None:
    confirm(trial, "admin")


@refused_by("the state in authority_grant.confirm")
def confirming_a_grant_that_was_confirmed(trial: Trial) -> None:
    grant = trial.grant_authority()
    with trial.uow("third admin") as uow:
        confirmation = granting.ConfirmAuthority(grant_id=grant.id, expected_version=grant.version, confirmed_by="third admin")
        granting.confirm(uow, confirmation)


@refused_by("authority_grant.delegate/OWN_AUTHORITY", masked_by=("ck_authority_grant_second_person",))
def delegating_to_oneself(trial: Trial) -> None:
    delegate(trial, trial.grant_authority("rita"), subject="rita", valid_until=in_hours(8))


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
        uow.apply(granting.REVOKE_DELEGATION, grant_id=grant.id)
