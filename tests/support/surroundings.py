"""The engine, Kafka and the provider of a settled tenant, as records that a test may falsify.

Their order is always the same, so that a test may falsify the first or the last record.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from domain import auditing
from domain.delivery import attempts, steps
from domain.store.facts import TOPICS
from reconciliation.audit import Outside
from reconciliation.audit_clients import ClientRecord, Operation
from reconciliation.audit_sources import EventRecord, Kept
from workers.runtime.engine_history import EngineInstance, Incident


@dataclass
class RecordedEngine:
    """The engine's history, as a list."""

    recorded: list[EngineInstance] = field(default_factory=list)
    work: dict[str, Collection[str]] = field(default_factory=dict)
    open_incidents: list[Incident] = field(default_factory=list)
    completed_tasks: list[tuple[str, str]] = field(default_factory=list)

    def instances(self, tenant_id: UUID) -> Sequence[EngineInstance]:
        return [one for one in self.recorded if f":{tenant_id}:" in one.business_key]

    def work_of(self, instance_id: str) -> Collection[str]:
        return self.work.get(instance_id, set())

    def incidents(self) -> Sequence[Incident]:
        return self.open_incidents

    def completions(self) -> Sequence[tuple[str, str]]:
        return self.completed_tasks


@dataclass
class RecordedEvents:
    """Kafka's records of one tenant, as a list."""

    records: list[EventRecord]
    still_there: Kept = field(default_factory=Kept)
    sent_by_hand: set[str] = field(default_factory=set)

    def read(self, tenant_id: UUID) -> Sequence[EventRecord]:  # noqa: ARG002 - the protocol's
        return self.records

    def kept(self) -> Kept:
        return self.still_there

    def replayed(self) -> Collection[str]:
        return self.sent_by_hand


@dataclass
class Surroundings:
    """The records around the database; they are right until a test changes them."""

    engine: RecordedEngine
    kafka: RecordedEvents
    ledger: list[dict[str, Any]]
    operations: list[Operation] = field(default_factory=list)
    increases: dict[str, float] = field(default_factory=dict)

    @property
    def outside(self) -> Outside:
        """These records as the sides of an audit."""
        clients = ClientRecord(operations=self.operations, increases=self.increases)
        return Outside(engine=self.engine, events=self.kafka, ledger=lambda: self.ledger, clients=clients)

    def instance(self, business_key: str) -> EngineInstance:
        return next(one for one in self.engine.recorded if one.business_key == business_key)


def engine_of(snapshot: auditing.Snapshot, started_at: datetime | None = None) -> RecordedEngine:
    """Every workflow and step with its instance, and for each workflow one that was started twice and turned away."""
    engine = RecordedEngine()
    for workflow in snapshot.workflows:
        state = "COMPLETED" if workflow.is_settled else "ACTIVE"
        twin = f"twin-of-{workflow.business_key}"
        engine.recorded += [
            instance(str(workflow.process_instance_id), workflow.business_key, workflow.workflow_name, state),
            instance(twin, workflow.business_key, workflow.workflow_name),
        ]
    for step in snapshot.steps:
        key = steps.business_key(snapshot.tenant_id, step.step_id)
        engine.recorded.append(instance(f"instance-{step.step_id}", key, "fulfillment-step"))
    engine.recorded[:] = [replace(one, started_at=started_at) for one in engine.recorded]
    engine.completed_tasks += [(each.process_instance_id, each.person) for each in snapshot.signatures]
    return engine


def instance(
    instance_id: str, business_key: str, definition_key: str, state: str = "COMPLETED", caller_id: str | None = None
) -> EngineInstance:
    """Make an instance."""
    return EngineInstance(
        id=instance_id, business_key=business_key, definition_key=definition_key, state=state, caller_id=caller_id
    )


def record(event: auditing.CommittedEvent, offset: int, event_time: datetime | None = None) -> EventRecord:
    return EventRecord(
        topic=TOPICS[event.aggregate_type],
        partition=0,
        offset=offset,
        key=str(event.aggregate_id),
        event_id=event.event_id,
        aggregate_version=event.aggregate_version,
        event_time=event_time,
    )


def ledger_of(snapshot: auditing.Snapshot) -> list[dict[str, Any]]:
    """What the provider did, by the code of the step: the effect at the head was never undone."""
    completed = (step for step in snapshot.steps if step.status == "COMPLETED")
    return [entry(snapshot.tenant_id, step) for step in sorted(completed, key=lambda step: (step.code, not step.is_wanted))]


def entry(tenant_id: UUID, step: auditing.StepOutcome) -> dict[str, Any]:
    """What the provider did for a completed step."""
    return {
        "idempotencyKey": attempts.idempotency_key(step.step_id),
        "stepRef": steps.business_key(tenant_id, step.step_id),
        "stepCode": step.code,
        "status": "COMPLETED",
        "effects": 1,
        "reversals": int(not step.is_wanted),
        "net": int(step.is_wanted),
        "requests": 2,
        "callbacks": 1,
    }
