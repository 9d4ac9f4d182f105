"""What must hold for an order in the middle of its delivery, whichever commands met."""

from __future__ import annotations

from domain.auditing.rule import Rule

NO_START_AFTER_REQUEST = Rule(
    code="no start",
    title="after its cancellation was requested no step of an order starts",
    counts={},
    violations=(
        """SELECT format('Step %s was sent at %s, the cancellation requested at %s (%s).', s.step_code, a.sent_at, r.created_at, r.status)
        FROM provider_attempt a JOIN fulfillment_step s ON s.tenant_id = a.tenant_id AND s.id = a.step_id
        JOIN cancellation_request r ON r.tenant_id = s.tenant_id AND r.order_id = s.order_id
        WHERE a.tenant_id = :tenant_id AND a.command = 'EXECUTE' AND s.kind = 'FULFILL' AND a.sent_at > r.created_at
        AND r.status <> 'DECLINED'""",
    ),
)
ONE_END = Rule(
    code="one end",
    title="an order ends once, in a status that fits its steps",
    counts={},
    violations=(
        """SELECT format('Order %s ended %s times: %s.', aggregate_id, count(*), string_agg(transition_to, ', '))
        FROM transition_log WHERE tenant_id = :tenant_id AND aggregate_type = 'sales_order'
        AND transition_to IN ('FULFILLED', 'PARTIALLY_FULFILLED', 'FAILED', 'CANCELLED', 'REJECTED') GROUP BY aggregate_id HAVING count(*) > 1""",
        """SELECT format('Order %s is %s, its step %s is %s.', o.id, o.status, s.step_code, s.status)
        FROM sales_order o JOIN fulfillment_step s ON s.tenant_id = o.tenant_id AND s.order_id = o.id AND s.kind = 'FULFILL'
        WHERE o.tenant_id = :tenant_id AND (
            o.status IN ('FULFILLED', 'PARTIALLY_FULFILLED', 'FAILED', 'CANCELLED')
                AND s.status NOT IN ('COMPLETED', 'SKIPPED', 'CANCELLED', 'FAILED')
            OR o.status = 'FULFILLED' AND s.status NOT IN ('COMPLETED', 'SKIPPED')
            OR o.status = 'FAILED' AND s.status = 'COMPLETED')""",
        """SELECT format('Order %s is CANCELLED, and the effect of %s was not undone.', o.id, s.step_code)
        FROM sales_order o JOIN fulfillment_step s ON s.tenant_id = o.tenant_id AND s.order_id = o.id
        WHERE o.tenant_id = :tenant_id AND o.status = 'CANCELLED' AND s.kind = 'FULFILL' AND s.status = 'COMPLETED'
        AND NOT EXISTS (SELECT FROM fulfillment_step u WHERE u.tenant_id = s.tenant_id AND u.compensates_step_id = s.id AND u.status = 'COMPLETED')
        AND NOT EXISTS (SELECT FROM step_contradiction c WHERE c.tenant_id = s.tenant_id AND c.step_id = s.id AND c.answer = 'REVERSED')""",
        """SELECT format('The cancellation of order %s is %s, and the order is %s.', o.id, r.status, o.status)
        FROM sales_order o JOIN cancellation_request r ON r.tenant_id = o.tenant_id AND r.order_id = o.id
        WHERE o.tenant_id = :tenant_id AND (
            (r.status IN ('ACKNOWLEDGED', 'ASSESSING')) <> (o.status = 'CANCEL_REQUESTED') AND r.status <> 'DECLINED' AND r.status <> 'DONE'
                AND r.status <> 'DONE_PARTIAL' AND r.status <> 'EXECUTING'
            OR r.status = 'EXECUTING' AND o.status <> 'CANCELLING'
            OR r.status = 'DONE' AND o.status <> 'CANCELLED')""",
    ),
)
BOTH_FACTS = Rule(
    code="both facts",
    title="a contradiction is open, settled, or has a case; a decision is in the history of its case",
    counts={},
    violations=(
        """SELECT format('%s of a step that is %s was left to a person, and has no case.', c.said, c.known)
        FROM step_contradiction c WHERE c.tenant_id = :tenant_id AND c.answer = 'LEFT_TO_A_PERSON'
        AND NOT EXISTS (SELECT FROM fallout_case f WHERE f.tenant_id = c.tenant_id AND f.step_id = c.step_id)""",
        """SELECT format('Step %s changed %s times by the decision on a case.', aggregate_id, count(*))
        FROM transition_log WHERE tenant_id = :tenant_id AND aggregate_type = 'fulfillment_step' AND reason LIKE 'RESOLVE_%%'
        GROUP BY aggregate_id, aggregate_version HAVING count(*) > 1""",
        """SELECT format('Attempt %s of %s is %s, its step is %s.', a.command, s.step_code, a.status, s.status)
        FROM provider_attempt a JOIN fulfillment_step s ON s.tenant_id = a.tenant_id AND s.id = a.step_id
        WHERE a.tenant_id = :tenant_id AND a.command = 'EXECUTE' AND a.status IN ('SENT', 'ACKNOWLEDGED', 'UNKNOWN')
        AND s.status IN ('PENDING', 'RETRYABLE', 'COMPLETED', 'CANCELLED', 'SKIPPED', 'FAILED')""",
    ),
)
DELIVERY = (NO_START_AFTER_REQUEST, ONE_END, BOTH_FACTS)
