"""How a rule is written: queries that count the rows it covers, and queries that return one sentence for each violation.

Every query may use these parameters: `tenant_id`; `cells` (the moves and contradictions of the matrices), `finals` (final states) and
`announced` (log rows that must have an event) as JSON; `codes` (the codes of all refusals).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domain.store.facts import TOPICS


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One invariant. `counts`: name -> query of one number. `violations`: queries of one text column."""

    code: str
    title: str
    counts: Mapping[str, str]
    violations: Sequence[str]


_TOPICS = " ".join(f"WHEN '{aggregate}' THEN '{topic}'" for aggregate, topic in TOPICS.items())
_TOPIC = f"CASE l.aggregate_type {_TOPICS} END"
# Every event of a transaction: as long as the outbox has it, as it stands there; later, as the change that it tells of names it. The outbox
# loses an event only when Kafka has it.
COMMITTED = f"""(
    SELECT tenant_id, id, event_type, topic, aggregate_type, aggregate_id, aggregate_version, command_id, created_at,
        status = 'PUBLISHED' AS is_published FROM outbox_event
    UNION ALL
    SELECT l.tenant_id, l.emitted_event_id, l.emitted_event_type, {_TOPIC}, l.aggregate_type, l.aggregate_id, l.aggregate_version, l.command_id,
        l.created_at, true
    FROM transition_log l WHERE l.emitted_event_id IS NOT NULL
    AND NOT EXISTS (SELECT FROM outbox_event o WHERE o.tenant_id = l.tenant_id AND o.id = l.emitted_event_id)
)"""  # noqa: S608 - names of the declarations


def count(table: str, condition: str = "true") -> str:
    """The query that counts the rows of the tenant which meet a condition."""
    return f"SELECT count(*) FROM {table} WHERE tenant_id = :tenant_id AND ({condition})"  # noqa: S608 - written in these modules
