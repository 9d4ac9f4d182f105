"""A person decides on a cancellation: as the process that asks them, on the version that they saw, and within their authority."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from domain.delivery.cancellations import business_key
from tests.mutants.conditions import ON
from tests.mutants.stories.commands import revoke
from tests.mutants.telling import refused_by
from tests.mutants.trial import Trial
from tests.support.fulfilment import Fulfilment
from tests.support.offers import CUSTOMER, FELIX, MONA, STAFF

DECIDE = "cancellation_request.decide"
NOT_YOURS, NOT_YOURS_WITHOUT_GRANT = f"{DECIDE}/CANCELLATION_NOT_YOURS", f"{DECIDE}/CANCELLATION_NOT_YOURS#2"
ROLE = STAFF[FELIX]


def asked(trial: Trial) -> Fulfilment:
    """An order that its customer wants to cancel."""
    work = Fulfilment.running(trial)
    work.ask_to_cancel()
    return work


@refused_by(f"{DECIDE}/NOT_THIS_PROCESS")
def deciding_by_the_process_of_another_cancellation(trial: Trial) -> None:
    another = trial.process_of(business_key(trial.tenant_id, asked(trial).cancellation().id))
    asked(trial).assess(process_instance_id=another)


@refused_by(f"{DECIDE}/CANCELLATION_DECIDED")
def deciding_a_second_time(trial: Trial) -> None:
    work = asked(trial)
    work.assess(accept=False)
    work.assess(accept=False)


@refused_by(f"{DECIDE}/CANCELLATION_VERSION_CONFLICT")
def deciding_on_an_older_version(trial: Trial) -> None:
    work = asked(trial)
    work.assess(expected_version=work.cancellation().version - 1)


@refused_by(f"{DECIDE}/OWN_CANCELLATION")
def deciding_on_ones_own_request(trial: Trial) -> None:
    trial.grant_authority(CUSTOMER, ROLE)
    asked(trial).assess(CUSTOMER, roles=[ROLE])


@refused_by(NOT_YOURS)
def deciding_without_the_role(trial: Trial) -> None:
    asked(trial).assess(roles=["falloutManagers"])


@refused_by(NOT_YOURS_WITHOUT_GRANT)
def deciding_without_a_grant(trial: Trial) -> None:
    asked(trial).assess("frank", roles=[ROLE])


def deciding_with_a_grant(trial: Trial, person: str = "frank", role: str = ROLE, **limits: Any) -> None:
    trial.grant_authority(person, role, **limits)
    asked(trial).assess("frank", roles=[ROLE])


@refused_by(f"{NOT_YOURS_WITHOUT_GRANT}{ON}authority_grant.subject")
def deciding_with_the_grant_of_a_colleague(trial: Trial) -> None:
    asked(trial).assess("frank", roles=[ROLE])


@refused_by(f"{NOT_YOURS_WITHOUT_GRANT}{ON}authority_grant.role")
def deciding_with_a_grant_for_another_role(trial: Trial) -> None:
    deciding_with_a_grant(trial, role=STAFF[MONA])


@refused_by(f"{NOT_YOURS_WITHOUT_GRANT}{ON}authority_grant.max_deal_amount")
def deciding_on_more_than_the_grant_allows(trial: Trial) -> None:
    deciding_with_a_grant(trial, max_deal_amount=Decimal("0.01"))


@refused_by(f"{NOT_YOURS_WITHOUT_GRANT}{ON}authority_grant.valid_from")
def deciding_before_the_grant_begins(trial: Trial) -> None:
    deciding_with_a_grant(trial, valid_from=datetime.now(UTC) + timedelta(hours=1))


@refused_by(f"{NOT_YOURS_WITHOUT_GRANT}{ON}authority_grant.valid_until")
def deciding_after_the_grant_has_ended(trial: Trial) -> None:
    hour = timedelta(hours=1)
    deciding_with_a_grant(trial, valid_from=datetime.now(UTC) - 2 * hour, valid_until=datetime.now(UTC) - hour)


@refused_by(f"{NOT_YOURS_WITHOUT_GRANT}{ON}authority_grant.status")
def deciding_with_a_grant_that_was_revoked(trial: Trial) -> None:
    grant = trial.grant_authority("frank", ROLE)
    revoke(trial, grant)
    asked(trial).assess("frank", roles=[ROLE])
