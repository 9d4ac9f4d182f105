"""What the process of a task acts for: the engine's business key, and the domain's row of the instance.

The rule it keeps: no process variable says for whom or for what a handler acts. Whoever completes a user task may write any variable, and an
operator may change those of a running instance; a business key and a row of `workflow_instance` stay as they are.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy import Engine as Database

from domain.callers import keys_of_callers
from domain.delivery import given_up, unchanged
from domain.retry_rules import UNLIMITED_TIME
from domain.store import Cause, UnitOfWork
from domain.workflows import instances
from domain.workflows.instances import Called
from domain.workflows.keys import BusinessKey, Kind, parse
from workers.pod.contract import GiveUp, RetryLater, Task
from workers.runtime.commands import unit_of_work
from workers.runtime.engine import Engine

REMEMBERED = 10_000  # instances; each costs some hundred bytes, and one SELECT when it was forgotten


class Subjects:
    """Finds what the instance of a task acts for. A row never changes, so it is read once for each instance."""

    def __init__(self, database: Database, engine: Engine) -> None:
        self._database = database
        self._engine = engine
        self._known: set[str] = set()

    def of(self, task: Task, kinds: Collection[Kind]) -> BusinessKey:
        """Return the key of a task's instance. Raises GiveUp when the domain neither started the instance nor its caller.

        No `kinds`: the task is the registration gate, which every root instance comes to before it is known.
        """
        key = named_by(task)
        if not kinds:
            return key
        if key.kind not in kinds:
            raise GiveUp(f"the topic {task.topic} does not act for {task.business_key}: correct the model")
        if task.process_instance_id not in self._known:
            self._find(task, key)
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            self._known.add(task.process_instance_id)
        return key

    def _find(self, task: Task, key: BusinessKey) -> None:
        with unit_of_work(self._database, cause_of(task, key)) as uow:
            if instances.find(uow, task.process_instance_id) is not None:
                return
            callers = instances.acting_for(uow, keys_of_callers(uow, task.business_key))
        for caller in callers:
            called = self._engine.called_by(caller)
            if any(each.id == task.process_instance_id for each in called):
                with unit_of_work(self._database, cause_of(task, key)) as uow:
                    mine = [Called(process_instance_id=each.id, business_key=each.business_key) for each in called]
                    instances.record_called(uow, caller, [each for each in mine if _may_call(uow, caller, each)])
                return
        raise GiveUp(
            f"the domain has started neither process instance {task.process_instance_id} nor its caller: end it in Cockpit"
        )

    def end_in_time(self, task: Task, key: BusinessKey, later: RetryLater) -> None:
        """Leave a task to a person that has been postponed for too long: its incident gets a case. Raises GiveUp.

        The time begins with the last change of what the task waits for, or with the last decision of a person about its process.
        """
        if later.time == UNLIMITED_TIME:
            return
        with unit_of_work(self._database, cause_of(task, key)) as uow:
            since = unchanged.since(uow, key, later.time)
            if since is None or given_up.was_decided_within(uow, task.business_key, later.time):
                return
        raise GiveUp(f"{later.reason}, and nothing has changed since {since}: resolve its fallout case")


def named_by(task: Task) -> BusinessKey:
    """Read the business key of a task's instance. Raises GiveUp for any other text, and for the key of another tenant.

    The engine sets the tenant of an instance when it starts, and no request changes it; the key of a called instance comes from variables.
    """
    try:
        key = parse(task.business_key)
    except ValueError:
        raise GiveUp(f"{task.business_key!r} is not a business key of this suite: end the instance in Cockpit") from None
    if task.tenant_id != str(key.tenant_id):
        whose = f"tenant {task.tenant_id}" if task.tenant_id else "no tenant"
        remedy = "end it in Cockpit" if task.tenant_id else "run q2o restart-instances"
        raise GiveUp(f"process instance {task.process_instance_id} belongs to {whose}, and acts for {task.business_key}: {remedy}")
    return key


def _may_call(uow: UnitOfWork, caller: str, called: Called) -> bool:
    return caller in instances.acting_for(uow, keys_of_callers(uow, called.business_key))


def cause_of(task: Task, key: BusinessKey, on_behalf_of: str | None = None) -> Cause:
    """Who acts when a task is carried out, and for which tenant; the business key of its instance says the tenant."""
    return Cause(
        tenant_id=key.tenant_id,
        actor=on_behalf_of or f"worker:{task.worker_id}",
        command=task.topic,
        process_instance_id=task.process_instance_id,
        business_key=task.business_key,
    )
