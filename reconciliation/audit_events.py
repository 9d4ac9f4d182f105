"""Whether Kafka agrees with the database. Pure: rows in, one result per invariant out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime

from domain.auditing import CheckResult, CommittedEvent, Snapshot
from domain.auditing.invariants import INVARIANTS
from domain.store.facts import TOPICS
from reconciliation.audit_sources import EventRecord


def events_agree(snapshot: Snapshot, records: Sequence[EventRecord], lost_before: Mapping[str, datetime]) -> list[CheckResult]:
    """I18, I19 and I22: what was committed is what Kafka has, in order.

    The snapshot is older than the records, so what is in Kafka alone may have been committed since: a young event proves nothing.
    `lost_before`: topic -> events from before this time may be gone, because Kafka keeps them no longer.
    """
    committed = {event.event_id for event in snapshot.events}
    published = [event for event in snapshot.events if event.is_published]
    seen = {record.event_id for record in records}
    return [
        CheckResult(
            code="I18",
            title=INVARIANTS["I18"].title,
            counted={
                "events": len(snapshot.events),
                "published": len(published),
                "inKafka": len(seen),
                "sentAgain": len(records) - len(seen),
            },
            violations=tuple(
                f"Event {event.event_id} ({event.event_type}) of {event.aggregate_type} {event.aggregate_id} is not in Kafka."
                for event in published
                if event.event_id not in seen and not _is_lost(event, lost_before)
            ),
        ),
        CheckResult(
            code="I19",
            title=INVARIANTS["I19"].title,
            counted={"records": len(records), "keys": len({record.key for record in records})},
            violations=(*_astray(records), *_backwards(records)),
        ),
        CheckResult(
            code="I22",
            title=INVARIANTS["I22"].title,
            counted={"records": len(records)},
            violations=tuple(
                f"{record.topic}[{record.partition}]@{record.offset} holds event {record.event_id}, which nobody committed."
                for record in records
                if record.event_id not in committed and snapshot.is_old_enough(record.event_time)
            ),
        ),
    ]


def _is_lost(event: CommittedEvent, lost_before: Mapping[str, datetime]) -> bool:
    limit = lost_before.get(TOPICS[event.aggregate_type])
    return limit is not None and event.created_at < limit


def _astray(records: Sequence[EventRecord]) -> Iterator[str]:
    partitions: dict[tuple[str, str], set[int]] = defaultdict(set)
    for record in records:
        partitions[record.topic, record.key].add(record.partition)
    for (topic, key), used in partitions.items():
        if len(used) > 1:
            yield f"The events of {key} are in partitions {', '.join(map(str, sorted(used)))} of {topic}."


def _backwards(records: Sequence[EventRecord]) -> Iterator[str]:
    """Versions must not fall from one record to the next, apart from records that were sent again."""
    highest: dict[tuple[str, int, str], int] = defaultdict(int)
    seen = set()
    for record in sorted(records, key=lambda record: (record.topic, record.partition, record.offset)):
        if record.event_id in seen:
            continue
        seen.add(record.event_id)
        place = record.topic, record.partition, record.key
        if record.aggregate_version < highest[place]:
            yield f"Version {record.aggregate_version} of {record.key} comes after {highest[place]} in {record.topic}[{record.partition}]."
        highest[place] = max(highest[place], record.aggregate_version)
