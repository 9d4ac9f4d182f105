"""How a rule is written: what is counted, and queries whose every row is one violation told in a sentence.

Parameters that any query may name: `tenant_id`; `cells` (what the matrices allow), `finals` (states that nothing leads out of) and
`announced` (log entries that must have an event) as JSON; `codes` (every refusal's code).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """`counts`: figure -> query of one number. `violations`: queries of one text column."""

    code: str
    title: str
    counts: Mapping[str, str]
    violations: Sequence[str]


def count(table: str, condition: str = "true") -> str:
    """Query how many rows of the tenant meet a condition."""
    return f"SELECT count(*) FROM {table} WHERE tenant_id = :tenant_id AND ({condition})"  # noqa: S608 - written in these modules
