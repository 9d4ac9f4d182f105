"""The Kafka topics of the product: one per kind of aggregate, and one beside each for its unreadable messages."""

from __future__ import annotations

from domain.store.facts import TOPICS

ORDERS = TOPICS["sales_order"]


def dead_letters(topic: str) -> str:
    """Name the Kafka topic for unreadable messages of `topic`."""
    return f"{topic}.dlq"


def all_topics() -> list[str]:
    """List every Kafka topic that must exist."""
    topics = sorted(set(TOPICS.values()))
    return topics + [dead_letters(topic) for topic in topics]
