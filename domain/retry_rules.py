"""Every retry of the suite, one row each: how often, how long, what makes a repeat harmless, and what happens at the end.

The code takes its numbers from here, and docs/retries.md is made from here. A row that has no maximum and no time says why.
"""

from __future__ import annotations

from domain.retry_row import DAY, HOUR, MILLISECOND, MINUTE, NO_CALL, SECOND, UNLIMITED_TIME, UNLIMITED_TRIES, RetryRule

__all__ = ["NO_CALL", "UNLIMITED_TIME", "UNLIMITED_TRIES", "RetryRule"]

COMMAND_BUSY = RetryRule(
    operation="command over HTTP (create an order, decide, resolve, …)",
    failure="the database was too busy, or the reply to COMMIT was lost",
    attempts=4,
    first_wait=20 * MILLISECOND,
    longest_wait=200 * MILLISECOND,
    identity="Idempotency-Key, claimed in the command's transaction",
    record="none: nothing was changed",
    end="503, and the client repeats it under the same key",
    test="tests/unit/test_busy_retries.py: `test_a_deadlock_that_comes_back_is_raised_in_the_end`",
)
START_REFUSED = RetryRule(
    operation="start workflow",
    failure="the engine refuses every start: 401, 403, 404, 407 or 429 by the engine's own word",
    time=HOUR,
    first_wait=100 * MILLISECOND,
    longest_wait=5 * SECOND,
    call=10 * SECOND,
    identity="business key and start token; the registration gate lets one instance pass",
    record="`workflow_command`: refusals, refused since, time of each class, last reason",
    end="START_FAILED and a case WORKFLOW_INCIDENT; RETRY asks for the start again",
    test="tests/integration/test_dispatch_bounds.py: `test_a_start_that_is_refused_for_too_long_fails_and_has_a_case`",
)
START_ROLLED_BACK = RetryRule(
    operation="start workflow",
    failure="the engine's own exception (500): its transaction was rolled back",
    time=MINUTE,
    first_wait=START_REFUSED.first_wait,
    longest_wait=START_REFUSED.longest_wait,
    call=START_REFUSED.call,
    identity=START_REFUSED.identity,
    record=START_REFUSED.record,
    end="START_UNKNOWN, which is the next row",
    test="tests/integration/test_dispatch_bounds.py: `test_a_start_that_is_rolled_back_for_too_long_becomes_unknown`",
)
START_UNKNOWN = RetryRule(
    operation="start workflow",
    failure="no reply, or one that is not the engine's: the outcome is unknown",
    attempts=5,
    time=HOUR,
    first_wait=200 * MILLISECOND,
    longest_wait=MINUTE,
    call=START_REFUSED.call,
    identity="business key and start token; the engine is asked before another start",
    record="`workflow_correlation`: attempts, requested at; `reconciliation_finding`",
    end="START_FAILED and a case WORKFLOW_INCIDENT, after both the attempts and the time; RETRY asks for the start again",
    test="tests/integration/test_failed_starts.py: `test_a_start_that_stays_unknown_for_too_long_fails_and_has_a_case`",
)
CASE_PROCESS = RetryRule(
    operation="start workflow of a fallout case",
    failure="START_FAILED: a case about it would need the same process",
    time=7 * DAY,
    first_wait=MINUTE,
    longest_wait=HOUR,
    identity=START_REFUSED.identity,
    record="`workflow_correlation`; `reconciliation_finding`",
    end="it is not started again; the case stays listed over HTTP and is resolved there",
    test="tests/integration/test_failed_starts.py: `test_the_process_of_a_case_is_not_started_for_ever`",
)
WORKFLOW_COMMAND = RetryRule(
    operation="message to a process, completion or assignment of its user task, retry of its failed task",
    failure="nobody waits for it (yet), or the engine refuses it",
    time=HOUR,
    first_wait=START_REFUSED.first_wait,
    longest_wait=START_REFUSED.longest_wait,
    call=START_REFUSED.call,
    identity="the engine finds nothing that waits for a repeat; it is asked first whether it has what a message of a cancellation sets",
    record=START_REFUSED.record,
    end="a message that matters for a time expires with it; the others are GIVEN_UP with a case WORKFLOW_INCIDENT; RETRY asks again",
    test="tests/integration/test_dispatch_bounds.py: `test_a_message_that_nobody_takes_for_too_long_is_given_up_and_has_a_case`",
)
WORKFLOW_COMMAND_UNKNOWN = RetryRule(
    operation=WORKFLOW_COMMAND.operation,
    failure="no reply, or one that is not the engine's: it may be an outage behind a gateway",
    time=DAY,
    first_wait=WORKFLOW_COMMAND.first_wait,
    longest_wait=WORKFLOW_COMMAND.longest_wait,
    call=WORKFLOW_COMMAND.call,
    identity=WORKFLOW_COMMAND.identity,
    record=WORKFLOW_COMMAND.record,
    end=WORKFLOW_COMMAND.end,
    test="tests/integration/test_dispatch_bounds.py: `test_a_message_without_a_usable_reply_is_tried_for_a_day`",
)
EXTERNAL_TASK = RetryRule(
    operation="external task",
    failure="the handler failed (the model's `retryPolicy` may say otherwise)",
    attempts=5,
    first_wait=10 * SECOND,
    longest_wait=HOUR,
    identity="the ids and keys of the domain: every handler may be repeated",
    record="the engine's log of the task; incident",
    end="incident of the engine; a sweep opens its case",
    test="tests/unit/test_retry_policy.py: `test_a_task_without_a_policy_is_tried_as_often_as_the_table_says`",
)
STEP_ELSEWHERE = RetryRule(
    operation="external task that comes too early",
    failure="another worker carries out the step",
    time=HOUR,
    first_wait=2 * SECOND,
    longest_wait=2 * SECOND,
    identity="the step's version: one attempt is live at a time",
    record="`provider_attempt`: the worker's signs of life; the time begins with the last change of the step or its order",
    end="incident of the engine; a sweep opens its case WORKFLOW_INCIDENT, and RETRY lets the task run again for the whole time",
    test="tests/integration/test_postponed_tasks.py: `test_a_task_that_is_postponed_for_too_long_is_left_to_a_person`",
)
ORDER_NOT_RUNNING = RetryRule(
    operation="external task that comes too early",
    failure="its order is held, or waits for a person's assessment of its cancellation",
    time=3 * DAY,
    first_wait=2 * SECOND,
    longest_wait=2 * SECOND,
    identity="the status of the order",
    record="`transition_log` of the order; the time begins with the last change of the order or the step",
    end=STEP_ELSEWHERE.end,
    test="tests/integration/test_postponed_tasks.py: `test_a_task_waits_longer_for_a_person_than_for_a_worker`",
)
REPORT_RACE = RetryRule(
    operation="report of an external task",
    failure="another transaction of the engine was faster",
    attempts=12,
    first_wait=20 * MILLISECOND,
    longest_wait=SECOND,
    call=START_REFUSED.call,
    identity="task id and worker id; the task is read again before each repeat",
    record="`q2o_external_task_report_retries_total`",
    end="the task fails with the engine's text, and an incident stays one. When that is refused too, the engine offers the task again",
    test="tests/unit/test_report_bounds.py: `test_a_report_is_sent_so_often_and_then_given_up`",
)
REPORT_FAULT = RetryRule(
    operation="report of an external task",
    failure="the engine's own error (500), or a right that the pod's user lacks (403)",
    attempts=3,
    first_wait=REPORT_RACE.first_wait,
    longest_wait=REPORT_RACE.longest_wait,
    call=REPORT_RACE.call,
    identity=REPORT_RACE.identity,
    record=REPORT_RACE.record,
    end=REPORT_RACE.end,
    test="tests/unit/test_report_bounds.py: `test_a_report_is_sent_so_often_and_then_given_up`",
)
# The engine is not away when it answers another question about the task: only this report is without a reply. Ten minutes are longer than
# the restart of a gateway, and short enough that tasks whose texts a gateway refuses do not take the places of a pod for long.
REPORT_UNANSWERED = RetryRule(
    operation="report of an external task",
    failure="no usable reply, although the engine answers another question: a gateway may refuse a text in the report",
    time=10 * MINUTE,
    first_wait=REPORT_RACE.first_wait,
    longest_wait=REPORT_RACE.longest_wait,
    call=REPORT_RACE.call,
    identity=REPORT_RACE.identity,
    record=REPORT_RACE.record,
    end="incident of the engine with a text of ours; a sweep opens its case. Without a reply to that, the engine offers the task again",
    test="tests/unit/test_unanswered_reports.py: `test_a_result_without_a_usable_reply_becomes_an_incident`",
)
REPORT_SILENCE = RetryRule(
    operation="report of an external task",
    failure="no usable reply, and the task's lock has expired and cannot be had again: the engine is away",
    attempts=4,
    first_wait=REPORT_RACE.first_wait,
    longest_wait=REPORT_RACE.longest_wait,
    call=REPORT_RACE.call,
    identity=REPORT_RACE.identity,
    record=REPORT_RACE.record,
    end="the engine offers the task again; the domain has its outcome",
    test="tests/unit/test_report_bounds.py: `test_a_report_without_a_reply_is_sent_so_often_after_its_lock_has_expired`",
)
PROVIDER_NOT_SENT = RetryRule(
    operation="external reservation (any provider request)",
    failure="the provider cannot be reached: nothing was sent",
    attempts=EXTERNAL_TASK.attempts,
    first_wait=EXTERNAL_TASK.first_wait,
    longest_wait=EXTERNAL_TASK.longest_wait,
    call=10 * SECOND,
    identity="the provider's Idempotency-Key: the same for every attempt at one request",
    record="`provider_attempt`, one row for each attempt",
    end="incident of the engine; a sweep opens its case",
    test="tests/integration/test_unreachable_provider.py: `test_a_request_that_is_never_sent_is_tried_as_often_as_the_table_says`",
)
PROVIDER_UNKNOWN = RetryRule(
    operation="external reservation (any provider request)",
    failure="no reply, or one that is not the provider's: the outcome is unknown",
    time=HOUR,
    first_wait=SECOND,
    longest_wait=MINUTE,
    call=PROVIDER_NOT_SENT.call,
    identity="the provider is asked under the request's key, and nothing is sent again before it says that it never saw it",
    record="`provider_attempt`; `reconciliation_finding`",
    end="HELD and a case OUTCOME_UNKNOWN; a person finds out",
    test="tests/faults/test_steps_given_up.py: `test_a_step_that_stays_unknown_for_too_long_is_held_and_has_a_case`",
)
PROVIDER_ACCEPTED = RetryRule(
    operation=PROVIDER_NOT_SENT.operation,
    failure="the provider has accepted it, and its callback is overdue",
    first_wait=PROVIDER_UNKNOWN.first_wait,
    longest_wait=PROVIDER_UNKNOWN.longest_wait,
    call=PROVIDER_UNKNOWN.call,
    identity="a question changes nothing at the provider",
    record="`provider_attempt`: checks, next check",
    end="none, on purpose: the provider has promised a callback (decision 0020); a case SLA_BREACH calls a person when the order is late",
    test="tests/faults/test_steps_given_up.py: `test_an_accepted_step_is_asked_about_for_as_long_as_its_callback_is_missing`",
)
EVENT_REFUSED = RetryRule(
    operation="event to Kafka",
    failure="Kafka refuses this event (its size, its topic)",
    time=HOUR,
    first_wait=SECOND,
    longest_wait=30 * SECOND,
    call=20 * SECOND,
    identity="event id; consumers recognise a repeat",
    record="`outbox_event`: attempts, refused since, last reason",
    end="REFUSED and a case TECHNICAL; the later events of its aggregate go on, each has the whole state; RETRY sends it again",
    test="tests/integration/test_kafka_relay.py: `test_an_event_that_kafka_refuses_for_too_long_is_refused_for_good`",
)
TASK_KEPT = RetryRule(
    operation="task of an approver that nobody needs any more",
    failure="the engine was told to end it, and keeps it",
    time=HOUR,
    first_wait=MINUTE,
    longest_wait=MINUTE,
    call=START_REFUSED.call,
    identity="the engine finds nothing that waits for a repeat",
    record="`reconciliation_finding`: one for each time",
    end="a case WORKFLOW_INCIDENT; RETRY has the engine told for another hour",
    test="tests/integration/test_open_approval_tasks.py: `test_a_task_that_the_engine_keeps_for_too_long_is_left_to_a_person`",
)
INSTANCE_KEPT = RetryRule(
    operation="end of a process instance that nobody needs, or that is one too many",
    failure="the engine refuses to end it",
    first_wait=5 * SECOND,
    longest_wait=10 * MINUTE,
    call=START_REFUSED.call,
    identity="an instance ends once",
    record="`reconciliation_finding`, OPEN until it has ended; a log line `item_set_aside` each time",
    end="none: no business waits for it, and a case WORKFLOW_INCIDENT asks a person, once, to end it in Cockpit",
    test="tests/integration/test_watched_instances.py: "
    "`test_an_instance_that_the_engine_does_not_end_is_tried_again_with_one_finding_and_one_case`",
)
SWEEP_FAILED = RetryRule(
    operation="row of a sweep, or a whole sweep",
    failure="an error of its own, such as a row that the database refuses",
    first_wait=5 * SECOND,
    longest_wait=10 * MINUTE,
    identity="nothing of the row was changed",
    record="a log line `item_set_aside` and `q2o_items_set_aside_total` each time; the pauses are kept in memory",
    end="none, on purpose: what the row is about is still open, and the counter calls a person, who corrects the row or the program",
    test="tests/integration/test_isolated_rows.py: `test_a_row_that_failed_is_left_alone_for_a_while`",
)
SERVICE_AWAY = RetryRule(
    operation="everything that needs the database, the engine or Kafka",
    failure="the service is away: it passes without a change of ours",
    first_wait=250 * MILLISECOND,
    longest_wait=10 * SECOND,
    identity="nothing was sent; whatever may have been sent has a row of its own above",
    record="a log line when it begins and ends, each minute when only a person can end it",
    end="none, on purpose: an outage costs no try, and a case about it could not be worked on either",
    test="tests/unit/test_outages.py: `test_an_outage_costs_no_try_and_ends_no_loop`",
)
TASK_IN_OUTAGE = RetryRule(
    operation="external task",
    failure="the database or the engine is away while the handler runs",
    first_wait=3 * SECOND,
    longest_wait=8 * SECOND,
    identity=EXTERNAL_TASK.identity,
    record=SERVICE_AWAY.record,
    end=SERVICE_AWAY.end,
    test="tests/unit/test_outcomes.py: `test_a_database_that_is_away_costs_no_try`",
)
