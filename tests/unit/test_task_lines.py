"""What is logged while a task is in work names its tenant, its instance and its business key."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from datetime import timedelta
from typing import Any

import structlog

from tests.support.answering import answering
from tests.unit.test_isolated_tasks import FakeEngine, row
from workers.pod.contract import Task, Topic
from workers.pod.pod import Pod
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable

TOPIC = "order.decompose"
TENANT, KEY = "5d9d8f4e-0000-4000-8000-000000000001", "order:1:2"


def test_the_lines_of_a_task_name_its_tenant_its_instance_and_its_business_key() -> None:
    bound: dict[str, Any] = {}

    def handler(_: Task) -> Mapping[str, Variable]:
        bound.update(structlog.contextvars.get_contextvars())
        return {}

    fake = FakeEngine([[row("task-1", tenantId=TENANT, businessKey=KEY)]])
    with answering(fake.answer) as address, closing(Engine(f"{address}/engine-rest", "user", "password")) as engine:
        Pod(engine, {TOPIC: Topic(name=TOPIC, handler=handler)}).run_once(timedelta(milliseconds=50))

    assert (bound["tenantId"], bound["processInstanceId"], bound["businessKey"]) == (TENANT, "i", KEY)
