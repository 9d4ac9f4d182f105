"""How a rule is written: queries that count the rows it covers, and queries that return one sentence for each violation.

Every query may use these parameters: `tenant_id`; `cells` (the moves and contradictions of the matrices), `finals` (final states) and
`announced` (log rows that must have an event) as JSON; `codes` (the codes of all refusals).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One invariant. `counts`: name -> query of one number. `violations`: queries of one text column."""

    code: str
    title: str
    counts: Mapping[str, str]
    violations: Sequence[str]


def count(table: str, condition: str = "true") -> str:
    """The query that counts the rows of the tenant which meet a condition."""
    return f"SELECT count(*) FROM {table} WHERE tenant_id = :tenant_id AND ({condition})"  # noqa: S608 - written in these modules
