"""The outbox for its relays: claims the next events, deletes those that Kafka has, counts those that wait.

With any number of relays, one relay at a time has the events of an aggregate, oldest first, and an event counts as published by its exact
position only. The oldest pending event carries the lease of its aggregate; a new event is never the oldest, so it cannot overtake
the events that are on their way.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from domain.retry_rules import EVENT_REFUSED
from domain.store.claims import HIGHEST
from domain.store.declared import run
from domain.times import EARLIEST, LATEST

INBOX_IS_WHOLE_FOR = timedelta(days=7)
"""How long at least an inbox keeps what it has processed: as long as Kafka keeps an event, and may deliver it again."""


class PendingEvent(NamedTuple):
    """An event on its way to Kafka. Ids are text: parsing them only to write them again costs half of a relay's time.

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
    """How many events wait, and since when the oldest one."""

    waiting: int
    oldest: datetime | None


# Each tenant with pending events has the same share of a claim, and the events of the tenants come in turns: `tenants` steps from one
# tenant to the next.
# Each row looks at the lease of its aggregate's oldest pending event, so `front` has whole aggregates from their oldest event on. All compare
# it with one moment: a lease that ended between two rows would let the later events of its aggregate overtake the earlier ones.
# `heads` skips locked rows, and reads a row again that changed after the statement began: an event that another relay leased or
# published meanwhile drops out.
CLAIM = text(f"""
WITH RECURSIVE tenants AS (
    (SELECT tenant_id FROM outbox_event WHERE status = 'PENDING' ORDER BY tenant_id LIMIT 1)
    UNION ALL
    SELECT following.tenant_id FROM tenants CROSS JOIN LATERAL (
        SELECT n.tenant_id FROM outbox_event n
        WHERE n.status = 'PENDING' AND n.tenant_id > tenants.tenant_id ORDER BY n.tenant_id LIMIT 1
    ) following
), front AS MATERIALIZED (
    SELECT own.* FROM tenants CROSS JOIN LATERAL (
        SELECT oldest.*, row_number() OVER () AS turn FROM (
            SELECT e.* FROM outbox_event e
            WHERE e.tenant_id = tenants.tenant_id AND e.status = 'PENDING' AND (
                SELECT o.due_at FROM outbox_event o
                WHERE o.aggregate_id = e.aggregate_id AND o.status = 'PENDING' ORDER BY o.position LIMIT 1
            ) <= statement_timestamp()
            ORDER BY e.position LIMIT (SELECT greatest(1, CAST(:limit AS bigint) / count(*)) FROM tenants)
        ) oldest
    ) own
), heads AS MATERIALIZED (
    SELECT h.position, h.aggregate_id FROM outbox_event h
    WHERE h.position = ANY(ARRAY(SELECT min(position) FROM front GROUP BY aggregate_id))
    AND h.status = 'PENDING' AND h.due_at <= statement_timestamp()
    FOR UPDATE SKIP LOCKED
), leased AS (
    UPDATE outbox_event l SET due_at = clock_timestamp() + CAST(:lease AS interval), attempts = least(l.attempts, {HIGHEST - 1}) + 1
    FROM heads WHERE l.position = heads.position AND l.status = 'PENDING'
)
SELECT e.position, CAST(e.id AS text), e.event_type, e.topic, CAST(e.tenant_id AS text), e.aggregate_type,
       CAST(e.aggregate_id AS text), e.aggregate_version, CAST(e.command_id AS text), CAST(e.causation_id AS text), e.business_key,
       to_char(greatest(least(e.created_at, '{LATEST.isoformat()}'), '{EARLIEST.isoformat()}') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), CAST(e.payload AS text)
FROM front e JOIN heads USING (aggregate_id) ORDER BY e.turn, e.position
""")  # noqa: S608 - constants
DELETE = text("DELETE FROM outbox_event WHERE position = ANY(CAST(:positions AS bigint[])) AND status = 'PENDING'")
POSTPONE = text("""
UPDATE outbox_event SET attempts = greatest(attempts, 1),
    due_at = clock_timestamp() + least(make_interval(secs => power(2, least(attempts, 16))), CAST(:longest AS interval))
WHERE position = ANY(CAST(:positions AS bigint[])) AND status = 'PENDING'
""")
# A crash of the server may undo a lease or a deletion. Then an event is sent again, as after a crash of a relay: that does not justify a
# wait for the disk between a commit and Kafka.
WITHOUT_DISK_WAIT = text("SET LOCAL synchronous_commit = off")
# Kafka refuses exactly these events: an outage is no refusal.
REFUSE = text("""
UPDATE outbox_event e SET refused_since = coalesce(e.refused_since, clock_timestamp()), last_reason = r.reason,
    status = CASE WHEN e.refused_since < clock_timestamp() - CAST(:time AS interval) THEN 'REFUSED' ELSE e.status END
FROM unnest(CAST(:positions AS bigint[]), CAST(:reasons AS text[])) AS r (position, reason)
WHERE e.position = r.position AND e.status = 'PENDING'
""")
SEND_AGAIN = text("""
UPDATE outbox_event SET status = 'PENDING', due_at = clock_timestamp(), refused_since = NULL
WHERE tenant_id = :tenant_id AND aggregate_id = :aggregate_id AND status = 'REFUSED'
""")
COUNT = text("""
SELECT (SELECT count(*) FROM outbox_event WHERE status = 'PENDING'),
       (SELECT created_at FROM outbox_event WHERE status = 'PENDING' ORDER BY position LIMIT 1)
""")


def claim(connection: Connection, limit: int, lease: timedelta) -> list[PendingEvent]:
    """Lease aggregates that no relay has, and return their pending events, in turns between tenants, at most `limit` or one of each."""
    events = [PendingEvent._make(row) for row in run(connection, CLAIM, {"limit": limit, "lease": lease})]
    if events:
        run(connection, WITHOUT_DISK_WAIT, {})
    return events


def delete_published(connection: Connection, positions: Collection[int]) -> None:
    """Delete the events that Kafka has, exactly these. The lease of an aggregate ends with its oldest event.

    The log keeps the id of each event (decision 0038).
    """
    run(connection, WITHOUT_DISK_WAIT, {})
    run(connection, DELETE, {"positions": list(positions)})


def postpone(connection: Connection, positions: Collection[int]) -> None:
    """Keep every relay from the aggregates whose oldest pending events these are; the wait doubles with each try."""
    run(connection, POSTPONE, {"positions": list(positions), "longest": EVENT_REFUSED.longest_wait})


def note_refused(connection: Connection, reasons: Mapping[int, str]) -> None:
    """Record that Kafka refuses these events, by position, and why. An event that it has refused for too long is set aside as REFUSED."""
    values = {"positions": list(reasons), "reasons": list(reasons.values()), "time": EVENT_REFUSED.time}
    run(connection, REFUSE, values)


def send_again(connection: Connection, tenant_id: UUID, aggregate_id: UUID) -> None:
    """Send the events of an aggregate again that Kafka has refused."""
    run(connection, SEND_AGAIN, {"tenant_id": tenant_id, "aggregate_id": aggregate_id})


def backlog(connection: Connection) -> Backlog:
    """Count the events that wait."""
    return Backlog._make(run(connection, COUNT, {}).one())
