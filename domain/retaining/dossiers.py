"""A dossier: everything that belongs to one quote, from its first revision to the last step of its order. It is archived and deleted as a whole.

A fallout case that belongs to no order is a dossier too, and so are the log entries of a workflow command that was deleted. Grants and
price books stay: new decisions and prices need them, and old ones name them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from domain.store.declared import run

Path = tuple[str, ...]
ENDED_SQL = "'ACCEPTED', 'DECLINED', 'EXPIRED', 'REJECTED', 'CANCELLED'"  # a quote may stay in one of them for good


class Dossier(NamedTuple):
    """One dossier, named by its quote, case or workflow command."""

    tenant_id: UUID
    root_id: UUID


class Line(NamedTuple):
    """One row as JSON, its personal data apart. `personal` None: it has none."""

    table: str
    row: str
    personal: str | None


# The ids in a dossier, kind by kind. `tenant` and `root` are parameters.
_OF = "tenant_id = CAST(:tenant AS uuid)"
_ROOT = "CAST(:root AS uuid)"


def _any(name: str) -> str:
    return f"= ANY(ARRAY(SELECT id FROM {name}))"  # noqa: S608 - names of this module


def _ids(is_root: str, roots: str) -> str:
    """The ids in some dossiers. `is_root`: the condition on the id of a quote or case; `roots`: all of these ids."""
    return f"""
quotes AS (SELECT id FROM quote WHERE {_OF} AND id {is_root}),
revisions AS (SELECT id FROM quote_revision WHERE {_OF} AND quote_id {is_root}),
requests AS (SELECT id FROM approval_request WHERE {_OF} AND quote_revision_id {_any("revisions")}),
requirements AS (SELECT id FROM approval_requirement WHERE {_OF} AND request_id {_any("requests")}),
orders AS (SELECT id FROM sales_order WHERE {_OF} AND quote_id {is_root}),
steps AS (SELECT id FROM fulfillment_step WHERE {_OF} AND order_id {_any("orders")}),
cancellations AS (SELECT id FROM cancellation_request WHERE {_OF} AND order_id {_any("orders")}),
alerts AS (SELECT id FROM jeopardy_alert WHERE {_OF} AND order_id {_any("orders")}),
cases AS (SELECT id FROM fallout_case WHERE {_OF} AND (id {is_root} OR order_id {_any("orders")} OR step_id {_any("steps")})),
correlations AS (
    SELECT id FROM workflow_correlation WHERE {_OF} AND (
        (aggregate_type = 'quote_revision' AND aggregate_id {_any("revisions")})
        OR (aggregate_type = 'sales_order' AND aggregate_id {_any("orders")})
        OR (aggregate_type = 'fulfillment_step' AND aggregate_id {_any("steps")})
        OR (aggregate_type = 'fallout_case' AND aggregate_id {_any("cases")}))),
commands AS (SELECT {roots} AS id),
subjects AS (
    SELECT id FROM quotes UNION ALL SELECT id FROM revisions UNION ALL SELECT id FROM requirements UNION ALL SELECT id FROM orders
    UNION ALL SELECT id FROM steps UNION ALL SELECT id FROM cases UNION ALL SELECT id FROM cancellations)
"""  # noqa: S608 - names of this module


_IDS = _ids(f"= {_ROOT}", _ROOT)
IDS_OF_SEVERAL = _ids("= ANY(CAST(:roots AS uuid[]))", "unnest(CAST(:roots AS uuid[]))")
"""The same for several dossiers, with the parameters `tenant` and `roots`."""
_LOGGED = {
    "quote": "quotes",
    "approval_request": "requests",
    "approval_requirement": "requirements",
    "sales_order": "orders",
    "fulfillment_step": "steps",
    "cancellation_request": "cancellations",
    "jeopardy_alert": "alerts",
    "fallout_case": "cases",
    "workflow_correlation": "correlations",
    "workflow_command": "commands",
}
"""Aggregate -> the ids in a dossier whose log entries belong to it."""
_EVENTS = f"""SELECT provider_name, external_event_id FROM external_callback_record
    WHERE {_OF} AND step_id {_any("steps")}"""  # noqa: S608 - names of this module
# A second content of an event has a case, which is all that an event of no step belongs to.
_DISPUTED = f"""SELECT split_part(dedupe_key, ':', 2), evidence ->> 'externalEventId' FROM fallout_case
    WHERE {_OF} AND type = 'PROVIDER_CONFLICT' AND id {_any("cases")}"""  # noqa: S608 - names of this module
PARTS: Mapping[str, str] = {
    "quote": f"id {_any('quotes')}",
    "quote_revision": f"id {_any('revisions')}",
    "quote_line": f"revision_id {_any('revisions')}",
    "configuration_result": f"revision_id {_any('revisions')}",
    "price_result": f"revision_id {_any('revisions')}",
    "quote_document": f"quote_revision_id {_any('revisions')}",
    "approval_request": f"id {_any('requests')}",
    "approval_requirement": f"id {_any('requirements')}",
    "approval_decision": f"quote_revision_id {_any('revisions')}",
    "quote_acceptance": f"quote_revision_id {_any('revisions')}",
    "sales_order": f"id {_any('orders')}",
    "sales_order_line": f"order_id {_any('orders')}",
    "quote_search": f"quote_id {_any('quotes')}",
    "quote_approval_projection_decision": f"quote_id {_any('quotes')}",
    "order_search_projection": f"order_id {_any('orders')}",
    "fulfillment_plan": f"order_id {_any('orders')}",
    "fulfillment_step": f"id {_any('steps')}",
    "fulfillment_step_dependency": f"step_id {_any('steps')}",
    "provider_attempt": f"step_id {_any('steps')}",
    "step_contradiction": f"step_id {_any('steps')}",
    "external_callback_record": f"step_id {_any('steps')}",
    "external_callback_conflict": f"(provider_name, external_event_id) IN ({_EVENTS} UNION ALL {_DISPUTED})",
    "cancellation_request": f"id {_any('cancellations')}",
    "jeopardy_alert": f"id {_any('alerts')}",
    "fallout_case": f"id {_any('cases')}",
    "fallout_note": f"case_id {_any('cases')}",
    "step_repair": f"case_id {_any('cases')}",
    "resolution_proposal": f"case_id {_any('cases')}",
    "shown_form": f"subject_id {_any('subjects')}",
    "workflow_correlation": f"id {_any('correlations')}",
    "workflow_instance": f"subject_id {_any('subjects')}",
    "transition_log": " OR ".join(
        f"(aggregate_type = '{aggregate}' AND aggregate_id {_any(ids)})" for aggregate, ids in _LOGGED.items()
    ),
}
"""Table -> which of its rows belong to a dossier."""
PERSONAL: Mapping[str, Sequence[Path]] = {
    "quote": [("customer_id",)],
    "sales_order": [("customer_id",)],
    "quote_search": [("customer_id",)],
    "order_search_projection": [("customer_id",)],
    "quote_document": [("content",)],
    "shown_form": [
        ("facts", "quote", "customerId"),
        ("facts", "order", "customerId"),
        *(("facts", name) for name in ("form", "decisions", "detail", "evidence", "notes", "proposal", "resolutionEvidence")),
    ],
    "approval_decision": [("comment",)],
    "cancellation_request": [("decision_reason",)],
    "external_callback_record": [("payload",)],
    "external_callback_conflict": [("payload",)],
    "fallout_case": [("detail",), ("evidence", "payload"), ("resolution_evidence",)],
    "fallout_note": [("text",)],
    "fulfillment_step": [("request_changes", "instructions")],
    "step_repair": [("old",), ("new",)],
    "resolution_proposal": [("evidence",)],
}
"""Table -> the paths in its rows that hold, or may hold, personal data of a customer (decision 0039)."""
_LOCKED = {"quote": "quotes", "sales_order": "orders", "fulfillment_step": "steps", "fallout_case": "cases"}
"""Tables whose rows change together with everything else in a dossier."""


def _path(path: Path) -> str:
    return "'{" + ",".join(path) + "}'"


def _line_of(table: str) -> str:
    """The columns of an archive line, made from a row `t` of a table."""
    paths = [_path(path) for path in PERSONAL.get(table, ())]
    plain = "to_jsonb(t)" + "".join(f" #- {path}" for path in paths)
    apart = f"jsonb_build_array({', '.join(f'to_jsonb(t) #> {path}' for path in paths)})::text" if paths else "NULL::text"
    return f"'{table}' AS name, ({plain})::text AS plain, {apart} AS personal"


_LINES = (f"SELECT {_line_of(table)} FROM {table} t WHERE t.{_OF} AND ({which})" for table, which in PARTS.items())  # noqa: S608 - names of this module
_READ = text(f"WITH {_IDS} {' UNION ALL '.join(_LINES)}")
# One statement: foreign keys are checked at its end, when nothing refers to anything any more.
_DELETIONS = (
    f"of_{table} AS (DELETE FROM {table} t WHERE t.{_OF} AND ({which}) RETURNING {_line_of(table)})"  # noqa: S608 - names of this module
    for table, which in PARTS.items()
)
_DELETED = " UNION ALL ".join(f"SELECT * FROM of_{table}" for table in PARTS)  # noqa: S608 - names of this module
_DELETE = text(f"WITH {_IDS}, {', '.join(_DELETIONS)} {_DELETED}")
_COUNTS = (f"(SELECT count(*) FROM {table} WHERE {_OF} AND ({which}))" for table, which in PARTS.items())  # noqa: S608 - names of this module
_COUNT = text(f"WITH {IDS_OF_SEVERAL} SELECT {' + '.join(_COUNTS)}")
_LOCK = {
    table: text(f"WITH {_IDS} SELECT id FROM {table} WHERE {_OF} AND id {_any(ids)} FOR UPDATE SKIP LOCKED")  # noqa: S608 - names of this module
    for table, ids in _LOCKED.items()
}
_NUMBERS = " + ".join(f"(SELECT count(*) FROM {ids})" for ids in _LOCKED.values())  # noqa: S608 - names of this module
_COUNT_LOCKED = text(f"WITH {_IDS} SELECT {_NUMBERS}")
_CUSTOMERS = text("SELECT id, customer_id FROM quote WHERE tenant_id = :tenant AND id = ANY(:roots)")
_NAME_FILE = text("SELECT set_config('q2o.archive_file', :file, true), set_config('timezone', 'UTC', true)")
_OLDEST = text(f"SELECT min(updated_at) FROM quote WHERE status IN ({ENDED_SQL})")  # noqa: S608 - names of this module


def oldest(connection: Connection) -> datetime | None:
    """When the oldest quote that has ended was changed last."""
    found = connection.scalar(_OLDEST)
    return found if isinstance(found, datetime) else None


def customers(connection: Connection, tenant_id: UUID, dossiers: Sequence[Dossier]) -> dict[UUID, str]:
    """Dossier -> whose it is; a dossier without quote has no customer."""
    given = {"tenant": tenant_id, "roots": [dossier.root_id for dossier in dossiers]}
    return {row.id: row.customer_id for row in connection.execute(_CUSTOMERS, given)}


def name_file(connection: Connection, file_id: UUID | None = None) -> None:
    """Name the archive file whose rows this transaction may delete. Times are written in UTC from now on."""
    connection.execute(_NAME_FILE, {"file": str(file_id or "")})


def read(connection: Connection, dossier: Dossier) -> Iterator[Line]:
    """The rows of a dossier as lines; call `name_file` before."""
    return (Line._make(row) for row in run(connection, _READ, _parameters(dossier)))


def count(connection: Connection, tenant_id: UUID, dossiers: Sequence[Dossier]) -> int:
    """How many rows some dossiers of a tenant have."""
    given = {"tenant": tenant_id, "roots": [dossier.root_id for dossier in dossiers]}
    return int(connection.execute(_COUNT, given).scalar_one())


def lock(connection: Connection, dossier: Dossier) -> bool:
    """Lock what changes in a dossier. False: somebody else has a row of it now."""
    given = _parameters(dossier)
    locked = sum(len(run(connection, statement, given).all()) for statement in _LOCK.values())
    return bool(locked == run(connection, _COUNT_LOCKED, given).scalar_one())


def delete(connection: Connection, dossier: Dossier) -> Iterator[Line]:
    """Delete every row of a dossier that this transaction has locked; returns the rows as they were when they were deleted.

    Rows that `lock` does not lock, such as the correlation of a process instance, may have changed until then.
    """
    return (Line._make(row) for row in run(connection, _DELETE, _parameters(dossier)))


def _parameters(dossier: Dossier) -> dict[str, str]:
    return {"tenant": str(dossier.tenant_id), "root": str(dossier.root_id)}
