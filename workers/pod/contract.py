"""What a task handler gets and how it may end: the contract between the pod and the handlers.

The rule it keeps: a handler names its outcome. It returns variables (completed), or raises `BpmnError` (a business outcome that the model
handles), `RetryLater` (too early; costs no attempt) or `GiveUp` (a person must act). Any other exception is a technical failure, which the
pod retries by the task's `retryPolicy`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Event
from typing import Any, Self, TypeAlias
from uuid import UUID

from domain.retry_rules import EXTERNAL_TASK, UNLIMITED_TIME, RetryRule
from workers.runtime.engine import ExternalTask
from workers.runtime.variables import Variable, decode


class BpmnError(Exception):
    """A business outcome: the boundary event with this code takes over."""

    def __init__(self, code: str, message: str, variables: Mapping[str, Variable] | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.variables = variables or {}


class RetryLater(Exception):
    """The task comes too early: try again after `delay`, with as many attempts left as before, until nothing has changed for `time`."""

    def __init__(self, delay: timedelta, reason: str, time: timedelta = UNLIMITED_TIME) -> None:
        super().__init__(reason)
        self.delay = delay
        self.reason = reason
        self.time = time

    @classmethod
    def by(cls, rule: RetryRule, reason: str) -> Self:
        """By a row of the table of retries: again and again after its first wait, until its time is over."""
        return cls(rule.first_wait, reason, rule.time)


class GiveUp(Exception):
    """Another attempt cannot help: the task becomes an incident, with the reason for the person who works on it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One external task. `cancelled` is set when its outcome no longer counts, or the pod must stop; a long handler may check it.

    `tenant_id` is the engine's tenant of the instance; empty for an instance that was started without one.
    """

    id: str
    topic: str
    worker_id: str
    tenant_id: str
    process_instance_id: str
    business_key: str
    activity_id: str
    execution_id: str
    activity_instance_id: str = ""
    retries: int | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, Any] = field(default_factory=dict)
    cancelled: Event = field(default_factory=Event, repr=False, compare=False)

    @classmethod
    def of(cls, task: ExternalTask, cancelled: Event) -> Task:
        """Decode a fetched task. Raises VariableError for a value that Python cannot read."""
        return cls(
            id=task.id,
            topic=task.topic,
            worker_id=task.worker_id or "",
            tenant_id=task.tenant_id,
            process_instance_id=task.process_instance_id,
            business_key=task.business_key,
            activity_id=task.activity_id,
            execution_id=task.execution_id,
            activity_instance_id=task.activity_instance_id,
            retries=task.retries,
            properties=task.properties,
            variables=decode(task.variables),
            cancelled=cancelled,
        )

    def uuid(self, name: str) -> UUID:
        """Return a process variable that must be a UUID. Raises GiveUp when it is not."""
        value = self.variables.get(name)
        try:
            return UUID(value)
        except (TypeError, ValueError, AttributeError):
            raise GiveUp(f"the process variable {name!r} must be a UUID, it is {value!r}: correct it on the instance") from None

    def configured(self, name: str) -> str:
        """Return an extension property of the model's task; no process variable changes it. Raises GiveUp when the model has none."""
        try:
            return self.properties[name]
        except KeyError:
            raise GiveUp(f"the task has no extension property {name!r}: set it in the model") from None


Handler: TypeAlias = Callable[[Task], Mapping[str, Variable]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Topic:
    """A topic and its handler: the variables that it reads and the BPMN errors that it may raise.

    `asks_provider`: its handler waits for a provider, so it never gets all places of a pod. `retries`: how often a failed task is tried whose
    activity does not say. `lock_duration` None: the pod's. `heartbeat` is called after each extension of a running task's lock, to write a sign of life.
    """

    name: str
    handler: Handler
    variables: Sequence[str] = ()
    errors: Sequence[str] = ()
    asks_provider: bool = False
    retries: RetryRule = EXTERNAL_TASK
    lock_duration: timedelta | None = None
    heartbeat: Callable[[Task], None] | None = None
