"""Which process instance acts for what: written once for each instance, and asked by every task that the instance offers.

Whoever completes a user task may write any process variable, so no variable says what an instance acts for. This row does: a root instance
gets it when it passes the registration gate, a called instance when the engine says that such an instance has called it
(docs/decisions/0022-what-a-process-acts-for.md).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import ColumnElement, ForeignKeyConstraint, Index, Row, Text, UniqueConstraint, exists, or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import InstrumentedAttribute, Mapped

from domain.errors import Conflict, SafeAction
from domain.store import Base, Owned, UnitOfWork, append_only, param, table_of
from domain.workflows.keys import parse


class NotThisProcess(Conflict):
    """This process instance acts for something else."""

    safe_action = SafeAction.NOTHING_TO_DO


class WorkflowInstance(Owned, Base):
    """A process instance, its business key, and the id that ends the key. `caller_instance_id` None: the domain has started it."""

    __tablename__ = "workflow_instance"
    __table_args__ = (
        UniqueConstraint("tenant_id", "process_instance_id"),
        Index("ix_workflow_instance_process", "process_instance_id"),
        Index("ix_workflow_instance_key", "tenant_id", "business_key"),
        Index("ix_workflow_instance_subject", "tenant_id", "subject_id"),
        Index("ix_workflow_instance_caller", "tenant_id", "caller_instance_id"),
        ForeignKeyConstraint(
            ["tenant_id", "caller_instance_id"], ["workflow_instance.tenant_id", "workflow_instance.process_instance_id"]
        ),
    )
    process_instance_id: Mapped[str]
    caller_instance_id: Mapped[str | None]
    business_key: Mapped[str]
    subject_id: Mapped[UUID]


append_only(WorkflowInstance)
INSTANCE = table_of(WorkflowInstance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A called instance and its business key, as the engine tells them."""

    process_instance_id: str
    business_key: str


def record_root(uow: UnitOfWork, process_instance_id: str, business_key: str) -> None:
    """Record the instance that has passed the registration gate; a repeat changes nothing."""
    _insert(uow, [{"process_instance_id": process_instance_id, "caller_instance_id": None, "business_key": business_key}])


def record_called(uow: UnitOfWork, caller_instance_id: str, called: Collection[Called]) -> None:
    """Record instances that a recorded one has called; those that are recorded already stay as they are."""
    _insert(
        uow,
        [
            {
                "process_instance_id": each.process_instance_id,
                "caller_instance_id": caller_instance_id,
                "business_key": each.business_key,
            }
            for each in called
        ],
    )


def find(uow: UnitOfWork, process_instance_id: str) -> Row[Any] | None:
    """The row of an instance, if it has one."""
    query = select(*INSTANCE.c).filter_by(tenant_id=uow.tenant_id, process_instance_id=process_instance_id)
    return uow.connection.execute(query).one_or_none()


def acting_for(uow: UnitOfWork, business_keys: Collection[str]) -> Sequence[str]:
    """The ids of the instances that have one of these business keys."""
    query = select(INSTANCE.c.process_instance_id).where(
        INSTANCE.c.tenant_id == uow.tenant_id, INSTANCE.c.business_key.in_(business_keys)
    )
    return uow.connection.scalars(query.order_by(INSTANCE.c.created_at)).all()


def acts_for(subject_id: InstrumentedAttribute[UUID]) -> ColumnElement[bool]:
    """For guards: the command's process instance acts for this row. It holds for a command that no process sends (`process_instance_id` None).

    The guard is sound although it reads another table, because a row of this table never changes.
    """
    instance_id = param("process_instance_id", Text())
    row = select(WorkflowInstance.id).where(
        WorkflowInstance.tenant_id == param("tenant_id"),
        WorkflowInstance.process_instance_id == instance_id,
        WorkflowInstance.subject_id == subject_id,
    )
    return or_(instance_id.is_(None), exists(row))


def _insert(uow: UnitOfWork, rows: Sequence[dict[str, Any]]) -> None:
    if not rows:
        return
    filled = [{"tenant_id": uow.tenant_id, "id": uuid4(), "subject_id": parse(row["business_key"]).id, **row} for row in rows]
    statement = insert(INSTANCE).on_conflict_do_nothing(constraint="uq_workflow_instance_tenant_id_process_instance_id")
    uow.connection.execute(statement, filled)
