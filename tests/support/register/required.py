"""The fifteen required race tests, each with the tests that make it, and the races that it forces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.support.register.races import (
    ACCEPTING,
    CALLBACKS,
    CANCELLING,
    EDITING,
    FALLOUT,
    INBOX,
    REPRICING,
    STARTS,
    SUPERSEDING,
    UNKNOWN,
    VOID,
)

EXPIRING = "tests/races/test_expiring.py::"
RELAY_FAULTS = "tests/integration/test_kafka_relay_faults.py::"
REPEATED = "tests/races/test_repeated_callbacks.py::"


@dataclass(frozen=True, slots=True, kw_only=True)
class Required:
    """One required test. `races` are the codes of the matrix; `metrics` those that it moves, beside those of its races."""

    code: str
    name: str
    observed: str
    races: Sequence[str]
    tests: Sequence[str]
    metrics: Sequence[str] = ()


REQUIRED = (
    Required(
        code="T1",
        name="two users edit same quote",
        observed="one edit is stored, the other user gets both versions and is told to apply it again",
        races=("M1",),
        tests=(
            EDITING + "test_of_two_users_who_edit_the_same_version_the_first_gets_the_next_version",
            EDITING + "test_the_second_user_is_told_both_versions_and_to_apply_the_edit_again",
            EDITING + "test_a_refused_edit_is_counted",
        ),
    ),
    Required(
        code="T2",
        name="approval completes after quote revision changes",
        observed="the decision is refused in the API, and void when the task is completed in the engine",
        races=("M3",),
        tests=(
            SUPERSEDING + "test_an_approver_who_decides_on_a_form_of_the_old_revision_is_told_that_it_is_stale",
            VOID + "test_the_process_of_a_task_of_the_old_revision_completed_in_the_engine_ends_as_void",
            VOID + "test_a_withdrawn_revision_takes_its_task_from_the_approver",
        ),
    ),
    Required(
        code="T3",
        name="accept quote twice",
        observed="fourteen acceptances at once make one order, one event and one working process; seven are replays",
        races=("M4",),
        tests=(
            ACCEPTING + "test_fourteen_acceptances_at_once_make_one_order",
            ACCEPTING + "test_each_of_the_fourteen_is_told_the_same_order",
            ACCEPTING + "test_the_seven_replays_are_counted",
        ),
    ),
    Required(
        code="T4",
        name="accept quote while quote expires",
        observed="exactly one of ACCEPTED and EXPIRED comes true; whatever is accepted is accepted before the end",
        races=("M2",),
        tests=(
            EXPIRING + "test_of_an_acceptance_and_an_expiry_around_the_end_exactly_one_comes_true",
            EXPIRING + "test_whatever_is_accepted_around_the_end_is_accepted_before_it",
            EXPIRING + "test_an_acceptance_that_waited_past_the_end_is_counted",
        ),
        metrics=("q2o_quote_expired_rejections_total",),
    ),
    Required(
        code="T5",
        name="create order while price book changes",
        observed="an order of the older book was accepted before the newer one counted, or its policy allowed it",
        races=("M2",),
        tests=(
            REPRICING + "test_the_order_of_the_older_book_is_accepted_before_the_newer_one_counts",
            REPRICING + "test_an_acceptance_keeps_the_version_of_its_price_and_the_version_that_counted",
            REPRICING + "test_a_refused_price_is_counted_under_its_policy",
        ),
    ),
    Required(
        code="T6",
        name="cancel order while fulfillment completes",
        observed="every order of the callbacks ends alike, with one compensation of each effect",
        races=("M12",),
        tests=(
            CANCELLING + "test_no_order_of_the_callbacks_matters_after_the_cancellation",
            CANCELLING + "test_an_order_whose_last_step_completes_before_the_request_to_cancel_is_fulfilled",
            CANCELLING + "test_the_last_completion_at_every_moment_of_a_cancellation_leaves_no_effect",
        ),
    ),
    Required(
        code="T7",
        name="duplicate external callback",
        observed="one record and one transition; no deadlock; the test prints the 95th percentile of an answer",
        races=("M5",),
        tests=(
            CALLBACKS + "test_of_five_deliveries_of_one_event_at_once_four_are_told_that_they_are_replays",
            REPEATED + "test_callbacks_that_are_delivered_at_once_end_in_no_deadlock",
            REPEATED + "test_each_repeat_of_a_callback_is_counted",
        ),
        metrics=("q2o_db_deadlocks_total", "q2o_db_lock_wait_seconds"),
    ),
    Required(
        code="T8",
        name="out-of-order external callback",
        observed="the completion counts whenever it comes; a later failure is a contradiction with a case",
        races=("M5",),
        tests=(
            CALLBACKS + "test_acceptance_and_completions_in_any_order_complete_the_step",
            CALLBACKS + "test_a_failure_that_is_told_after_the_completion_is_a_contradiction",
            CALLBACKS + "test_a_late_failure_opens_a_case_so_that_a_person_looks_at_it",
        ),
        metrics=("q2o_contradictions_total",),
    ),
    Required(
        code="T9",
        name="duplicate Kafka event",
        observed="a relay that is killed between sending and deleting repeats itself with one effect",
        races=("M6",),
        tests=(
            RELAY_FAULTS + "test_a_relay_killed_after_send_and_before_mark_repeats_itself_with_one_effect",
            "tests/integration/test_kafka_projections.py::test_every_distinct_event_is_seen_once_and_each_repeat_is_counted",
        ),
    ),
    Required(
        code="T10",
        name="out-of-order Kafka event",
        observed="versions 3, 1, 2 end at 3; relays keep the order of an aggregate",
        races=("M7",),
        tests=(
            INBOX + "test_the_view_shows_the_newest_version_in_any_order_of_events",
            "tests/integration/test_kafka_relay.py::test_a_new_event_does_not_overtake_one_that_another_relay_has_claimed",
            "tests/integration/test_kafka_relay_faults.py::test_a_later_event_does_not_overtake_one_that_a_starting_broker_refuses",
        ),
    ),
    Required(
        code="T11",
        name="Camunda external task lock expires",
        observed="the provider gets one effective request; a shared worker id is refused at the start",
        races=("M8",),
        tests=(
            "tests/faults/test_dead_worker.py::test_the_step_of_a_worker_that_outlives_its_lock_is_sent_once",
            "tests/faults/test_dead_worker.py::test_the_step_of_a_killed_worker_is_asked_for_and_never_sent_again",
            "tests/faults/test_dead_worker.py::test_a_worker_id_that_other_workers_may_share_is_refused_at_start_up",
        ),
    ),
    Required(
        code="T12",
        name="process start timeout then retry",
        observed="one instance passes the gate and works; a start that never arrived comes after the safe interval",
        races=("M9",),
        tests=(
            STARTS + "test_of_three_instances_exactly_one_passes_the_gate_and_works",
            STARTS + "test_the_instance_of_a_start_without_a_reply_is_found_and_attached",
            "tests/races/test_starting.py::test_an_order_whose_process_was_started_three_times_is_delivered_once",
        ),
    ),
    Required(
        code="T13",
        name="fallout case claimed by two workers",
        observed="of ten claims one succeeds; an expired claim can be taken once",
        races=("M11",),
        tests=(
            FALLOUT + "test_a_case_that_ten_claim_at_once_belongs_to_the_first",
            FALLOUT + "test_a_case_that_ten_claim_at_once_is_changed_once",
            FALLOUT + "test_a_lease_that_has_run_out_is_taken_once",
        ),
    ),
    Required(
        code="T14",
        name="Redis lock expires before work completes",
        observed="two hold an expired lock, or Redis is killed: one order, one decision, one reservation; the loss is counted",
        races=("M10",),
        tests=(
            ACCEPTING + "test_fourteen_acceptances_at_once_make_one_order",
            "tests/races/test_executing.py::test_the_index_alone_keeps_the_two_workers_at_one_attempt",
            "tests/races/test_lost_turns.py::test_two_holders_of_a_lock_that_expired_have_one_effect",
            "tests/races/test_lost_turns.py::test_two_who_go_on_because_redis_was_killed_have_one_effect",
        ),
    ),
    Required(
        code="T15",
        name="reconciliation races with normal callback",
        observed="a callback wins against a conclusion, in both orders; the provider acts once, and no case is opened",
        races=("M8",),
        tests=(
            UNKNOWN + "test_a_callback_wins_against_the_conclusion_that_the_request_is_absent",
            UNKNOWN + "test_a_callback_after_the_absence_was_concluded_completes_the_step_and_stops_the_retry",
            "tests/faults/test_steps_called_back.py::test_unknown_steps_are_settled_while_callbacks_arrive_and_each_has_one_effect",
        ),
        metrics=("q2o_reconciliation_actions_total", "q2o_provider_unknown_outcomes_total"),
    ),
)
