"""Each process is started once."""

from __future__ import annotations

from uuid import uuid4

from domain.offers.quotes import business_key
from domain.workflows import restarts, starts, watching
from tests.mutants.telling import refused_by
from tests.mutants.trial import Trial


@refused_by("workflow_correlation.register/DUPLICATE_WORKFLOW")
def registering_with_another_token(trial: Trial) -> None:
    key = submitted_key(trial)
    command = starts.RegisterWorkflow(business_key=key, start_token=uuid4(), process_instance_id="another")
    with trial.uow() as uow:
        starts.register(uow, command)


@refused_by("workflow_correlation.find_absent/CORRELATION_MOVED_ON")
def starting_a_process_again_on_an_older_version(trial: Trial) -> None:
    key = submitted_key(trial)
    with trial.uow() as uow:
        starts.start_timed_out(uow, key)
        seen = starts.find(uow, key).version
    with trial.uow() as uow:
        starts.start_again(uow, key, seen - 1)


@refused_by("workflow_correlation.give_up/CORRELATION_MOVED_ON")
def giving_up_a_start_on_an_older_version(trial: Trial) -> None:
    key = submitted_key(trial)
    with trial.uow() as uow:
        starts.start_timed_out(uow, key)
        seen = starts.find(uow, key).version
    with trial.uow() as uow:
        starts.give_up(uow, key, seen - 1)


@refused_by("workflow_correlation.restart/CORRELATION_MOVED_ON")
def restarting_an_instance_that_is_not_the_registered_one(trial: Trial) -> None:
    key = registered_key(trial)
    with trial.uow() as uow:
        restarts.restart(uow, key, "another")


@refused_by("workflow_correlation.end/CORRELATION_MOVED_ON")
def ending_an_instance_that_is_not_the_registered_one(trial: Trial) -> None:
    key = registered_key(trial)
    with trial.uow() as uow:
        watching.end(uow, key, "another")


@refused_by("workflow_correlation.lose/CORRELATION_MOVED_ON")
def losing_an_instance_that_is_not_the_registered_one(trial: Trial) -> None:
    key = registered_key(trial)
    with trial.uow() as uow:
        watching.lose(uow, key, "another")


def registered_key(trial: Trial) -> str:
    key = submitted_key(trial)
    with trial.uow() as uow:
        token = starts.find(uow, key).start_token
        starts.register(uow, starts.RegisterWorkflow(business_key=key, start_token=token, process_instance_id="registered"))
    return key


def submitted_key(trial: Trial) -> str:
    offer = trial.submitted_quote()
    return business_key(trial.tenant_id, offer.quote_id, offer.revision_id)
