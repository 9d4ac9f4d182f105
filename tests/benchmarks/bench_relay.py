"""How fast the relay is beside a producer that does nothing else (P5), and how soon a commit is in Kafka when nothing else happens (P6).

Both sides of a ratio send the same messages, in turns, in one run. The bare producer has as many requests on their way as the library
allows, the relay one (decision 0044).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from threading import Event, Thread
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer
from sqlalchemy import Engine, func, insert, select, text

from domain.store import outbox, table_of
from domain.store.facts import OutboxEvent, OutboxStatus
from domain.store.unit_of_work import housekeeping
from tests.benchmarks.figures import Figure, figure, ratio, spread, tell
from tests.support.topics import Topics
from tests.support.waiting import eventually
from workers.kafka import wire
from workers.kafka.relay import Relay
from workers.kafka.topics import ORDERS
from workers.runtime.kafka import LINGER_MS, new_consumer

EVENTS, EVENTS_PER_AGGREGATE, ROUNDS = 20_000, 5, 5
# A broker's JVM compiles its way to full speed first; a slow one would flatter the ratio.
WARM_UPS = 5
COMMITS = 200
OUTBOX = table_of(OutboxEvent)
# A hundred orders move side by side, as they do in business; the payload has the header of an order.
FILL = text("""
INSERT INTO outbox_event (tenant_id, id, event_type, topic, aggregate_type, aggregate_id, aggregate_version, payload, command_id, business_key)
SELECT :tenant_id, gen_random_uuid(), 'OrderStarted', :topic, 'sales_order', md5(:salt || a)::uuid, v,
    jsonb_build_object(
        'id', gen_random_uuid(), 'version', v, 'status', 'IN_PROGRESS', 'priorStatus', 'SUBMITTED', 'orderNumber', 'O-' || a,
        'orderKind', 'PRIMARY', 'quoteId', gen_random_uuid(), 'quoteRevisionId', gen_random_uuid(), 'customerId', 'customer-1',
        'priority', 4, 'requestedCompletion', null, 'holdReason', null,
        'createdAt', clock_timestamp(), 'updatedAt', clock_timestamp()),
    gen_random_uuid(), 'order:' || a
FROM generate_series(1, :aggregates) a, generate_series(1, :versions) v ORDER BY a / 100, v, a
""")


def measure(database: Engine, topics: Topics) -> list[Figure]:
    """Measure throughput in turns, then latency."""
    for _ in range(WARM_UPS):
        _raw(database, topics)
    rounds = [(_raw(database, topics), _relay(database, topics, 1), _relay(database, topics, 2)) for _ in range(ROUNDS)]
    raw, one, two = zip(*rounds, strict=True)
    delays = sorted(_delays(database, topics))
    return [
        ratio("P5 relay / raw idempotent producer", one, raw),
        ratio("two relays / raw idempotent producer", two, raw),
        figure("relay throughput", one, "events/s"),
        figure("two relays' throughput", two, "events/s"),
        figure("raw idempotent producer throughput", raw, "events/s"),
        Figure(name="commit to Kafka when idle, p50", value=delays[COMMITS // 2], unit="ms", spread=spread(delays)),
        Figure(name="P6 commit to Kafka when idle, p99", value=delays[COMMITS * 99 // 100], unit="ms", spread=spread(delays)),
    ]


def _fill(database: Engine) -> None:
    with database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("TRUNCATE outbox_event"))
        sizes = {"aggregates": EVENTS // EVENTS_PER_AGGREGATE, "versions": EVENTS_PER_AGGREGATE}
        connection.execute(FILL, {"tenant_id": uuid4(), "topic": ORDERS, "salt": str(uuid4()), **sizes})
        connection.execute(text("VACUUM ANALYZE outbox_event"))


def _raw(database: Engine, topics: Topics) -> float:
    """Send ready-made messages as fast as the client library takes them."""
    _fill(database)
    with housekeeping(database) as connection:
        events = outbox.claim(connection, EVENTS, timedelta())
    messages = [(event.topic, wire.encode(event), wire.key_of(event), wire.headers_of(event)) for event in events]
    producer = Producer(
        {
            "bootstrap.servers": topics.kafka.bootstrap,
            "enable.idempotence": True,
            "linger.ms": LINGER_MS,
            "compression.type": "lz4",
        }
    )
    producer.list_topics(ORDERS)

    def send() -> None:
        for topic, value, key, headers in messages:
            producer.produce(topic, value, key, headers=headers)
        assert producer.flush(120) == 0

    return _per_second(send)


def _relay(database: Engine, topics: Topics, relays: int) -> float:
    """Let relays carry the same number of events from the outbox, until every one is marked as published."""
    _fill(database)
    stop = Event()
    threads = [Thread(target=Relay(database, topics.kafka).run, args=(stop,)) for _ in range(relays)]

    def carry() -> None:
        for thread in threads:
            thread.start()
        eventually(lambda: _published(database) == EVENTS, "every event is published", 120)

    try:
        return _per_second(carry)
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)


def _published(database: Engine) -> int:
    with database.connect() as connection:
        waits = select(func.count()).where(OUTBOX.c.status == OutboxStatus.PENDING)
        return EVENTS - (connection.scalar(waits) or 0)


def _per_second(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return EVENTS / (time.perf_counter() - begin)


def _delays(database: Engine, topics: Topics) -> Iterator[float]:
    """Commit one event at a time and wait until a consumer has it; milliseconds each."""
    with database.begin() as connection:
        connection.execute(text("TRUNCATE outbox_event"))
    topics.empty()
    consumer = new_consumer(topics.kafka, f"bench-{uuid4()}")
    consumer.subscribe([ORDERS])
    stop = Event()
    thread = Thread(target=Relay(database, topics.kafka).run, args=(stop,))
    thread.start()
    _delay(database, consumer)  # joins the group
    for _ in range(COMMITS):
        yield _delay(database, consumer) * 1000
    stop.set()
    thread.join(30)
    consumer.close()


def _delay(database: Engine, consumer: Consumer) -> float:
    row = {
        "tenant_id": uuid4(),
        "id": uuid4(),
        "event_type": "OrderStarted",
        "topic": ORDERS,
        "aggregate_type": "sales_order",
        "aggregate_id": uuid4(),
        "aggregate_version": 1,
        "payload": {},
        "command_id": uuid4(),
    }
    with database.begin() as connection:
        connection.execute(insert(OUTBOX), row)
    begin = time.perf_counter()
    while not (record := consumer.poll(5)) or record.error() or record.key() != str(row["aggregate_id"]).encode():
        assert time.perf_counter() - begin < 60
    return time.perf_counter() - begin


@pytest.mark.benchmark
@pytest.mark.timeout(600)
def test_the_relay_is_measured_beside_a_bare_producer(db: Engine, topics: Topics) -> None:
    tell(measure(db, topics))
