"""The door to the engine: the only module that imports `camunda`.

The client library gives the addresses, the request defaults and the form of variables; its transport (a connection per call, errors as bare
text) and its worker loop are not used. The rule it keeps: every external-task call names this process's own worker id, which is all that
keeps two pods apart in the engine.
"""

from __future__ import annotations

import socket
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

from workers.runtime.engine_accounts import AccountCalls
from workers.runtime.engine_connection import (
    LOGIN_SETTINGS,
    PUBLIC_AUTHORITIES,
    RESPONSE_TIMEOUT,
    EngineConnection,
    EngineError,
    EngineLockedOutError,
    EngineOutcomeUnknownError,
    EngineRefusedError,
    EngineUnavailableError,
    EngineUntrustedError,
)
from workers.runtime.engine_history import HistoryCalls, Incident
from workers.runtime.engine_people import Completion, Resource, UserTask
from workers.runtime.engine_processes import Instance, ProcessCalls
from workers.runtime.engine_tenants import TenantCalls
from workers.runtime.secret_files import Secret
from workers.runtime.set_aside import isolated
from workers.runtime.transport import ClientTls
from workers.runtime.variables import EncodedVariables, TypedValue

# The library declares its models in pydantic's old style; our users can do nothing about the warning.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from camunda.client.external_task_client import ExternalTaskClient
    from camunda.variables.variables import Variables

__all__ = [
    "Completion",
    "Engine",
    "EngineError",
    "EngineLockedOutError",
    "EngineOutcomeUnknownError",
    "EngineRefusedError",
    "EngineUnavailableError",
    "EngineUntrustedError",
    "ExternalTask",
    "Instance",
    "Resource",
    "TopicRequest",
    "UserTask",
    "new_worker_id",
]

POLL_GRACE = timedelta(seconds=5)  # a working engine ends a long poll by itself, well within this time after the poll's end
MAX_ERROR_MESSAGE = 666  # characters; the engine cuts here
LONGEST_ROW = 200  # characters of a task in the log that is not understood: its ids come first


def new_worker_id(service: str = "q2o") -> str:
    """Make a worker id that no other process has or had: the engine must not take a restarted pod for the one before it."""
    return f"{service}-{socket.gethostname()[:60]}-{uuid4().hex[:8]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicRequest:
    """One topic of a fetch: how long to lock its tasks, and which variables to return with them."""

    name: str
    lock_duration: timedelta
    variables: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalTask:
    """A task as the engine describes it, with its variables still in the engine's form."""

    id: str
    topic: str
    worker_id: str | None
    tenant_id: str
    process_instance_id: str
    business_key: str
    activity_id: str
    activity_instance_id: str
    execution_id: str
    retries: int | None
    suspended: bool
    properties: Mapping[str, str]
    variables: Mapping[str, TypedValue]

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> ExternalTask:
        return cls(
            id=row["id"],
            topic=row["topicName"],
            worker_id=row.get("workerId"),
            tenant_id=row.get("tenantId") or "",
            process_instance_id=row["processInstanceId"],
            business_key=row.get("businessKey") or "",
            activity_id=row["activityId"],
            activity_instance_id=row["activityInstanceId"],
            execution_id=row["executionId"],
            retries=row.get("retries"),
            suspended=bool(row.get("suspended")),
            properties=row.get("extensionProperties") or {},
            variables=row.get("variables") or {},
        )


# No model has tasks with this topic.
_NO_TOPIC = TopicRequest(name="q2o.no-topic", lock_duration=timedelta(seconds=1), variables=())


class Engine(ProcessCalls, AccountCalls, TenantCalls, HistoryCalls):
    """Every call of the suite to the engine. Safe to share between threads; close it when done.

    Every call raises EngineUnavailableError (nothing was sent), EngineOutcomeUnknownError (it may have taken effect) or EngineRefusedError.
    """

    def __init__(
        self,
        url: str,
        user: str,
        password: Secret,
        worker_id: str | None = None,
        *,
        tls: ClientTls = PUBLIC_AUTHORITIES,
        response_timeout: timedelta = RESPONSE_TIMEOUT,
        login_named: str = LOGIN_SETTINGS,
    ) -> None:
        super().__init__(url, user, password, tls=tls, response_timeout=response_timeout, login_named=login_named)
        self.worker_id = worker_id or new_worker_id()
        self._tasks = _PooledClient(self.worker_id, self)

    def fetch_and_lock(self, topics: Sequence[TopicRequest], *, max_tasks: int, poll: timedelta) -> list[ExternalTask]:
        """Lock up to `max_tasks` tasks; wait up to `poll` for the first one (zero: do not wait). A task that is not understood is left out."""
        tasks = []
        for row in self._tasks.fetch(topics, max_tasks, poll):
            with isolated("tasks", "task", row=repr(row)[:LONGEST_ROW]):
                # As a plain dict: a member that one task lacks is its own fault, and no outage of the engine.
                tasks.append(ExternalTask.from_row(dict(row)))
        return tasks

    def end_poll(self) -> None:
        """Make the engine end this worker's waiting poll: a new poll of the same worker replaces it, where the engine is configured so."""
        self._tasks.fetch([_NO_TOPIC], 1, timedelta(milliseconds=1))

    def complete(self, task_id: str, variables: EncodedVariables) -> None:
        self._tasks.complete(task_id, variables)

    def failure(self, task_id: str, *, message: str, details: str, retries: int, retry_after: timedelta) -> None:
        """Report a failed attempt; `retries` 0 raises an incident."""
        self._tasks.failure(task_id, message[:MAX_ERROR_MESSAGE], details, retries, _milliseconds(retry_after))

    def bpmn_error(self, task_id: str, *, code: str, message: str, variables: EncodedVariables) -> None:
        self._tasks.bpmn_failure(task_id, code, message[:MAX_ERROR_MESSAGE], variables)

    def extend_lock(self, task_id: str, duration: timedelta, *, timeout: timedelta) -> None:
        """Lock for `duration` from now on; refused once the lock has expired, even when no other worker took the task."""
        body = {"workerId": self.worker_id, "newDuration": _milliseconds(duration)}
        self.post(f"/external-task/{task_id}/extendLock", body, timeout=timeout)

    def lock(self, task_id: str, duration: timedelta) -> None:
        """Lock a task that is free, expired or already this worker's; refused when another worker has locked it."""
        self.post(f"/external-task/{task_id}/lock", {"workerId": self.worker_id, "lockDuration": _milliseconds(duration)})

    def unlock(self, task_id: str) -> None:
        """Unlock a task. The engine does not check whose lock it is: call it only while the lock is certainly this worker's."""
        self.post(f"/external-task/{task_id}/unlock", {})

    def external_task(self, task_id: str) -> ExternalTask | None:
        """Read the current state of the task; None when it was completed or cancelled."""
        row = self.find(f"/external-task/{task_id}")
        return None if row is None else ExternalTask.from_row(row)

    def locked_tasks(self) -> list[ExternalTask]:
        """Find every task locked for this worker id, also those that wait for their next attempt."""
        return [ExternalTask.from_row(row) for row in self.rows("/external-task", workerId=self.worker_id, locked="true")]

    def set_retries(self, task_id: str, retries: int) -> None:
        """Give a failed task further attempts, which also resolves its incident."""
        self.put(f"/external-task/{task_id}/retries", {"retries": retries})

    def retry(self, incident: Incident) -> None:
        """Have the task or job of an incident tried once more, which resolves the incident. Nothing happens when it is gone."""
        is_task = incident.type == "failedExternalTask"
        path = f"/{'external-task' if is_task else 'job'}/{incident.configuration}"
        try:
            self.put(f"{path}/retries", {"retries": 1})
        except EngineRefusedError:
            if self.find(path) is not None:
                raise


class _PooledClient(ExternalTaskClient):  # type: ignore[misc]  # the library ships no types
    """The library's client on a shared connection, with per-topic locks, typed errors and without its logging of tokens and variables."""

    def __init__(self, worker_id: str, connection: EngineConnection) -> None:
        self._connection = connection
        super().__init__(worker_id, connection.url, {"deserializeValues": False, "usePriority": True})

    def _log_with_context(self, msg: str, log_level: str = "info", **kwargs: Any) -> None:
        """Log nothing: the library would write its configuration and the values of variables to the root logger."""

    def fetch(self, topics: Sequence[TopicRequest], max_tasks: int, poll: timedelta) -> list[Any]:
        body = {
            "workerId": self.worker_id,
            "maxTasks": max_tasks,
            "usePriority": self.config["usePriority"],
            # Without an order the database may always return the newest tasks first.
            "sorting": [{"sortBy": "createTime", "sortOrder": "asc"}],
            "asyncResponseTimeout": _milliseconds(poll) or None,
            "topics": [self._topic(topic) for topic in topics],
        }
        return self._connection.ask_list(self.get_fetch_and_lock_url(), body, timeout=poll + POLL_GRACE)

    def _topic(self, topic: TopicRequest) -> dict[str, Any]:
        (request,) = self._get_topics(topic.name, None, list(topic.variables))
        return {**request, "lockDuration": _milliseconds(topic.lock_duration)}

    def complete(self, task_id: str, global_variables: EncodedVariables, local_variables: EncodedVariables | None = None) -> None:
        variables = {"variables": Variables.format(global_variables), "localVariables": Variables.format(local_variables)}
        self._connection.post(self.get_task_complete_url(task_id), {"workerId": self.worker_id, **variables})

    def failure(self, task_id: str, error_message: str, error_details: str, retries: int, retry_timeout: int) -> None:
        body = {"errorMessage": error_message, "errorDetails": error_details, "retries": retries, "retryTimeout": retry_timeout}
        self._connection.post(self.get_task_failure_url(task_id), {"workerId": self.worker_id, **body})

    def bpmn_failure(self, task_id: str, error_code: str, error_message: str, variables: EncodedVariables | None = None) -> None:
        body = {"errorCode": error_code, "errorMessage": error_message, "variables": Variables.format(variables)}
        self._connection.post(self.get_task_bpmn_error_url(task_id), {"workerId": self.worker_id, **body})


def _milliseconds(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)
