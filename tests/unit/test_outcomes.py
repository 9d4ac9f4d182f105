from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from datetime import timedelta
from threading import Event
from typing import Any

import pytest
from sqlalchemy import create_engine, text

from workers.pod.contract import BpmnError, GiveUp, RetryLater, Task, Topic
from workers.pod.outcomes import MAX_MESSAGE, Completed, Failed, Outcome, Raised, run_handler
from workers.runtime.engine import ExternalTask
from workers.runtime.retries import OutageLog
from workers.runtime.variables import Variable


def fetched(**changes: Any) -> ExternalTask:
    fields: dict[str, Any] = {
        "id": "task-1",
        "topic": "order.decompose",
        "worker_id": "q2o-host-01234567",
        "tenant_id": "1",
        "process_instance_id": "instance-1",
        "business_key": "order:1:2",
        "activity_id": "decompose",
        "activity_instance_id": "decompose:1",
        "execution_id": "execution-1",
        "retries": None,
        "suspended": False,
        "properties": {"retryPolicy": "R3/PT10S"},
        "variables": {},
    }
    return ExternalTask(**fields | changes)


def outcome_of(behaviour: Callable[[Task], Mapping[str, Variable]], **changes: Any) -> Outcome:
    topic = Topic(name="order.decompose", handler=behaviour, errors=("ORDER_INVALID",))
    return run_handler(topic, fetched(**changes), Event(), OutageLog("database"))


def raising(error: BaseException, **changes: Any) -> Outcome:
    def behaviour(_: Task) -> Mapping[str, Variable]:
        raise error

    return outcome_of(behaviour, **changes)


def test_the_variables_of_a_handler_are_sent_with_their_types() -> None:
    assert outcome_of(lambda _: {"steps": []}) == Completed(variables={"steps": {"type": "Json", "value": "[]"}})


def test_a_declared_bpmn_error_is_reported() -> None:
    outcome = raising(BpmnError("ORDER_INVALID", "no lines", {"line": 3}))

    assert outcome == Raised(code="ORDER_INVALID", message="no lines", variables={"line": {"type": "Integer", "value": 3}})


@pytest.mark.parametrize(
    ("retries", "left", "wait"),
    [(None, 2, 10), (3, 2, 10), (2, 1, 20), (1, 0, 0), (40, 39, 10)],
    ids=["first", "fresh", "second", "last", "many"],
)
def test_a_failure_costs_one_try(retries: int | None, left: int, wait: float) -> None:
    outcome = raising(ValueError("bug"), retries=retries)

    assert isinstance(outcome, Failed)
    assert (outcome.retries, outcome.retry_after) == (left, timedelta(seconds=wait))
    assert "order.decompose: ValueError: bug" in outcome.message
    assert "ValueError: bug" in outcome.details


@pytest.mark.parametrize(("retries", "kept"), [(None, 3), (2, 2)])
def test_retry_later_costs_no_try(retries: int | None, kept: int) -> None:
    outcome = raising(RetryLater(timedelta(seconds=7), "too early"), retries=retries)

    assert isinstance(outcome, Failed)
    assert (outcome.retries, outcome.retry_after, outcome.postponed) == (kept, timedelta(seconds=7), True)


@pytest.mark.parametrize("error", [GiveUp("x" * 5000), ValueError("x" * 5000), BpmnError("X", "x" * 5000)])
def test_a_long_message_is_cut_and_keeps_its_advice(error: Exception) -> None:
    outcome = raising(error, retries=1)

    assert isinstance(outcome, Failed)
    assert len(outcome.message) <= MAX_MESSAGE
    assert "Next: " in outcome.message
    assert outcome.message.endswith(".")


def test_a_required_variable_that_cannot_be_read_makes_an_incident() -> None:
    variables = {"tenantId": {"type": "String", "value": "no-uuid"}}

    outcome = outcome_of(lambda task: {"id": task.uuid("tenantId")}, variables=variables)

    assert isinstance(outcome, Failed)
    assert outcome.retries == 0
    assert "'tenantId' must be a UUID, it is 'no-uuid'" in outcome.message


def test_a_database_that_is_away_costs_no_try() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        database = create_engine(f"postgresql+psycopg://nobody@127.0.0.1:{bound.getsockname()[1]}/none?connect_timeout=2")

        def behaviour(_: Task) -> Mapping[str, Variable]:
            with database.connect() as connection:
                connection.execute(text("SELECT 1"))
            return {}

        outcome = outcome_of(behaviour, retries=1)

    assert isinstance(outcome, Failed)
    assert (outcome.retries, outcome.postponed) == (1, True)
