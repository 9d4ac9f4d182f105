"""Rules about offers: the revision that was approved, priced and shown is the one that was accepted and ordered."""

from __future__ import annotations

from domain.auditing.rule import Rule, count

ONE_ORDER = Rule(
    code="I1",
    title="one order per accepted revision",
    counts={
        "acceptedRevisions": "SELECT count(DISTINCT quote_revision_id) FROM quote_acceptance WHERE tenant_id = :tenant_id",
        "orders": count("sales_order", "order_kind = 'PRIMARY'"),
    },
    violations=(
        """SELECT format('Revision %s has %s orders: %s.', quote_revision_id, count(*), string_agg(order_number, ', '))
        FROM sales_order WHERE tenant_id = :tenant_id AND order_kind = 'PRIMARY' GROUP BY quote_revision_id HAVING count(*) > 1""",
        """SELECT format('Revision %s was accepted %s times.', quote_revision_id, count(*))
        FROM quote_acceptance WHERE tenant_id = :tenant_id GROUP BY quote_revision_id HAVING count(*) > 1""",
        """SELECT format('The acceptance of revision %s names order %s, which does not exist.', a.quote_revision_id, a.order_id)
        FROM quote_acceptance a LEFT JOIN sales_order o ON o.tenant_id = a.tenant_id AND o.id = a.order_id
        WHERE a.tenant_id = :tenant_id AND o.id IS NULL""",
        """SELECT format('Order %s of revision %s comes from no acceptance.', o.id, o.quote_revision_id)
        FROM sales_order o LEFT JOIN quote_acceptance a ON a.tenant_id = o.tenant_id AND a.order_id = o.id
        WHERE o.tenant_id = :tenant_id AND o.order_kind = 'PRIMARY' AND a.id IS NULL""",
        """SELECT format('Quote %s is ACCEPTED without an acceptance of its revision %s.', q.id, q.current_revision_id)
        FROM quote q LEFT JOIN quote_acceptance a ON a.tenant_id = q.tenant_id AND a.quote_revision_id = q.current_revision_id
        WHERE q.tenant_id = :tenant_id AND q.status = 'ACCEPTED' AND a.id IS NULL""",
    ),
)
ONE_ANSWER = Rule(
    code="I2",
    title="every idempotency key has its one stored answer",
    counts={"keys": count("idempotency_record")},
    violations=(
        """SELECT format('Key %s of %s is %s and has %s.', idempotency_key, command_name, status,
            CASE WHEN response_status IS NULL OR response_body IS NULL THEN 'no stored answer' ELSE 'an answer' END)
        FROM idempotency_record
        WHERE tenant_id = :tenant_id AND (status <> 'COMPLETED' OR response_status IS NULL OR response_body IS NULL)""",
    ),
)
SAME_REVISION = Rule(
    code="I3",
    title="what was ordered is what was approved, priced and shown",
    counts={"acceptances": count("quote_acceptance")},
    violations=(
        """SELECT format('Acceptance %s is of revision %s and price %s, but %s.', a.id, a.quote_revision_id, a.price_result_id, wrong)
        FROM quote_acceptance a
        JOIN sales_order o ON o.tenant_id = a.tenant_id AND o.id = a.order_id
        LEFT JOIN quote_revision v ON v.tenant_id = a.tenant_id AND v.id = a.quote_revision_id
        LEFT JOIN approval_request r ON r.tenant_id = a.tenant_id AND r.id = a.approval_request_id
        LEFT JOIN quote_document d ON d.tenant_id = a.tenant_id AND d.id = a.document_id
        CROSS JOIN LATERAL (VALUES
            (o.quote_revision_id <> a.quote_revision_id, 'order ' || o.id || ' is of revision ' || o.quote_revision_id),
            ((r.quote_revision_id, r.price_result_id) IS DISTINCT FROM (a.quote_revision_id, a.price_result_id),
                'approval ' || a.approval_request_id || ' is of another revision or price'),
            (r.status <> 'APPROVED', 'approval ' || r.id || ' is ' || r.status),
            ((d.quote_revision_id, d.price_result_id) IS DISTINCT FROM (a.quote_revision_id, a.price_result_id),
                'document ' || a.document_id || ' shows another revision or price'),
            (v.price_result_id IS DISTINCT FROM a.price_result_id, 'the revision has another price'),
            (v.status <> 'ACCEPTED', 'the revision is ' || v.status)
        ) AS claim(is_wrong, wrong)
        WHERE a.tenant_id = :tenant_id AND claim.is_wrong""",
        """SELECT format('Acceptance %s came before its approval %s was decided.', a.id, a.approval_request_id)
        FROM quote_acceptance a WHERE a.tenant_id = :tenant_id AND NOT EXISTS (
            SELECT FROM transition_log l WHERE l.tenant_id = a.tenant_id AND l.aggregate_type = 'approval_request'
            AND l.aggregate_id = a.approval_request_id AND l.transition_to = 'APPROVED' AND l.created_at < a.created_at)""",
    ),
)
ONE_DECISION = Rule(
    code="I4",
    title="one decision per signature, within authority, and for no other revision",
    counts={"signatures": count("approval_requirement"), "decisions": count("approval_decision")},
    violations=(
        """SELECT format('Requirement %s was decided %s times.', requirement_id, count(*))
        FROM approval_decision WHERE tenant_id = :tenant_id GROUP BY requirement_id HAVING count(*) > 1""",
        """SELECT format('Decision %s is of revision %s and price %s, its request %s of revision %s and price %s.',
            d.id, d.quote_revision_id, d.price_result_id, r.id, r.quote_revision_id, r.price_result_id)
        FROM approval_decision d
        JOIN approval_requirement q ON q.tenant_id = d.tenant_id AND q.id = d.requirement_id
        JOIN approval_request r ON r.tenant_id = q.tenant_id AND r.id = q.request_id
        WHERE d.tenant_id = :tenant_id AND (d.quote_revision_id, d.price_result_id) <> (r.quote_revision_id, r.price_result_id)""",
        """SELECT format('Requirement %s is %s without a decision.', q.id, q.status)
        FROM approval_requirement q LEFT JOIN approval_decision d ON d.tenant_id = q.tenant_id AND d.requirement_id = q.id
        WHERE q.tenant_id = :tenant_id AND q.status IN ('APPROVED', 'REJECTED', 'REWORK') AND d.id IS NULL""",
        """SELECT format('Decision %s was made by %s, who owns the quote.', d.id, d.decided_by)
        FROM approval_decision d JOIN quote q ON q.tenant_id = d.tenant_id AND q.id = d.quote_id
        WHERE d.tenant_id = :tenant_id AND d.decided_by = q.owner_user_id""",
        # Decisions from the time before grants have no `grantId`.
        """SELECT format('Decision %s by %s names grant %s, but %s.', d.id, d.decided_by, d.authority_snapshot ->> 'grantId', wrong)
        FROM approval_decision d
        JOIN approval_requirement q ON q.tenant_id = d.tenant_id AND q.id = d.requirement_id
        LEFT JOIN authority_grant g ON g.tenant_id = d.tenant_id AND g.id::text = d.authority_snapshot ->> 'grantId'
        CROSS JOIN LATERAL (VALUES
            (g.id IS NULL, 'there is no such grant'),
            (g.subject <> d.decided_by, 'it is a grant of ' || g.subject),
            (g.max_discount_percent < q.min_authority, 'it reaches to ' || g.max_discount_percent || ' % of ' || q.min_authority || ' %'),
            (d.created_at < g.valid_from OR d.created_at >= g.valid_until, 'it was not valid then'),
            (EXISTS (SELECT FROM transition_log l WHERE l.tenant_id = g.tenant_id AND l.aggregate_id = g.id
                AND l.transition_to = 'REVOKED' AND l.created_at < d.created_at), 'it had been revoked')
        ) AS claim(is_wrong, wrong)
        WHERE d.tenant_id = :tenant_id AND d.authority_snapshot ? 'grantId' AND claim.is_wrong""",
        """SELECT format('Decision %s reuses decision %s, which was not the approval of the same person on the same quote.', d.id, b.id)
        FROM approval_decision d JOIN approval_decision b ON b.tenant_id = d.tenant_id AND b.id = d.basis_decision_id
        WHERE d.tenant_id = :tenant_id AND (b.decision, b.decided_by, b.quote_id) <> ('APPROVE', d.decided_by, d.quote_id)""",
    ),
)
GOOD_OFFER = Rule(
    code="I6",
    title="accepted only while the offer and its price were valid",
    counts={"acceptances": count("quote_acceptance")},
    violations=(
        """SELECT format('Acceptance %s of %s came after the offer ended at %s.', a.id, a.accepted_at, q.valid_until)
        FROM quote_acceptance a JOIN quote q ON q.tenant_id = a.tenant_id AND q.id = a.quote_id
        WHERE a.tenant_id = :tenant_id AND a.accepted_at >= q.valid_until AND q.status = 'ACCEPTED'""",
        """SELECT format('Acceptance %s took a price of book version %s while %s was active, against policy %s.',
            a.id, a.price_book_version, a.active_price_book_version_seen, a.staleness_policy)
        FROM quote_acceptance a JOIN price_result p ON p.tenant_id = a.tenant_id AND p.id = a.price_result_id
        WHERE a.tenant_id = :tenant_id AND a.price_book_version <> a.active_price_book_version_seen
        AND CASE a.staleness_policy
            WHEN 'REPRICE_REQUIRED_ON_PUBLISH' THEN true
            WHEN 'REPRICE_ON_MATERIAL_CHANGE' THEN EXISTS (
                SELECT FROM price_book_version b JOIN quote_line l ON l.tenant_id = b.tenant_id
                WHERE b.tenant_id = a.tenant_id AND b.price_book = p.price_book AND l.revision_id = a.quote_revision_id
                AND b.published_at > p.priced_at AND b.published_at < a.accepted_at
                AND jsonb_exists(b.material_offering_ids, l.product_offering_id))
            WHEN 'APPROVAL_REQUIRED_IF_STALE' THEN NOT EXISTS (
                SELECT FROM approval_requirement q WHERE q.tenant_id = a.tenant_id AND q.request_id = a.approval_request_id
                AND q.type = 'STALE_PRICE' AND q.status = 'APPROVED')
            ELSE false END""",
        """SELECT format('Acceptance %s at %s saw book version %s, but %s had been published at %s.',
            a.id, a.accepted_at, a.active_price_book_version_seen, b.price_book_version, b.published_at)
        FROM quote_acceptance a JOIN price_result p ON p.tenant_id = a.tenant_id AND p.id = a.price_result_id
        JOIN price_book_version b ON b.tenant_id = a.tenant_id AND b.price_book = p.price_book
        WHERE a.tenant_id = :tenant_id AND b.price_book_version <> a.active_price_book_version_seen
        AND b.published_at > a.active_version_published_at AND b.published_at < a.accepted_at""",
    ),
)
RULES = (ONE_ORDER, ONE_ANSWER, SAME_REVISION, ONE_DECISION, GOOD_OFFER)
