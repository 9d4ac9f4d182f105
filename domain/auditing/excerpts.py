"""Checks the rules on an excerpt of a tenant: the rows that belong to some of its quotes, so that a round costs the same in a large tenant.

A rule is not changed for that: in front of each of its queries stand common table expressions with the names of the tables.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from functools import cache
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, TextClause, text

from domain.auditing.checking import RULES, parameters_of
from domain.auditing.looking import UncheckedRulesError, expect_many_rows, look
from domain.auditing.projections import CONSUMERS
from domain.auditing.rule import ALWAYS, cast
from domain.projections.tables import INBOX

OF_NO_QUOTE: Final = ("idempotency_record", "conflict_log")
"""Rows of these tables belong to no quote; only the audit of a whole tenant reads them."""
_CONSUMERS = ", ".join(f"'{name}'" for name in (*CONSUMERS.values(), "approval-decisions"))
# What belongs to a quote because the log of the quote names it. Arrays, because a join would not use an index (`expect_many_rows`).
_NAMED_BY_THE_LOG: Final[Mapping[str, str]] = {
    INBOX.name: f"consumer_name IN ({_CONSUMERS}) AND event_id = ANY(ARRAY(SELECT emitted_event_id FROM transition_log))",  # noqa: S608 - names of the views
    "outbox_event": (
        "aggregate_type = ANY(ARRAY(SELECT DISTINCT aggregate_type FROM transition_log)) "
        "AND aggregate_id = ANY(ARRAY(SELECT DISTINCT aggregate_id FROM transition_log))"
    ),
    "workflow_command": "status = 'PENDING' AND business_key = ANY(ARRAY(SELECT business_key FROM workflow_correlation))",
}

# A grant belongs to no quote, but what became of it says whether a decision was within authority. Other queries need no log of grants.
_GRANT = cast("(authority_snapshot ->> 'grantId')", "UUID")
_OF_GRANTS: Final = f"aggregate_type = 'authority_grant' AND aggregate_id = ANY(ARRAY(SELECT {_GRANT} FROM approval_decision))"  # noqa: S608 - see above


class Excerpts:
    """Makes queries read an excerpt. `ids`: the common table expressions of the ids, for the parameters `tenant` and `roots`; `parts`: table ->
    which of its rows belong to them.
    """

    def __init__(self, ids: str, parts: Mapping[str, str]) -> None:
        self._ids = ids
        self._parts = {**parts, **_NAMED_BY_THE_LOG}
        self.queries = tuple(self._queries())

    def violations(
        self, connection: Connection, tenant_id: UUID, roots: Collection[UUID], *, settled: bool = False
    ) -> Iterator[tuple[str, str]]:
        """The code of the violated rule, and a sentence, for each violation among what belongs to these quotes; `settled` as for `check`.

        Changes nothing but how the transaction plans its queries. Raises UncheckedRulesError after all rules, when some of them failed on
        an odd row.
        """
        expect_many_rows(connection)
        given = {**_constants(), "tenant_id": tenant_id, "tenant": str(tenant_id), "roots": list(roots)}
        unchecked: dict[str, str] = {}
        for rule, query in self.queries:
            found = look(connection, query, {**given, "age": ALWAYS if settled else RULES[rule].age})
            yield from ((RULES[rule].code, str(row[0])) for row in found.rows)
            if found.failure:
                unchecked.setdefault(RULES[rule].code, found.failure)
        if unchecked:
            raise UncheckedRulesError(unchecked)

    def _queries(self) -> Iterator[tuple[int, TextClause]]:
        for number, rule in enumerate(RULES):
            for query in rule.violations if rule.of_excerpt else ():
                if not any(_names(query, table) for table in OF_NO_QUOTE):
                    yield number, text(self._on_excerpt(query))

    def _on_excerpt(self, query: str) -> str:
        needed: dict[str, str] = {}
        told = query
        # From the last one on: a table may be needed only because another one is chosen by it.
        for table, which in reversed(self._parts.items()):
            if _names(told, table):
                which = _with_grants(query, table, which)  # noqa: PLW2901 - the same rows, and some more
                needed[table] = f"{table} AS MATERIALIZED (SELECT * FROM {table} WHERE tenant_id = :tenant_id AND ({which}))"  # noqa: S608 - names of the models
                told += which if table in _NAMED_BY_THE_LOG else ""
        tables = ", ".join(reversed(needed.values()))
        rest = query.strip()
        return f"WITH {self._ids}, {tables}{', ' + rest[5:] if rest.startswith('WITH ') else ' ' + rest}"


def _with_grants(query: str, table: str, which: str) -> str:
    """Add the log of the grants that the decisions name, for a query about grants."""
    return f"{which} OR ({_OF_GRANTS})" if table == "transition_log" and _names(query, "authority_grant") else which


def _names(query: str, table: str) -> bool:
    return re.search(rf"\b{table}\b", query) is not None


@cache
def _constants() -> Mapping[str, Any]:
    return parameters_of(UUID(int=0))
