"""Rules about what people decide: in the process that asked them, about what they were shown, and in their own name."""

from __future__ import annotations

from domain.auditing.rule import Rule, cast, count

# Everything that a person has decided. A signature that carries over was given before.
_SIGNATURES = """(
    SELECT tenant_id, 'decision' AS what, id, requirement_id AS subject_id, shown_form_id, decided_by AS person
    FROM approval_decision WHERE decision <> 'REUSED'
    UNION ALL SELECT tenant_id, 'proposal', id, case_id, shown_form_id, proposed_by FROM resolution_proposal
    UNION ALL SELECT tenant_id, 'resolution', id, id, shown_form_id, resolved_by FROM fallout_case
    UNION ALL SELECT tenant_id, 'cancellation', id, id, shown_form_id, decided_by FROM cancellation_request
)"""
SIGNED_IN_TASKLIST = f"""
SELECT s.what, s.id, s.person, f.process_instance_id
FROM {_SIGNATURES} s JOIN shown_form f ON f.tenant_id = s.tenant_id AND f.id = s.shown_form_id
WHERE s.tenant_id = :tenant_id AND f.process_instance_id IS NOT NULL
"""  # noqa: S608 - written in this module
# A confirmed resolution is carried out in the name of the first person, by the second one.
_CONFIRMED = """EXISTS (SELECT FROM fallout_note n WHERE n.tenant_id = f.tenant_id AND n.case_id = f.id
    AND n.kind = 'CONFIRMATION' AND n.author = l.actor)"""
_NET_TOTAL, _DISCOUNT = "(f.facts #>> '{price,netTotal}')", "(f.facts #>> '{price,maxDiscountPercent}')"

SIGNED_AS_SHOWN = Rule(
    code="I31",
    title="people decide in the process that asked them, about what they were shown, in their own name",
    counts={
        "forms": count("shown_form", "NOT facts ?| ARRAY['refused', 'answered']"),
        "decisions": count("approval_decision", "decision <> 'REUSED'"),
    },
    violations=(
        f"""SELECT format('The %s %s answers form %s of process %s, which acts for something else.', s.what, s.id, f.id, f.process_instance_id)
        FROM {_SIGNATURES} s JOIN shown_form f ON f.tenant_id = s.tenant_id AND f.id = s.shown_form_id
        WHERE s.tenant_id = :tenant_id AND (f.subject_id <> s.subject_id OR f.process_instance_id IS NOT NULL AND NOT EXISTS (
            SELECT FROM workflow_instance w WHERE w.tenant_id = f.tenant_id AND w.process_instance_id = f.process_instance_id
            AND w.subject_id = s.subject_id))""",  # noqa: S608 - written in this module
        """SELECT format('Decision %s by %s answers no form.', d.id, d.decided_by)
        FROM approval_decision d WHERE d.tenant_id = :tenant_id AND d.decision <> 'REUSED' AND d.shown_form_id IS NULL
        AND d.created_at > (SELECT min(created_at) FROM shown_form WHERE tenant_id = d.tenant_id)""",
        f"""SELECT format('Decision %s by %s answers form %s, which showed %s at %s %% discount instead of %s at %s %%.', d.id, d.decided_by,
            f.id, {_NET_TOTAL}, {_DISCOUNT}, p.net_total, p.max_discount_percent)
        FROM approval_decision d
        JOIN shown_form f ON f.tenant_id = d.tenant_id AND f.id = d.shown_form_id
        JOIN price_result p ON p.tenant_id = d.tenant_id AND p.id = d.price_result_id
        WHERE d.tenant_id = :tenant_id AND (p.net_total, p.max_discount_percent) IS DISTINCT FROM
            ({cast(_NET_TOTAL, "NUMERIC")}, {cast(_DISCOUNT, "NUMERIC")})""",  # noqa: S608 - written in this module
        """SELECT format('Cancellation %s was decided by %s at version %s, and the form showed version %s.', r.id, r.decided_by,
            l.aggregate_version - 1, f.facts #>> '{request,version}')
        FROM cancellation_request r
        JOIN shown_form f ON f.tenant_id = r.tenant_id AND f.id = r.shown_form_id
        JOIN transition_log l ON l.tenant_id = r.tenant_id AND l.aggregate_id = r.id AND l.reason IN ('ACCEPT', 'DECLINE')
        WHERE r.tenant_id = :tenant_id AND CAST(l.aggregate_version - 1 AS text) <> f.facts #>> '{request,version}'""",
        """SELECT format('The log of %s %s says %s, the decision names %s.', l.aggregate_type, l.aggregate_id, l.actor, d.decided_by)
        FROM approval_decision d JOIN transition_log l ON l.tenant_id = d.tenant_id AND l.aggregate_id = d.requirement_id
            AND l.reason IN ('APPROVE', 'REJECT', 'REWORK')
        WHERE d.tenant_id = :tenant_id AND d.decision <> 'REUSED' AND l.actor <> d.decided_by""",
        f"""SELECT format('The log of fallout_case %s says %s, the resolution names %s.', f.id, l.actor, f.resolved_by)
        FROM fallout_case f JOIN transition_log l ON l.tenant_id = f.tenant_id AND l.aggregate_id = f.id AND l.reason = 'RESOLVE'
        WHERE f.tenant_id = :tenant_id AND l.actor <> f.resolved_by AND NOT {_CONFIRMED}
        AND l.aggregate_version = (SELECT max(aggregate_version) FROM transition_log m
            WHERE m.tenant_id = f.tenant_id AND m.aggregate_id = f.id AND m.reason = 'RESOLVE')""",  # noqa: S608 - written in this module
        """SELECT format('The log of cancellation_request %s says %s, the decision names %s.', r.id, l.actor, r.decided_by)
        FROM cancellation_request r JOIN transition_log l ON l.tenant_id = r.tenant_id AND l.aggregate_id = r.id
            AND l.reason IN ('ACCEPT', 'DECLINE')
        WHERE r.tenant_id = :tenant_id AND r.shown_form_id IS NOT NULL AND l.actor <> r.decided_by""",
    ),
)
RULES = (SIGNED_AS_SHOWN,)
