"""The Prometheus metrics of the service processes, with all their names.

The rule it keeps: prefix `q2o_`, base units, `_total` on counters, and no label whose values grow with the business (no tenant, no id).
"""

from __future__ import annotations

from math import nan

from prometheus_client import Counter, Gauge, Histogram


def _gauge(name: str, meaning: str) -> Gauge:
    """Make a gauge without labels. Every process exports it: NaN, which no alert takes for a number, until this process knows its value."""
    gauge = Gauge(name, meaning)
    gauge.set(nan)
    return gauge


EXTERNAL_TASK_DURATION = Histogram(
    "q2o_external_task_duration_seconds",
    "From the start of the handler to the engine's response to the report, by outcome",
    ["topic", "outcome"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
EXTERNAL_TASK_LOCK_LOST = Counter(
    "q2o_external_task_lock_lost_total", "Tasks that another worker took while this one worked on them", ["topic"]
)
EXTERNAL_TASK_IN_FLIGHT = Gauge("q2o_external_task_in_flight", "Tasks being worked on", ["topic"])
EXTERNAL_TASK_CAPACITY_FREE = _gauge("q2o_external_task_capacity_free", "Tasks that the pod could take now")
EXTERNAL_TASK_POLLS = Counter("q2o_external_task_polls_total", "Fetches by result: tasks, empty, error", ["result"])
EXTERNAL_TASK_POLL_DURATION = Histogram("q2o_external_task_poll_duration_seconds", "Time a fetch took, long polling included")
EXTERNAL_TASK_LOCK_EXTENSIONS = Counter(
    "q2o_external_task_lock_extensions_total", "Lock extensions by result: extended, lost, gone, error", ["result"]
)
EXTERNAL_TASK_REPORT_RETRIES = Counter(
    "q2o_external_task_report_retries_total", "Reports sent again, by operation and reason", ["operation", "reason"]
)
EXTERNAL_TASK_LOCK_REMAINING = Histogram(
    "q2o_external_task_lock_remaining_ratio",
    "Share of the lock duration left when the handler was done; near 0 means that the lock is too short",
    ["topic"],
    buckets=(0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
)
WORKFLOW_START_UNKNOWN = Counter("q2o_workflow_start_unknown_total", "Process starts whose outcome was not known", ["workflow"])
WORKFLOW_START_UNRESOLVED = _gauge("q2o_workflow_start_unresolved", "Process starts that are START_UNKNOWN now")
RECONCILIATION_ACTIONS = Counter(
    "q2o_reconciliation_actions_total",
    "Repairs by kind of finding and result; lost_to_callback = the normal path settled it meanwhile",
    ["kind", "result"],
)
PROVIDER_UNKNOWN_OUTCOMES = Counter(
    "q2o_provider_unknown_outcomes_total", "Provider requests whose outcome was not known", ["provider"]
)
STEP_DUPLICATE_EXECUTIONS_PREVENTED = Counter(
    "q2o_step_duplicate_executions_prevented_total", "Tasks whose step was started before, so that nothing was sent", ["command"]
)
PROVIDER_UNKNOWN_OUTCOMES_RESOLVED = Counter(
    "q2o_provider_unknown_outcomes_resolved_total", "Unknown outcomes settled by asking the provider", ["provider", "resolution"]
)
OPTIMISTIC_LOCK_CONFLICTS = Counter(
    "q2o_optimistic_lock_conflicts_total", "Commands that named an older version", ["command", "aggregate_type"]
)
IDEMPOTENCY_REPLAYS = Counter("q2o_idempotency_replays_total", "Repeated commands that got the stored answer", ["command"])
IDEMPOTENCY_HASH_CONFLICTS = Counter("q2o_idempotency_hash_conflicts_total", "Keys used again with another request", ["command"])
CALLBACK_DUPLICATES = Counter(
    "q2o_callback_duplicates_total",
    "Callbacks delivered again; hash_match=false: with another content",
    ["provider", "hash_match"],
)
STALE_APPROVAL_REJECTIONS = Counter(
    "q2o_stale_approval_rejections_total", "Commands whose approval was of another revision or price, or missing", ["command"]
)
STALE_PRICE_REJECTIONS = Counter(
    "q2o_stale_price_rejections_total", "Commands whose price was out of date by its policy", ["command", "policy"]
)
QUOTE_EXPIRED_REJECTIONS = Counter("q2o_quote_expired_rejections_total", "Commands that came after the end of the offer")
TRANSITION_REJECTIONS = Counter(
    "q2o_transition_rejections_total",
    "Moves that the present state or a guard refused",
    ["aggregate_type", "from_state", "event", "code"],
)
DATABASE_DEADLOCKS = Counter("q2o_db_deadlocks_total", "Units of work that PostgreSQL ended to break a deadlock", ["command"])
DATABASE_LOCK_WAIT = Histogram(
    "q2o_db_lock_wait_seconds",
    "Time of the statements that may wait for locked rows, by command",
    ["command"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
FALLOUT_CLAIM_CONFLICTS = Counter(
    "q2o_fallout_claim_conflicts_total", "Commands on a case that somebody else has, or has changed meanwhile", ["command"]
)
CONTRADICTIONS = Counter(
    "q2o_contradictions_total",
    "Words of a provider against what was known of its step, by event and by state of the step",
    ["said", "known"],
)
CANCEL_COMPLETE_RACES = Counter(
    "q2o_cancel_complete_races_total",
    "Steps that were completed while or after they were cancelled; completed: before the cancellation; contradicted: both were said",
    ["result"],
)
OPEN_ITEMS = Gauge("q2o_open_items", "Open items of each kind in each state", ["what", "state"])
OPEN_ITEMS_OLDEST = Gauge(
    "q2o_open_items_oldest_timestamp_seconds",
    "Since when the oldest open item of a kind and state is open; NaN when there is none",
    ["what", "state"],
)
COMMIT_UNKNOWN = Counter(
    "q2o_commit_unknown_total",
    "Commits whose response was lost, by what the repeated command found: replayed, executed, unresolved",
    ["command", "resolution"],
)
COMMAND_DURATION = Histogram(
    "q2o_command_duration_seconds",
    "From the start of a command's unit of work to its answer, by outcome: executed, replayed, refused, failed",
    ["command", "outcome"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
OUTBOX_PUBLISHED = Counter("q2o_outbox_published_total", "Events that Kafka has confirmed, and that the outbox has no more")
OUTBOX_UNPUBLISHED = _gauge("q2o_outbox_unpublished", "Events that Kafka has not confirmed yet")
OUTBOX_OLDEST_UNPUBLISHED = _gauge(
    "q2o_outbox_oldest_unpublished_timestamp_seconds", "When the oldest unpublished event was written; NaN when there is none"
)
INBOX_DUPLICATES_SKIPPED = Counter(
    "q2o_inbox_duplicates_skipped_total", "Events that a consumer had processed before", ["consumer", "event_type"]
)
PROJECTION_STALE_EVENTS_IGNORED = Counter(
    "q2o_projection_stale_events_ignored_total", "Events older than what the projection shows", ["projection", "event_type"]
)
PROJECTION_LAG = Gauge("q2o_projection_lag_seconds", "Age of the event last applied, when it was applied", ["projection"])
ITEMS_SET_ASIDE = Counter(
    "q2o_items_set_aside_total",
    "Items that a loop could not carry out for a reason of their own, so that it went on without them",
    ["loop", "item"],
)
REDIS_LOCK_EXPIRED = Counter("q2o_redis_lock_expired_total", "Locks in Redis that expired before the work ended", ["purpose"])
INBOX_DEAD_LETTERS = Counter("q2o_inbox_dead_letters_total", "Unreadable messages, sent to the dead letters", ["consumer", "topic"])
DEAD_LETTERS_WAITING = Gauge("q2o_dead_letters_waiting", "Dead letters whose record was not sent again", ["topic"])
DEAD_LETTERS_OLDEST = Gauge(
    "q2o_dead_letters_oldest_timestamp_seconds",
    "Since when the oldest dead letter waits; NaN when there is none",
    ["topic"],
)
RETENTION_DELETED = Counter(
    "q2o_retention_deleted_rows_total", "Rows deleted because they were old, by kind; payloads: emptied", ["kind"]
)
RETENTION_ARCHIVED = Counter("q2o_retention_archived_rows_total", "Rows written to archive files that were read back")
RETENTION_FAILURES = Counter("q2o_retention_failures_total", "Sweeps of a kind that failed, wholly or in part", ["kind"])
RETENTION_OLDEST = Gauge(
    "q2o_retention_oldest_kept_timestamp_seconds",
    "When the oldest row of a kind that is kept was written; NaN when there is none",
    ["kind"],
)
AUDIT_VIOLATIONS = Gauge(
    "q2o_audit_violations",
    "Violations that the audit of the last walk through all quotes has found, and that are not gone; at most 1,000 of each invariant",
    ["invariant"],
)
AUDITED_QUOTES = Counter("q2o_audited_quotes_total", "Quotes that were audited with everything that belongs to them")
