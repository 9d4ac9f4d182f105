"""The audit finds each kind of bad history by its own check and by no other, and nothing in a good one.

What a test plants in the database stays in a transaction that is rolled back; triggers are off and foreign keys gone in it, and another
constraint that would refuse the plant is dropped there.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from io import StringIO
from typing import Any
from uuid import UUID, uuid4

import pytest
from rich.console import Console
from sqlalchemy import Connection, Engine, text

from domain.delivery import steps
from domain.store.facts import TOPICS
from reconciliation.audit import Audit, AuditReport, as_table
from reconciliation.audit_sources import CamundaHistory, EventRecord, KafkaTopics
from tests.support.bad_histories import IN_DATABASE, NEW, OTHER_TENANT, REOPEN_ORDER, UNPROTECT, copy
from tests.support.database import empty
from tests.support.engines import Doors
from tests.support.offers import Offers
from tests.support.settled import Settled, Surroundings, instance
from tests.support.waiting import eventually
from workers.deployment import deploy
from workers.local.stack import LocalStack
from workers.runtime.engine import TopicRequest
from workers.runtime.engine_history import Incident, Trace
from workers.runtime.kafka import ensure_topics, new_producer

LOCK = timedelta(seconds=30)


@pytest.fixture(scope="module")
def settled(migrated: Engine) -> Iterator[Settled]:
    """Two fulfilled orders, an open approval and a revised quote; beside it another tenant with a quote."""
    empty(migrated)
    for tenant_id in (UUID(OTHER_TENANT), uuid4()):
        offers = Offers(migrated, tenant_id)
        offers.publish_prices()
        offers.grant_authority()
        if tenant_id == UUID(OTHER_TENANT):
            offers.draft_quote()
    yield Settled(offers)
    empty(migrated)


@pytest.fixture
def planted(settled: Settled) -> Iterator[Connection]:
    """A transaction in which nothing protects the data, and of which nothing stays."""
    with settled.offers.engine.connect() as connection:
        connection.execute(text(UNPROTECT))
        yield connection
        connection.rollback()


def broken(report: AuditReport) -> list[str]:
    """Codes of the checks that found something."""
    return [check.code for check in report.checks if not check.passed]


def figures(report: AuditReport, code: str) -> dict[str, int]:
    return dict(next(check.counted for check in report.checks if check.code == code))


def test_a_settled_history_passes_every_check(settled: Settled, planted: Connection) -> None:
    report = settled.audit(planted)

    assert broken(report) == []
    assert report.passed
    assert [check.code for check in report.checks] == [
        *("I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11", "I13", "I14", "I15", "I16"),
        *("I17", "I18", "I19", "I20", "I22", "I23", "I28"),
    ]


def test_every_check_looked_at_something(settled: Settled, planted: Connection) -> None:
    report = settled.audit(planted)

    assert all(any(check.counted.values()) for check in report.checks if check.code != "I23")
    assert figures(report, "I1") == {"acceptedRevisions": 3, "orders": 3}
    assert figures(report, "I8") == {"requests": 32, "keys": 16, "effects": 16, "completedSteps": 16}
    assert figures(report, "I13")["deliveredAgain"] == 14
    assert figures(report, "I14")["turnedAway"] == 12  # one of each workflow: eight of quotes and orders, four of cases
    assert figures(report, "I16")["running"] == 4  # an order in progress, and three cases


@pytest.mark.parametrize(("code", "statements"), IN_DATABASE.values(), ids=IN_DATABASE)
def test_what_is_wrong_in_the_database_is_found_by_its_check_alone(
    settled: Settled, planted: Connection, code: str, statements: tuple[str, ...]
) -> None:
    for statement in statements:
        planted.execute(text(statement), {"tenant": settled.tenant_id})

    assert broken(settled.audit(planted)) == [code]


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


def turned_back(records: list[EventRecord]) -> None:
    """Let two events of one aggregate change places."""
    [(key, _)] = Counter(record.key for record in records).most_common(1)
    first, second = [number for number, record in enumerate(records) if record.key == key][:2]
    records[first], records[second] = (
        replace(records[first], offset=records[second].offset),
        replace(records[second], offset=records[first].offset),
    )


def wanted(around: Surroundings) -> dict[str, Any]:
    """The provider's entry of a step whose effect must be there."""
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
    "events in the wrong order": ("I19", lambda _, around: turned_back(around.kafka.records)),
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
def test_what_is_wrong_outside_is_found_by_its_check_alone(
    settled: Settled, planted: Connection, code: str, falsify: Falsify
) -> None:
    around = settled.surroundings(planted)
    falsify(settled, around)

    assert broken(settled.audit(planted, around)) == [code]


def test_two_running_instances_of_one_step_are_found(settled: Settled, planted: Connection) -> None:
    around = settled.surroundings(planted)
    for statement in REOPEN_ORDER:
        planted.execute(text(statement), {"tenant": settled.tenant_id})
    running = instance("again", step_key(settled), "fulfillment-step", "ACTIVE")
    around.engine.recorded += [running, replace(running, id="and again")]

    assert "I14" in broken(settled.audit(planted, around))


def test_the_providers_done_that_a_step_does_not_know_of_is_found(settled: Settled, planted: Connection) -> None:
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


def test_an_incident_at_something_that_a_person_looks_at_is_no_violation(settled: Settled, planted: Connection) -> None:
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


def test_the_report_tells_people_and_machines_the_same(settled: Settled, planted: Connection) -> None:
    around = settled.surroundings(planted)
    around.kafka.records.clear()
    report = settled.audit(planted, around)
    console = Console(width=200, record=True, file=StringIO())
    console.print(as_table(report))
    page, machine = console.export_text(), json.loads(json.dumps(report.as_json()))

    assert machine["violations"] == report.violations > 5
    assert not machine["passed"]
    assert f"and {report.violations - 5} more" in page
    assert "one order per accepted revision" in page


def test_another_tenants_history_is_not_looked_at(settled: Settled, planted: Connection) -> None:
    planted.execute(text("UPDATE outbox_event SET status = 'PENDING' WHERE tenant_id <> :tenant"), {"tenant": settled.tenant_id})

    assert broken(settled.audit(planted)) == []


@pytest.mark.stack
def test_an_audit_of_the_real_parts_finds_what_they_do_not_have(settled: Settled, doors: Doors, stack: LocalStack) -> None:
    """The settled tenant never had an engine, a Kafka or a provider, and nothing else is wrong with it."""
    audit = Audit(settled.offers.engine, doors.direct(), stack.environment["Q2O_KAFKA"], list)

    assert broken(audit.run(settled.tenant_id)) == ["I8", "I16", "I18"]


@pytest.mark.stack
def test_the_engines_history_tells_who_was_turned_away_at_the_gate(doors: Doors) -> None:
    engine, tenant_id = doors.direct(), uuid4()
    deploy(engine)
    key = f"order:{tenant_id}:{uuid4()}"
    variables = {"tenantId": str(tenant_id), "orderId": str(uuid4()), "startToken": "t"}
    first, second = (engine.start_process("order-fulfillment", key, variables) for _ in range(2))
    # Tasks that another test left under this topic stay locked; ours may come in a later batch.
    gate = TopicRequest(name="workflow.register", lock_duration=LOCK, variables=())
    tasks: dict[str, str] = {}
    while not {first, second} <= tasks.keys():
        tasks |= {task.process_instance_id: task.id for task in engine.fetch_and_lock([gate], max_tasks=50, poll=LOCK)}
    engine.complete(tasks[first], {})
    engine.bpmn_error(tasks[second], code="DUPLICATE_WORKFLOW", message="registered by another", variables={})
    history = CamundaHistory(engine)
    found = {one.id: one for one in eventually(lambda: history.instances(tenant_id), "both instances are in history")}

    assert {one.business_key for one in found.values()} == {key}
    assert found[first].is_running
    assert found[second].is_completed
    assert history.trace(second) == Trace(ends=frozenset({"Duplicate start"}), topics=frozenset({"workflow.register"}))
    assert "order.decompose" in history.trace(first).topics
    assert not [one for one in history.incidents() if one.process_instance_id in found]


@pytest.mark.stack
def test_kafka_is_read_from_its_first_record_to_its_last(stack: LocalStack) -> None:
    bootstrap, tenant_id = stack.environment["Q2O_KAFKA"], uuid4()
    ensure_topics(bootstrap, set(TOPICS.values()))
    producer = new_producer(bootstrap, None)
    events = [uuid4() for _ in range(20)]
    for number, event_id in enumerate([*events, events[0]]):
        value = {"eventId": str(event_id), "tenantId": str(tenant_id), "aggregateVersion": number % 20 + 1}
        producer.produce(TOPICS["quote"], key=b"quote-1", value=json.dumps(value).encode())
    for junk in (b"no json", b"[]", json.dumps({"tenantId": str(uuid4())}).encode(), None):
        producer.produce(TOPICS["quote"], key=b"quote-2", value=junk)
    producer.flush(30)

    records = KafkaTopics(bootstrap).read(tenant_id)

    assert [record.event_id for record in records] == [*events, events[0]]
    assert {(record.topic, record.key) for record in records} == {(TOPICS["quote"], "quote-1")}
    assert [record.offset for record in records] == sorted(record.offset for record in records)
