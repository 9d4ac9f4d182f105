"""Reads fallout cases as people see them: a case with its step, its notes, the resolutions that this person may choose, and the proposal
that waits for a second person.

Reads only, of one tenant.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row, select

from domain.delivery import proposing, repairing
from domain.delivery.orders import SalesOrder
from domain.delivery.resolving import RULES, resolutions_for
from domain.delivery.steps import FulfillmentStep
from domain.fallout.cases import FalloutNote
from domain.fallout.casework import CaseCommand, queues_of
from domain.fallout.triaging import CASE
from domain.store import UnitOfWork, as_json, table_of, without

NOTE = table_of(FalloutNote)


def listed_case(row: Row[Any]) -> dict[str, Any]:
    """A case as people see it in a list."""
    body: dict[str, Any] = as_json(
        {"case_id": row.id, **without(row, "tenant_id", "id", "prior_status", "dedupe_key", "shown_form_id")}
    )
    return body


def cases_of(uow: UnitOfWork, limit: int, after: UUID | None, **named: Any) -> list[dict[str, Any]]:
    """Cases, a page at a time, ordered by id; `named` are columns and their values (None: any value)."""
    page = select(CASE.c.id).where(CASE.c.tenant_id == uow.tenant_id).order_by(CASE.c.id).limit(limit)
    page = page.filter_by(**{name: value for name, value in named.items() if value is not None})
    page = page.where(CASE.c.id > after) if after else page
    # First the ids, which an index alone gives: row level security has the planner expect few rows, and it would read the whole table.
    query = select(*CASE.c).where(CASE.c.tenant_id == uow.tenant_id, CASE.c.id.in_(page)).order_by(CASE.c.id)
    return [listed_case(row) for row in uow.connection.execute(query)]


def case(uow: UnitOfWork, row: Row[Any], reader: CaseCommand) -> dict[str, Any]:
    """A case with its step, its notes, and the resolutions that the reader may choose."""
    step = uow.read(FulfillmentStep, row.step_id) if row.step_id else None
    order = uow.read(SalesOrder, row.order_id) if row.order_id else None
    notes = uow.connection.execute(select(*NOTE.c).filter_by(tenant_id=uow.tenant_id, case_id=row.id).order_by(NOTE.c.created_at))
    proposal = proposing.last_proposal(uow, row)
    mine = queues_of(uow, reader.person, reader.roles)
    body: dict[str, Any] = as_json(
        {
            **listed_case(row),
            "step_code": step.step_code if step is not None else None,
            "step_status": step.status if step is not None else None,
            "step_version": step.version if step is not None else None,
            "request": repairing.request_to_repair(uow, step),
            "repairs": [_repair(each) for each in repairing.repairs_of(uow, row.id)],
            "notes": [
                {name: getattr(note, name) for name in ("kind", "author", "text", "external_ref", "created_at")} for note in notes
            ],
            "proposal": _proposed(proposal) if proposal is not None else None,
            "resolutions": [each for each in resolutions_for(row, step, order) if {row.queue, RULES[each].role} <= set(mine)],
        }
    )
    return body


def _repair(row: Row[Any]) -> dict[str, Any]:
    return {name: getattr(row, name) for name in ("request_no", "field", "old", "new", "repaired_by", "created_at")}


def _proposed(proposal: Row[Any]) -> dict[str, Any]:
    names = ("resolution", "external_ref", "evidence", "proposed_by", "created_at")
    return {"proposal_id": proposal.id, **{name: getattr(proposal, name) for name in names}}
