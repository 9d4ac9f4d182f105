"""An event that Kafka has lost: the reconciler rebuilds the row of the projection from the authority, once."""

from __future__ import annotations

from datetime import timedelta
from uuid import uuid4

from sqlalchemy import Engine, delete

from domain.projections.tables import TABLES, Projection
from reconciliation.projections import Projections
from reconciliation.repairs import Repairs
from tests.support.database import acting
from tests.support.metrics import metric
from tests.support.offers import Offers
from tests.support.projected import consume_until, events_seen, rows, show_all
from tests.support.topics import Topics
from workers.kafka.inbox import Inbox
from workers.kafka.relay import Relay
from workers.kafka.views import ORDERS
from workers.runtime.kafka import new_producer


def test_a_version_that_kafka_has_lost_is_rebuilt_once_from_the_authority(db: Engine, topics: Topics, offers: Offers) -> None:
    order = offers.running_order()
    Relay(acting(db, "relay"), topics.kafka).run_once()
    kept = [record for record in topics.records(ORDERS.topic) if b"OrderSubmitted" not in (record.value() or b"")]
    topics.empty()
    producer = new_producer(topics.kafka, None)
    for record in kept:
        producer.produce(ORDERS.topic, record.value(), record.key())
    assert producer.flush(30) == 0
    show_all(db)
    with db.begin() as connection:
        connection.execute(delete(TABLES[Projection.ORDERS]))
    inbox = Inbox(acting(db, "inbox"), topics.kafka, ORDERS, group=f"test-{uuid4()}")
    consume_until(inbox, lambda: events_seen(db) == len(kept), "what is left is consumed")
    database = acting(db, "reconcile")
    sweeps = Projections(database, Repairs(database, dry_run=False), timedelta(0))
    before = metric("q2o_reconciliation_actions_total", kind="projection", result="rebuilt")

    assert [sweeps.sweep(), sweeps.sweep()] == [1, 0]

    [row] = rows(db, Projection.ORDERS)
    assert (row.aggregate_version, row.status, row.gap_since) == (order.version, "IN_PROGRESS", None)
    assert metric("q2o_reconciliation_actions_total", kind="projection", result="rebuilt") == before + 1
