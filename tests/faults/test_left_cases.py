"""Abandoned cases, held steps without a case, and tasks with another assignee: the sweep makes case, task and step agree (race 15).

The comparison with the assignees of tasks is described in docs/domain.md#reconcilers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from unittest.mock import Mock, create_autospec

import pytest
from sqlalchemy import select, text

from domain.delivery.steps import StepEvent
from domain.fallout import cases
from domain.store.facts import WorkflowCommand
from domain.workflows import instances
from reconciliation.assignees import Assignees
from reconciliation.cases import Cases
from reconciliation.repairs import Repairs
from reconciliation.walks import PAGE
from tests.support.database import acting
from tests.support.fulfilment import ROLES, Fulfilment
from tests.support.offers import ANNA, BERT, Offers
from workers.runtime.engine import Engine, UserTask

RESERVE = "RESERVE_INVENTORY"


@pytest.fixture
def held(offers: Offers) -> Fulfilment:
    """An order with a held step that has no case."""
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    work.say(RESERVE, StepEvent.FAIL_FINALLY)
    return work


def sweep(work: Fulfilment, grace: timedelta = timedelta(0)) -> int:
    return Cases(
        acting(work.offers.engine, "reconcile"), Repairs(acting(work.offers.engine, "reconcile"), dry_run=False), grace
    ).sweep()


def execute(work: Fulfilment, statement: str) -> None:
    with work.offers.engine.begin() as connection:
        connection.execute(text(statement))


def test_a_held_step_without_a_case_gets_one_case(held: Fulfilment) -> None:
    assert sweep(held, timedelta(hours=1)) == 0
    assert sweep(held) == 1
    assert sweep(held) == 0

    assert (held.case().step_id, held.case().dedupe_key) == (held.step(RESERVE).id, f"held:{held.step(RESERVE).id}")


def test_a_held_step_whose_only_case_is_resolved_gets_it_again(held: Fulfilment) -> None:
    """Kills: taking a resolved case for somebody who works on the step."""
    sweep(held)
    execute(held, "UPDATE fallout_case SET status = 'RESOLVED'")

    assert [sweep(held), sweep(held)] == [1, 0]

    assert (held.case().status, held.case().reopen_count) == ("OPEN", 1)


def test_a_case_whose_lease_has_run_out_goes_back_to_its_queue(held: Fulfilment) -> None:
    sweep(held)
    held.claim(ANNA)
    assert sweep(held) == 0
    execute(held, "UPDATE fallout_case SET claim_expires_at = clock_timestamp()")

    assert sweep(held) == 1

    assert (held.case().status, held.case().owner_user_id) == ("OPEN", None)
    assert assigned(held)[-1] == {"assignee": ""}


def assigned(work: Fulfilment) -> Sequence[dict[str, Any]]:
    """The assignments of the task of the case that the engine was asked for, oldest first."""
    command = WorkflowCommand.__table__.c
    query = select(command.variables).where(command.kind == "ASSIGN_TASK").order_by(command.created_at)
    with work.offers.engine.connect() as connection:
        return connection.scalars(query).all()


@pytest.fixture
def case(held: Fulfilment) -> Fulfilment:
    """The same order, about whose case a process asks somebody."""
    sweep(held)
    held.offers.process_of_case(held.case().id)
    return held


def asking(work: Fulfilment) -> str:
    """The process that asks somebody about the case."""
    with work.offers.uow() as uow:
        [instance_id] = instances.acting_for(uow, [cases.resolution_key(work.offers.tenant_id, work.case().id)])
    return instance_id


def compare(work: Fulfilment, assignee: str, assigned_by: str | None = None, behind: int = 0) -> int:
    """Let the sweep find the task of the case with this assignee, who took it, unless `assigned_by` names somebody else.

    In the engine's list it stands behind so many tasks that the domain does not know.
    """
    engine: Mock = create_autospec(Engine, instance=True)
    engine.groups_of.side_effect = lambda person: [str(role) for role in ROLES.get(person, ())]
    task = UserTask(
        id="t-1",
        name="Resolve",
        definition_key=cases.USER_TASK,
        process_instance_id=asking(work),
        assignee=assignee,
        due=None,
    )
    tasks = [*(replace(task, process_instance_id=f"unknown {number}") for number in range(behind)), task]
    engine.assigned_tasks.side_effect = lambda _, limit, first: tasks[first : first + limit]
    engine.who_assigned.return_value = assigned_by or assignee
    return Assignees(
        acting(work.offers.engine, "reconcile"), engine, Repairs(acting(work.offers.engine, "reconcile"), dry_run=False)
    ).sweep()


def test_a_task_behind_a_page_of_others_is_compared(case: Fulfilment) -> None:
    assert compare(case, ANNA, behind=PAGE) == 1


def test_a_task_that_was_taken_in_tasklist_is_claimed_in_the_domain(case: Fulfilment) -> None:
    assert compare(case, ANNA) == 1
    assert compare(case, ANNA) == 0

    assert (case.case().status, case.case().owner_user_id) == ("IN_PROGRESS", ANNA)
    assert assigned(case) == []


def test_a_task_that_somebody_was_given_by_another_person_is_given_back(case: Fulfilment) -> None:
    """Whoever may claim a task may claim it for anybody, so an assignee need not know of it."""
    assert compare(case, ANNA, assigned_by=BERT) == 1

    assert (case.case().status, case.case().owner_user_id) == ("OPEN", None)
    assert assigned(case) == [{"assignee": ""}]


def test_a_task_is_assigned_to_the_owner_of_its_case(case: Fulfilment) -> None:
    case.claim(BERT)
    execute(case, "UPDATE workflow_command SET status = 'DONE'")

    assert compare(case, ANNA) == 1

    assert case.case().owner_user_id == BERT
    assert [each["assignee"] for each in assigned(case)] == [BERT, BERT]


def test_a_task_whose_assignee_is_about_to_change_is_left_alone(case: Fulfilment) -> None:
    """Kills: claiming a case for the assignee of a task while the engine still has to change the assignee."""
    case.claim(BERT)

    assert compare(case, ANNA) == 0


def test_a_task_is_taken_from_an_assignee_who_may_not_work_on_its_case(case: Fulfilment) -> None:
    compare(case, "stranger")

    assert (case.case().status, assigned(case)) == ("OPEN", [{"assignee": ""}])
