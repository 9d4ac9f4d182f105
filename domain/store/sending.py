"""All facts of a transaction in one statement: three inserts as one round trip, whatever their number.

The rows travel as JSON arrays, so the statement is the same every time; its columns follow the models, so it never falls behind them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import text
from sqlalchemy.sql.elements import TextClause

from domain.store.base import table_of
from domain.store.facts import OutboxEvent, TransitionLog, WorkflowCommand


def _insert_from(entity: Any, parameter: str, fixed: Mapping[str, str], omit: frozenset[str]) -> str:
    """`INSERT … SELECT` from a JSON array; columns follow the table, so the statement never falls behind it."""
    table = table_of(entity)
    names = [c.name for c in table.c if c.name not in omit]
    values = ", ".join(fixed.get(name, f"r.{name}") for name in names)
    return (
        f"INSERT INTO {table.name} ({', '.join(names)}) SELECT {values} "  # noqa: S608 - names come from the model
        f"FROM jsonb_populate_recordset(NULL::{table.name}, CAST(:{parameter} AS jsonb)) r"
    )


def _send_facts() -> TextClause:
    born = {"tenant_id": "CAST(:tenant_id AS uuid)", "created_at": "clock_timestamp()"}
    transitions = _insert_from(TransitionLog, "transitions", born, frozenset())
    events = _insert_from(OutboxEvent, "events", born, frozenset({"position", "status", "attempts", "due_at", "published_at"}))
    return text(f"WITH t AS ({transitions}), e AS ({events}) {_insert_commands()}")


def _insert_commands() -> str:
    return (
        f"INSERT INTO {WorkflowCommand.__tablename__} "  # noqa: S608 - names come from the model
        "(tenant_id, id, version, status, kind, name, business_key, variables, expires_at) "
        "SELECT CAST(:tenant_id AS uuid), r.id, 1, 'PENDING', r.kind, r.name, r.business_key, r.variables, "
        "clock_timestamp() + make_interval(secs => r.expires_after_seconds) "
        "FROM jsonb_to_recordset(CAST(:commands AS jsonb)) AS r(id uuid, kind text, name text, business_key text, "
        "variables jsonb, expires_after_seconds double precision)"
    )


SEND_FACTS = _send_facts()
