"""Walks one process instance through its model by hand: a test plays the workers, the people and the clock.

A walk takes only tasks of its own business key, so that walks on one engine never meet. It does not wait for timers: it fires them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from tests.support.models import TENANT
from tests.support.waiting import eventually
from workers.runtime.engine import Engine, EngineRefusedError, UserTask
from workers.runtime.variables import Variable, decode, encode

_LOCK_MILLISECONDS = 60_000
LOST_UPDATE = "ENGINE-03005"  # of two requests that change an instance at once, the engine refuses one


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """An external task that the walk has locked, with the variables that its worker would see."""

    id: str
    variables: dict[str, Any]
    properties: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """One instance, found by its business key."""

    engine: Engine
    business_key: str
    instance_id: str

    @classmethod
    def start(cls, engine: Engine, process: str, prefix: str, **variables: Variable) -> Walk:
        business_key = f"{prefix}:{uuid4()}"
        return cls(
            engine=engine, business_key=business_key, instance_id=engine.start_process(TENANT, process, business_key, variables)
        )

    def take(self, topic: str, *variables: str) -> Taken:
        """Wait for the task of a topic, lock it and read the named variables."""
        return self._taken(eventually(lambda: self._fetch(topic, variables), f"a task of {topic} in {self.business_key}")[0])

    def take_all(self, topic: str, count: int, *variables: str) -> list[Taken]:
        """Wait for `count` tasks of a topic, and lock them."""
        path = f"{topic} {count} times in {self.business_key}"
        eventually(lambda: len(self._open(topic)) == count, path)
        return [self._taken(row) for row in self._fetch(topic, variables)]

    def done(self, task: Taken, **variables: Variable) -> None:
        self.engine.complete(task.id, encode(variables))

    def work(self, topic: str, **variables: Variable) -> None:
        """Take the task of a topic and complete it."""
        self.done(self.take(topic), **variables)

    def refuse(self, task: Taken, code: str, **variables: Variable) -> None:
        """End the task with a BPMN error."""
        self.engine.bpmn_error(task.id, code=code, message="refused", variables=encode(variables))

    def people(self, count: int) -> list[UserTask]:
        """Wait until exactly `count` user tasks are open."""
        return eventually(lambda: self._people(count), f"{count} user tasks in {self.business_key}")

    def seen_by(self, task: UserTask) -> dict[str, Any]:
        """Read what a person sees in a task; nothing when the task is gone."""
        return eventually(lambda: self._seen_by(task), f"the variables of {task.name}")[0]

    def tell(self, message: str, **variables: Variable) -> None:
        """Send a message as soon as the instance waits for it."""
        eventually(lambda: self._tell(message, variables), f"{message} is waited for")

    def _tell(self, message: str, variables: dict[str, Variable]) -> bool:
        try:
            return self.engine.correlate(TENANT, message, self.business_key, variables)
        except EngineRefusedError as error:
            # A job is moving the instance on: the dispatcher would try again, too.
            if LOST_UPDATE not in str(error):
                raise
            return False

    def let_time_pass(self, timer: str | None = None, task: UserTask | None = None) -> None:
        """Fire the timer that the instance waits for; `timer` names its event, `task` the user task at which it stands."""
        what = f"timer {timer or ''} in {self.business_key}"
        eventually(lambda: self._fire(timer, task), what)

    def _fire(self, timer: str | None, task: UserTask | None) -> bool:
        jobs = self.timers(timer, task)
        if not jobs:
            return False
        try:
            self.engine.post(f"/job/{jobs[0]['id']}/execute", {})
        except EngineRefusedError as error:
            if LOST_UPDATE not in str(error):
                raise
            return False
        return True

    def timers(self, timer: str | None = None, task: UserTask | None = None) -> list[dict[str, Any]]:
        """List the timers that run, as the engine's jobs."""
        query = {"executionId": self.engine.get(f"/task/{task.id}")["executionId"]} if task else {}
        rows = self.engine.rows("/job", processInstanceId=self.instance_id, timers="true", **query)
        known = {row["id"] for row in self.engine.rows("/job-definition", activityIdIn=timer)} if timer else set()
        return [row for row in rows if timer is None or row["jobDefinitionId"] in known]

    def ends_as(self, result: str) -> None:
        """Wait for the end of the instance and compare the names of the end events reached at its own level."""
        eventually(self._ended, f"the end of {self.business_key}")
        assert self._results() == [result]

    def _seen_by(self, task: UserTask) -> list[dict[str, Any]]:
        try:
            return [self.engine.task_variables(task.id)]
        except EngineRefusedError:
            # The engine cannot read a scope that another transaction is changing.
            return [] if self.engine.find(f"/task/{task.id}") else [{}]

    def _fetch(self, topic: str, variables: Sequence[str]) -> list[dict[str, Any]]:
        request = {
            "topicName": topic,
            "lockDuration": _LOCK_MILLISECONDS,
            "businessKey": self.business_key,
            "variables": list(variables),
            "includeExtensionProperties": True,
        }
        return self.engine.ask_rows(
            "/external-task/fetchAndLock", {"workerId": self.engine.worker_id, "maxTasks": 20, "topics": [request]}
        )

    def _open(self, topic: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.engine.rows("/external-task", processInstanceId=self.instance_id, topicName=topic)
        return rows

    @staticmethod
    def _taken(row: dict[str, Any]) -> Taken:
        return Taken(id=row["id"], variables=decode(row["variables"]), properties=row["extensionProperties"])

    def _people(self, count: int) -> list[UserTask]:
        tasks = self.engine.user_tasks(self.business_key)
        return tasks if len(tasks) == count else []

    def _ended(self) -> bool:
        rows = self.engine.rows("/history/process-instance", processInstanceId=self.instance_id)
        return bool(rows) and rows[0]["state"] == "COMPLETED"

    def _results(self) -> list[str]:
        rows = self.engine.rows("/history/activity-instance", processInstanceId=self.instance_id)
        ending = ("withdrawn-", "cancel-order")
        scopes = {row["id"] for row in rows if row["activityId"].startswith(ending)} | {self.instance_id}
        return [
            row["activityName"]
            for row in rows
            if row["activityType"].endswith("EndEvent") and row["parentActivityInstanceId"] in scopes
        ]


def called(walk: Walk, business_key: str) -> Walk:
    """Wait for the process with this key, which a walk's instance has called."""

    def found() -> list[str]:
        return [each.id for each in walk.engine.called_by(walk.instance_id) if each.business_key == business_key]

    [instance_id] = eventually(found, f"the process {business_key}")
    return Walk(engine=walk.engine, business_key=business_key, instance_id=instance_id)
