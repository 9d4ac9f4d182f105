"""The audit finds each kind of fault in the engine, in Kafka and at the provider by its own check alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, text

from domain.delivery import steps
from reconciliation.audit_sources import EventRecord
from tests.support.audits import broken, figures
from tests.support.bad_histories import IN_DATABASE, REOPEN_ORDER
from tests.support.planting import NEW, copy
from tests.support.settled import Settled
from tests.support.surroundings import Surroundings, instance
from workers.runtime.engine_history import EngineInstance, Incident, Trace


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
    where = around.instance(key).id
    around.engine.open_incidents.append(Incident(id="1", process_instance_id=where, activity_id="decompose-order", message="no"))


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


def wanted(around: Surroundings) -> dict[str, Any]:
    """The entry in the provider's ledger of a step whose effect must exist."""
    return next(entry for entry in around.ledger if entry["net"])


def undone(around: Surroundings) -> dict[str, Any]:
    return next(entry for entry in around.ledger if not entry["net"])


Falsify = Callable[[Settled, Surroundings], object]
OUTSIDE: dict[str, tuple[str, Falsify]] = {
    "a second effect": ("I8", lambda _, around: around.ledger[0].update(effects=2)),
    "an effect that nobody asked for": (
        "I8",
        lambda _, around: around.ledger.append({**around.ledger[0], "idempotencyKey": "fulfillment:nobody:EXECUTE"}),
    ),
    "a completed step that the provider has not done": ("I8", lambda _, around: wanted(around).update(net=0)),
    "an effect that was to be undone and is there": ("I8", lambda _, around: undone(around).update(net=1)),
    "a completed step that the provider never saw": ("I8", lambda _, around: around.ledger.remove(wanted(around))),
    "a second instance at work": ("I14", lambda settled, around: changed(around, twin(settled), state="ACTIVE")),
    "a second instance that came through": (
        "I14",
        lambda settled, around: around.engine.traces.update(
            {twin(settled): Trace(ends=frozenset({"Order fulfilled"}), topics=frozenset())}
        ),
    ),
    "a second instance that did work": (
        "I14",
        lambda settled, around: around.engine.traces.update(
            {twin(settled): Trace(ends=frozenset({"Duplicate start"}), topics=frozenset({"workflow.register", "order.decompose"}))}
        ),
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
    "events in the wrong order": ("I19", lambda _, around: with_two_events_exchanged(around.kafka.records)),
    "an aggregate in two partitions": (
        "I19",
        lambda _, around: around.kafka.records.append(replace(around.kafka.records[0], partition=1)),
    ),
    "an event that nobody committed": (
        "I22",
        lambda _, around: around.kafka.records.append(replace(around.kafka.records[-1], event_id=uuid4(), offset=10_000)),
    ),
    "an incident that nobody knows of": ("I23", lambda settled, around: incident(around, order_key(settled))),
}


@pytest.mark.parametrize(("code", "falsify"), OUTSIDE.values(), ids=OUTSIDE)
def test_a_fault_outside_the_database_is_found_by_its_check_alone(
    settled: Settled, planted: Connection, code: str, falsify: Falsify
) -> None:
    around = settled.surroundings(planted)
    falsify(settled, around)

    assert broken(settled.audit(planted, around)) == [code]


SIGN_IN_TASKLIST = (
    "UPDATE shown_form f SET process_instance_id = 'signing' FROM approval_decision d WHERE d.shown_form_id = f.id",
    (
        "INSERT INTO workflow_instance (tenant_id, id, process_instance_id, business_key, subject_id) "
        "SELECT tenant_id, gen_random_uuid(), 'signing', 'approval', requirement_id FROM approval_decision WHERE tenant_id = :tenant"
    ),
)


def test_a_decision_in_the_name_of_somebody_who_completed_no_task_is_found(settled: Settled, planted: Connection) -> None:
    planted.execute(text("ALTER TABLE workflow_instance DROP CONSTRAINT uq_workflow_instance_tenant_id_process_instance_id"))
    for statement in SIGN_IN_TASKLIST:
        planted.execute(text(statement), {"tenant": settled.tenant_id})
    around = settled.surroundings(planted)
    assert settled.audit(planted, around).passed
    around.engine.completed_tasks[:] = [("signing", "sara")]

    report = settled.audit(planted, around)

    assert broken(report) == ["I31"]
    [check] = [check for check in report.checks if check.code == "I31"]
    assert "names rita, and the tasks of process signing were completed by sara" in check.violations[0]


def test_an_operation_log_that_has_expired_proves_nothing(settled: Settled, planted: Connection) -> None:
    planted.execute(text("ALTER TABLE workflow_instance DROP CONSTRAINT uq_workflow_instance_tenant_id_process_instance_id"))
    for statement in SIGN_IN_TASKLIST:
        planted.execute(text(statement), {"tenant": settled.tenant_id})
    around = settled.surroundings(planted)
    around.engine.completed_tasks.clear()

    assert settled.audit(planted, around).passed


def test_two_running_instances_of_one_step_are_found(settled: Settled, planted: Connection) -> None:
    around = settled.surroundings(planted)
    for statement in REOPEN_ORDER:
        planted.execute(text(statement), {"tenant": settled.tenant_id})
    running = instance("again", step_key(settled), "fulfillment-step", "ACTIVE")
    around.engine.recorded += [running, replace(running, id="and again")]

    assert "I14" in broken(settled.audit(planted, around))


def test_a_request_that_the_provider_completed_and_the_step_did_not_is_found(settled: Settled, planted: Connection) -> None:
    around = settled.surroundings(planted)
    for statement in IN_DATABASE["a fulfilled order with an open step"][1]:
        planted.execute(text(statement), {"tenant": settled.tenant_id})
    planted.execute(text("UPDATE fulfillment_step SET external_complete_received_at = NULL WHERE id = :new"), {"new": NEW})
    planted.execute(
        text(copy("provider_attempt", "true", id=NEW, idempotency_key=f"fulfillment:{NEW}:EXECUTE")), {"tenant": settled.tenant_id}
    )
    new = {"idempotencyKey": f"fulfillment:{NEW}:EXECUTE", "stepRef": steps.business_key(settled.tenant_id, UUID(NEW)), "net": 1}
    around.ledger.append({**around.ledger[0], **new})

    assert broken(settled.audit(planted, around)) == ["I8", "I11"]


def test_an_event_sent_again_is_counted_and_no_violation(settled: Settled, planted: Connection) -> None:
    around = settled.surroundings(planted)
    around.kafka.records.append(replace(around.kafka.records[0], offset=10_000))
    report = settled.audit(planted, around)

    assert broken(report) == []
    assert figures(report, "I18")["sentAgain"] == 1


def test_an_incident_with_an_open_finding_is_no_violation(settled: Settled, planted: Connection) -> None:
    around = settled.surroundings(planted)
    incident(around, order_key(settled))
    planted.execute(
        text(
            "INSERT INTO reconciliation_finding (tenant_id, id, kind, aggregate_type, aggregate_id, business_key, evidence, action, status) "
            "VALUES (:tenant, :id, 'start', 'sales_order', :id, :key, '{}', 'FLAGGED', 'OPEN')"
        ),
        {"tenant": settled.tenant_id, "id": NEW, "key": order_key(settled)},
    )
    report = settled.audit(planted, around)

    assert broken(report) == []
    assert figures(report, "I23")["incidents"] == 1


def test_a_second_instance_that_was_ended_from_outside_is_no_violation(settled: Settled, planted: Connection) -> None:
    around = settled.surroundings(planted)
    changed(around, twin(settled), state="EXTERNALLY_TERMINATED")
    around.engine.traces[twin(settled)] = Trace(ends=frozenset(), topics=frozenset({"workflow.register"}))

    assert broken(settled.audit(planted, around)) == []


def called_by_an_approval(settled: Settled, around: Surroundings, state: str) -> EngineInstance:
    """An instance of a requirement that is recorded nowhere, which the approval of the open quote has called."""
    caller = around.instance(approval_key(settled)).id
    return instance("y", f"approval:{settled.tenant_id}:{NEW}", "approve-requirement", state, caller)


def test_a_called_instance_that_ended_before_its_first_task_is_no_violation(settled: Settled, planted: Connection) -> None:
    around = settled.surroundings(planted)
    around.engine.recorded.append(called_by_an_approval(settled, around, "INTERNALLY_TERMINATED"))

    assert broken(settled.audit(planted, around)) == []


def test_a_called_instance_that_runs_and_that_nobody_asked_for_is_found(settled: Settled, planted: Connection) -> None:
    around = settled.surroundings(planted)
    around.engine.recorded.append(called_by_an_approval(settled, around, "ACTIVE"))

    assert broken(settled.audit(planted, around)) == ["I16"]
