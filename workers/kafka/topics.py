"""The topics of the product: one per kind of aggregate, and beside each one where unreadable messages go."""

from __future__ import annotations

from domain.store.facts import TOPICS

ORDERS = TOPICS["sales_order"]


def dead_letters(topic: str) -> str:
    """Name the topic for messages of `topic` that nobody can read."""
    return f"{topic}.dlq"


def all_topics() -> list[str]:
    """List every topic that must exist."""
    topics = sorted(set(TOPICS.values()))
    return topics + [dead_letters(topic) for topic in topics]
