"""The outcome of a schedule, in words without generated ids and times."""

from __future__ import annotations

from uuid import UUID

from tests.races.explorer.stage import Stage

_FACTS = """
SELECT 'quote', q.status || ' v' || q.version || ' r' || v.revision_no
    FROM quote q JOIN quote_revision v ON v.tenant_id = q.tenant_id AND v.id = q.current_revision_id WHERE q.tenant_id = %(tenant)s
UNION ALL SELECT 'months', string_agg(DISTINCT CAST(l.term_months AS text), ', ' ORDER BY CAST(l.term_months AS text))
    FROM quote q JOIN quote_line l ON l.tenant_id = q.tenant_id AND l.revision_id = q.current_revision_id WHERE q.tenant_id = %(tenant)s
UNION ALL SELECT 'price', coalesce(p.price_book_version, 'none')
    FROM quote q JOIN quote_revision v ON v.tenant_id = q.tenant_id AND v.id = q.current_revision_id
    LEFT JOIN price_result p ON p.tenant_id = v.tenant_id AND p.id = v.price_result_id WHERE q.tenant_id = %(tenant)s
UNION ALL SELECT 'request', string_agg(r.status, ', ' ORDER BY r.created_at) FROM approval_request r WHERE r.tenant_id = %(tenant)s
UNION ALL SELECT 'signature ' || s.type || s.level, string_agg(
        concat_ws(' ', s.status, 'by ' || d.decided_by,
            CASE WHEN s.escalation_level > 0 THEN 'asked of ' || s.approver_group END,
            CASE WHEN s.reminded_at IS NOT NULL THEN 'reminded' END), ', ' ORDER BY s.created_at)
    FROM approval_requirement s LEFT JOIN approval_decision d ON d.tenant_id = s.tenant_id AND d.requirement_id = s.id
    WHERE s.tenant_id = %(tenant)s GROUP BY s.type, s.level
UNION ALL SELECT 'documents', CAST(count(*) AS text) FROM quote_document WHERE tenant_id = %(tenant)s
UNION ALL SELECT 'orders', CAST(count(*) AS text) FROM sales_order WHERE tenant_id = %(tenant)s
UNION ALL SELECT 'price book', active_version FROM price_book_head WHERE tenant_id = %(tenant)s
UNION ALL SELECT 'grant of ' || subject, string_agg(status, ', ' ORDER BY created_at)
    FROM authority_grant WHERE tenant_id = %(tenant)s GROUP BY subject
UNION ALL SELECT 'order', status || ' v' || version || ' r0' FROM sales_order WHERE tenant_id = %(tenant)s AND status <> 'CREATED'
UNION ALL (SELECT CASE kind WHEN 'FULFILL' THEN 'step ' ELSE 'undo ' END || step_code, status || ' v' || version || ' r' || request_no
    FROM fulfillment_step WHERE tenant_id = %(tenant)s AND step_code IN ('A', 'B') ORDER BY kind DESC, step_code)
UNION ALL SELECT 'attempts', string_agg(a.command || ' ' || CASE s.kind WHEN 'FULFILL' THEN '' ELSE 'undo ' END || s.step_code || ' '
        || a.status || coalesce(' by ' || a.outcome_source, ''), ', ' ORDER BY a.sent_at)
    FROM provider_attempt a JOIN fulfillment_step s ON s.tenant_id = a.tenant_id AND s.id = a.step_id WHERE a.tenant_id = %(tenant)s
UNION ALL SELECT 'contradiction', string_agg(said || ' of ' || known || ' ' || coalesce(answer, '?'), ', ' ORDER BY created_at)
    FROM step_contradiction WHERE tenant_id = %(tenant)s
UNION ALL SELECT 'cancellation', string_agg(status || coalesce(' by ' || decided_by, ''), ', ' ORDER BY created_at)
    FROM cancellation_request WHERE tenant_id = %(tenant)s
UNION ALL SELECT 'case', string_agg(concat_ws(' ', type, status, 'of ' || owner_user_id, 'in ' || queue, resolution), ', ' ORDER BY created_at)
    FROM fallout_case WHERE tenant_id = %(tenant)s
UNION ALL SELECT 'plan', CAST(count(*) AS text) FROM fulfillment_plan WHERE tenant_id = %(tenant)s
UNION ALL SELECT 'warnings', CAST(count(*) AS text) FROM jeopardy_alert WHERE tenant_id = %(tenant)s
UNION ALL SELECT 'engine', string_agg(name, ', ' ORDER BY position) FROM workflow_command
    WHERE tenant_id = %(tenant)s AND kind <> 'COMPLETE_TASK'
"""


class Outcomes:
    """Describes what has changed in a world since it was prepared."""

    def __init__(self, stage: Stage, tenant_id: UUID) -> None:
        self._stage = stage
        self._tenant = {"tenant": tenant_id}
        self._prepared = self._facts()

    def difference(self) -> str:
        """Describe the changes: `quote DRAFT v+1 r+1, request INVALIDATED`; `nothing` when there are none."""
        now = self._facts()
        changed = [
            f"{name} {_beside(now[name], self._prepared.get(name, ''))}" for name in now if now[name] != self._prepared.get(name)
        ]
        return ", ".join(changed) or "nothing"

    def _facts(self) -> dict[str, str]:
        return {name: value or "none" for name, value in self._stage.look(_FACTS, self._tenant)}


def _beside(now: str, before: str) -> str:
    """Write versions and revisions as differences, and of a longer list only its new part."""
    if now.startswith(f"{before}, "):
        return f"+ {now.removeprefix(before + ', ')}"
    words, former = now.split(" "), before.split(" ")
    if len(words) != 3 or not words[1].startswith("v"):
        return now
    if len(former) != len(words):
        return words[0]  # the row is new
    added = [f"{word[0]}+{int(word[1:]) - int(old[1:])}" for word, old in zip(words[1:], former[1:], strict=True)]
    return " ".join([words[0], *(word for word in added if not word.endswith("+0"))])
