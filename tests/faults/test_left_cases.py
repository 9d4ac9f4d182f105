"""Fallout cases that nobody is at, and tasks that somebody else has: case, task and step agree again (T13, R6)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from unittest.mock import Mock, create_autospec

import pytest
from sqlalchemy import select, text

from domain.delivery.steps import StepEvent
from domain.fallout import cases
from domain.store.facts import WorkflowCommand
from reconciliation.assignees import Assignees
from reconciliation.cases import Cases
from reconciliation.repairs import Repairs
from tests.support.fulfilment import ANNA, BERT, ROLES, Fulfilment
from tests.support.offers import Offers
from workers.runtime.engine import Engine, UserTask

RESERVE = "RESERVE_INVENTORY"


@pytest.fixture
def held(offers: Offers) -> Fulfilment:
    """An order with a step that was refused, and nobody told."""
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    work.say(RESERVE, StepEvent.FAIL_FINALLY)
    return work


def look_after(work: Fulfilment, grace: timedelta = timedelta(0)) -> int:
    return Cases(work.offers.engine, Repairs(work.offers.engine, dry_run=False), grace).sweep()


def execute(work: Fulfilment, statement: str) -> None:
    with work.offers.engine.begin() as connection:
        connection.execute(text(statement))


def test_a_held_step_of_which_nobody_was_told_gets_its_case_once(held: Fulfilment) -> None:
    assert look_after(held, timedelta(hours=1)) == 0
    assert look_after(held) == 1
    assert look_after(held) == 0

    assert (held.case().step_id, held.case().dedupe_key) == (held.step(RESERVE).id, f"held:{held.step(RESERVE).id}")


def test_a_claim_that_has_run_out_gives_the_case_back_to_its_queue(held: Fulfilment) -> None:
    look_after(held)
    held.claim(ANNA)
    assert look_after(held) == 0
    execute(held, "UPDATE fallout_case SET claim_expires_at = clock_timestamp()")

    assert look_after(held) == 1

    assert (held.case().status, held.case().owner_user_id) == ("OPEN", None)
    assert assigned(held)[-1] == {"assignee": ""}


def assigned(work: Fulfilment) -> Sequence[dict[str, Any]]:
    """What the engine was asked to make of the case's task, oldest first."""
    command = WorkflowCommand.__table__.c
    query = select(command.variables).where(command.kind == "ASSIGN_TASK").order_by(command.created_at)
    with work.offers.engine.connect() as connection:
        return connection.scalars(query).all()


@pytest.fixture
def case(held: Fulfilment) -> Fulfilment:
    """The same order, its case started in the engine."""
    look_after(held)
    execute(held, "UPDATE workflow_correlation SET status = 'STARTED', process_instance_id = 'pi-' || aggregate_id")
    return held


def compare(work: Fulfilment, assignee: str) -> int:
    """Let the sweep find the case's task in somebody's hands."""
    engine: Mock = create_autospec(Engine, instance=True)
    engine.groups_of.side_effect = lambda person: [str(role) for role in ROLES.get(person, ())]
    task = UserTask(
        id="t-1",
        name="Resolve",
        definition_key=cases.USER_TASK,
        process_instance_id=f"pi-{work.case().id}",
        assignee=assignee,
        due=None,
    )
    engine.assigned_tasks.return_value = [task]
    return Assignees(work.offers.engine, engine, Repairs(work.offers.engine, dry_run=False)).sweep()


def test_a_task_that_was_taken_in_tasklist_is_claimed_in_the_domain(case: Fulfilment) -> None:
    assert compare(case, ANNA) == 1
    assert compare(case, ANNA) == 0

    assert (case.case().status, case.case().owner_user_id) == ("IN_PROGRESS", ANNA)
    assert assigned(case) == []


def test_a_task_goes_to_whoever_was_faster(case: Fulfilment) -> None:
    case.claim(BERT)
    execute(case, "UPDATE workflow_command SET status = 'DONE'")

    assert compare(case, ANNA) == 1

    assert case.case().owner_user_id == BERT
    assert [each["assignee"] for each in assigned(case)] == [BERT, BERT]


def test_a_task_that_is_about_to_change_hands_is_left_alone(case: Fulfilment) -> None:
    """Kills: claiming a case again for somebody who has just given it back."""
    case.claim(BERT)

    assert compare(case, ANNA) == 0


def test_a_task_that_is_not_for_whoever_has_it_is_taken_from_them(case: Fulfilment) -> None:
    compare(case, "stranger")

    assert (case.case().status, assigned(case)) == ("OPEN", [{"assignee": ""}])
