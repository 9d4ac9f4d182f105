"""Which test asserts each metric, and what a person does when it grows.

A test is named `file::test`; the file reads the metric by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from prometheus_client.metrics import MetricWrapperBase

from workers.runtime import metrics


class Known(NamedTuple):
    """The test that asserts a metric, and what to do about it."""

    test: str
    remedy: str


POD = "tests/unit/test_pod_metrics.py::"
OF_NO_BEHAVIOUR = "tests/integration/test_metrics.py::"
REFUSED = "tests/integration/test_http_metrics.py::test_a_refusal_is_counted_logged_and_recorded_once"
GAUGES = "tests/integration/test_gauges.py::"
LETTERS = "tests/integration/test_waiting_letters.py::"
RETENTION = "tests/integration/test_retention.py::"

KNOWN: Mapping[str, Known] = {
    "q2o_external_task_duration_seconds": Known(
        "tests/unit/test_pod_metrics.py::test_a_task_is_timed_by_its_outcome",
        "Find the slow topic; a provider that is slow shows in the topics that ask it.",
    ),
    "q2o_external_task_lock_lost_total": Known(
        "tests/integration/test_pod_locks.py::test_a_task_that_another_worker_took_is_not_reported",
        "Make the lock of the topic longer, or find what stops the pod for so long.",
    ),
    "q2o_external_task_in_flight": Known(
        POD + "test_a_task_in_work_takes_one_place_and_gives_it_back", "Nothing; near the capacity for long: add pods."
    ),
    "q2o_external_task_capacity_free": Known(
        POD + "test_a_task_in_work_takes_one_place_and_gives_it_back", "At 0 for long: add pods."
    ),
    "q2o_external_task_polls_total": Known(
        "tests/integration/test_pod_faults.py::test_an_outage_of_the_engine_is_waited_out",
        "`error` grows: look at the engine and the network to it.",
    ),
    "q2o_external_task_poll_duration_seconds": Known(
        POD + "test_each_fetch_is_timed", "Longer than the poll: look at the engine's database."
    ),
    "q2o_external_task_lock_extensions_total": Known(
        POD + "test_a_lock_that_is_extended_is_counted", "`lost` or `error` grows: look at the engine; see lock_lost."
    ),
    "q2o_external_task_report_retries_total": Known(
        "tests/integration/test_pod_faults.py::test_branches_that_end_at_once_both_complete",
        "Look at the engine: its transactions meet, or it is overloaded.",
    ),
    "q2o_external_task_lock_remaining_ratio": Known(
        POD + "test_the_share_of_a_lock_that_was_left_is_shown", "Near 0: make the lock of the topic longer."
    ),
    "q2o_workflow_start_unknown_total": Known(
        "tests/integration/test_dispatch_faults.py::test_a_start_that_a_dead_dispatcher_may_have_sent_is_not_sent_again",
        "Look at the engine and the network to it; reconciliation settles each start.",
    ),
    "q2o_workflow_start_unresolved": Known(
        OF_NO_BEHAVIOUR + "test_starts_without_an_outcome_are_shown",
        "For ten minutes above 0: see that `q2o reconcile` runs and reaches the engine.",
    ),
    "q2o_reconciliation_actions_total": Known(
        "tests/faults/test_unknown_steps.py::test_a_callback_wins_against_the_conclusion_that_the_request_is_absent",
        "Find which path leaves so much behind: `kind` names it. `lost_to_callback` is harmless.",
    ),
    "q2o_provider_unknown_outcomes_total": Known(
        OF_NO_BEHAVIOUR + "test_a_request_without_an_answer_is_counted_at_its_provider",
        "Talk to the provider: its answers are late or lost.",
    ),
    "q2o_step_duplicate_executions_prevented_total": Known(
        OF_NO_BEHAVIOUR + "test_a_step_that_another_worker_has_begun_is_counted_as_prevented",
        "Locks run out or pods die: see lock_lost, and the restarts of pods.",
    ),
    "q2o_provider_unknown_outcomes_resolved_total": Known(
        "tests/faults/test_unknown_steps.py::test_a_step_whose_worker_died_between_effect_and_report_completes_without_a_second_effect",
        "Slower than unknown outcomes: the provider cannot be asked; people get cases.",
    ),
    "q2o_optimistic_lock_conflicts_total": Known(
        REFUSED, "People meet on the same quote or case, or a client works with old data."
    ),
    "q2o_idempotency_replays_total": Known(
        "tests/integration/test_http_metrics.py::test_a_repeat_is_counted_once_and_not_as_a_refusal",
        "Clients repeat: answers are late or lost on their way.",
    ),
    "q2o_idempotency_hash_conflicts_total": Known(
        REFUSED, "A client has a fault: it uses one key for different requests. Its line has the actor."
    ),
    "q2o_callback_duplicates_total": Known(
        "tests/integration/test_http_callbacks.py::test_the_same_event_again_changes_nothing",
        "`hash_match=false`: each has a case; ask the provider. Otherwise the provider does not get our answers in time.",
    ),
    "q2o_stale_approval_rejections_total": Known(
        REFUSED, "Quotes change after their approval: look at how sales works with offers under approval."
    ),
    "q2o_stale_price_rejections_total": Known(
        REFUSED, "Price books change more often than offers are accepted: look at the policy."
    ),
    "q2o_quote_expired_rejections_total": Known(REFUSED, "Offers end too early, or customers answer late."),
    "q2o_transition_rejections_total": Known(REFUSED, "The code and the state tell which command comes too late or twice."),
    "q2o_fallout_claim_conflicts_total": Known(
        OF_NO_BEHAVIOUR + "test_a_case_that_somebody_else_has_claimed_is_counted",
        "Case workers meet on the same cases: divide the queues.",
    ),
    "q2o_contradictions_total": Known(
        GAUGES + "test_a_completion_after_a_confirmed_cancellation_is_counted_as_a_contradiction",
        "Talk to the provider; each contradiction is asked about, or has a case.",
    ),
    "q2o_cancel_complete_races_total": Known(
        GAUGES + "test_a_completion_that_overtakes_a_cancellation_is_counted",
        "Orders are cancelled late; `contradicted`: the provider says both.",
    ),
    "q2o_open_items": Known(
        GAUGES + "test_what_is_open_is_shown_by_kind_and_state",
        "Grows without an end: the process or the people that work on it cannot keep up.",
    ),
    "q2o_open_items_oldest_timestamp_seconds": Known(
        GAUGES + "test_the_oldest_open_item_is_shown_with_its_time",
        "Stands still: `q2o status` names who has to act; `q2o explain` tells the story of an order.",
    ),
    "q2o_db_deadlocks_total": Known(
        "tests/integration/test_lock_waits.py::test_a_deadlock_is_counted_in_a_process_that_runs_no_command",
        "Report it with the two commands in PostgreSQL's log: one of them breaks the order of locks.",
    ),
    "q2o_db_lock_wait_seconds": Known(
        "tests/integration/test_lock_waits.py::test_a_claim_that_begins_with_with_is_timed",
        "p95 above a second: find the transaction that holds rows (`pg_blocking_pids`).",
    ),
    "q2o_commit_unknown_total": Known(
        "tests/integration/test_http_faults.py::test_that_took_place_is_answered_as_done",
        "Connections break during COMMIT: look at failovers. `unresolved`: the client has to ask.",
    ),
    "q2o_command_duration_seconds": Known(
        OF_NO_BEHAVIOUR + "test_a_command_is_timed_by_its_outcome", "Look at lock waits first, then at the database."
    ),
    "q2o_outbox_published_total": Known(
        "tests/integration/test_kafka_relay.py::test_every_committed_event_reaches_kafka_with_its_key_and_is_marked",
        "Nothing. When it stops while `q2o_outbox_unpublished` grows, see that `q2o relay` runs and reaches Kafka.",
    ),
    "q2o_outbox_unpublished": Known(
        OF_NO_BEHAVIOUR + "test_what_kafka_has_not_confirmed_is_shown_with_the_time_of_the_oldest",
        "See that `q2o relay` runs and reaches Kafka; add relays.",
    ),
    "q2o_outbox_oldest_unpublished_timestamp_seconds": Known(
        OF_NO_BEHAVIOUR + "test_what_kafka_has_not_confirmed_is_shown_with_the_time_of_the_oldest",
        "Older than a minute: see that `q2o relay` reaches Kafka; `event_not_sent` tells of an event that Kafka refuses.",
    ),
    "q2o_inbox_duplicates_skipped_total": Known(
        "tests/integration/test_kafka_inbox.py::test_an_event_that_kafka_delivers_again_has_one_effect_and_is_counted",
        "Relays or consumers restart often.",
    ),
    "q2o_projection_stale_events_ignored_total": Known(
        "tests/integration/test_kafka_inbox.py::test_the_view_shows_the_newest_version_in_any_order_of_events",
        "Events of one aggregate come out of order: two partitions, or an old producer.",
    ),
    "q2o_projection_lag_seconds": Known(
        OF_NO_BEHAVIOUR + "test_the_age_of_the_event_that_was_applied_last_is_shown",
        "Lists are behind: see that relay and inbox run.",
    ),
    "q2o_items_set_aside_total": Known(
        "tests/unit/test_isolated_tasks.py::test_a_task_that_is_not_understood_leaves_the_others_of_its_fetch",
        "The line `item_set_aside` has the ids and the reason of each; mend the cause.",
    ),
    "q2o_inbox_dead_letters_total": Known(
        "tests/integration/test_kafka_poison.py::test_a_record_that_nobody_can_process_stops_no_other",
        "`q2o dead-letters list` says what is wrong with each; mend the cause, then `q2o dead-letters replay`.",
    ),
    "q2o_dead_letters_waiting": Known(
        LETTERS + "test_letters_that_wait_are_counted_until_they_are_sent_again",
        "`q2o dead-letters list --waiting` names them; mend the cause, then `q2o dead-letters replay`.",
    ),
    "q2o_dead_letters_oldest_timestamp_seconds": Known(
        LETTERS + "test_the_oldest_letter_that_waits_is_shown_with_its_time",
        "Stands still: nobody looks at the dead letters. What their records tell is missing in lists.",
    ),
    "q2o_redis_lock_expired_total": Known(
        "tests/integration/test_turns.py::test_a_lock_that_expires_during_the_work_is_counted_and_that_of_the_next_one_is_left_alone",
        "Nothing is wrong in the business. It grows steadily: find what makes the sweep slow.",
    ),
    "q2o_retention_deleted_rows_total": Known(
        RETENTION + "test_metrics_tell_what_was_deleted_and_how_old_the_rest_is", "Nothing. Stands still: see failures."
    ),
    "q2o_retention_archived_rows_total": Known(
        "tests/integration/test_archiving.py::test_the_rows_that_are_archived_are_counted", "Nothing. Stands still: see failures."
    ),
    "q2o_retention_failures_total": Known(
        RETENTION + "test_a_kind_that_fails_stops_no_other_kind",
        "The lines `retention_failed`, `archive_failed`, `dossier_not_read` and `dossier_not_deleted` have the reason; the next run tries again.",
    ),
    "q2o_retention_oldest_kept_timestamp_seconds": Known(
        RETENTION + "test_metrics_tell_what_was_deleted_and_how_old_the_rest_is",
        "Older than its age in the settings: `q2o retain` does not run, or cannot keep up.",
    ),
    "q2o_audit_violations": Known(
        "tests/integration/test_audit_sweep.py::test_a_violation_is_logged_once_and_counted_while_it_is_there",
        "Above 0: look the invariant up in [audit.md](audit.md#invariants); the line `audit_violation_found` names the rows.",
    ),
    "q2o_audited_quotes_total": Known(
        "tests/integration/test_audit_sweep.py::test_the_audit_walks_through_all_quotes_and_begins_again",
        "Nothing. Stands still: `q2o reconcile` does not run, or sets its sweep `audit` aside.",
    ),
}


def of_the_product() -> Mapping[str, MetricWrapperBase]:
    """The name of each metric, as a scrape shows it -> the metric."""
    found = [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]
    return {f"{each._name}_total" if each._type == "counter" else each._name: each for each in found}
