"""Who completed a user task, what they typed, and what its form showed: by the engine's history, never by process variables."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from domain.errors import Invalid, Refusal
from domain.store import UnitOfWork
from domain.texts import LONGEST_IDENTIFIER, cleaned, is_identifier, is_storable
from domain.workflows import forms
from domain.workflows.keys import BusinessKey
from workers.pod.contract import GiveUp, Task
from workers.runtime.engine import Engine
from workers.runtime.variables import TypedValue
from workers.tasks.markdown import LONGEST_PROSE

_LEFT_OUT: TypedValue = {"type": "Null", "value": None}


class AnswerNotUnderstood(Invalid):
    """A field of the form has a value that the form does not offer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A person who completed a task in Tasklist, with the groups that the person is in.

    A form's own limits hold in the browser only, and whoever calls the engine sends what they like: each method that reads a field raises
    AnswerNotUnderstood for a value that the form cannot give.
    """

    user_id: str
    task_id: str
    roles: tuple[str, ...]
    typed: Mapping[str, TypedValue]
    seen: Mapping[str, Collection[TypedValue]]

    def text(self, name: str) -> str:
        """What the person chose or typed into a field; empty when it was left out."""
        text = self._written(name)
        if not is_storable(text):
            raise AnswerNotUnderstood(f"{name} has a character that cannot be stored: type it again.")
        return text

    def prose(self, name: str) -> str:
        """What the person wrote, without characters that could deceive whoever reads it."""
        text = cleaned(self._written(name))
        if len(text) > LONGEST_PROSE:
            raise AnswerNotUnderstood(f"{name} has {len(text):,} characters: write at most {LONGEST_PROSE:,}.")
        return text

    def identifier(self, name: str) -> str:
        """The name or number that the person typed; empty when it was left out."""
        text = self.text(name)
        if text and not is_identifier(text):
            raise AnswerNotUnderstood(f"{name} must be one line of at most {LONGEST_IDENTIFIER} visible characters.")
        return text

    def has_checked(self, name: str) -> bool:
        """Whether the person has ticked a box."""
        return self.typed.get(name) == {"type": "Boolean", "value": True}

    def _written(self, name: str) -> str:
        given = self.typed.get(name, _LEFT_OUT)
        if given["type"] not in {"String", "Null"}:
            raise AnswerNotUnderstood(f"{name} must be text, and is of type {given['type']}: fill in the form of the task.")
        return (given["value"] or "").strip()


def who_completed(engine: Engine, task: Task, user_task: str) -> Person | None:
    """Find who completed the last user task of this name in the process of a task; None when nobody did, but a timer or a message ended it.

    Raises GiveUp when the engine does not keep who it was.
    """
    try:
        completion = engine.who_completed(task.process_instance_id, user_task)
    except LookupError as error:
        raise GiveUp(f"{error}: check that history level is full") from error
    if completion is None:
        return None
    return Person(
        user_id=completion.user_id,
        task_id=completion.task_id,
        roles=tuple(engine.groups_of(completion.user_id)),
        typed=completion.typed,
        seen=completion.shown,
    )


def answered_form(uow: UnitOfWork, task: Task, person: Person, later: Mapping[str, TypedValue] | None = None) -> Row[Any]:
    """The form that a person has answered. Raises FormChanged when it may have shown anything but what the domain has kept.

    `later` are values that a worker writes into an open form.
    """
    form = forms.last_shown(uow, task.process_instance_id)
    forms.must_have_shown(form, person.seen, later or {})
    return form


def refuse_answer(uow: UnitOfWork, task: Task, key: BusinessKey, person: Person, refusal: Refusal) -> str:
    """Keep why a person's answer is refused, for the next form; returns the reason. A task that is repeated keeps the first reason."""
    why = forms.why_refused(uow, task.process_instance_id)
    if why is None:
        why = f"{person.user_id}: {refusal}"
        forms.refuse(uow, key.id, task.process_instance_id, why)
    return why
