"""The outbox as its relays see it: which events are next, which ones Kafka has, how many wait.

The rules it keeps, with any number of relays at work: an aggregate's events are in one relay's hands at a time, oldest first, and an
event counts as published by its exact position only. An aggregate is leased through its oldest pending event; a new event of it is
never the oldest, so it cannot overtake those on their way.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, text

from domain.store.declared import run

# The longest wait before an event that Kafka did not take is tried again.
LONGEST_DELAY = timedelta(seconds=30)


class PendingEvent(NamedTuple):
    """An event on its way, as text where PostgreSQL can write it: ids that are parsed only to be written again cost half a relay.

    `event_time` is in ISO 8601, UTC; `payload` is JSON.
    """

    position: int
    event_id: str
    event_type: str
    topic: str
    tenant_id: str
    aggregate_type: str
    aggregate_id: str
    aggregate_version: int
    command_id: str
    causation_id: str | None
    business_key: str | None
    event_time: str
    payload: str


class Backlog(NamedTuple):
    """What waits: how many events, and since when the oldest."""

    waiting: int
    oldest: datetime | None


# Every row of an aggregate asks for the lease of its oldest one, so `front` holds whole aggregates from their oldest event on.
# `heads` waits for nobody, and reads a row that changed since the statement began again: what another relay leased or published
# in between drops out.
CLAIM = text("""
WITH front AS MATERIALIZED (
    SELECT e.* FROM outbox_event e
    WHERE e.status = 'PENDING' AND (
        SELECT o.due_at FROM outbox_event o
        WHERE o.aggregate_id = e.aggregate_id AND o.status = 'PENDING' ORDER BY o.position LIMIT 1
    ) <= clock_timestamp()
    ORDER BY e.position LIMIT :limit
), heads AS MATERIALIZED (
    SELECT h.position, h.aggregate_id FROM outbox_event h
    WHERE h.position = ANY(ARRAY(SELECT min(position) FROM front GROUP BY aggregate_id))
    AND h.status = 'PENDING' AND h.due_at <= clock_timestamp()
    FOR UPDATE SKIP LOCKED
), leased AS (
    UPDATE outbox_event l SET due_at = clock_timestamp() + CAST(:lease AS interval), attempts = l.attempts + 1
    FROM heads WHERE l.position = heads.position AND l.status = 'PENDING'
)
SELECT e.position, CAST(e.id AS text), e.event_type, e.topic, CAST(e.tenant_id AS text), e.aggregate_type,
       CAST(e.aggregate_id AS text), e.aggregate_version, CAST(e.command_id AS text), CAST(e.causation_id AS text), e.business_key,
       to_char(e.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), CAST(e.payload AS text)
FROM front e JOIN heads USING (aggregate_id) ORDER BY e.position
""")
MARK = text("""
UPDATE outbox_event SET status = 'PUBLISHED', published_at = clock_timestamp()
WHERE position = ANY(CAST(:positions AS bigint[])) AND status = 'PENDING'
""")
POSTPONE = text("""
UPDATE outbox_event SET attempts = greatest(attempts, 1),
    due_at = clock_timestamp() + least(make_interval(secs => power(2, least(attempts, 16))), CAST(:longest AS interval))
WHERE position = ANY(CAST(:positions AS bigint[])) AND status = 'PENDING'
""")
# A lease or a mark that a crash of the server undoes means that an event is sent again, which a crash of a relay means as well:
# not worth a wait for the disk between a commit and Kafka.
WITHOUT_DISK_WAIT = text("SET LOCAL synchronous_commit = off")
COUNT = text("""
SELECT (SELECT count(*) FROM outbox_event WHERE status = 'PENDING'),
       (SELECT created_at FROM outbox_event WHERE status = 'PENDING' ORDER BY position LIMIT 1)
""")


def claim(connection: Connection, limit: int, lease: timedelta) -> list[PendingEvent]:
    """Lease aggregates that are in nobody's hands and return their pending events, oldest first, at most `limit`."""
    events = [PendingEvent._make(row) for row in run(connection, CLAIM, {"limit": limit, "lease": lease})]
    if events:
        run(connection, WITHOUT_DISK_WAIT, {})
    return events


def mark_published(connection: Connection, positions: Collection[int]) -> None:
    """Note that Kafka has exactly these events. With an aggregate's oldest one marked, its lease is over."""
    run(connection, WITHOUT_DISK_WAIT, {})
    run(connection, MARK, {"positions": list(positions)})


def postpone(connection: Connection, positions: Collection[int]) -> None:
    """Keep everybody from the aggregates whose oldest pending events these are, for longer after each attempt."""
    run(connection, POSTPONE, {"positions": list(positions), "longest": LONGEST_DELAY})


def backlog(connection: Connection) -> Backlog:
    """Count what waits."""
    return Backlog._make(run(connection, COUNT, {}).one())
