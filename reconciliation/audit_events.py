"""Whether Kafka agrees with the database. Pure: rows in, one result per invariant out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from zlib import crc32

from domain.auditing import CheckResult, CommittedEvent, Snapshot
from domain.auditing.invariants import INVARIANTS
from domain.store.facts import TOPICS
from reconciliation.audit_sources import EventRecord, Kept
from workers.runtime.kafka_reading import Place


def all_there(snapshot: Snapshot, records: Sequence[EventRecord], kept: Kept) -> CheckResult:
    """I18: every published event is in Kafka, as far as its partition tells.

    An event from before the first record of its partition has expired. Where a partition has no record left, nothing follows from one that is
    missing.
    """
    published = [event for event in snapshot.events if event.is_published]
    seen = {record.event_id for record in records}
    missing = [event for event in published if event.event_id not in seen]
    places = dict(zip(missing, _places(missing, records, kept.partitions), strict=True))
    unknown = {event: emptied for event in missing if (emptied := places[event] & kept.emptied)}
    expired = {
        event for event in missing if event not in unknown and any(event.created_at < kept.since(each) for each in places[event])
    }
    return CheckResult(
        code="I18",
        title=INVARIANTS["I18"].title,
        counted={
            "events": len(snapshot.events),
            "published": len(published),
            "inKafka": len(seen),
            "sentAgain": len(records) - len(seen),
            "expired": len(expired),
        },
        violations=tuple(
            f"Event {event.event_id} ({event.event_type}) of {event.aggregate_type} {event.aggregate_id} is not in Kafka."
            for event in missing
            if event not in unknown and event not in expired
        ),
        unseen=_unknown(unknown),
    )


def _places(
    events: Sequence[CommittedEvent], records: Sequence[EventRecord], partitions: Mapping[str, int]
) -> Iterator[set[Place]]:
    """Yield for each event the partitions where its record may be: the one of its key, and those of the aggregate's other records."""
    used = _partitions(records)
    for event in events:
        topic, key = TOPICS[event.aggregate_type], str(event.aggregate_id)
        own = {partition_of(key, partitions[topic])} if topic in partitions else set()
        yield {(topic, each) for each in own | used.get((topic, key), set())}


def partition_of(key: str, partitions: int) -> int:
    """The partition of a key, as librdkafka's default partitioner (`consistent_random`) chooses it."""
    return crc32(key.encode()) % partitions


def _unknown(events: Mapping[CommittedEvent, Collection[Place]]) -> str:
    """Why it is unknown whether Kafka has had these events; empty when there are none."""
    if not events:
        return ""
    places = sorted({place for emptied in events.values() for place in emptied})
    named = ", ".join(f"{topic}[{partition}]" for topic, partition in places)
    return f"Kafka has no record left in {named}, so {len(events)} published events may have expired or been lost there"


def in_order(snapshot: Snapshot, records: Sequence[EventRecord], replayed: Callable[[], Collection[str]]) -> CheckResult:
    """I19: the events of an aggregate are in one partition and in order.

    A person may have had an event sent again after later ones: one that Kafka had refused (`snapshot.sent_again`), or that was a dead
    letter. `replayed` gives the ids of these, and is asked only when an event is out of order.
    """
    late = [each for each in _late(records) if not _was_sent_again(snapshot, each[0])]
    by_hand = set(replayed()) if late else set()
    backwards = [each for each in late if str(each[0].event_id) not in by_hand]
    return CheckResult(
        code="I19",
        title=INVARIANTS["I19"].title,
        counted={
            "records": len(records),
            "keys": len({record.key for record in records}),
            "sentAgainLate": sum(1 for _ in _late(records)) - len(backwards),
        },
        violations=(*_astray(records), *(_backwards(*each) for each in backwards)),
    )


def _was_sent_again(snapshot: Snapshot, record: EventRecord) -> bool:
    """Whether the event was committed before a person had refused events of its aggregate sent again."""
    again = snapshot.sent_again.get(record.key)
    return again is not None and record.event_time is not None and record.event_time < again


def none_made_up(snapshot: Snapshot, records: Sequence[EventRecord]) -> CheckResult:
    """I22: nothing is in Kafka that was not committed.

    The snapshot is older than the records, so what is in Kafka alone may have been committed since: a young event proves nothing.
    """
    committed = {event.event_id for event in snapshot.events}
    return CheckResult(
        code="I22",
        title=INVARIANTS["I22"].title,
        counted={"records": len(records)},
        violations=tuple(
            f"{record.topic}[{record.partition}]@{record.offset} holds event {record.event_id}, which nobody committed."
            for record in records
            if record.event_id not in committed and snapshot.is_old_enough(record.event_time)
        ),
    )


def _partitions(records: Sequence[EventRecord]) -> Mapping[tuple[str, str], set[int]]:
    """Topic and key -> the partitions that have records of it."""
    partitions: dict[tuple[str, str], set[int]] = defaultdict(set)
    for record in records:
        partitions[record.topic, record.key].add(record.partition)
    return partitions


def _astray(records: Sequence[EventRecord]) -> Iterator[str]:
    for (topic, key), used in _partitions(records).items():
        if len(used) > 1:
            yield f"The events of {key} are in partitions {', '.join(map(str, sorted(used)))} of {topic}."


def _late(records: Sequence[EventRecord]) -> Iterator[tuple[EventRecord, int]]:
    """Each record that comes after a higher version of its aggregate, with that version; a repeat of an event is none."""
    highest: dict[tuple[str, int, str], int] = defaultdict(int)
    seen = set()
    for record in sorted(records, key=lambda record: (record.topic, record.partition, record.offset)):
        if record.event_id in seen:
            continue
        seen.add(record.event_id)
        place = record.topic, record.partition, record.key
        if record.aggregate_version < highest[place]:
            yield record, highest[place]
        highest[place] = max(highest[place], record.aggregate_version)


def _backwards(record: EventRecord, highest: int) -> str:
    return f"Version {record.aggregate_version} of {record.key} comes after {highest} in {record.topic}[{record.partition}]."
