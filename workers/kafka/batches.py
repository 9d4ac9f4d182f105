"""The batches that a relay sends: what became of their events, and which topics Kafka refuses."""

from __future__ import annotations

from collections.abc import Mapping

from confluent_kafka import KafkaError, Message, Producer

from domain.retry_rules import EVENT_REFUSED
from domain.store.outbox import PendingEvent, Stuck
from workers.kafka.dead_letters import TOO_LARGE

OF_THE_TOPIC = frozenset(
    {
        KafkaError.TOPIC_EXCEPTION,  # its name is none
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError._UNKNOWN_TOPIC,  # noqa: SLF001 - its public name
        KafkaError._UNKNOWN_PARTITION,  # noqa: SLF001 - its public name
    }
)
# What is said about an event: its size, its content or its topic. Any other error is about a broker or the producer, such as a sequence
# number that a broker does not expect, or about another event of the same request.
REFUSALS = (
    TOO_LARGE
    | OF_THE_TOPIC
    | {
        KafkaError.INVALID_RECORD,
        KafkaError.INVALID_TIMESTAMP,
        KafkaError.POLICY_VIOLATION,
        KafkaError.UNSUPPORTED_FOR_MESSAGE_FORMAT,
    }
)


class Batch:
    """Events handed to a producer, and what became of them."""

    def __init__(self, events: list[PendingEvent], producer: Producer, deadline: float) -> None:
        self.events = events
        self.producer = producer
        self.deadline = deadline
        self.broken = False
        self.deletion_failed = False
        self.reason: str | None = None
        self.refused: dict[int, str] = {}
        self.refused_topics: dict[str, str] = {}
        self._confirmed: set[int] = set()
        self._open = len(events)

    @property
    def settled(self) -> bool:
        """Whether Kafka has confirmed or refused every event that was sent."""
        return self._open == 0

    def is_late(self, now: float) -> bool:
        """Whether its lease may be over before another batch is settled."""
        return self.deletion_failed or now >= self.deadline

    def report(self, event: PendingEvent, error: KafkaError | None, _: Message) -> None:
        """Take Kafka's confirmation or error for one event."""
        self._open -= 1
        if error is None:
            self._confirmed.add(event.position)
            return
        self.broken = True
        self.fail(event, error)

    def fail(self, event: PendingEvent, error: KafkaError) -> None:
        """Note why Kafka does not have one event: because it refuses this event, or for a reason that says nothing about it."""
        self.reason = error.str()
        if error.code() in REFUSALS:
            self.refused[event.position] = self.reason
        else:
            self.broken = True
        if error.code() in OF_THE_TOPIC:
            self.refused_topics[event.topic] = self.reason

    def leave_out(self) -> None:
        """Note that one event was not sent."""
        self._open -= 1

    @property
    def unanswered(self) -> list[int]:
        """The events about which Kafka has said nothing."""
        return [event.position for event in self.events if event.position not in self._confirmed | self.refused.keys()]

    def outcome(self) -> tuple[list[int], list[Stuck]]:
        """Split into the positions to delete and, for each aggregate, the first event that Kafka did not confirm.

        A later event of such an aggregate is not deleted although Kafka has it: it is sent again, behind the earlier one.
        """
        done: list[int] = []
        first: dict[str, PendingEvent] = {}
        stuck: dict[str, Stuck] = {}
        for event in self.events:
            first.setdefault(event.aggregate_id, event)
            if event.position in self._confirmed and event.aggregate_id not in stuck:
                done.append(event.position)
            else:
                stuck.setdefault(event.aggregate_id, Stuck(event, first[event.aggregate_id]))
        return done, list(stuck.values())


class RefusedTopics:
    """Topics that Kafka has just refused: whoever sends to a topic that is missing waits for seconds, and so does the rest of the batch."""

    def __init__(self) -> None:
        self._refused: dict[str, tuple[str, float]] = {}

    def note(self, reasons: Mapping[str, str], now: float) -> None:
        """Refuse events of these topics without asking Kafka, for as long as a refused event waits at most for its next try."""
        end = now + EVENT_REFUSED.longest_wait.total_seconds()
        self._refused |= {topic: (reason, end) for topic, reason in reasons.items()}

    def reason(self, topic: str, now: float) -> str | None:
        """Why Kafka refuses a topic; None when it is to be asked."""
        reason, end = self._refused.get(topic, ("", now))
        return reason if now < end else None
