"""Rules about delivery: each order is delivered once, its consumers and case workers have heard of it, and nothing is left half done."""

from __future__ import annotations

from domain.auditing.rule import OLD_ENOUGH, WITHIN_HOURS, WITHIN_MINUTES, Rule, count
from domain.fallout.cases import UNRESOLVED
from domain.store import sql_list

FULFILLED = Rule(
    code="I11",
    title="an order ends as its steps did: fulfilled when all are done, cancelled when nothing of it is left",
    counts={
        "fulfilled": count("sales_order", "status = 'FULFILLED'"),
        "cancelled": count("sales_order", "status = 'CANCELLED'"),
        "steps": count("fulfillment_step"),
    },
    violations=(
        f"""SELECT format('Order %s is %s, and %s of its %s steps are done.', o.id, o.status, s.done, s.steps)
        FROM sales_order o CROSS JOIN LATERAL (
            SELECT count(*) AS steps, count(*) FILTER (WHERE status IN ('COMPLETED', 'SKIPPED')) AS done, max(updated_at) AS changed_at
            FROM fulfillment_step s WHERE s.tenant_id = o.tenant_id AND s.order_id = o.id AND s.kind = 'FULFILL') s
        WHERE o.tenant_id = :tenant_id AND (o.status = 'FULFILLED') <> (s.steps > 0 AND s.done = s.steps)
        AND NOT (o.status IN ('CANCELLING', 'CANCELLED', 'PARTIALLY_FULFILLED') AND EXISTS (
            SELECT FROM cancellation_request r WHERE r.tenant_id = o.tenant_id AND r.order_id = o.id))
        AND greatest(o.updated_at, s.changed_at) < {OLD_ENOUGH}""",  # noqa: S608 - names of these modules
        f"""SELECT format('Order %s is CANCELLED, and the effect of %s was not undone.', o.id, s.step_code)
        FROM sales_order o JOIN fulfillment_step s ON s.tenant_id = o.tenant_id AND s.order_id = o.id AND s.kind = 'FULFILL'
        WHERE o.tenant_id = :tenant_id AND o.status = 'CANCELLED' AND s.status = 'COMPLETED'
        AND NOT EXISTS (SELECT FROM fulfillment_step u WHERE u.tenant_id = s.tenant_id AND u.compensates_step_id = s.id
            AND u.status = 'COMPLETED')
        AND NOT EXISTS (SELECT FROM step_contradiction c WHERE c.tenant_id = s.tenant_id AND c.step_id = s.id AND c.answer = 'REVERSED')
        AND greatest(o.updated_at, s.updated_at) < {OLD_ENOUGH}""",  # noqa: S608 - names of these modules
        f"""SELECT format('Cancellation %s is %s, and order %s is %s.', r.id, r.status, o.id, o.status)
        FROM cancellation_request r JOIN sales_order o ON o.tenant_id = r.tenant_id AND o.id = r.order_id
        WHERE r.tenant_id = :tenant_id AND (r.status, o.status) NOT IN (('ACKNOWLEDGED', 'CANCEL_REQUESTED'),
            ('ASSESSING', 'CANCEL_REQUESTED'), ('EXECUTING', 'CANCELLING'), ('DONE', 'CANCELLED'), ('DONE_PARTIAL', 'PARTIALLY_FULFILLED'))
        AND r.status <> 'DECLINED' AND greatest(o.updated_at, r.updated_at) < {OLD_ENOUGH}""",  # noqa: S608 - names of these modules
    ),
    age=WITHIN_MINUTES,
)
CALLBACKS = Rule(
    code="I13",
    title="a provider's event acts at most once",
    counts={
        "callbacks": count("external_callback_record"),
        "applied": count("external_callback_record", "processed_status = 'APPLIED'"),
        "withoutEffect": count("external_callback_record", "processed_status <> 'APPLIED'"),
        "sameIdOtherContent": count("external_callback_conflict"),
    },
    violations=(
        """SELECT format('Step %s was completed by %s callbacks: %s.', step_id, count(*), string_agg(external_event_id, ', '))
        FROM external_callback_record WHERE tenant_id = :tenant_id AND processed_status = 'APPLIED' AND event_type = 'step.completed'
        GROUP BY step_id HAVING count(*) > 1""",
        f"""SELECT format('Callback %s was received and never processed.', external_event_id)
        FROM external_callback_record WHERE tenant_id = :tenant_id AND processed_status = 'RECEIVED'
        AND received_at < {OLD_ENOUGH}""",  # noqa: S608 - names of these modules
        """SELECT format('Callback %s changed step %s %s times.', external_event_id, aggregate_id, count(*))
        FROM transition_log WHERE tenant_id = :tenant_id AND aggregate_type = 'fulfillment_step' AND external_event_id IS NOT NULL
        GROUP BY external_event_id, aggregate_id HAVING count(*) > 1""",
    ),
    age=WITHIN_MINUTES,
)
NOTHING_UNKNOWN = Rule(
    code="I15",
    title="no outcome is left unknown",
    counts={
        "workflows": count("workflow_correlation"),
        "startsOnceUnknown": "SELECT count(DISTINCT aggregate_id) FROM transition_log WHERE tenant_id = :tenant_id "
        "AND aggregate_type = 'workflow_correlation' AND transition_to = 'START_UNKNOWN'",
        "stepsOnceUnknown": "SELECT count(DISTINCT aggregate_id) FROM transition_log WHERE tenant_id = :tenant_id "
        "AND aggregate_type = 'fulfillment_step' AND transition_to = 'UNKNOWN'",
        "findings": count("reconciliation_finding"),
    },
    violations=(
        f"""SELECT format('The start of %s is still %s.', business_key, status) FROM workflow_correlation
        WHERE tenant_id = :tenant_id AND status IN ('REQUESTED', 'START_UNKNOWN') AND updated_at < {OLD_ENOUGH}""",  # noqa: S608 - names of these modules
        f"""SELECT format('Step %s (%s) of order %s is still UNKNOWN.', id, step_code, order_id) FROM fulfillment_step
        WHERE tenant_id = :tenant_id AND status = 'UNKNOWN' AND updated_at < {OLD_ENOUGH}""",  # noqa: S608 - names of these modules
    ),
    age=WITHIN_HOURS,
)
EVERY_TROUBLE_HAS_A_CASE = Rule(
    code="I17",
    title="what waits for a person has a case, and a case has one owner",
    counts={"cases": count("fallout_case"), "contradictions": count("step_contradiction")},
    violations=(
        f"""SELECT format('Step %s (%s) of order %s is HELD and has no case to resolve.', s.id, s.step_code, s.order_id) FROM fulfillment_step s
        WHERE s.tenant_id = :tenant_id AND s.status = 'HELD' AND NOT EXISTS (SELECT FROM fallout_case f WHERE f.tenant_id = s.tenant_id
            AND f.step_id = s.id AND f.status IN {sql_list(UNRESOLVED)})
        AND s.updated_at < {OLD_ENOUGH}""",  # noqa: S608 - names of these modules
        f"""SELECT format('%s of step %s, which was %s, was left to a person and has no case.', c.said, c.step_id, c.known)
        FROM step_contradiction c WHERE c.tenant_id = :tenant_id AND c.answer = 'LEFT_TO_A_PERSON' AND NOT EXISTS (
            SELECT FROM fallout_case f WHERE f.tenant_id = c.tenant_id AND f.step_id = c.step_id)
        AND coalesce(c.answered_at, c.created_at) < {OLD_ENOUGH}""",  # noqa: S608 - names of these modules
        """SELECT format('Event %s came with two contents and has no case.', c.external_event_id) FROM external_callback_conflict c
        WHERE c.tenant_id = :tenant_id AND NOT EXISTS (SELECT FROM fallout_case f WHERE f.tenant_id = c.tenant_id
            AND f.type = 'PROVIDER_CONFLICT' AND f.evidence ->> 'externalEventId' = c.external_event_id)""",
        # Whoever claims a case that is in progress prolongs their own claim.
        """SELECT format('Case %s went from %s to %s while %s owned it, at version %s.', later.aggregate_id, earlier.actor,
            later.actor, earlier.actor, later.aggregate_version)
        FROM transition_log later CROSS JOIN LATERAL (
            SELECT c.actor FROM transition_log c WHERE c.tenant_id = later.tenant_id AND c.aggregate_type = later.aggregate_type
            AND c.aggregate_id = later.aggregate_id AND c.reason = 'CLAIM' AND c.aggregate_version < later.aggregate_version
            ORDER BY c.aggregate_version DESC LIMIT 1) earlier
        WHERE later.tenant_id = :tenant_id AND later.aggregate_type = 'fallout_case' AND later.reason = 'CLAIM'
        AND later.transition_from = 'IN_PROGRESS' AND earlier.actor <> later.actor""",
    ),
    age=WITHIN_MINUTES,
)
# Since when something has waited: since it was refused, or asked for again by a person, or written.
EVENT_WAITS_SINCE = "coalesce(refused_since, CASE WHEN last_reason IS NULL THEN created_at ELSE due_at END)"
COMMAND_WAITS_SINCE = "coalesce(refused_since, updated_at)"
NOTHING_WAITS = Rule(
    code="I23",
    title="nothing waits to be sent, and every incident is explained",
    counts={
        "pendingEvents": count("outbox_event", "status = 'PENDING'"),
        "pendingCommands": count("workflow_command", "status = 'PENDING'"),
        "expiredCommands": count("workflow_command", "status = 'EXPIRED'"),
    },
    violations=(
        f"""SELECT format('Event %s (%s) of %s %s has not been published.', id, event_type, aggregate_type, aggregate_id)
        FROM outbox_event WHERE tenant_id = :tenant_id AND status = 'PENDING' AND {EVENT_WAITS_SINCE} < {OLD_ENOUGH}""",  # noqa: S608 - names of these modules
        f"""SELECT format('%s %s for %s has waited since %s.', kind, name, business_key, {COMMAND_WAITS_SINCE})
        FROM workflow_command WHERE tenant_id = :tenant_id AND status = 'PENDING' AND {COMMAND_WAITS_SINCE} < {OLD_ENOUGH}""",  # noqa: S608 - names of these modules
    ),
    age=WITHIN_MINUTES,
)
RULES = (FULFILLED, CALLBACKS, NOTHING_UNKNOWN, EVERY_TROUBLE_HAS_A_CASE, NOTHING_WAITS)
