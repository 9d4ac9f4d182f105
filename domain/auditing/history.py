"""Rules about the transition log: no gap, no move that its matrix forbids, no change without its event, nothing of another tenant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from domain.auditing.rule import COMMITTED, Rule, count
from domain.delivery.cancellations import CANCELLATION_MATRIX, CancellationStatus
from domain.delivery.orders import ORDER_MATRIX, OrderStatus
from domain.delivery.steps import STEP_MATRIX, StepStatus
from domain.fallout.cases import FALLOUT_MATRIX, FalloutStatus
from domain.offers.approvals import REQUEST_MATRIX, REQUIREMENT_MATRIX, RequestStatus, RequirementStatus
from domain.offers.quotes import QUOTE_MATRIX, QuoteStatus
from domain.store import Matrix
from domain.store.facts import WORKFLOW_COMMAND_MATRIX, WorkflowCommandStatus
from domain.workflows.starts import CORRELATION_MATRIX, CorrelationStatus

MATRICES: Mapping[str, Matrix[Any, Any]] = {
    "quote": QUOTE_MATRIX,
    "approval_request": REQUEST_MATRIX,
    "approval_requirement": REQUIREMENT_MATRIX,
    "sales_order": ORDER_MATRIX,
    "fulfillment_step": STEP_MATRIX,
    "cancellation_request": CANCELLATION_MATRIX,
    "fallout_case": FALLOUT_MATRIX,
    "workflow_correlation": CORRELATION_MATRIX,
    "workflow_command": WORKFLOW_COMMAND_MATRIX,
}
_BORN = {
    "quote": QuoteStatus.DRAFT,
    "approval_request": RequestStatus.OPEN,
    "approval_requirement": RequirementStatus.PENDING,
    "sales_order": OrderStatus.CREATED,
    "fulfillment_step": StepStatus.PENDING,
    "cancellation_request": CancellationStatus.ACKNOWLEDGED,
    "fallout_case": FalloutStatus.OPEN,
    "workflow_correlation": CorrelationStatus.REQUESTED,
    "workflow_command": WorkflowCommandStatus.PENDING,
}
# The creation of a workflow command has no row in the log: the transition that asked for it has one.
_FIRST_LOGGED = dict.fromkeys(MATRICES, 1) | {"workflow_command": 2}


_ROWS = " UNION ALL ".join(
    f"SELECT '{table}' AS aggregate_type, tenant_id, id AS aggregate_id, version, status, "  # noqa: S608 - names of this module
    f"{_FIRST_LOGGED[table]} AS first_logged, '{_BORN[table]}' AS born FROM {table}"
    for table in MATRICES
)
_OWN_ROWS = f"rows AS (SELECT * FROM ({_ROWS}) every WHERE tenant_id = :tenant_id)"  # noqa: S608 - names of this module
_LOG = "log AS (SELECT * FROM transition_log WHERE tenant_id = :tenant_id)"
_CELLS = (
    'cells AS (SELECT c.aggregate, c.event, c."from", c."to", c.contradiction FROM jsonb_to_recordset(CAST(:cells AS jsonb)) '
    'AS c(aggregate text, event text, "from" text, "to" text, contradiction boolean))'
)
_FINALS = "finals AS (SELECT * FROM jsonb_to_recordset(CAST(:finals AS jsonb)) AS f(aggregate text, state text))"

NO_LOST_UPDATE = Rule(
    code="I5",
    title="no change was lost: versions and revisions without a gap",
    counts={"aggregates": f"WITH {_OWN_ROWS} SELECT count(*) FROM rows", "changes": count("transition_log")},  # noqa: S608 - see above
    violations=(
        f"""WITH {_OWN_ROWS}, {_LOG}, seen AS (
            SELECT aggregate_type, aggregate_id, count(DISTINCT aggregate_version) AS entries,
                min(aggregate_version) AS lowest, max(aggregate_version) AS highest
            FROM log GROUP BY 1, 2)
        SELECT format('%s %s is at version %s, its log has %s entries from version %s to %s.', r.aggregate_type, r.aggregate_id,
            r.version, coalesce(s.entries, 0), s.lowest, s.highest)
        FROM rows r LEFT JOIN seen s USING (aggregate_type, aggregate_id)
        WHERE coalesce(s.entries, 0) <> r.version - r.first_logged + 1
            OR s.lowest <> r.first_logged OR s.highest <> r.version""",  # noqa: S608 - names of this module
        """SELECT format('Quote %s has %s revisions, numbered %s to %s.', quote_id, count(*), min(revision_no), max(revision_no))
        FROM quote_revision WHERE tenant_id = :tenant_id GROUP BY quote_id
        HAVING count(DISTINCT revision_no) <> max(revision_no) OR min(revision_no) <> 1""",
    ),
)
EXPLAINED = Rule(
    code="I7",
    title="every refusal has its code, every change its event",
    counts={"refusals": count("conflict_log"), "events": count("transition_log", "emitted_event_id IS NOT NULL")},
    violations=(
        """SELECT format('Refusal %s of %s by %s has an unknown code: "%s".', id, command, actor, conflict_code)
        FROM conflict_log WHERE tenant_id = :tenant_id AND conflict_code <> ALL(:codes)""",
        f"""WITH {_LOG}, announced AS (
            SELECT * FROM jsonb_to_recordset(CAST(:announced AS jsonb)) AS a(aggregate text, event text))
        SELECT format('%s %s became %s by %s at version %s without an event of that transaction.',
            l.aggregate_type, l.aggregate_id, l.transition_to, l.reason, l.aggregate_version)
        FROM log l JOIN announced a ON a.aggregate = l.aggregate_type AND (
            a.event = l.reason AND l.transition_from IS NOT NULL OR a.event IS NULL AND l.transition_from IS NULL)
        LEFT JOIN {COMMITTED} o ON o.tenant_id = l.tenant_id AND o.aggregate_type = l.aggregate_type
            AND o.aggregate_id = l.aggregate_id AND o.aggregate_version = l.aggregate_version AND o.command_id = l.command_id
        WHERE o.id IS NULL OR o.id IS DISTINCT FROM l.emitted_event_id""",  # noqa: S608 - names of this module
    ),
)
LEGAL_MOVES = Rule(
    code="I9",
    title="every change is one that its matrix allows, and together they give the state",
    counts={
        "changes": count("transition_log", "transition_from IS NOT NULL"),
        "births": count("transition_log", "transition_from IS NULL"),
    },
    violations=(
        f"""WITH {_LOG}, {_CELLS}, {_FINALS}
        SELECT format('%s %s went from %s to %s by %s at version %s, which is no cell of its matrix.', l.aggregate_type,
            l.aggregate_id, l.transition_from, l.transition_to, l.reason, l.aggregate_version)
        FROM log l JOIN (SELECT DISTINCT aggregate FROM cells) known ON known.aggregate = l.aggregate_type
        LEFT JOIN cells c ON c.aggregate = l.aggregate_type AND c.event = l.reason AND c."from" = l.transition_from
            AND c."to" = l.transition_to
        LEFT JOIN finals f ON f.aggregate = l.aggregate_type AND f.state = l.transition_from AND l.transition_to <> l.transition_from
        WHERE l.transition_from IS NOT NULL AND c.event IS NULL AND f.state IS NULL""",  # noqa: S608 - names of this module
        f"""WITH {_OWN_ROWS}, {_LOG}, chain AS (
            SELECT l.*, CASE WHEN l.aggregate_version = 1 THEN NULL ELSE coalesce(
                lag(l.transition_to) OVER (PARTITION BY l.aggregate_type, l.aggregate_id ORDER BY l.aggregate_version), r.born
            ) END AS before, r.born
            FROM log l JOIN rows r USING (aggregate_type, aggregate_id))
        SELECT format('%s %s was %s, but its change to version %s leads from %s to %s.', aggregate_type, aggregate_id,
            coalesce(before, 'not created'), aggregate_version, coalesce(transition_from, 'nothing'), transition_to)
        FROM chain WHERE transition_from IS DISTINCT FROM before OR (transition_from IS NULL AND transition_to <> born)""",  # noqa: S608 - see above
        f"""WITH {_OWN_ROWS}, last AS (
            SELECT DISTINCT ON (aggregate_type, aggregate_id) aggregate_type, aggregate_id, transition_to FROM transition_log
            WHERE tenant_id = :tenant_id ORDER BY aggregate_type, aggregate_id, aggregate_version DESC)
        SELECT format('%s %s is %s, its log ends with %s.', aggregate_type, aggregate_id, r.status, coalesce(l.transition_to, r.born))
        FROM rows r LEFT JOIN last l USING (aggregate_type, aggregate_id)
        WHERE r.status <> coalesce(l.transition_to, r.born)""",  # noqa: S608 - names of this module
    ),
)
FINAL_STAYS = Rule(
    code="I10",
    title="what is final stays final, and a contradiction keeps both facts",
    counts={
        "final": f"WITH {_OWN_ROWS}, {_FINALS} SELECT count(*) FROM rows r JOIN finals f "  # noqa: S608 - names of this module
        "ON f.aggregate = r.aggregate_type AND f.state = r.status",
        "contradictions": count("transition_log", "emitted_event_type = 'ContradictionRecorded'"),
    },
    violations=(
        f"""WITH {_LOG}, {_FINALS}
        SELECT format('%s %s left its final state %s for %s by %s at version %s.', l.aggregate_type, l.aggregate_id,
            l.transition_from, l.transition_to, l.reason, l.aggregate_version)
        FROM log l JOIN finals f ON f.aggregate = l.aggregate_type AND f.state = l.transition_from
        WHERE l.transition_to <> l.transition_from""",  # noqa: S608 - names of this module
        f"""WITH {_LOG}, {_CELLS}
        SELECT format('%s %s was contradicted by %s at version %s, without an event ContradictionRecorded.', l.aggregate_type,
            l.aggregate_id, l.reason, l.aggregate_version)
        FROM log l JOIN cells c ON c.aggregate = l.aggregate_type AND c.event = l.reason AND c."from" = l.transition_from
            AND c."to" = l.transition_to AND c.contradiction
        WHERE l.emitted_event_type IS DISTINCT FROM 'ContradictionRecorded'""",  # noqa: S608 - names of this module
    ),
)
_NAMES_A_TENANT = ("transition_log", "outbox_event", "workflow_command", "workflow_correlation", "reconciliation_finding")
_POINTERS = (
    *(("transition_log", "aggregate_id", aggregate, "id", f"p.aggregate_type = '{aggregate}'") for aggregate in MATRICES),
    *(("outbox_event", "aggregate_id", aggregate, "id", f"p.aggregate_type = '{aggregate}'") for aggregate in MATRICES),
    ("consumer_inbox", "event_id", COMMITTED, "id", "true"),
    ("quote_search", "quote_id", "quote", "id", "true"),
    ("order_search_projection", "order_id", "sales_order", "id", "true"),
    ("quote_approval_projection_decision", "approval_decision_id", "approval_decision", "id", "true"),
    # A callback may name any step, but act only on one of its own tenant.
    ("external_callback_record", "step_id", "fulfillment_step", "id", "p.processed_status <> 'UNMATCHED'"),
)
"""Ids without a foreign key: table, column, the table they point to, its id, and the condition."""


def _into_another_tenant(table: str, column: str, target: str, key: str, condition: str) -> str:
    """Look other tenants up only for the ids that the tenant itself does not have: hardly any, so the cost does not grow with the others."""
    return f"""WITH strays AS MATERIALIZED (
            SELECT DISTINCT p.{column} AS id FROM {table} p
            LEFT JOIN (SELECT o.{key} FROM {target} o WHERE o.tenant_id = :tenant_id) own ON own.{key} = p.{column}
            WHERE p.tenant_id = :tenant_id AND p.{column} IS NOT NULL AND own.{key} IS NULL AND {condition})
        SELECT format('A row of {table} points to %s, which belongs to tenant %s.', t.{key}, t.tenant_id)
        FROM {target} t WHERE EXISTS (SELECT FROM strays) AND t.tenant_id <> :tenant_id AND t.{key} IN (SELECT id FROM strays)"""  # noqa: S608 - see above


TENANTS_APART = Rule(
    code="I28",
    title="no row of this tenant reaches into another tenant",
    counts={"views": count("order_search_projection"), "consumed": count("consumer_inbox"), "changes": count("transition_log")},
    violations=(
        " UNION ALL ".join(
            f"SELECT format('A row of {table} carries the business key %s.', business_key) FROM {table} "  # noqa: S608 - see above
            "WHERE tenant_id = :tenant_id AND split_part(business_key, ':', 2) <> CAST(:tenant_id AS text)"
            for table in _NAMES_A_TENANT
        ),
        *(_into_another_tenant(*pointer) for pointer in _POINTERS),
    ),
    of_excerpt=False,  # its rows point out of what belongs to the tenant
)
RULES = (NO_LOST_UPDATE, EXPLAINED, LEGAL_MOVES, FINAL_STAYS, TENANTS_APART)
