"""A case worker needs a role and a grant: for the queue of the case, and for what belongs to a higher level."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from domain.delivery.resolving import Resolution
from domain.fallout import casework
from domain.fallout.cases import Queue
from tests.mutants.conditions import ON
from tests.mutants.stories.commands import revoke
from tests.mutants.telling import refused_by
from tests.mutants.trial import Trial
from tests.support.fulfilment import Fulfilment
from tests.support.offers import BERT

OF_QUEUE, OF_LEVEL = "fallout_case.*/QUEUE_NOT_YOURS", "fallout_case.*/RESOLUTION_NEEDS_AUTHORITY"
OF_CONFIRMATION = "fallout_case.confirm/CONFIRMATION_NOT_YOURS"
NINA = "nina"
SECOND: str = Queue.SECOND_LEVEL
HOUR = timedelta(hours=1)
Grant = Callable[[Trial], object]


def claiming(grant: Grant, trial: Trial, *, roles: tuple[str, ...] = (SECOND,)) -> None:
    """Somebody new claims a case of the second level."""
    work = Fulfilment.contradicted(trial)
    grant(trial)
    with trial.uow(NINA) as uow:
        casework.claim(uow, work.as_seen(NINA, roles=roles))


def skipping(grant: Grant, trial: Trial, *, roles: tuple[str, ...] = (SECOND,)) -> None:
    """Somebody new of the first level skips a step, which belongs to the second."""
    work = Fulfilment.contradicted(trial)
    trial.by_hand("UPDATE fallout_case SET queue = 'falloutL1' WHERE tenant_id = :tenant")
    trial.grant_authority(NINA, Queue.FIRST_LEVEL)
    work.claim(NINA, roles=[Queue.FIRST_LEVEL])
    grant(trial)
    work.resolve(NINA, Resolution.SKIP, roles=[Queue.FIRST_LEVEL, *roles])


def declining(grant: Grant, trial: Trial, *, roles: tuple[str, ...] = (SECOND,)) -> None:
    """Somebody new answers a proposal about a case of the second level."""
    work = Fulfilment.contradicted(trial)
    work.claim(BERT)
    proposal_id = work.propose(BERT, external_ref="r-1")
    grant(trial)
    work.answer_proposal(NINA, proposal_id, confirm=False, roles=roles)


def none(_: Trial) -> None:
    """Others have a grant."""


def to_come(trial: Trial) -> None:
    trial.grant_authority(NINA, SECOND, valid_from=datetime.now(UTC) + HOUR)


def over(trial: Trial) -> None:
    trial.grant_authority(NINA, SECOND, valid_from=datetime.now(UTC) - 2 * HOUR, valid_until=datetime.now(UTC) - HOUR)


def revoked(trial: Trial) -> None:
    revoke(trial, trial.grant_authority(NINA, SECOND))


def for_a_role_that_they_lost(trial: Trial) -> None:
    trial.grant_authority(NINA, SECOND)


def for_a_lower_level(trial: Trial) -> None:
    trial.grant_authority(NINA, Queue.FIRST_LEVEL)


for guard, act in ((OF_QUEUE, claiming), (OF_LEVEL, skipping), (OF_CONFIRMATION, declining)):
    for column, grant in (
        ("subject", none),
        ("valid_from", to_come),
        ("valid_until", over),
        ("status", revoked),
    ):
        refused_by(f"{guard}{ON}authority_grant.{column}")(partial(act, grant))
    refused_by(f"{guard}{ON}authority_grant.role")(partial(act, for_a_role_that_they_lost, roles=()))
    refused_by(f"{guard}{ON}authority_grant.role#2")(partial(act, for_a_lower_level, roles=(SECOND, Queue.FIRST_LEVEL)))
