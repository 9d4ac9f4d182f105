"""The audit of the real parts: what it reads of the history of the engine and of Kafka."""

from __future__ import annotations

import json
from datetime import timedelta
from uuid import uuid4

import pytest

from domain.store.facts import TOPICS
from reconciliation.audit import Audit, Outside
from reconciliation.audit_sources import CamundaHistory, KafkaTopics
from tests.support.audits import broken
from tests.support.database import acting
from tests.support.engines import Doors
from tests.support.settled import Settled
from tests.support.waiting import eventually
from workers.deployment import deploy
from workers.local.stack import LocalStack
from workers.runtime.engine import TopicRequest
from workers.runtime.kafka import ensure_topics, new_producer
from workers.runtime.kafka_access import KafkaAccess

pytestmark = pytest.mark.stack

LOCK = timedelta(seconds=30)


@pytest.fixture(scope="module")
def whole_topics(stack: LocalStack) -> KafkaAccess:
    """Give topics that have lost nothing from now on: other tests may have deleted their records, and the audit allows for that."""
    kafka = KafkaAccess(bootstrap=stack.kafka.bootstrap)
    ensure_topics(kafka, set(TOPICS.values()))
    producer = new_producer(kafka, None)
    # A partition that lost everything tells no time; the audit then allows that it has just lost the events of this test.
    for topic in set(TOPICS.values()):
        for partition in producer.list_topics(topic, timeout=30).topics[topic].partitions:
            producer.produce(topic, value=b"null", partition=partition)
    assert producer.flush(30) == 0
    return kafka


def test_an_audit_of_the_real_parts_finds_missing_instances_events_and_effects(
    whole_topics: KafkaAccess, settled: Settled, doors: Doors
) -> None:
    """The settled tenant never had an engine, a Kafka or a provider; every other check passes."""
    outside = Outside(engine=CamundaHistory(doors.direct()), events=KafkaTopics(whole_topics), ledger=list)
    audit = Audit(acting(settled.offers.engine, "audit"), outside)

    assert broken(audit.run(settled.tenant_id)) == ["I8", "I16", "I18"]


def test_the_history_of_the_engine_has_the_instances_that_the_gate_turned_away(doors: Doors) -> None:
    engine, tenant_id = doors.direct(), uuid4()
    deploy(engine, tenant_id)
    key = f"order:{tenant_id}:{uuid4()}"
    variables = {"tenantId": str(tenant_id), "orderId": str(uuid4()), "startToken": "t"}
    first, second = (engine.start_process(tenant_id, "order-fulfillment", key, variables) for _ in range(2))
    # Tasks of other tests under this topic stay locked; the task of this test may come in a later batch.
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
    assert (history.work_of(first), history.work_of(second)) == ({"workflow.register"}, set())
    assert not [one for one in history.incidents() if one.process_instance_id in found]


def test_kafka_is_read_from_its_first_record_to_its_last(stack: LocalStack) -> None:
    kafka, tenant_id = KafkaAccess(bootstrap=stack.environment["Q2O_KAFKA"]), uuid4()
    ensure_topics(kafka, set(TOPICS.values()))
    producer = new_producer(kafka, None)
    events = [uuid4() for _ in range(20)]
    for number, event_id in enumerate([*events, events[0]]):
        value = {"eventId": str(event_id), "tenantId": str(tenant_id), "aggregateVersion": number % 20 + 1}
        producer.produce(TOPICS["quote"], key=b"quote-1", value=json.dumps(value).encode())
    for junk in (b"no json", b"[]", json.dumps({"tenantId": str(uuid4())}).encode(), None):
        producer.produce(TOPICS["quote"], key=b"quote-2", value=junk)
    producer.flush(30)

    records = KafkaTopics(kafka).read(tenant_id)

    assert [record.event_id for record in records] == [*events, events[0]]
    assert {(record.topic, record.key) for record in records} == {(TOPICS["quote"], "quote-1")}
    assert [record.offset for record in records] == sorted(record.offset for record in records)
