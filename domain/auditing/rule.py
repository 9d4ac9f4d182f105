"""How a rule is written: queries that count the rows it covers, and queries that return one sentence for each violation.

A live system is never quiet. A rule that holds only once a matter is settled has an age: younger rows may be on their way, and do not count.

Every query may use these parameters: `tenant_id`; `age`, which is the rule's, or zero in a settled tenant; `cells` (the moves and
contradictions of the matrices), `finals` (final states) and `announced` (log rows that must have an event) as JSON; `codes` (the codes of
all refusals).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from domain.store.facts import TOPICS

ALWAYS = timedelta()
"""The age of a rule that holds at every moment, because one transaction makes it true."""
OLD_ENOUGH = "clock_timestamp() - CAST(:age AS interval)"
"""What was changed before this time is settled."""
WITHIN_MINUTES = timedelta(minutes=15)
"""Every loop has its turn by then, also one that was restarted."""
WITHIN_HOURS = timedelta(hours=2)
"""Reconciliation opens a case for an outcome that stays unknown for an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One invariant.

    `counts`: name -> query of one number. `violations`: queries of one text column. `age`: how old what they name must be. `blind`: a query
    that returns why this login cannot see what is counted, and no row when it can. `of_excerpt`: whether the rule can be looked up among the
    rows of some quotes.
    """

    code: str
    title: str
    counts: Mapping[str, str]
    violations: Sequence[str]
    age: timedelta = ALWAYS
    blind: str = ""
    of_excerpt: bool = True


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


_ON_ITS_DAY = "[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]([.][0-9]+)?"
_FORMS = {
    "UUID": ("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "00000000-0000-0000-0000-000000000000"),
    "INTEGER": ("-?[0-9]{1,9}", "-1"),
    "BIGINT": ("-?[0-9]{1,18}", "-1"),
    "NUMERIC": ("-?[0-9]{1,12}([.][0-9]+)?", "NaN"),
    "TIMESTAMP": (f"{_ON_ITS_DAY}(Z|[+-][0-9]{{2}}:[0-9]{{2}})", "-infinity"),
}
"""Type -> the form in which JSON has its values, and a value that no row of ours has."""


def cast(value: str, to: str) -> str:
    """The SQL that casts a text of a JSON document. A text of another form becomes a value that no row has, so it differs from every row."""
    if to == "TEXT":
        return value
    form, odd = _FORMS[re.split(r"\W", to)[0]]
    return f"CAST(CASE WHEN {value} ~ '^{form}$' THEN {value} WHEN {value} IS NOT NULL THEN '{odd}' END AS {to})"


def count(table: str, condition: str = "true") -> str:
    """The query that counts the rows of the tenant which meet a condition."""
    return f"SELECT count(*) FROM {table} WHERE tenant_id = :tenant_id AND ({condition})"  # noqa: S608 - written in these modules
