"""The rows that the engine, Kafka and the provider must agree with; reconciliation compares them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, Row, TextClause, text

from domain.auditing.checking import CheckResult, check
from domain.auditing.looking import look
from domain.auditing.rule import COMMITTED, OLD_ENOUGH, count
from domain.auditing.signatures import SIGNED_IN_TASKLIST
from domain.delivery import steps, troubles


class WantedWorkflow(NamedTuple):
    """A process that should have been started. `is_settled`: its aggregate needs it no more; `is_cancelled`: it may have been terminated;
    `is_forgotten`: it ended so long ago that the engine may have deleted its history. `changed_at`: when the process or its aggregate was
    changed last.
    """

    business_key: str
    workflow_name: str
    status: str
    process_instance_id: str | None
    is_settled: bool
    is_cancelled: bool
    is_forgotten: bool = False
    changed_at: datetime = datetime.min.replace(tzinfo=UTC)


class StepOutcome(NamedTuple):
    """A step, to be compared with the provider's ledger.

    `is_wanted`: its effect must be there: it is completed, not undone, and the provider has not taken it back. `is_open_to_doubt`: nothing
    follows from the ledger, because the step or its undoing is on its way, or a person has decided what became of it, or must.
    """

    step_id: UUID
    status: str
    is_wanted: bool
    is_open_to_doubt: bool
    is_order_settled: bool
    changed_at: datetime
    code: str
    is_order_fulfilled: bool


class CommittedEvent(NamedTuple):
    """An event of a transaction, also one that the outbox has lost because Kafka has it."""

    event_id: UUID
    event_type: str
    aggregate_type: str
    aggregate_id: UUID
    aggregate_version: int
    is_published: bool
    created_at: datetime


class Key(NamedTuple):
    """An idempotency key, which belongs to a command."""

    command: str
    key: str


class StoredAnswer(NamedTuple):
    """What a repeat of a command is answered."""

    status: int | None
    body: Any


class Signature(NamedTuple):
    """What a person decided in Tasklist, in the process that asked them."""

    what: str
    id: UUID
    person: str
    process_instance_id: str


ENGINE_HISTORY = timedelta(days=180)
"""How long the engine keeps what has ended (docker/engine/application.yaml, and the models)."""
OUTSIDE_AGE = timedelta(minutes=30)
"""Twice the time after which reconciliation ends an instance that nobody needs (`DONE_GRACE`)."""
FAR_OFF = datetime.max.replace(tzinfo=UTC)
_BEFORE = text(f"SELECT {OLD_ENOUGH}")
_ORDER_SETTLED = "o.status IN ('FULFILLED', 'PARTIALLY_FULFILLED', 'FAILED', 'CANCELLED', 'REJECTED')"
# An approval is settled once its quote waits for it no more (it is decided, or the quote has another revision), a case once it is closed, a late
# compensation once its undo step is final.
_WORKFLOWS = text(f"""
SELECT c.business_key, c.workflow_name, c.status, c.process_instance_id,
    coalesce({_ORDER_SETTLED}, f.status IN ('CLOSED', 'CANCELLED'), u.status IN ('COMPLETED', 'CANCELLED', 'SKIPPED', 'FAILED'),
        NOT (q.status IN ('SUBMITTED_FOR_APPROVAL', 'APPROVAL_IN_PROGRESS') AND q.current_revision_id = v.id),
        false),
    coalesce(o.status = 'CANCELLED', false),
    coalesce(o.updated_at, f.updated_at, u.updated_at, q.updated_at) < clock_timestamp() - CAST('{ENGINE_HISTORY.days} days' AS interval),
    greatest(c.updated_at, o.updated_at, f.updated_at, u.updated_at, q.updated_at)
FROM workflow_correlation c
LEFT JOIN sales_order o ON o.tenant_id = c.tenant_id AND o.id = c.aggregate_id AND c.aggregate_type = 'sales_order'
LEFT JOIN quote_revision v ON v.tenant_id = c.tenant_id AND v.id = c.aggregate_id AND c.aggregate_type = 'quote_revision'
LEFT JOIN quote q ON q.tenant_id = v.tenant_id AND q.id = v.quote_id
LEFT JOIN fallout_case f ON f.tenant_id = c.tenant_id AND f.id = c.aggregate_id AND c.aggregate_type = 'fallout_case'
LEFT JOIN fulfillment_step u ON u.tenant_id = c.tenant_id AND u.id = c.aggregate_id AND c.aggregate_type = 'fulfillment_step'
WHERE c.tenant_id = :tenant_id ORDER BY c.requested_at
""")  # noqa: S608 - written in this module
_STEPS = text(f"""
SELECT s.id, s.status,
    s.status = 'COMPLETED'
        AND NOT EXISTS (SELECT FROM fulfillment_step u WHERE u.tenant_id = s.tenant_id AND u.compensates_step_id = s.id
            AND u.status = 'COMPLETED')
        AND NOT EXISTS (SELECT FROM step_contradiction c WHERE c.tenant_id = s.tenant_id AND c.step_id = s.id AND c.answer = 'REVERSED'),
    s.status IN ('HELD', 'IN_PROGRESS', 'UNKNOWN', 'RETRYABLE')
        OR EXISTS (SELECT FROM fulfillment_step u WHERE u.tenant_id = s.tenant_id AND u.compensates_step_id = s.id
            AND u.status IN ('IN_PROGRESS', 'UNKNOWN', 'RETRYABLE'))
        OR EXISTS (SELECT FROM transition_log l WHERE l.tenant_id = s.tenant_id AND l.aggregate_type = 'fulfillment_step'
            AND l.aggregate_id = s.id AND l.reason LIKE 'RESOLVE\\_%' AND l.transition_to <> 'RETRYABLE')
        OR EXISTS (SELECT FROM step_contradiction c WHERE c.tenant_id = s.tenant_id AND c.step_id = s.id
            AND coalesce(c.answer, 'LEFT_TO_A_PERSON') = 'LEFT_TO_A_PERSON'),
    {_ORDER_SETTLED},
    greatest(s.updated_at, o.updated_at, (SELECT max(u.updated_at) FROM fulfillment_step u
        WHERE u.tenant_id = s.tenant_id AND u.compensates_step_id = s.id)),
    s.step_code, s.kind = 'FULFILL' AND o.status = 'FULFILLED'
FROM fulfillment_step s JOIN sales_order o ON o.tenant_id = s.tenant_id AND o.id = s.order_id
WHERE s.tenant_id = :tenant_id
""")  # noqa: S608 - written in this module
_SENT = text("SELECT DISTINCT idempotency_key FROM provider_attempt WHERE tenant_id = :tenant_id")
_EVENTS = text(f"""
SELECT id, event_type, aggregate_type, aggregate_id, aggregate_version, is_published, created_at
FROM {COMMITTED} committed WHERE tenant_id = :tenant_id ORDER BY created_at, aggregate_id, aggregate_version
""")  # noqa: S608 - written in these modules
_CALLBACKS = text(count("external_callback_record"))
_CALLED = text("SELECT business_key FROM workflow_instance WHERE tenant_id = :tenant_id AND caller_instance_id IS NOT NULL")
_RESTARTED = text("""
SELECT i.process_instance_id FROM workflow_instance i
JOIN workflow_correlation c ON c.tenant_id = i.tenant_id AND c.business_key = i.business_key
WHERE i.tenant_id = :tenant_id AND i.caller_instance_id IS NULL AND i.process_instance_id IS DISTINCT FROM c.process_instance_id
  AND EXISTS (SELECT FROM transition_log l WHERE l.tenant_id = c.tenant_id AND l.aggregate_id = c.id AND l.reason = 'RESTART')
""")
# A person has resolved the case of refused events; it names their aggregate.
_SENT_AGAIN = text("""
SELECT substr(f.dedupe_key, length(:of_event) + 1) AS aggregate_id, max(l.created_at) AS last
FROM fallout_case f JOIN transition_log l ON l.tenant_id = f.tenant_id AND l.aggregate_type = 'fallout_case' AND l.aggregate_id = f.id
WHERE f.tenant_id = :tenant_id AND starts_with(f.dedupe_key, :of_event) AND f.resolution = 'RETRY' AND l.reason = 'RESOLVE' GROUP BY 1
""")
# What a person has to see to in any case: a held step, an open finding, a process that cannot go on.
_EXPLAINED = text("""
SELECT business_key FROM reconciliation_finding WHERE tenant_id = :tenant_id AND status = 'OPEN' AND business_key IS NOT NULL
UNION SELECT :step_keys || id FROM fulfillment_step WHERE tenant_id = :tenant_id AND status = 'HELD'
UNION SELECT evidence ->> 'businessKey' FROM fallout_case
WHERE tenant_id = :tenant_id AND type = 'WORKFLOW_INCIDENT' AND status NOT IN ('CLOSED', 'CANCELLED') AND evidence ? 'businessKey'
""")


_ANSWERS = text("""
SELECT command_name, idempotency_key, response_status, response_body FROM idempotency_record
WHERE tenant_id = :tenant_id AND idempotency_key = ANY(:keys)
""")
_EFFECTS = text("""
SELECT idempotency_key, count(DISTINCT command_id) AS commands FROM transition_log
WHERE tenant_id = :tenant_id AND idempotency_key = ANY(:keys) GROUP BY 1
""")


class Snapshot(NamedTuple):
    """A tenant at one moment: the results of the rules, and what must agree with the engine, Kafka and the provider.

    `sent_keys`: the idempotency key of every provider request that may have been sent. `explained_keys`: business keys that wait for a
    person, so that an incident there is explained. `callbacks`: how many different callbacks came. `called_keys`: business keys of the
    processes that a started one has called. `signatures`: what people decided in Tasklist. `replaced_instances`: ids of instances whose
    place another one has taken. `sent_again`: id of an aggregate -> when a person last had its events sent again that Kafka had refused.
    `settled_before`: what was changed later may be on its way to the other sides.
    `keys`: those that were asked about, with their stored `answers`, and for each key text the number of transactions (`effects`).
    `unread`: why some of this could not be read, so that nothing follows from comparing it.
    """

    tenant_id: UUID
    results: Sequence[CheckResult]
    workflows: Sequence[WantedWorkflow]
    steps: Sequence[StepOutcome]
    sent_keys: frozenset[str]
    events: Sequence[CommittedEvent]
    explained_keys: frozenset[str]
    callbacks: int
    called_keys: frozenset[str]
    signatures: Sequence[Signature]
    replaced_instances: frozenset[str]
    sent_again: Mapping[str, datetime]
    settled_before: datetime
    keys: frozenset[Key]
    answers: Mapping[Key, StoredAnswer]
    effects: Mapping[str, int]
    unread: Sequence[str] = ()

    @property
    def is_live(self) -> bool:
        return self.settled_before != FAR_OFF

    def is_old_enough(self, at: datetime | None) -> bool:
        """Whether what was changed at this time is old enough to be judged. What has no time is."""
        return at is None or at < self.settled_before


def inspect(
    connection: Connection,
    tenant_id: UUID,
    *,
    settled: bool = True,
    told: Callable[[str], object] = lambda _: None,
    keys: Collection[Key] = (),
) -> Snapshot:
    """Take the snapshot of a tenant. Changes nothing; needs a transaction that is REPEATABLE READ. Parameters as those of `check`.

    `keys`: the idempotency keys that clients have a record of.
    """
    tenant = {"tenant_id": tenant_id}
    of_keys = tenant | {"keys": sorted({each.key for each in keys})}
    unread: dict[str, None] = {}

    def rows(query: TextClause, parameters: Mapping[str, Any] = tenant) -> list[Row[Any]]:
        found = look(connection, query, parameters)
        unread.update(dict.fromkeys(filter(None, [found.failure])))
        return found.rows

    return Snapshot(
        tenant_id=tenant_id,
        results=check(connection, tenant_id, settled=settled, told=told),
        workflows=[WantedWorkflow._make(row) for row in rows(_WORKFLOWS)],
        steps=[StepOutcome._make(row) for row in rows(_STEPS)],
        sent_keys=frozenset(row[0] for row in rows(_SENT)),
        events=[CommittedEvent._make(row) for row in rows(_EVENTS)],
        explained_keys=frozenset(row[0] for row in rows(_EXPLAINED, tenant | {"step_keys": steps.business_keys(tenant_id)})),
        callbacks=sum(int(row[0]) for row in rows(_CALLBACKS)),
        called_keys=frozenset(row[0] for row in rows(_CALLED)),
        signatures=[Signature._make(row) for row in rows(text(SIGNED_IN_TASKLIST))],
        replaced_instances=frozenset(row[0] for row in rows(_RESTARTED)),
        sent_again={row.aggregate_id: row.last for row in rows(_SENT_AGAIN, tenant | {"of_event": troubles.OF_EVENT})},
        settled_before=FAR_OFF if settled else connection.scalars(_BEFORE, {"age": OUTSIDE_AGE}).one(),
        keys=frozenset(keys),
        answers={Key._make(row[:2]): StoredAnswer._make(row[2:]) for row in rows(_ANSWERS, of_keys)},
        effects={row.idempotency_key: row.commands for row in rows(_EFFECTS, of_keys)},
        unread=list(unread),
    )
