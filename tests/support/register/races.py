"""The races, each with its rule, its two protections, its tests, its metrics and its lines in the log.

A protection names its layers as `make mutants` does: take one away, and a story fails. A test is named `file::test`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Race:
    """One race. `layers` keep its rule: guards, moves and constraints by the names of the mutants."""

    code: str
    name: str
    rule: str
    first: str
    second: str
    layers: Sequence[str]
    tests: Sequence[str]
    metrics: Sequence[str]


EDITING = "tests/races/test_editing.py::"
REPRICING = "tests/races/test_repricing.py::"
SUPERSEDING = "tests/races/test_superseding.py::"
ACCEPTING = "tests/races/test_accepting.py::"
ALONE = "tests/races/test_accepting_unprotected.py::"
CALLBACKS = "tests/races/test_callbacks.py::"
FALLOUT = "tests/races/test_fallout.py::"
CANCELLING = "tests/races/test_cancelling.py::"
INBOX = "tests/integration/test_kafka_inbox.py::"
EXECUTING = "tests/races/test_executing.py::"
STARTS = "tests/faults/test_process_start.py::"
UNKNOWN = "tests/faults/test_unknown_steps.py::"
TURNS = "tests/races/test_lost_turns.py::"
VOID = "tests/races/test_superseded_tasks.py::"

RACES = (
    Race(
        code="M1",
        name="quote edit lost update",
        rule="Of two edits of one version the first counts; the second is refused, and applied again only by its user.",
        first="the expected version stands in the WHERE of the edit",
        second="the transition log has one row for each version; the expected revision is a guard of its own",
        layers=("quote.edit/QUOTE_VERSION_CONFLICT", "quote.edit/STALE_REVISION"),
        tests=(
            EDITING + "test_of_two_users_who_edit_the_same_version_the_second_is_refused",
            EDITING + "test_a_quote_that_was_priced_and_edited_back_is_not_the_draft_that_was_read",
            EDITING + "test_without_the_version_guard_both_edits_are_taken",
        ),
        metrics=("q2o_optimistic_lock_conflicts_total",),
    ),
    Race(
        code="M2",
        name="stale price acceptance",
        rule="The policy of a price says whether it survives a publication; one that does not is refused, and nothing changes.",
        first="price result, its input and the active book are conditions of the acceptance",
        second="the head of the price book is locked FOR SHARE; the acceptance keeps both versions and the policy",
        layers=("quote.accept/STALE_PRICE",),
        tests=(
            REPRICING + "test_an_older_price_is_refused_where_its_policy_does_not_let_it_survive_a_publication",
            REPRICING + "test_no_order_comes_of_a_stale_price",
            REPRICING + "test_a_publication_waits_for_an_acceptance_that_has_looked_at_the_price",
        ),
        metrics=("q2o_stale_price_rejections_total",),
    ),
    Race(
        code="M3",
        name="stale approval",
        rule="An approval of one revision and price authorises no other.",
        first="approval, revision and price result are conditions of the acceptance and of the decision",
        second="a completed task of an old revision ends its process as void; the process of the revision is ended by message",
        layers=("quote.accept/STALE_APPROVAL", "quote.accept/APPROVAL_MISSING", "quote.open_requirements/STALE_APPROVAL"),
        tests=(
            SUPERSEDING + "test_an_approval_of_one_revision_never_authorises_the_next",
            SUPERSEDING + "test_a_decision_on_an_old_revision_is_not_recorded",
            VOID + "test_a_task_of_the_old_revision_completed_in_the_engine_is_no_decision",
        ),
        metrics=("q2o_stale_approval_rejections_total",),
    ),
    Race(
        code="M4",
        name="double order creation",
        rule="One accepted revision becomes one order, whoever sends how often; a repeat gets the first answer.",
        first="the idempotency key is claimed by insert, in the transaction of the order",
        second="a unique index on the revision of primary orders; the state of the quote",
        layers=("uq_order_quote_revision_primary", "the state in quote.accept"),
        tests=(
            ACCEPTING + "test_fourteen_acceptances_at_once_make_one_order",
            ACCEPTING + "test_of_eight_acceptances_under_one_key_seven_are_replays",
            ACCEPTING + "test_another_body_under_a_key_that_was_used_is_refused",
            ALONE + "test_without_the_idempotency_layer_one_order_comes_about_and_the_losers_get_its_id",
            ALONE + "test_where_all_rivals_pass_a_look_at_the_state_the_unique_index_alone_keeps_it_at_one_order",
        ),
        metrics=("q2o_idempotency_replays_total", "q2o_idempotency_hash_conflicts_total"),
    ),
    Race(
        code="M5",
        name="duplicate external callback",
        rule="A provider's event acts once; the same id with another content is kept and refused, and a person looks at it.",
        first="the primary key of `external_callback_record`, claimed by insert before anything acts",
        second="the matrix of the step: what is true already changes nothing",
        layers=("pk_external_callback_record",),
        tests=(
            CALLBACKS + "test_five_deliveries_of_one_event_at_once_complete_the_step_once",
            CALLBACKS + "test_the_same_id_with_another_content_is_a_conflict",
            CALLBACKS + "test_without_the_claim_the_primary_key_alone_keeps_the_record_single",
        ),
        metrics=("q2o_callback_duplicates_total",),
    ),
    Race(
        code="M6",
        name="duplicate Kafka event",
        rule="A consumer applies an event once, however often Kafka delivers it.",
        first="the primary key of `consumer_inbox`, written in the transaction of the change",
        second="counts are derived from unique rows; the upsert compares versions",
        layers=("pk_consumer_inbox", "pk_quote_approval_projection_decision"),
        tests=(
            INBOX + "test_an_event_that_kafka_delivers_again_has_one_effect_and_is_counted",
            INBOX + "test_offsets_that_are_set_back_change_nothing",
            "tests/integration/test_kafka_projections.py::test_a_decision_that_was_published_twice_counts_once",
        ),
        metrics=("q2o_inbox_duplicates_skipped_total",),
    ),
    Race(
        code="M7",
        name="out-of-order Kafka event",
        rule="A projection ends at the newest version and never goes back; a version that stays away is taken from the authority.",
        first="the upsert is guarded by `aggregate_version`",
        second="missing versions are noted in the row; reconciliation rebuilds it from the authority",
        layers=("pk_order_search_projection",),
        tests=(
            INBOX + "test_the_view_shows_the_newest_version_in_any_order_of_events",
            "tests/integration/test_kafka_gaps.py::test_a_version_that_kafka_has_lost_is_rebuilt_once_from_the_authority",
        ),
        metrics=("q2o_projection_stale_events_ignored_total",),
    ),
    Race(
        code="M8",
        name="external task duplicate execution",
        rule="A step is carried out once at its provider, however many workers get its task.",
        first="the start of the step names its version; one live attempt for each step (unique index)",
        second="every attempt carries the provider's idempotency key of the step",
        layers=("fulfillment_step.start/STEP_VERSION_CONFLICT", "uq_provider_attempt_live", "the state in fulfillment_step.start"),
        tests=(
            "tests/faults/test_dead_worker.py::test_the_step_of_a_worker_that_outlives_its_lock_is_sent_once",
            EXECUTING + "test_two_workers_who_begin_a_step_make_one_attempt",
            EXECUTING + "test_the_index_alone_keeps_the_two_workers_at_one_attempt",
            EXECUTING + "test_without_any_of_the_three_both_workers_send_under_one_idempotency_key",
        ),
        metrics=("q2o_step_duplicate_executions_prevented_total", "q2o_external_task_lock_lost_total"),
    ),
    Race(
        code="M9",
        name="workflow start timeout",
        rule="A start whose answer is lost is unknown; the instance is looked for by its business key, and one instance does the work.",
        first="`workflow_correlation` with START_UNKNOWN; the start token",
        second="reconciliation by business key; the registration gate lets one instance pass",
        layers=("workflow_correlation.register/DUPLICATE_WORKFLOW",),
        tests=(
            STARTS + "test_the_instance_of_a_start_without_a_reply_is_found_and_attached",
            STARTS + "test_of_three_instances_exactly_one_passes_the_gate_and_works",
            STARTS + "test_a_start_that_never_arrived_is_sent_again_after_the_safe_interval_and_not_before",
        ),
        metrics=("q2o_workflow_start_unknown_total", "q2o_workflow_start_unresolved"),
    ),
    Race(
        code="M10",
        name="Redis lock expiry",
        rule="No business command depends on a lock outside of PostgreSQL: an order, a decision and a reservation stay single without one.",
        first="the constraints of M4, M3 and M8; no command asks for a lock in Redis, only sweeps do, to spare work (decision 0043)",
        second="the idempotency record",
        layers=("uq_order_quote_revision_primary", "uq_provider_attempt_live"),
        tests=(
            ALONE + "test_without_the_idempotency_layer_one_order_comes_about_and_the_losers_get_its_id",
            EXECUTING + "test_the_index_alone_keeps_the_two_workers_at_one_attempt",
            TURNS + "test_two_holders_of_a_lock_that_expired_have_one_effect",
            TURNS + "test_two_who_go_on_because_redis_was_killed_have_one_effect",
        ),
        metrics=("q2o_idempotency_replays_total", "q2o_redis_lock_expired_total"),
    ),
    Race(
        code="M11",
        name="manual fallout conflict",
        rule="A case has one owner, and one resolution of it is carried out.",
        first="the version of the case, and its owner, are guards of every command on it",
        second="the queue's authority is a guard; a resolution names the version of the step as well",
        layers=("fallout_case.claim/FALLOUT_CASE_CONFLICT",),
        tests=(
            FALLOUT + "test_of_ten_who_claim_a_case_at_once_all_but_the_first_are_told",
            FALLOUT + "test_of_two_decisions_on_one_step_the_first_is_carried_out",
            FALLOUT + "test_without_version_and_owner_in_the_claim_everybody_gets_the_case",
        ),
        metrics=("q2o_fallout_claim_conflicts_total",),
    ),
    Race(
        code="M12",
        name="order cancel vs complete",
        rule="The matrices decide, not the order of arrival; both facts stay, and an effect that is not wanted is undone once.",
        first="the matrices of order and step; the state stands in the WHERE of each move",
        second="the compensation path; the provider's ledger settles a contradiction, or a person does",
        layers=("sales_order.request_cancel/ORDER_VERSION_CONFLICT", "sales_order.request_cancel/PONR_REACHED"),
        tests=(
            CANCELLING + "test_no_order_of_the_callbacks_matters_after_the_cancellation",
            CANCELLING + "test_the_last_completion_at_every_moment_of_a_cancellation_leaves_no_effect",
            CANCELLING + "test_an_order_is_never_both_fulfilled_and_cancelled",
        ),
        metrics=("q2o_cancel_complete_races_total", "q2o_contradictions_total"),
    ),
)

FURTHER = (
    Race(
        code="F1",
        name="quote accepted while it expires",
        rule="An offer is accepted before its end or expires, never both.",
        first="`clock_timestamp()` in the guard of the acceptance",
        second="the expiry has the opposite guard",
        layers=("quote.accept/QUOTE_EXPIRED", "quote.expire/QUOTE_STILL_VALID"),
        tests=("tests/races/test_expiring.py::test_of_an_acceptance_and_an_expiry_around_the_end_exactly_one_comes_true",),
        metrics=("q2o_quote_expired_rejections_total",),
    ),
    Race(
        code="F2",
        name="last two signatures at once",
        rule="Each requirement is decided once, and the request ends with the last of them.",
        first="the quote is locked before a decision",
        second="one decision for each requirement (unique key)",
        layers=("approval_requirement.approve/APPROVAL_ALREADY_DECIDED", "uq_approval_decision_tenant_id_requirement_id"),
        tests=("tests/races/test_explored_worlds.py::test_whatever_the_order_of_the_statements_only_this_may_come_of_a_meeting",),
        metrics=("q2o_transition_rejections_total",),
    ),
    Race(
        code="F3",
        name="callbacks out of order",
        rule="The matrix says what each word means in each state; a word against what is known is kept beside it.",
        first="the matrix of the step has every cell",
        second="a contradiction is asked about, or a person gets a case",
        layers=("the state in fulfillment_step.complete",),
        tests=(CALLBACKS + "test_a_late_failure_is_kept_beside_what_was_known",),
        metrics=("q2o_contradictions_total",),
    ),
    Race(
        code="F4",
        name="last two steps complete at once",
        rule="The order ends as its steps did, although neither of the two callbacks sees the other step as completed.",
        first="the order is evaluated in a transaction of its own, with its row locked",
        second="a sweep evaluates the orders that nobody has",
        layers=("sales_order.all_steps_done/STEPS_OPEN",),
        tests=(
            "tests/integration/test_evaluating.py::test_eight_parallel_steps_do_not_write_the_row_of_the_order_until_the_last_one",
            "tests/faults/test_lost_evaluations.py::test_an_order_whose_last_worker_died_before_the_evaluation_is_evaluated",
        ),
        metrics=("q2o_reconciliation_actions_total",),
    ),
    Race(
        code="F5",
        name="reconciliation against a callback",
        rule="What a provider says counts more than what silence lets us conclude.",
        first="an inference names the version that it was drawn from",
        second="the finding is written in the transaction of the repair",
        layers=("fulfillment_step.find_absent/STEP_VERSION_CONFLICT",),
        tests=(
            UNKNOWN + "test_a_callback_wins_against_the_conclusion_that_the_request_is_absent",
            UNKNOWN + "test_a_callback_after_the_absence_was_concluded_completes_the_step_and_stops_the_retry",
        ),
        metrics=("q2o_reconciliation_actions_total",),
    ),
)
"""Races beside the twelve of the matrix."""
