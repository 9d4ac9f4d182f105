"""What no consumer can process, put into each queue: the topics of Kafka, the edge's callbacks, and the external tasks of the engine."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from random import Random
from uuid import uuid4

import httpx
from confluent_kafka import Producer
from standardwebhooks.webhooks import Webhook

from domain.delivery import steps
from domain.store.facts import TOPICS
from domain.workflows.keys import STARTED
from tests.faults.storm.world import World
from tests.support.asking import post
from tests.support.unfit import SIGNABLE
from workers.runtime.engine import EngineError

RECORDS = (b"\xff", b"null", b"[" * 2000, b'{"tenantId": "\\ud83d"}', b'{"eventId": 1}')
KEYS = ("poison", "", "order:nobody:nothing", "order:::::", "quote:" + "x" * 200)
"""Business keys that name nobody's business."""


def in_the_topics(world: World, random: Random) -> bool:
    """Publish unreadable records to every topic. Returns whether the broker has taken them."""
    producer = Producer({"bootstrap.servers": world.stack.environment["Q2O_KAFKA"], "message.timeout.ms": 3000, "log_level": 0})
    for topic in sorted(set(TOPICS.values())):
        producer.produce(topic, random.choice(RECORDS), key=b"poison")
    left = producer.flush(4)
    producer.purge()
    return left == 0


def among_the_callbacks(world: World, random: Random) -> bool:
    """Send signed callbacks: one that cannot be stored, and one for a tenant that does not exist. Returns whether each was answered."""
    answered = 0
    unfit = random.choice(list(SIGNABLE.values()))
    mine, nobody = (steps.business_key(tenant_id, uuid4()) for tenant_id in (world.shop.tenant_id, uuid4()))
    for step_ref, external_ref in ((mine, unfit), (nobody, '"external-1"')):
        event_id, now = f"poison-{uuid4()}", datetime.now(UTC)
        body = (
            f'{{"eventId": "{event_id}", "eventType": "step.completed", "stepRef": "{step_ref}", "requestId": "poison", '
            f'"externalRef": {external_ref}}}'
        )
        signature = Webhook(world.local.settings.callback_secrets.read()[0].removeprefix("whsec_")).sign(event_id, now, body)
        signed = {"webhook-id": event_id, "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature}
        url = f"http://127.0.0.1:{world.links.edge.port}/callbacks/sandbox"
        with suppress(httpx.HTTPError):
            post(url, content=body, headers={**signed, "Content-Type": "application/json"}, timeout=5)
            answered += 1
    return answered == 2


def among_the_external_tasks(world: World, random: Random) -> bool:
    """Start processes by hand that act for nobody: each offers a task to the pods. Returns whether one was started."""
    started = 0
    for process in sorted(STARTED):
        with suppress(EngineError):
            world.shop.engine.start_process(world.shop.tenant_id, process, random.choice(KEYS), {})
            started += 1
    return started > 0
