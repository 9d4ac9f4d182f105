"""What a provider request says, and how a person repairs it: as a difference, field by field, that is kept as evidence.

What the customer accepted stays as it is; only the request about it changes. A repair names the value that the person saw, so that nobody
repairs what somebody else has changed meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Index, Row, UniqueConstraint, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from domain.catalog import CATALOG
from domain.delivery.orders import SalesOrderLine
from domain.delivery.steps import FulfillmentStep, StepStatus
from domain.errors import Invalid
from domain.store import Base, Owned, UnitOfWork, append_only, ref, table_of
from domain.texts import LONGEST_IDENTIFIER, is_identifier

OFFERING, QUANTITY, INSTRUCTIONS = "productOfferingId", "quantity", "instructions"
FIELDS = (OFFERING, QUANTITY, INSTRUCTIONS)
"""What a request says about its step, and a person may repair."""


class RepairMissing(Invalid):
    """A repair names at least one field, with the value that it has and the value that it gets. To send the same request again, choose RETRY."""


class RepairNotFitting(Invalid):
    """The repaired request is not one that the step can send."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One field of a request, the value that the person has seen, and the one that it gets."""

    field: str
    old: str | int | None
    new: str | int | None


class StepRepair(Owned, Base):
    """One repaired field of a request to a provider; `request_no` is the request that has the new value."""

    __tablename__ = "step_repair"
    __table_args__ = (
        ref("fulfillment_step", "step_id"),
        ref("fallout_case", "case_id"),
        UniqueConstraint("tenant_id", "step_id", "request_no", "field"),
        Index("ix_step_repair_case", "tenant_id", "case_id"),
    )
    step_id: Mapped[UUID]
    case_id: Mapped[UUID]
    request_no: Mapped[int]
    field: Mapped[str]
    old: Mapped[Any | None] = mapped_column(JSONB)
    new: Mapped[Any | None] = mapped_column(JSONB)
    repaired_by: Mapped[str]


append_only(StepRepair)
REPAIR = table_of(StepRepair)


def request_of(uow: UnitOfWork, step: Row[Any]) -> dict[str, Any]:
    """What the request of a step says: its order's line, and what a person has repaired. An undo says what the request to be undone said."""
    if step.compensates_step_id is not None:
        return {**request_of(uow, uow.read(FulfillmentStep, step.compensates_step_id)), **step.request_changes}
    line = uow.read(SalesOrderLine, step.line_id)
    return {OFFERING: line.product_offering_id, QUANTITY: line.quantity, INSTRUCTIONS: None, **step.request_changes}


def repaired(uow: UnitOfWork, step: Row[Any], changes: Sequence[Change]) -> dict[str, Any]:
    """The fields of a step's request that are repaired, with these changes. Raises RepairMissing, RepairNotFitting."""
    known = request_of(uow, step)
    if not changes or any(change.old == change.new for change in changes):
        raise RepairMissing
    if len({change.field for change in changes}) < len(changes):
        raise RepairNotFitting("A repair names each field once.")
    for change in changes:
        _must_fit(change, known)
    new = {change.field: change.new for change in changes}
    _must_be_sendable({**known, **new}, ordered=uow.read(SalesOrderLine, step.line_id).quantity)
    return {**step.request_changes, **new}


def keep(uow: UnitOfWork, case_id: UUID, step: Row[Any], changes: Sequence[Change], person: str) -> None:
    """Keep a repair as evidence; `step` is the step after it."""
    uow.add(
        StepRepair,
        *(
            {
                "step_id": step.id,
                "case_id": case_id,
                "request_no": step.request_no,
                "field": change.field,
                "old": change.old,
                "new": change.new,
                "repaired_by": person,
            }
            for change in changes
        ),
    )


def repairs_of(uow: UnitOfWork, case_id: UUID) -> Sequence[Row[Any]]:
    """The repairs that a case has brought, oldest first."""
    query = select(*REPAIR.c).filter_by(tenant_id=uow.tenant_id, case_id=case_id)
    return uow.connection.execute(query.order_by(REPAIR.c.request_no, REPAIR.c.field)).all()


def request_to_repair(uow: UnitOfWork, step: Row[Any] | None) -> dict[str, Any] | None:
    """What a person may repair: the request of a held step; None when there is none."""
    return request_of(uow, step) if step is not None and step.status == StepStatus.HELD else None


def _must_fit(change: Change, known: Mapping[str, Any]) -> None:
    if change.field not in FIELDS:
        raise RepairNotFitting(f"A request has no field {change.field!r}; its fields are {', '.join(FIELDS)}.")
    if known[change.field] != change.old:
        raise RepairNotFitting(f"{change.field} is {known[change.field]!r}, not {change.old!r}: read the case again.")


def _must_be_sendable(request: Mapping[str, Any], *, ordered: int) -> None:
    offering, quantity, instructions = (request[field] for field in FIELDS)
    if not isinstance(offering, str) or offering not in CATALOG.offerings:
        raise RepairNotFitting(f"The catalog has no offering {offering!r}.")
    if type(quantity) is not int or not 1 <= quantity <= ordered:
        raise RepairNotFitting(f"The quantity must be a whole number from 1 to {ordered}, as ordered; it is {quantity!r}.")
    if instructions is not None and not (isinstance(instructions, str) and is_identifier(instructions)):
        raise RepairNotFitting(f"Instructions are one line of at most {LONGEST_IDENTIFIER} visible characters.")
