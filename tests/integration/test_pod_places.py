"""A provider that hangs takes only its places of a pod: the tasks of other topics are carried out meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from threading import Event

import pytest

from tests.support.engines import DeployedProcess, Deployer, Doors, running
from tests.support.handlers import POLL_OF_NO_USE, Calls
from tests.support.models import one_task
from tests.support.waiting import PATIENCE, eventually
from workers.pod.pod import Pod, Topic

pytestmark = pytest.mark.stack
CAPACITY, KEPT, BACKLOG = 8, 2, 20


@dataclass
class Hanging:
    """A pod with more tasks than places, whose provider hangs, and a task of a topic that asks no provider."""

    provider: DeployedProcess
    approval: DeployedProcess
    asked: Calls
    answers: Event
    waiting: list[str]


@pytest.fixture
def hanging(deploy: Deployer, doors: Doors) -> Iterator[Hanging]:
    provider, approval, answers = deploy(one_task), deploy(one_task), Event()
    asked = Calls(lambda _: {"answered": answers.wait(PATIENCE)})
    topics = {
        provider.topic: Topic(name=provider.topic, handler=asked, asks_provider=True),
        approval.topic: Topic(name=approval.topic, handler=Calls()),
    }
    waiting = [provider.start() for _ in range(BACKLOG)]
    with running(Pod(doors.direct(), topics, capacity=CAPACITY, poll=POLL_OF_NO_USE)):
        try:
            eventually(lambda: len(asked.tasks) >= CAPACITY - KEPT, "the provider's places are taken")
            yield Hanging(provider, approval, asked, answers, waiting)
        finally:
            answers.set()


def test_a_task_that_asks_no_provider_is_carried_out_while_a_provider_hangs(hanging: Hanging) -> None:
    hanging.approval.reaches(hanging.approval.start(), "done")

    assert len(hanging.asked.tasks) == CAPACITY - KEPT


def test_the_tasks_of_the_provider_go_on_as_soon_as_it_answers(hanging: Hanging) -> None:
    hanging.approval.reaches(hanging.approval.start(), "done")  # the pod waits in a poll that leaves the provider's topic out

    hanging.answers.set()

    for instance in hanging.waiting:
        hanging.provider.reaches(instance, "done")
