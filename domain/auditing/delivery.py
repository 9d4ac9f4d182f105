"""What was ordered is delivered once, everybody who must know does, and nothing is left half done."""

from __future__ import annotations

from domain.auditing.rule import Rule, count

FULFILLED = Rule(
    code="I11",
    title="an order is fulfilled exactly when all its steps are done",
    counts={"fulfilled": count("sales_order", "status = 'FULFILLED'"), "steps": count("fulfillment_step")},
    violations=(
        """SELECT format('Order %s is %s, and %s of its %s steps are done.', o.id, o.status, s.done, s.steps)
        FROM sales_order o CROSS JOIN LATERAL (
            SELECT count(*) AS steps, count(*) FILTER (WHERE status IN ('COMPLETED', 'SKIPPED')) AS done,
                count(*) FILTER (WHERE kind = 'COMPENSATE') AS undone
            FROM fulfillment_step s WHERE s.tenant_id = o.tenant_id AND s.order_id = o.id) s
        WHERE o.tenant_id = :tenant_id AND (o.status = 'FULFILLED') <> (s.steps > 0 AND s.done = s.steps)
        AND NOT (o.status <> 'FULFILLED' AND (s.undone > 0 OR o.status IN ('CANCELLING', 'CANCELLED')))""",
    ),
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
        """SELECT format('Callback %s was received and never acted on.', external_event_id)
        FROM external_callback_record WHERE tenant_id = :tenant_id AND processed_status = 'RECEIVED'""",
        """SELECT format('Callback %s changed step %s %s times.', external_event_id, aggregate_id, count(*))
        FROM transition_log WHERE tenant_id = :tenant_id AND aggregate_type = 'fulfillment_step' AND external_event_id IS NOT NULL
        GROUP BY external_event_id, aggregate_id HAVING count(*) > 1""",
    ),
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
        """SELECT format('The start of %s is still %s.', business_key, status) FROM workflow_correlation
        WHERE tenant_id = :tenant_id AND status IN ('REQUESTED', 'START_UNKNOWN')""",
        """SELECT format('Step %s (%s) of order %s is still UNKNOWN.', id, step_code, order_id) FROM fulfillment_step
        WHERE tenant_id = :tenant_id AND status = 'UNKNOWN'""",
    ),
)
PROJECTION = Rule(
    code="I20",
    title="consumers saw every event once, and their view of an order is the order",
    counts={"consumed": count("consumer_inbox"), "orders": count("sales_order"), "projected": count("order_search_projection")},
    violations=(
        """SELECT format('Consumer %s noted event %s (%s), which nobody committed.', i.consumer_name, i.event_id, i.event_type)
        FROM consumer_inbox i LEFT JOIN outbox_event o ON o.id = i.event_id WHERE i.tenant_id = :tenant_id AND o.id IS NULL""",
        """WITH order_consumers AS (
            SELECT DISTINCT i.consumer_name FROM consumer_inbox i JOIN outbox_event o ON o.id = i.event_id
            WHERE i.tenant_id = :tenant_id AND o.aggregate_type = 'sales_order')
        SELECT format('Consumer %s never saw %s of order %s.', c.consumer_name, o.event_type, o.aggregate_id)
        FROM order_consumers c JOIN outbox_event o ON o.aggregate_type = 'sales_order' AND o.status = 'PUBLISHED'
        LEFT JOIN consumer_inbox i ON i.consumer_name = c.consumer_name AND i.event_id = o.id
        WHERE o.tenant_id = :tenant_id AND i.event_id IS NULL""",
        """SELECT format('Order %s is %s at version %s, its search view says %s at version %s.',
            coalesce(o.id, p.order_id), coalesce(o.status, 'absent'), o.version, coalesce(p.status, 'nothing'), p.aggregate_version)
        FROM (SELECT * FROM sales_order WHERE tenant_id = :tenant_id) o
        FULL JOIN (SELECT * FROM order_search_projection WHERE tenant_id = :tenant_id) p ON p.order_id = o.id
        WHERE (o.order_number, o.quote_id, o.customer_id, o.status, o.version)
            IS DISTINCT FROM (p.order_number, p.quote_id, p.customer_id, p.status, p.aggregate_version)""",
    ),
)
NOTHING_WAITS = Rule(
    code="I23",
    title="nothing waits to be sent, and every incident is explained",
    counts={
        "pendingEvents": count("outbox_event", "status = 'PENDING'"),
        "pendingCommands": count("workflow_command", "status = 'PENDING'"),
        "expiredCommands": count("workflow_command", "status = 'EXPIRED'"),
    },
    violations=(
        """SELECT format('Event %s (%s) of %s %s has not been published.', id, event_type, aggregate_type, aggregate_id)
        FROM outbox_event WHERE tenant_id = :tenant_id AND status = 'PENDING'""",
        """SELECT format('%s %s for %s has waited since %s.', kind, name, business_key, created_at)
        FROM workflow_command WHERE tenant_id = :tenant_id AND status = 'PENDING'""",
    ),
)
RULES = (FULFILLED, CALLBACKS, NOTHING_UNKNOWN, PROJECTION, NOTHING_WAITS)
