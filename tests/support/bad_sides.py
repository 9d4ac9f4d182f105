"""Bad sides: each makes the records of the engine, Kafka, the provider or the clients wrong in one way, and the check that must find it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

from domain.delivery import steps
from reconciliation.audit_agreement import RESERVING
from reconciliation.audit_clients import Operation
from reconciliation.audit_events import partition_of
from reconciliation.audit_sources import EventRecord, Kept
from tests.support.planting import NEW
from tests.support.settled import ANSWERED, BODY, COMMAND, Settled
from tests.support.surroundings import Surroundings, instance
from workers.runtime.engine_history import Incident


def order_key(settled: Settled) -> str:
    return f"order:{settled.tenant_id}:{settled.orders[0]}"


def step_key(settled: Settled) -> str:
    return steps.business_key(settled.tenant_id, settled.steps[0])


def approval_key(settled: Settled) -> str:
    return f"quote:{settled.tenant_id}:{settled.open_quote.quote_id}:{settled.open_quote.revision_id}"


def changed(around: Surroundings, instance_id: str, **changes: Any) -> None:
    """Change one instance of the engine."""
    around.engine.recorded[:] = [replace(one, **changes) if one.id == instance_id else one for one in around.engine.recorded]


def change_registered(around: Surroundings, key: str, **changes: Any) -> None:
    changed(around, around.instance(key).id, **changes)


def incident(around: Surroundings, key: str) -> None:
    where = around.instance(key)
    around.engine.open_incidents.append(
        Incident(id="1", process_instance_id=where.id, activity_id="decompose-order", message="no", at=where.started_at)
    )


def twin(settled: Settled) -> str:
    return f"twin-of-{order_key(settled)}"


def with_two_events_exchanged(records: list[EventRecord]) -> None:
    """Exchange two events of one aggregate."""
    [(key, _)] = Counter(record.key for record in records).most_common(1)
    first, second = [number for number, record in enumerate(records) if record.key == key][:2]
    records[first], records[second] = (
        replace(records[first], offset=records[second].offset),
        replace(records[second], offset=records[first].offset),
    )


def lose_beside_a_quiet_partition(around: Surroundings) -> None:
    """Lose an event of one partition, while another partition of its topic has no record left."""
    lost = around.kafka.records.pop()
    around.kafka.still_there = Kept(partitions={lost.topic: 2}, emptied=frozenset({(lost.topic, 1 - partition_of(lost.key, 2))}))
    around.kafka.records[:] = [replace(each, partition=partition_of(each.key, 2)) for each in around.kafka.records]


def wanted(around: Surroundings) -> dict[str, Any]:
    """The entry in the provider's ledger of a step whose effect must exist."""
    return next(entry for entry in around.ledger if entry["net"])


def undone(around: Surroundings) -> dict[str, Any]:
    return next(entry for entry in around.ledger if not entry["net"])


def reservation(settled: Settled, around: Surroundings) -> dict[str, Any]:
    """The entry of a fulfilled order's reservation."""
    ours = {steps.business_key(settled.tenant_id, step_id) for step_id in settled.steps}
    return next(entry for entry in around.ledger if entry["stepRef"] in ours and entry["stepCode"] == RESERVING)


def told(settled: Settled, around: Surroundings, *operation: Any) -> None:
    """Add what a client was told."""
    around.operations.append(Operation(settled.tenant_id, *operation))


def only_refused(settled: Settled, around: Surroundings) -> None:
    """Let the client of the command that was done be told that it is refused."""
    around.operations[:] = [Operation(settled.tenant_id, COMMAND, "key-1", 409, {"code": "OTHER"})]
    around.increases.clear()


Falsify = Callable[[Settled, Surroundings], object]
OUTSIDE: dict[str, tuple[str, Falsify]] = {
    "a second effect": ("I8", lambda _, around: around.ledger[0].update(effects=2, net=2)),
    "an effect that nobody asked for": (
        "I8",
        lambda _, around: around.ledger.append({**around.ledger[0], "idempotencyKey": "fulfillment:nobody:EXECUTE"}),
    ),
    "a completed step that the provider has not done": ("I8", lambda _, around: wanted(around).update(effects=0, net=0)),
    "an effect that was to be undone and is there": ("I8", lambda _, around: undone(around).update(reversals=0, net=1)),
    "a completed step that the provider never saw": ("I8", lambda _, around: around.ledger.remove(wanted(around))),
    "a second instance at work": ("I14", lambda settled, around: changed(around, twin(settled), state="ACTIVE")),
    "a second instance that came through the gate": (
        "I14",
        lambda settled, around: around.engine.work.update({twin(settled): {"workflow.register"}}),
    ),
    "a second instance that did work": (
        "I14",
        lambda settled, around: around.engine.work.update({twin(settled): {"order.decompose"}}),
    ),
    "an order whose instance is missing": (
        "I16",
        lambda settled, around: around.engine.recorded.remove(around.instance(order_key(settled))),
    ),
    "a settled order whose instance runs": (
        "I16",
        lambda settled, around: change_registered(around, order_key(settled), state="ACTIVE"),
    ),
    "a settled order whose instance was killed": (
        "I16",
        lambda settled, around: change_registered(around, order_key(settled), state="EXTERNALLY_TERMINATED"),
    ),
    "an open approval whose instance is gone": (
        "I16",
        lambda settled, around: change_registered(around, approval_key(settled), state="COMPLETED"),
    ),
    "a step's instance that outlived its order": (
        "I16",
        lambda settled, around: change_registered(around, step_key(settled), state="ACTIVE"),
    ),
    "an instance that nobody asked for": (
        "I16",
        lambda settled, around: around.engine.recorded.append(
            instance("x", f"order:{settled.tenant_id}:{NEW}", "order-fulfillment")
        ),
    ),
    "a published event that Kafka lost": ("I18", lambda _, around: around.kafka.records.pop()),
    "a published event that Kafka lost beside a quiet partition": ("I18", lambda _, around: lose_beside_a_quiet_partition(around)),
    "events in the wrong order": ("I19", lambda _, around: with_two_events_exchanged(around.kafka.records)),
    "an aggregate in two partitions": (
        "I19",
        lambda _, around: around.kafka.records.append(replace(around.kafka.records[0], partition=1)),
    ),
    "an event that nobody committed": (
        "I22",
        lambda _, around: around.kafka.records.append(replace(around.kafka.records[-1], event_id=uuid4(), offset=10_000)),
    ),
    "a reservation that was released twice": ("I12", lambda _, around: undone(around).update(reversals=2, net=-1)),
    "a reservation that went away by itself": ("I12", lambda _, around: undone(around).update(reversals=0)),
    "a confirmed reservation that was released": (
        "I12",
        lambda settled, around: reservation(settled, around).update(reversals=1, net=0),
    ),
    "two answers to one key": ("I2", lambda settled, around: told(settled, around, *ANSWERED[:3], {"ok": False})),
    "a race told in the words of the database": (
        "I24",
        lambda settled, around: told(
            settled, around, COMMAND, "key-3", 500, {"detail": "duplicate key value violates unique constraint"}
        ),
    ),
    "a confirmed command that is lost": ("I25", lambda settled, around: told(settled, around, COMMAND, "key-3", 200, BODY)),
    "a refused command that was carried out": ("I26", only_refused),
    "a metric that counted a race twice": ("I29", lambda _, around: around.increases.update(q2o_stale_price_rejections_total=4)),
    "a metric that missed a race": ("I29", lambda _, around: around.increases.update(q2o_stale_price_rejections_total=0)),
    "an incident that nobody knows of": ("I23", lambda settled, around: incident(around, order_key(settled))),
}
