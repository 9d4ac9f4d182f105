"""A step whose process ended before it was sent: somebody completed its task by hand, or moved its token, and nothing else would send it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta

import pytest
from sqlalchemy import text

from domain.delivery import steps
from domain.delivery.steps import StepEvent
from reconciliation.repairs import Repairs
from reconciliation.unattended import Unattended
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.held import CHECK
from tests.support.reconciling import actions
from tests.support.watched import FIRST, Watched
from workers.runtime.engine_history import EngineInstance

GRACE = timedelta(minutes=15)


def process_of(watched: Watched, work: Fulfilment) -> str:
    """Record the process of a step that is ready, by now for an hour."""
    step = work.step(CHECK)
    with watched.offers.engine.begin() as connection:
        aged = "UPDATE fulfillment_step SET ready_at = ready_at - interval '1 hour', updated_at = updated_at - interval '1 hour' WHERE id = :id"
        connection.execute(text(aged), {"id": step.id})
    return watched.offers.process_of(steps.business_key(watched.offers.tenant_id, step.id))


def look(
    watched: Watched, states: Mapping[str, str], *, dry_run: bool = False, meanwhile: Callable[[], object] = lambda: None
) -> int:
    """Look for such steps, by an engine that knows the instances of these states. `meanwhile` happens while it is asked."""

    def known(instance_ids: set[str]) -> dict[str, EngineInstance]:
        meanwhile()
        return {id_: watched.instance(id_, states[id_]) for id_ in instance_ids & states.keys()}

    watched.engine.instances_by_id.side_effect = known
    database = acting(watched.offers.engine, "reconcile")
    return Unattended(database, watched.engine, Repairs(database, dry_run=dry_run), GRACE).sweep()


@pytest.mark.parametrize("state", ["COMPLETED", "EXTERNALLY_TERMINATED"])
def test_a_process_whose_step_nobody_will_send_is_lost_and_has_one_case(watched: Watched, work: Fulfilment, state: str) -> None:
    states = {FIRST: "ACTIVE", process_of(watched, work): state}

    assert [look(watched, states), look(watched, states)] == [1, 0]

    assert watched.correlation.status == "LOST"
    key = steps.business_key(watched.offers.tenant_id, work.step(CHECK).id)
    assert (watched.case().evidence["called"], watched.case().evidence["trouble"]) == (key, "INSTANCE_LOST")
    assert actions(watched.offers) == ["lost"]


def test_a_process_that_the_engine_does_not_know_any_more_is_lost(watched: Watched, work: Fulfilment) -> None:
    process_of(watched, work)

    assert look(watched, {FIRST: "ACTIVE"}) == 1


def test_a_retry_of_that_case_starts_the_process_at_the_root_again(watched: Watched, work: Fulfilment) -> None:
    look(watched, {FIRST: "ACTIVE", process_of(watched, work): "COMPLETED"})

    watched.resolve()

    assert watched.correlation.status == "REQUESTED"


def test_a_step_whose_process_goes_on_is_left_to_it(watched: Watched, work: Fulfilment) -> None:
    assert look(watched, {FIRST: "ACTIVE", process_of(watched, work): "ACTIVE"}) == 0


def test_a_step_whose_root_has_ended_too_is_left_to_the_sweep_of_instances(watched: Watched, work: Fulfilment) -> None:
    process = process_of(watched, work)

    assert look(watched, {FIRST: "COMPLETED", process: "COMPLETED"}) == 0


def test_a_step_that_has_just_become_ready_is_left_to_its_process(watched: Watched, work: Fulfilment) -> None:
    process = watched.offers.process_of(steps.business_key(watched.offers.tenant_id, work.step(CHECK).id))

    assert look(watched, {FIRST: "ACTIVE", process: "COMPLETED"}) == 0


def test_a_step_that_is_sent_while_the_engine_is_asked_is_attended(watched: Watched, work: Fulfilment) -> None:
    process = process_of(watched, work)

    assert look(watched, {FIRST: "ACTIVE", process: "COMPLETED"}, meanwhile=lambda: work.start(CHECK)) == 0


def test_a_step_that_is_to_be_sent_again_is_looked_at_too(watched: Watched, work: Fulfilment) -> None:
    work.start(CHECK)
    work.say(CHECK, StepEvent.FAIL_WITHOUT_EFFECT)
    process = process_of(watched, work)

    assert look(watched, {FIRST: "ACTIVE", process: "COMPLETED"}) == 1


def test_the_process_of_a_root_that_was_replaced_counts_no_more(watched: Watched, work: Fulfilment) -> None:
    process = process_of(watched, work)
    watched.execute("UPDATE workflow_correlation SET process_instance_id = 'another' WHERE process_instance_id = :id", id=FIRST)

    assert look(watched, {FIRST: "ACTIVE", process: "COMPLETED"}) == 0


def test_a_dry_run_only_says_what_it_would_do(watched: Watched, work: Fulfilment) -> None:
    look(watched, {FIRST: "ACTIVE", process_of(watched, work): "COMPLETED"}, dry_run=True)

    assert (watched.correlation.status, watched.cases()) == ("STARTED", [])
