"""The Prometheus metrics of the running processes, names in one place.

The rule it keeps: prefix `q2o_`, base units, `_total` on counters, and no label whose values grow with the business (no tenant, no id).
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

EXTERNAL_TASK_DURATION = Histogram(
    "q2o_external_task_duration_seconds",
    "From the start of the handler to the engine's answer to the report, by outcome",
    ["topic", "outcome"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
EXTERNAL_TASK_LOCK_LOST = Counter(
    "q2o_external_task_lock_lost_total", "Tasks that another worker took while this one worked on them", ["topic"]
)
EXTERNAL_TASK_IN_FLIGHT = Gauge("q2o_external_task_in_flight", "Tasks being worked on", ["topic"])
EXTERNAL_TASK_CAPACITY_FREE = Gauge("q2o_external_task_capacity_free", "Tasks that the pod could take now")
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
WORKFLOW_START_UNKNOWN = Counter(
    "q2o_workflow_start_unknown_total", "Process starts of which nobody knew whether the engine carried them out", ["workflow"]
)
RECONCILIATION_ACTIONS = Counter(
    "q2o_reconciliation_actions_total",
    "What the sweeps did about what they found, by kind of finding; lost_to_callback = settled by the normal path meanwhile",
    ["kind", "result"],
)
PROVIDER_UNKNOWN_OUTCOMES_RESOLVED = Counter(
    "q2o_provider_unknown_outcomes_resolved_total", "Unknown outcomes settled by asking the provider", ["provider", "resolution"]
)
