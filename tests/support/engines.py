"""Engine doors for tests: each with a worker id of its own, straight or through a fault proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.support.models import TENANT, new_name
from tests.support.waiting import eventually
from workers.local.stack import LocalStack
from workers.pod.pod import Pod
from workers.runtime.engine import Engine
from workers.sandbox.proxy import FaultProxy


@dataclass
class Doors:
    """Makes engine doors and closes them at the end."""

    environment: dict[str, str]
    opened: ExitStack = field(default_factory=ExitStack)

    def direct(self) -> Engine:
        return self._door(self.environment["Q2O_ENGINE_URL"])

    def through_proxy(self) -> tuple[Engine, FaultProxy]:
        target = urlsplit(self.environment["Q2O_ENGINE_URL"])
        proxy = self.opened.enter_context(FaultProxy(str(target.hostname), int(target.port or 80)))
        return self._door(proxy.url + target.path), proxy

    def _door(self, url: str) -> Engine:
        engine = Engine(url, self.environment["Q2O_ENGINE_USER"], self.environment["Q2O_ENGINE_PASSWORD"])
        self.opened.callback(engine.close)
        return engine


@dataclass
class DeployedProcess:
    """One deployed process with a topic of its own, and what became of its instances."""

    engine: Engine
    key: str
    topic: str

    def start(self, **variables: Any) -> str:
        return self.engine.start_process(TENANT, self.key, new_name("business"), variables)

    def end_of(self, instance_id: str) -> str | None:
        """Name the end event that an instance reached."""
        rows = self.engine.rows("/history/activity-instance", processInstanceId=instance_id, activityType="noneEndEvent")
        return rows[0]["activityId"] if rows else None

    def reaches(self, instance_id: str, end: str) -> None:
        eventually(lambda: self.end_of(instance_id) == end, f"instance reaches {end!r}")

    def task_id(self, instance_id: str) -> str:
        return str(self.engine.rows("/external-task", processInstanceId=instance_id)[0]["id"])

    def task(self, instance_id: str) -> dict[str, Any]:
        row: dict[str, Any] = self.engine.rows("/external-task", processInstanceId=instance_id)[0]
        return row

    def incident(self, instance_id: str) -> str:
        """Wait for the instance's one incident and return its message."""
        rows = eventually(lambda: self.engine.rows("/incident", processInstanceId=instance_id), "an incident")
        assert len(rows) == 1
        return str(rows[0]["incidentMessage"])

    def failures(self, instance_id: str) -> int:
        return int(self.engine.get("/history/external-task-log/count", processInstanceId=instance_id, failureLog="true")["count"])


Deployer = Callable[[Callable[[str, str], str]], DeployedProcess]


@pytest.fixture(scope="module")
def doors(stack: LocalStack) -> Iterator[Doors]:
    doors = Doors(dict(stack.environment))
    with doors.opened:
        yield doors


@pytest.fixture
def deploy(doors: Doors, tmp_path: Path) -> Deployer:
    """Deploy a model made by a function of (process key, topic)."""

    def deployed(make: Callable[[str, str], str]) -> DeployedProcess:
        process = DeployedProcess(doors.direct(), new_name("process"), new_name("topic"))
        file = tmp_path / f"{process.key}.bpmn"
        file.write_text(make(process.key, process.topic), encoding="utf-8")
        process.engine.deploy(TENANT, process.key, [file])
        return process

    return deployed


@contextmanager
def running(*pods: Pod, after_stop: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Run pods in the background, and drain them at the end; `after_stop` is called once they were told to stop."""
    stop = Event()
    threads = [Thread(target=pod.run, args=(stop,)) for pod in pods]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        after_stop()
        for thread in threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in threads)
