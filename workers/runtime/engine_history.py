"""The engine's history of running and ended process instances. Everything here only reads."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from workers.runtime.engine_connection import EngineConnection

RUNNING = frozenset({"ACTIVE", "SUSPENDED"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineInstance:
    """A process instance in the engine's history, running or ended.

    `caller_id`: the instance that has called it, `root_id` the one at the top of its callers. `tenant_id` is empty when it belongs to none.
    """

    id: str
    business_key: str
    definition_key: str
    state: str
    caller_id: str | None = None
    root_id: str | None = None
    tenant_id: str = ""
    started_at: datetime | None = None

    @property
    def is_running(self) -> bool:
        return self.state in RUNNING

    @property
    def is_completed(self) -> bool:
        """Whether it reached an end event by itself; False when it was ended from outside."""
        return self.state == "COMPLETED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """A task or job that the engine does not retry any more: its instance stands still until a person acts.

    `configuration` is the id of the task or job. `is_repeated`: the engine has repeated it in a process that called the one where it happened.
    """

    id: str
    process_instance_id: str
    activity_id: str
    message: str
    type: str = ""
    configuration: str = ""
    at: datetime | None = None
    is_repeated: bool = False


class HistoryCalls(EngineConnection):
    """Read the history of instances, tasks, variables and incidents."""

    def past_instances(self, business_key_pattern: str) -> list[EngineInstance]:
        """Every instance ever started under such a business key; `%` in the pattern stands for anything."""
        return self._instances(processInstanceBusinessKeyLike=business_key_pattern)

    def running_without_tenant(self, definition_keys: Collection[str]) -> list[EngineInstance]:
        """Every running instance of these processes that belongs to no tenant and that no other instance has called."""
        return self._instances(
            processDefinitionKeyIn=",".join(definition_keys), withoutTenantId="true", rootProcessInstances="true", unfinished="true"
        )

    def running_roots(self, first: int, limit: int, *, started_before: datetime) -> list[EngineInstance]:
        """One page of the running instances that no other instance has called, the oldest first."""
        query = {"rootProcessInstances": "true", "unfinished": "true", "startedBefore": _time(started_before)}
        page = {"sortBy": "startTime", "sortOrder": "asc", "firstResult": first, "maxResults": limit}
        return [_instance(row) for row in self.rows("/history/process-instance", **query, **page)]

    def ended_from_outside(self, first: int, limit: int) -> list[EngineInstance]:
        """One page of the instances that somebody has deleted, the newest first."""
        page = {"sortBy": "endTime", "sortOrder": "desc", "firstResult": first, "maxResults": limit}
        return [_instance(row) for row in self.rows("/history/process-instance", externallyTerminated="true", **page)]

    def instances_by_id(self, instance_ids: Collection[str]) -> dict[str, EngineInstance]:
        """These instances, running or ended, by their ids; those that the history does not know are missing."""
        if not instance_ids:
            return {}
        rows = self.ask_rows(
            f"/history/process-instance?maxResults={len(instance_ids)}", {"processInstanceIds": list(instance_ids)}
        )
        return {row["id"]: _instance(row) for row in rows}

    def _instances(self, **query: str) -> list[EngineInstance]:
        return [_instance(row) for row in self.rows("/history/process-instance", **query, sortBy="instanceId", sortOrder="asc")]

    def past_variable(self, instance_id: str, name: str) -> str | None:
        """The last value of a text variable of an instance, also after the instance has ended; None when it never had it."""
        rows = self.rows("/history/variable-instance", processInstanceId=instance_id, variableName=name)
        return str(rows[0]["value"]) if rows else None

    def work_of(self, instance_id: str) -> frozenset[str]:
        """The topics of the external tasks that one instance completed. A task that failed, or ended with a BPMN error, did nothing."""
        query = {"processInstanceId": instance_id, "successLog": "true", "sortBy": "topicName", "sortOrder": "asc"}
        return frozenset(str(row["topicName"]) for row in self.rows("/history/external-task-log", **query))

    def completions(self) -> list[tuple[str, str]]:
        """Every completion of a user task that the operation log still knows: the process instance, and who completed the task."""
        rows = self.rows(
            "/history/user-operation", operationType="Complete", entityType="Task", sortBy="timestamp", sortOrder="asc"
        )
        return [(row["processInstanceId"], row["userId"]) for row in rows if row["processInstanceId"] and row["userId"]]

    def incidents(self) -> list[Incident]:
        """Every open incident, once."""
        return _incidents(self.rows("/incident", sortBy="incidentId", sortOrder="asc"))

    def incidents_from(self, first: int, limit: int) -> list[Incident]:
        """List one page of the open incidents, the oldest first, including those that only repeat the incident of a called process."""
        page = {"sortBy": "incidentTimestamp", "sortOrder": "asc", "firstResult": first, "maxResults": limit}
        return [_incident(row) for row in self.rows("/incident", **page)]

    def incidents_at(self, instance_id: str, activity_id: str) -> list[Incident]:
        """The open incidents of an instance at one activity."""
        return _incidents(self.rows("/incident", processInstanceId=instance_id, activityId=activity_id))


def _instance(row: Mapping[str, Any]) -> EngineInstance:
    return EngineInstance(
        id=row["id"],
        business_key=row["businessKey"] or "",
        definition_key=row["processDefinitionKey"],
        state=row["state"],
        caller_id=row["superProcessInstanceId"],
        root_id=row["rootProcessInstanceId"],
        tenant_id=row["tenantId"] or "",
        started_at=_read_time(row.get("startTime")),
    )


def _incidents(rows: Sequence[Mapping[str, Any]]) -> list[Incident]:
    return [each for each in map(_incident, rows) if not each.is_repeated]


def _incident(row: Mapping[str, Any]) -> Incident:
    return Incident(
        id=row["id"],
        process_instance_id=row["processInstanceId"],
        activity_id=row["activityId"],
        message=row["incidentMessage"] or row["incidentType"],
        type=row["incidentType"],
        configuration=row["configuration"] or "",
        at=_read_time(row.get("incidentTimestamp")),
        is_repeated=row["id"] != row["rootCauseIncidentId"],
    )


def _read_time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.000%z")
