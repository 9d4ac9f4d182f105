"""Starts of processes that go wrong: the dispatcher tries one again only when the engine cannot have carried it out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Engine as Database

from tests.support.answering import Reply, answering
from tests.support.database import acting
from tests.support.engines import Deployer, Doors
from tests.support.metrics import metric
from tests.support.models import flow, model, one_task
from tests.support.wanted import Wanted, claimed_by_a_dead_dispatcher
from workers.dispatch import Dispatcher
from workers.runtime.engine import Engine, EngineLockedOutError, EngineUnavailableError

pytestmark = pytest.mark.stack


def fails_at_once(key: str, _: str) -> str:
    """A model whose first expression cannot be evaluated, so that the engine rolls the start back."""
    return model(
        key,
        '<bpmn:startEvent id="start"/><bpmn:serviceTask id="fail" camunda:expression="${nobodySetThis}"/><bpmn:endEvent id="done"/>',
        flow("start", "fail"),
        flow("fail", "done"),
    )


@contextmanager
def engine_behind_a_gateway(status: int) -> Iterator[Engine]:
    """An engine whose gateway answers every request itself, with a page for people."""
    with (
        answering(lambda _: Reply(status=status, body=b"oops")) as address,
        closing(Engine(f"{address}/engine-rest", "user", "password")) as engine,
    ):
        yield engine


def test_a_start_that_a_dead_dispatcher_may_have_sent_is_not_sent_again(
    db: Database, deploy: Deployer, dispatcher: Dispatcher
) -> None:
    process = deploy(one_task)
    wanted = Wanted.of(db, process.key)
    before = metric("q2o_workflow_start_unknown_total", workflow=process.key)
    claimed_by_a_dead_dispatcher(db)

    dispatcher.run_once()

    assert (wanted.correlation.status, wanted.commands[0].outcome) == ("START_UNKNOWN", "START_UNKNOWN")
    assert process.engine.find_instances(wanted.business_key) == []
    assert metric("q2o_workflow_start_unknown_total", workflow=process.key) == before + 1


def test_an_engine_that_cannot_be_reached_costs_a_start_nothing(db: Database, deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    engine, proxy = doors.through_proxy()
    dispatcher, wanted = Dispatcher(acting(db, "dispatch"), engine), Wanted.of(db, process.key)
    proxy.down()

    for _ in range(3):
        with pytest.raises(EngineUnavailableError):
            dispatcher.run_once()

    assert [(command.status, command.attempts) for command in wanted.commands] == [("PENDING", 0)]
    proxy.up()
    dispatcher.run_once()
    assert wanted.history == ["REQUESTED", "STARTED"]
    assert len(process.engine.find_instances(wanted.business_key)) == 1


def test_a_start_that_the_engine_rolled_back_is_tried_again(db: Database, deploy: Deployer, dispatcher: Dispatcher) -> None:
    process = deploy(fails_at_once)
    wanted = Wanted.of(db, process.key)

    dispatcher.run_once()

    assert [(command.status, command.attempts) for command in wanted.commands] == [("PENDING", 0)]
    assert wanted.history == ["REQUESTED"]


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 502, 503])
def test_an_answer_of_a_gateway_leaves_the_outcome_of_a_start_unknown(db: Database, status: int) -> None:
    wanted = Wanted.of(db, "order-fulfillment")

    with engine_behind_a_gateway(status) as engine:
        Dispatcher(acting(db, "dispatch"), engine).run_once()

    assert wanted.history == ["REQUESTED", "START_UNKNOWN"]


def test_a_start_waits_while_the_engine_does_not_accept_the_password(db: Database) -> None:
    wanted = Wanted.of(db, "order-fulfillment")

    with engine_behind_a_gateway(401) as engine, pytest.raises(EngineLockedOutError):
        Dispatcher(acting(db, "dispatch"), engine).run_once()

    assert [(command.status, command.attempts) for command in wanted.commands] == [("PENDING", 0)]
    assert wanted.history == ["REQUESTED"]


def test_a_start_is_not_sent_when_its_lease_is_nearly_over(db: Database, deploy: Deployer, doors: Doors) -> None:
    process = deploy(one_task)
    wanted = Wanted.of(db, process.key)

    Dispatcher(acting(db, "dispatch"), doors.direct(), lease=timedelta(0)).run_once()

    assert [(command.status, command.attempts) for command in wanted.commands] == [("PENDING", 0)]
    assert process.engine.find_instances(wanted.business_key) == []


def test_a_start_that_the_engine_never_accepts_fails(db: Database, deploy: Deployer, dispatcher: Dispatcher) -> None:
    wanted = Wanted.of(db, deploy(one_task).key, novel="x" * 5000)

    dispatcher.run_once()

    assert wanted.history == ["REQUESTED", "START_FAILED"]
    assert [(command.status, command.outcome) for command in wanted.commands] == [("DONE", "START_FAILED")]
