"""The audit judges each partition by what it still has, and knows which events a person had sent again."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection, text

from domain.auditing import CheckResult
from domain.store.facts import TOPICS
from reconciliation.audit_events import partition_of
from reconciliation.audit_sources import EventRecord, KafkaTopics, Kept
from tests.support.audits import broken
from tests.support.bad_sides import with_two_events_exchanged
from tests.support.letter_desk import Desk
from tests.support.planting import NEW, copy
from tests.support.settled import Settled
from tests.support.surroundings import Surroundings
from tests.support.topics import Topics
from workers.cli_auditing import _replayed
from workers.kafka.topics import ORDERS
from workers.runtime.kafka import new_producer

DAY = timedelta(days=1)
NOW = text("SELECT clock_timestamp()")


def result(settled: Settled, connection: Connection, around: Surroundings, code: str) -> CheckResult:
    report = settled.audit(connection, around)
    assert set(broken(report)) <= {code}
    return next(check for check in report.checks if check.code == code)


def kept(**changes: Any) -> Kept:
    """Make what Kafka still has, in topics of one partition each."""
    return Kept(partitions=dict.fromkeys(TOPICS.values(), 1), **changes)


def test_what_is_missing_where_no_record_is_left_is_not_looked_at(settled: Settled, planted: Connection) -> None:
    """Kills: a quiet partition that makes the rule hold."""
    around = settled.surroundings(planted)
    lost = around.kafka.records.pop()
    around.kafka.still_there = kept(emptied=frozenset({(lost.topic, 0)}))

    found = result(settled, planted, around, "I18")

    assert (found.violations, found.passed) == ((), False)
    assert found.unseen == f"Kafka has no record left in {lost.topic}[0], so 1 published events may have expired or been lost there"


def test_what_is_older_than_its_partition_has_expired(settled: Settled, planted: Connection) -> None:
    around = settled.surroundings(planted)
    lost, now = around.kafka.records.pop(), moment(planted)
    around.kafka.still_there = kept(first={(lost.topic, 0): now})

    found = result(settled, planted, around, "I18")

    assert (found.passed, found.counted["expired"]) == (True, 1)


def test_what_is_younger_than_its_partition_is_lost(settled: Settled, planted: Connection) -> None:
    around = settled.surroundings(planted)
    lost, now = around.kafka.records.pop(), moment(planted)
    around.kafka.still_there = kept(first={(lost.topic, 0): now - DAY, (lost.topic, 1): now})

    assert len(result(settled, planted, around, "I18").violations) == 1


def moment(connection: Connection) -> datetime:
    now = connection.scalar(NOW)
    assert isinstance(now, datetime)
    return now


def out_of_order(settled: Settled, connection: Connection, since: timedelta) -> tuple[Surroundings, EventRecord]:
    """Two events of an aggregate in the wrong order, which were committed so long ago; also returns the one that comes too late."""
    around = settled.surroundings(connection, happened=moment(connection) - since)
    with_two_events_exchanged(around.kafka.records)
    [key] = {
        each.key
        for each, old in zip(around.kafka.records, settled.surroundings(connection).kafka.records, strict=True)
        if each.offset != old.offset
    }
    first = min((each for each in around.kafka.records if each.key == key), key=lambda each: each.aggregate_version)
    return around, first


def have_sent_again(settled: Settled, connection: Connection, key: str) -> None:
    """Let a person have resolved the case of refused events just now."""
    connection.execute(
        text(copy("fallout_case", "status = 'CLOSED'", id=NEW, dedupe_key=f"event:{key}", resolution="RETRY", case_number="C-0")),
        {"tenant": settled.tenant_id},
    )
    changed = (
        f"aggregate_id = (SELECT id FROM fallout_case WHERE tenant_id = :tenant AND status = 'CLOSED' AND id <> '{NEW}' LIMIT 1)"
    )
    rows = text(f"""INSERT INTO transition_log SELECT (jsonb_populate_record(r, jsonb_build_object('id', gen_random_uuid(),
        'aggregate_id', '{NEW}', 'created_at', clock_timestamp()))).* FROM transition_log r WHERE tenant_id = :tenant AND {changed}""")
    assert connection.execute(rows, {"tenant": settled.tenant_id}).rowcount > 1


def test_an_event_that_a_person_had_sent_again_is_not_out_of_order(settled: Settled, planted: Connection) -> None:
    """Kills: a violation for the RETRY of an event that Kafka had refused."""
    around, late = out_of_order(settled, planted, since=DAY)
    have_sent_again(settled, planted, late.key)

    found = result(settled, planted, around, "I19")

    assert (found.violations, found.counted["sentAgainLate"]) == ((), 1)


def test_an_event_that_was_committed_after_the_others_were_sent_again_is_out_of_order(
    settled: Settled, planted: Connection
) -> None:
    around, late = out_of_order(settled, planted, since=-DAY)
    have_sent_again(settled, planted, late.key)

    assert len(result(settled, planted, around, "I19").violations) == 1


def test_an_event_that_was_a_dead_letter_is_not_out_of_order(settled: Settled, planted: Connection) -> None:
    """Kills: a violation for a replay after the record itself has expired."""
    around, late = out_of_order(settled, planted, since=DAY)
    around.kafka.sent_by_hand = {str(uuid4())}
    another = len(result(settled, planted, around, "I19").violations)
    around.kafka.sent_by_hand.add(str(late.event_id))

    assert (another, result(settled, planted, around, "I19").violations) == (1, ())


def test_a_letter_that_was_sent_again_is_known_by_its_event(made_topics: Topics) -> None:
    desk, replayed, waiting = Desk(made_topics), str(uuid4()), str(uuid4())
    letters = [desk.letter(b"no event", [("eventId", each.encode())]) for each in (replayed, waiting)]
    desk.run("replay", desk.place(letters[0]))

    assert set(_replayed(made_topics.kafka)) & {replayed, waiting} == {replayed}


def test_the_audit_knows_what_each_partition_still_has_and_which_one_a_key_goes_to(topics: Topics) -> None:
    """Kills: one time for a whole topic, and a partition of a key that is not the one of the producer."""
    producer, keys = new_producer(topics.kafka, None), [str(uuid4()) for _ in range(20)]
    for key in keys:
        producer.produce(ORDERS, b"no event", key.encode())
    assert producer.flush(30) == 0

    found = KafkaTopics(topics.kafka).kept()
    used = {(each.key() or b"").decode(): each.partition() for each in topics.records(ORDERS)}

    assert used == {key: partition_of(key, found.partitions[ORDERS]) for key in keys}
    assert not {place for place in found.emptied if place[0] == ORDERS and place[1] in used.values()}
    topics.empty()
    assert {(ORDERS, each) for each in used.values()} <= KafkaTopics(topics.kafka).kept().emptied
