"""What a person was shown in a form, kept as it was: the facts, their fingerprint, and the form's own values. A decision names its form.

Facts are read from the database each time a form is offered. A decision is refused when they have changed since, or when the engine says
that the form showed anything else, so nobody signs what they did not see (docs/decisions/0022-what-a-process-acts-for.md).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Index, Row, UniqueConstraint, select
from sqlalchemy.orm import Mapped

from domain.errors import Conflict
from domain.store import Base, Owned, UnitOfWork, append_only, as_json, table_of
from domain.store.idempotency import request_hash


class FormChanged(Conflict):
    """What the form shows has changed since it was opened."""


VALUES, REFUSED, ANSWERED = "form", "refused", "answered"
"""Beside the facts: the values that were given to the form, by the names that it shows. In place of facts: why the answer to the form before
was refused, or which completion of a user task has answered it, and what came of that."""


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


def show(
    uow: UnitOfWork,
    subject_id: UUID,
    facts: Mapping[str, Any],
    process_instance_id: str | None = None,
    values: Mapping[str, Any] | None = None,
) -> UUID:
    """Keep what a form shows about a subject, and the values that the engine is given for it; returns the form's id."""
    given = {} if values is None else {VALUES: dict(values)}
    return _keep(uow, subject_id, process_instance_id, {**as_json(facts), **given}, request_hash(facts))


def refuse(uow: UnitOfWork, subject_id: UUID, process_instance_id: str, why: str) -> None:
    """Keep why the answer to the last form was refused: it counts as answered, and the next form says why."""
    _keep(uow, subject_id, process_instance_id, {REFUSED: why}, request_hash(why))


def close(uow: UnitOfWork, subject_id: UUID, process_instance_id: str, task_id: str, outcome: str) -> None:
    """Keep what came of the answer to the last form, in the transaction that carries it out. `task_id` is the user task that gave the answer.

    The form is answered then: whoever repeats the same answer gets this outcome, and another answer is refused.
    """
    answered = {"task_id": task_id, "outcome": outcome}
    _keep(uow, subject_id, process_instance_id, {ANSWERED: answered}, request_hash(answered))


def outcome_of(uow: UnitOfWork, process_instance_id: str, task_id: str) -> str | None:
    """What came of the answer that this user task gave to the last form of a process instance; None while nothing has."""
    last = _last(uow, process_instance_id)
    answered = last.facts.get(ANSWERED) if last is not None else None
    return str(answered["outcome"]) if answered and answered["task_id"] == task_id else None


def why_refused(uow: UnitOfWork, process_instance_id: str) -> str | None:
    """Why the answer to the form that a process instance offered last was refused; None when it was not."""
    last = _last(uow, process_instance_id)
    return str(last.facts[REFUSED]) if last is not None and REFUSED in last.facts else None


def last_shown(uow: UnitOfWork, process_instance_id: str) -> Row[Any]:
    """The form that a process instance offered last. Raises FormChanged when it offers none, or it was answered, or its answer was refused."""
    last = _last(uow, process_instance_id)
    if last is None or {REFUSED, ANSWERED} & last.facts.keys():
        raise FormChanged
    return last


def must_have_shown(form: Row[Any], seen: Mapping[str, Collection[Any]], later: Mapping[str, Any]) -> None:
    """Refuse an answer to a form that showed anything but what was kept. Raises FormChanged.

    `seen` are the values that the form may have shown, by name, as the engine tells them; `later` are those that a worker writes into it
    while it is open.
    """
    kept: Mapping[str, Any] = form.facts.get(VALUES, {})
    if not kept or not all(_is_among(seen.get(name, ()), (value, later.get(name, value))) for name, value in kept.items()):
        raise FormChanged


def answer(uow: UnitOfWork, subject_id: UUID, facts: Mapping[str, Any], form_id: UUID | None) -> UUID:
    """The form that a decision answers; without one, what the API has shown is kept now. Raises FormChanged when its facts have changed."""
    if form_id is None:
        return show(uow, subject_id, facts)
    if uow.read(ShownForm, form_id).facts_hash != request_hash(facts):
        raise FormChanged
    return form_id


def _is_among(seen: Collection[Any], allowed: Collection[Any]) -> bool:
    return bool(seen) and all(value in allowed for value in seen)


def _last(uow: UnitOfWork, process_instance_id: str) -> Row[Any] | None:
    query = select(*FORM.c).filter_by(tenant_id=uow.tenant_id, process_instance_id=process_instance_id)
    return uow.connection.execute(query.order_by(FORM.c.created_at.desc()).limit(1)).one_or_none()


def _keep(uow: UnitOfWork, subject_id: UUID, process_instance_id: str | None, facts: Mapping[str, Any], fingerprint: str) -> UUID:
    [form_id] = uow.add(
        ShownForm, {"subject_id": subject_id, "process_instance_id": process_instance_id, "facts": facts, "facts_hash": fingerprint}
    )
    return form_id
