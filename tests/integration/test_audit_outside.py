"""The audit finds each kind of fault in the engine, in Kafka and at the provider by its own check alone."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest
from sqlalchemy import Connection, text

from domain.delivery import steps
from tests.support.audits import broken, figures
from tests.support.bad_histories import IN_DATABASE, REOPEN_ORDER
from tests.support.bad_sides import OUTSIDE, Falsify, approval_key, changed, incident, order_key, step_key, twin
from tests.support.planting import NEW, copy
from tests.support.settled import Settled
from tests.support.surroundings import Surroundings, instance
from workers.runtime.engine_history import EngineInstance


@pytest.mark.parametrize(("code", "falsify"), OUTSIDE.values(), ids=OUTSIDE)
def test_a_fault_outside_the_database_is_found_by_its_check_alone(
    settled: Settled, planted: Connection, code: str, falsify: Falsify
) -> None:
    around = settled.surroundings(planted)
    falsify(settled, around)

    assert broken(settled.audit(planted, around)) == [code]


def test_an_odd_entry_of_a_side_leaves_the_other_sides_compared(settled: Settled, planted: Connection) -> None:
    """Kills: an audit that ends without a report at the first odd entry of the provider's ledger."""
    around = settled.surroundings(planted)
    around.ledger[0] = {name: value for name, value in around.ledger[0].items() if name != "callbacks"}

    report = settled.audit(planted, around)

    unseen = {check.code: check.unseen for check in report.checks if check.unseen}
    assert unseen["I13"] == "KeyError: 'callbacks'"
    assert not report.passed
    assert any(reason.startswith("I13: ") for reason in report.out_of_reach)
    assert broken(report) == []


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

    assert broken(settled.audit(planted, around)) == []


def test_an_instance_that_was_ended_from_outside_and_that_reconciliation_found_superfluous_is_no_violation(
    settled: Settled, planted: Connection
) -> None:
    key = order_key(settled)
    planted.execute(text("UPDATE workflow_correlation SET status = 'ENDED' WHERE business_key = :key"), {"key": key})
    around = settled.surroundings(planted)
    changed(around, around.instance(key).id, state="EXTERNALLY_TERMINATED")

    assert "I16" not in broken(settled.audit(planted, around))


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
