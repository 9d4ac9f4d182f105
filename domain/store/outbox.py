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

LEFT_ALONE = timedelta(minutes=5)
"""An event that was due for so long, and that nobody has tried again meanwhile: there was no relay, or no database."""


class PendingEvent(NamedTuple):
    """An event on its way to Kafka. Ids are text: parsing them only to write them again costs half of a relay's time.

    `event_time` is in ISO 8601, UTC; `payload` is JSON. `leased_until` is the end of its aggregate's lease, which proves the claim.
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
    leased_until: str


class Stuck(NamedTuple):
    """The first event of a claimed aggregate that Kafka has not confirmed, and the first one of the claim, which carries the lease."""

    event: PendingEvent
    first: PendingEvent


class Backlog(NamedTuple):
    """How many events wait, and since when the oldest one."""

    waiting: int
    oldest: datetime | None


# Each tenant with pending events has the same share of a claim, and the events of the tenants come in turns: `tenants` steps from one
# tenant to the next.
# Each row looks at the lease of its aggregate's oldest pending event, so `front` has whole aggregates from their oldest event on. All compare
# it with one moment: a lease that ended between two rows would let the later events of its aggregate overtake the earlier ones.
# Of what was left alone between two tries the refusals begin anew; an event that became the oldest of its aggregate was not left alone.
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
    SELECT h.position, h.aggregate_id, h.attempts > 0 AND h.due_at < statement_timestamp() - CAST(:left_alone AS interval) AS was_left
    FROM outbox_event h
    WHERE h.position = ANY(ARRAY(SELECT min(position) FROM front GROUP BY aggregate_id))
    AND h.status = 'PENDING' AND h.due_at <= statement_timestamp()
    FOR UPDATE SKIP LOCKED
), leased AS (
    UPDATE outbox_event l SET due_at = clock_timestamp() + CAST(:lease AS interval), attempts = least(l.attempts, {HIGHEST - 1}) + 1,
        refused_since = CASE WHEN NOT was_left THEN l.refused_since END, last_reason = CASE WHEN NOT was_left THEN l.last_reason END
    FROM heads WHERE l.position = heads.position AND l.status = 'PENDING' RETURNING l.aggregate_id, l.due_at
), left_with_it AS (
    UPDATE outbox_event f SET refused_since = NULL, last_reason = NULL
    FROM front e JOIN heads USING (aggregate_id)
    WHERE f.position = e.position AND f.position <> heads.position AND heads.was_left AND e.refused_since IS NOT NULL
)
SELECT e.position, CAST(e.id AS text), e.event_type, e.topic, CAST(e.tenant_id AS text), e.aggregate_type,
       CAST(e.aggregate_id AS text), e.aggregate_version, CAST(e.command_id AS text), CAST(e.causation_id AS text), e.business_key,
       to_char(greatest(least(e.created_at, '{LATEST.isoformat()}'), '{EARLIEST.isoformat()}') AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), CAST(e.payload AS text),
       CAST(leased.due_at AS text)
FROM front e JOIN leased USING (aggregate_id) ORDER BY e.turn, e.position
""")  # noqa: S608 - constants
DELETE = text("DELETE FROM outbox_event WHERE position = ANY(CAST(:positions AS bigint[])) AND status = 'PENDING'")
# A relay that stood still may find that another one has claimed the aggregate since: `due_at` of its first event is another one. Then the
# stuck event is the oldest one as soon as those before it are deleted, and the lease of the other relay goes on with it.
POSTPONE = text("""
WITH stuck AS (
    SELECT * FROM unnest(CAST(:positions AS bigint[]), CAST(:firsts AS bigint[]), CAST(:leases AS timestamptz[]))
    AS s (position, first, leased_until)
), leases AS MATERIALIZED (
    SELECT position, due_at FROM outbox_event
    WHERE position = ANY(CAST(:firsts AS bigint[])) AND status = 'PENDING' ORDER BY position FOR UPDATE
)
UPDATE outbox_event e SET attempts = greatest(e.attempts, 1), due_at = CASE
    WHEN leases.due_at = stuck.leased_until
    THEN clock_timestamp() + least(make_interval(secs => power(2, least(e.attempts, 16))), CAST(:longest AS interval))
    ELSE greatest(e.due_at, leases.due_at) END
FROM stuck JOIN leases ON leases.position = stuck.first
WHERE e.position = stuck.position AND e.status = 'PENDING'
""")
# A crash of the server may undo a lease or a deletion. Then an event is sent again, as after a crash of a relay: that does not justify a
# wait for the disk between a commit and Kafka.
WITHOUT_DISK_WAIT = text("SET LOCAL synchronous_commit = off")
# Kafka refuses exactly these events, since a time without an outage: an outage is no refusal, and its time does not count.
REFUSE = text("""
UPDATE outbox_event e SET refused_since = coalesce(e.refused_since, clock_timestamp()), last_reason = r.reason,
    status = CASE WHEN e.refused_since < clock_timestamp() - CAST(:time AS interval) THEN 'REFUSED' ELSE e.status END
FROM unnest(CAST(:positions AS bigint[]), CAST(:reasons AS text[])) AS r (position, reason)
WHERE e.position = r.position AND e.status = 'PENDING'
""")
FORGET = text("""
UPDATE outbox_event SET refused_since = NULL, last_reason = NULL
WHERE position = ANY(CAST(:positions AS bigint[])) AND status = 'PENDING' AND refused_since IS NOT NULL
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
    values = {"limit": limit, "lease": lease, "left_alone": LEFT_ALONE}
    events = [PendingEvent._make(row) for row in run(connection, CLAIM, values)]
    if events:
        run(connection, WITHOUT_DISK_WAIT, {})
    return events


def delete_published(connection: Connection, positions: Collection[int]) -> None:
    """Delete the events that Kafka has, exactly these. The lease of an aggregate ends with its oldest event.

    The log keeps the id of each event (decision 0038).
    """
    run(connection, WITHOUT_DISK_WAIT, {})
    run(connection, DELETE, {"positions": list(positions)})


def postpone(connection: Connection, stuck: Collection[Stuck]) -> None:
    """Keep every relay from the aggregates of these events; the wait doubles with each try. What came before them is deleted afterwards.

    An aggregate that another relay has claimed since stays leased to that one.
    """
    events, firsts = [each.event.position for each in stuck], [each.first for each in stuck]
    positions, leases = [first.position for first in firsts], [first.leased_until for first in firsts]
    run(connection, POSTPONE, {"positions": events, "firsts": positions, "leases": leases, "longest": EVENT_REFUSED.longest_wait})


def note_refused(connection: Connection, reasons: Mapping[int, str]) -> None:
    """Record that Kafka refuses these events, by position, and why. An event that it has refused for too long is set aside as REFUSED."""
    values = {"positions": list(reasons), "reasons": list(reasons.values()), "time": EVENT_REFUSED.time}
    run(connection, REFUSE, values)


def note_no_answer(connection: Connection, positions: Collection[int]) -> None:
    """Record that Kafka said nothing about these events, because it is away: the time for which it refuses them begins anew."""
    run(connection, FORGET, {"positions": list(positions)})


def send_again(connection: Connection, tenant_id: UUID, aggregate_id: UUID) -> None:
    """Send the events of an aggregate again that Kafka has refused."""
    run(connection, SEND_AGAIN, {"tenant_id": tenant_id, "aggregate_id": aggregate_id})


def backlog(connection: Connection) -> Backlog:
    """Count the events that wait."""
    return Backlog._make(run(connection, COUNT, {}).one())
