"""What a person was shown in a form, kept as it was: the facts and their fingerprint. A decision names the form that it answers.

Facts are read from the database each time a form is offered. A decision is refused when they have changed since, so nobody signs what they
did not see (docs/decisions/0022-what-a-process-acts-for.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Index, Row, UniqueConstraint, select
from sqlalchemy.orm import Mapped

from domain.errors import Conflict
from domain.store import Base, Owned, UnitOfWork, append_only, as_json, table_of
from domain.store.idempotency import request_hash


class FormChanged(Conflict):
    """What the form shows has changed since it was opened."""


class ShownForm(Owned, Base):
    """The facts of one form. `process_instance_id` None: they were shown by the API."""

    __tablename__ = "shown_form"
    __table_args__ = (
        # Lets a decision prove by a foreign key that the form was about its subject.
        UniqueConstraint("tenant_id", "subject_id", "id"),
        Index("ix_shown_form_instance", "tenant_id", "process_instance_id", "created_at"),
    )
    subject_id: Mapped[UUID]
    process_instance_id: Mapped[str | None]
    facts: Mapped[dict[str, Any]]
    facts_hash: Mapped[str]


append_only(ShownForm)
FORM = table_of(ShownForm)


def show(uow: UnitOfWork, subject_id: UUID, facts: Mapping[str, Any], process_instance_id: str | None = None) -> UUID:
    """Keep what a form shows about a subject; returns the form's id."""
    [form_id] = uow.add(
        ShownForm,
        {
            "subject_id": subject_id,
            "process_instance_id": process_instance_id,
            "facts": as_json(facts),
            "facts_hash": request_hash(facts),
        },
    )
    return form_id


def last_shown(uow: UnitOfWork, process_instance_id: str) -> Row[Any]:
    """The form that a process instance offered last. Raises NotFound."""
    query = select(*FORM.c).filter_by(tenant_id=uow.tenant_id, process_instance_id=process_instance_id)
    return uow.one(query.order_by(FORM.c.created_at.desc()).limit(1), "The form")


def answer(uow: UnitOfWork, subject_id: UUID, facts: Mapping[str, Any], form_id: UUID | None) -> UUID:
    """The form that a decision answers; without one, what the API has shown is kept now. Raises FormChanged when its facts have changed."""
    if form_id is None:
        return show(uow, subject_id, facts)
    if uow.read(ShownForm, form_id).facts_hash != request_hash(facts):
        raise FormChanged
    return form_id
