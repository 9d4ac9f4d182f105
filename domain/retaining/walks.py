"""Which dossiers are finished: the walks to their roots, and the same question about one of them.

A dossier that a walk has found may be taken up again before it is archived: an edit renews an expired quote, a late callback opens a case. So
whoever deletes a dossier asks once more, after it has locked the rows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, TextClause, text

from domain.retaining.dossiers import ENDED_SQL, Dossier
from domain.store.declared import run


class Place(NamedTuple):
    """The last row of a page: its time, and its id."""

    since: datetime
    row_id: UUID


class Page(NamedTuple):
    """The finished dossiers among the rows of a page; `last` is None after the last page."""

    finished: Sequence[Dossier]
    last: Place | None


class Root(NamedTuple):
    """The rows of a table that may be roots of finished dossiers.

    `root`: the id of the dossier; `since`: when the row was changed last; `which`: the condition of the index by that time; `is_finished`: the
    condition on row `p`, and on everything that belongs to it.
    """

    table: str
    root: str
    since: str
    which: str
    is_finished: str


START: Final = Place(datetime.fromtimestamp(0, UTC), UUID(int=0))
"""The place before every row."""
_BEFORE = "now() - CAST(:age AS interval)"  # of the transaction: an index cannot be searched by a clock that goes on
_HAS_OPEN_SIGNATURE = """SELECT FROM approval_request r JOIN quote_revision v ON v.tenant_id = r.tenant_id AND v.id = r.quote_revision_id
    WHERE v.tenant_id = p.tenant_id AND v.quote_id = p.id AND r.status = 'OPEN'"""
_HAS_OPEN_ORDER = f"""SELECT FROM sales_order o WHERE o.tenant_id = p.tenant_id AND o.quote_id = p.id AND (
    o.status NOT IN ('FULFILLED', 'PARTIALLY_FULFILLED', 'FAILED', 'CANCELLED', 'REJECTED') OR o.updated_at >= {_BEFORE}
    OR EXISTS (SELECT FROM fallout_case f WHERE f.tenant_id = o.tenant_id AND f.order_id = o.id
        AND (f.status NOT IN ('CLOSED', 'CANCELLED') OR f.updated_at >= {_BEFORE}))
    OR EXISTS (SELECT FROM workflow_correlation c WHERE c.tenant_id = o.tenant_id AND c.aggregate_type = 'sales_order'
        AND c.aggregate_id = o.id AND c.status IN ('REQUESTED', 'START_UNKNOWN'))
    OR EXISTS (SELECT FROM fulfillment_step s WHERE s.tenant_id = o.tenant_id AND s.order_id = o.id AND (
        s.status NOT IN ('COMPLETED', 'CANCELLED', 'SKIPPED', 'FAILED') OR s.updated_at >= {_BEFORE}
        OR EXISTS (SELECT FROM step_contradiction c WHERE c.tenant_id = s.tenant_id AND c.step_id = s.id AND c.answer IS NULL))))"""  # noqa: S608 - names of this module
_ROOTS: Mapping[str, Root] = {
    "quotes": Root(
        "quote",
        "id",
        "updated_at",
        f"status IN ({ENDED_SQL})",
        f"NOT EXISTS ({_HAS_OPEN_SIGNATURE}) AND NOT EXISTS ({_HAS_OPEN_ORDER})",
    ),
    "cases of no order": Root(
        "fallout_case",
        "id",
        "updated_at",
        "order_id IS NULL AND status IN ('CLOSED', 'CANCELLED')",
        "step_id IS NULL",
    ),
    "logs of commands": Root(
        "transition_log",
        "aggregate_id",
        "created_at",
        "aggregate_type = 'workflow_command'",
        "NOT EXISTS (SELECT FROM workflow_command c WHERE c.tenant_id = p.tenant_id AND c.id = p.aggregate_id)",
    ),
}


def _walk(root: Root) -> TextClause:
    """A page of rows that were changed last before the age, and whether each is the root of a finished dossier."""
    page = f"""SELECT *, {root.root} AS root_id, {root.since} AS since FROM {root.table} WHERE {root.which} AND {root.since} < {_BEFORE}
        AND ({root.since}, id) > (CAST(:since AS timestamptz), CAST(:id AS uuid)) ORDER BY {root.since}, id LIMIT :limit"""  # noqa: S608 - names of this module
    return text(f"SELECT tenant_id, root_id, since, id, {root.is_finished} AS is_finished FROM ({page}) p ORDER BY since, id")  # noqa: S608 - names of this module


def _finds(root: Root) -> str:
    """Whether a walk would find this one dossier now."""
    return f"""EXISTS (SELECT FROM {root.table} p WHERE tenant_id = CAST(:tenant AS uuid) AND {root.root} = CAST(:root AS uuid)
        AND {root.which} AND {root.since} < {_BEFORE} AND {root.is_finished})"""


WALKS: Mapping[str, TextClause] = {name: _walk(root) for name, root in _ROOTS.items()}
"""The walks to the roots of finished dossiers. Each reads one table in the order of its changes, so every page costs the same."""
_IS_FINISHED = text(f"SELECT {' OR '.join(map(_finds, _ROOTS.values()))}")


def finished(connection: Connection, walk: str, age: timedelta, limit: int, after: Place = START) -> Page:
    """Find the finished dossiers on the next page of a walk. In a finished dossier nothing is open, and nothing has changed for `age`."""
    given = {"age": age, "limit": limit, "since": after.since, "id": after.row_id}
    rows = connection.execute(WALKS[walk], given).all()
    found = dict.fromkeys(Dossier(row.tenant_id, row.root_id) for row in rows if row.is_finished)
    return Page(list(found), Place(rows[-1].since, rows[-1].id) if len(rows) == limit else None)


def is_finished(connection: Connection, dossier: Dossier, age: timedelta) -> bool:
    """Whether a dossier that a walk has found is finished now, by the same conditions."""
    given = {"tenant": str(dossier.tenant_id), "root": str(dossier.root_id), "age": age}
    return bool(run(connection, _IS_FINISHED, given).scalar_one())
