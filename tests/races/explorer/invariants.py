"""What must hold after every schedule, whatever its outcome: the audit's rules of a finished history, and what two commands at once
could break in it. They are read from the rows, by statements that share nothing with the commands.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any
from uuid import UUID

from psycopg import sql

from domain.auditing import checking, history, offers
from domain.auditing.rule import Rule
from tests.races.explorer.delivery_invariants import DELIVERY
from tests.races.explorer.stage import Stage

ONE_LIVE_REVISION = Rule(
    code="one live revision",
    title="a quote has one live revision, and a superseded revision has no open request",
    counts={},
    violations=(
        """SELECT format('Quote %s has the live revisions %s, its current one is number %s.', q.id,
            string_agg(v.revision_no || ' ' || v.status, ', '), max(v.revision_no) FILTER (WHERE v.id = q.current_revision_id))
        FROM quote q JOIN quote_revision v ON v.tenant_id = q.tenant_id AND v.quote_id = q.id
        WHERE q.tenant_id = :tenant_id AND v.status <> 'SUPERSEDED'
        GROUP BY q.id HAVING count(*) <> 1 OR bool_or(v.id <> q.current_revision_id)""",
        """SELECT format('Request %s of revision %s (%s) is %s.', r.id, v.revision_no, v.status, r.status)
        FROM approval_request r JOIN quote_revision v ON v.tenant_id = r.tenant_id AND v.id = r.quote_revision_id
        WHERE r.tenant_id = :tenant_id AND v.status = 'SUPERSEDED' AND r.status IN ('OPEN', 'APPROVED')""",
        """SELECT format('Signature %s is PENDING, its request is %s.', s.id, r.status)
        FROM approval_requirement s JOIN approval_request r ON r.tenant_id = s.tenant_id AND r.id = s.request_id
        WHERE s.tenant_id = :tenant_id AND s.status = 'PENDING' AND r.status <> 'OPEN'""",
        """SELECT format('Quote %s is %s, its request is %s.', q.id, q.status, r.status)
        FROM quote q JOIN approval_request r ON r.tenant_id = q.tenant_id AND r.quote_revision_id = q.current_revision_id
        WHERE q.tenant_id = :tenant_id AND (r.status = 'OPEN') <> (q.status = 'APPROVAL_IN_PROGRESS')""",
        """SELECT format('Request %s is APPROVED, its signature %s is %s.', r.id, s.id, s.status)
        FROM approval_request r JOIN approval_requirement s ON s.tenant_id = r.tenant_id AND s.request_id = r.id
        WHERE r.tenant_id = :tenant_id AND r.status = 'APPROVED' AND s.status <> 'APPROVED'""",
    ),
)
RIGHTFUL_DECISION = Rule(
    code="rightful decision",
    title="a decision is made on a live revision, by a person whose grant was active",
    counts={},
    violations=(
        """SELECT format('Decision %s came after its revision was superseded.', d.id)
        FROM approval_decision d JOIN quote_revision v ON v.tenant_id = d.tenant_id AND v.id = d.quote_revision_id
        JOIN quote_revision n ON n.tenant_id = v.tenant_id AND n.quote_id = v.quote_id AND n.revision_no > v.revision_no
        WHERE d.tenant_id = :tenant_id AND d.created_at > n.created_at""",
        """SELECT format('Decision %s by %s rests on grant %s, which %s.', d.id, d.decided_by, d.authority_snapshot ->> 'grantId',
            CASE WHEN g.id IS NULL THEN 'does not exist' ELSE 'was revoked before' END)
        FROM approval_decision d
        LEFT JOIN authority_grant g ON g.tenant_id = d.tenant_id AND CAST(g.id AS text) = d.authority_snapshot ->> 'grantId'
            AND g.subject = d.decided_by
        LEFT JOIN transition_log l ON l.tenant_id = g.tenant_id AND l.aggregate_type = 'authority_grant' AND l.aggregate_id = g.id
            AND l.transition_to = 'REVOKED'
        WHERE d.tenant_id = :tenant_id AND (g.id IS NULL OR l.created_at < d.created_at)""",
        """SELECT format('Delegation %s is ACTIVE, the grant it comes from is %s.', d.id, g.status)
        FROM authority_grant d JOIN authority_grant g ON g.tenant_id = d.tenant_id AND g.id = d.delegated_from
        WHERE d.tenant_id = :tenant_id AND d.status = 'ACTIVE' AND g.status <> 'ACTIVE'""",
    ),
)
BEFORE_THE_PUBLICATION = Rule(
    code="I6",
    title="an order at a replaced price was accepted before the new price was published",
    counts={},
    violations=(
        """SELECT format('Acceptance %s of %s took a price of version %s, and %s had been published at %s.', a.id, a.created_at,
            a.price_book_version, b.price_book_version, b.published_at)
        FROM quote_acceptance a JOIN price_result p ON p.tenant_id = a.tenant_id AND p.id = a.price_result_id
        JOIN price_book_version b ON b.tenant_id = p.tenant_id AND b.price_book = p.price_book
            AND b.published_at > p.priced_at AND b.published_at < a.created_at
        WHERE a.tenant_id = :tenant_id AND a.staleness_policy = 'REPRICE_REQUIRED_ON_PUBLISH'""",
    ),
)
TRACES = Rule(
    code="I7",
    title="a successful command leaves one change and no conflict, a refused command one conflict and no change",
    counts={},
    violations=(
        """SELECT format('Command %s changed the quote by %s %s times.', c, l.reason, count(*))
        FROM unnest(CAST(:commands AS uuid[])) c JOIN transition_log l ON l.tenant_id = :tenant_id AND l.command_id = c
        AND l.aggregate_type = 'quote' GROUP BY c, l.reason HAVING count(*) > 1""",
        """SELECT format('Command %s was refused and has %s conflict records.', c, count(l.id))
        FROM unnest(CAST(:refused AS uuid[])) c LEFT JOIN conflict_log l ON l.tenant_id = :tenant_id AND l.command_id = c
        GROUP BY c HAVING count(l.id) <> 1""",
        """SELECT format('Command %s was refused and the log has its change %s of %s.', c, l.reason, l.aggregate_type)
        FROM unnest(CAST(:refused AS uuid[])) c JOIN transition_log l ON l.tenant_id = :tenant_id AND l.command_id = c""",
        """SELECT format('Command %s was refused and %s was sent.', c, o.event_type)
        FROM unnest(CAST(:refused AS uuid[])) c JOIN outbox_event o ON o.tenant_id = :tenant_id AND o.command_id = c""",
        """SELECT format('Command %s succeeded and its conflict %s was recorded.', c, l.conflict_code)
        FROM unnest(CAST(:commands AS uuid[])) c JOIN conflict_log l ON l.tenant_id = :tenant_id AND l.command_id = c
        WHERE c <> ALL(CAST(:refused AS uuid[]))""",
    ),
)
# A scene has one tenant, so nothing needs to be kept apart.
_OF_THE_AUDIT = tuple(rule for rule in (*offers.RULES, *history.RULES) if rule is not history.TENANTS_APART)
RULES = (*_OF_THE_AUDIT, ONE_LIVE_REVISION, RIGHTFUL_DECISION, BEFORE_THE_PUBLICATION, TRACES, *DELIVERY)


# The parameters that a schedule gives; the others are the same for every schedule.
_GIVEN = {"tenant_id": "uuid", "commands": "uuid[]", "refused": "uuid[]"}
_NAME = re.compile(r"(?<![:\w]):(\w+)")


class Invariants:
    """Checks the rules for one tenant, with a function in the database, which parses and plans the rules only once."""

    def __init__(self, stage: Stage, tenant_id: UUID) -> None:
        self._stage = stage
        self._tenant_id = tenant_id
        stage.define("violations", _function(checking.parameters_of(tenant_id)))

    def violations(self, commands: Sequence[UUID], refused: Sequence[UUID]) -> list[str]:
        """List the violations as sentences; `commands` are the ids of the commands, `refused` of those that were refused."""
        given = {"tenant_id": self._tenant_id, "commands": list(commands), "refused": list(refused)}
        found = self._stage.look(
            "SELECT * FROM explorer.violations(%(tenant_id)s, %(commands)s::uuid[], %(refused)s::uuid[])", given
        )
        return [f"{code}: {sentence}" for code, sentence in found]


def _function(parameters: Mapping[str, Any]) -> sql.Composed:
    """The statement that creates the function, with the constants of the rules in it."""
    constants = {name: sql.Literal(value) for name, value in parameters.items() if name not in _GIVEN}
    queries = [
        sql.SQL("SELECT {}, violation FROM ({}) found(violation)").format(sql.Literal(rule.code), _with(constants, query))
        for rule in RULES
        for query in rule.violations
    ]
    return sql.SQL(
        "CREATE FUNCTION explorer.violations(tenant_id uuid, commands uuid[], refused uuid[]) RETURNS TABLE (code text, violation text) "
        "LANGUAGE plpgsql AS $rules$ #variable_conflict use_column\nBEGIN RETURN QUERY {}; END $rules$"
    ).format(sql.SQL(" UNION ALL ").join(queries))


def _with(constants: Mapping[str, sql.Literal], query: str) -> sql.Composed:
    """Put the constants of a rule, and the names of the function's parameters, in the place of its parameters."""
    pieces = _NAME.split(query)
    texts, names = pieces[::2], pieces[1::2]
    values = [constants[name] if name in constants else sql.SQL(f"violations.{name}") for name in names]
    return sql.Composed([part for pair in zip_longest(map(sql.SQL, texts), values) for part in pair if part is not None])
