"""An engine that answers every sweep with the process instances of open work, so that the sweep asks the database about them."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from domain.offers import deciding
from workers.runtime.engine import Instance, UserTask
from workers.runtime.engine_history import EngineInstance, Incident


@dataclass(frozen=True, slots=True)
class AskedEngine:
    """`instances` are the registered ones. Each runs, has a task and an incident, and is also listed among those that were ended from outside."""

    instances: Sequence[EngineInstance]

    def assigned_tasks(self, _: str, limit: int, first: int) -> list[UserTask]:
        return [_task(one) for one in self.instances[first : first + limit]]

    def open_tasks(self, _: str, first: int, limit: int) -> list[UserTask]:
        return [_task(one) for one in self.instances[first : first + limit]]

    def who_assigned(self, *_: object) -> str | None:
        return None

    def groups_of(self, *_: object) -> list[str]:
        return []

    def delete_instance(self, *_: object) -> None:
        """Nothing more is asked about it here."""

    def find_instances(self, *_: object) -> list[Instance]:
        return []

    def running_roots(self, first: int, limit: int, **_: object) -> Sequence[EngineInstance]:
        return self.instances[first : first + limit]

    def ended_from_outside(self, first: int, limit: int) -> Sequence[EngineInstance]:
        return self.instances[first : first + limit]

    def instances_by_id(self, instance_ids: Collection[str]) -> dict[str, EngineInstance]:
        return {one.id: one for one in self.instances if one.id in instance_ids}

    def incidents_from(self, first: int, limit: int) -> list[Incident]:
        return [_incident(one) for one in self.instances[first : first + limit]]

    def incidents_at(self, instance_id: str, _: str) -> list[Incident]:
        return [_incident(one) for one in self.instances if one.id == instance_id]


def _task(one: EngineInstance) -> UserTask:
    return UserTask(id=one.id, name="", definition_key=deciding.TASK, process_instance_id=one.id, assignee="nobody", due=None)


def _incident(one: EngineInstance) -> Incident:
    return Incident(id=one.id, process_instance_id=one.id, activity_id="ship-router", message="no places left")
