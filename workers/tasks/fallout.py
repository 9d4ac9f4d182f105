"""Topics of fallout: open a case for a held step, show it to a person, carry out the person's resolution, escalate a late case.

What a person does in Tasklist goes through the same commands as over HTTP, on that person's behalf. The engine's operation log says who it
was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import fulfilling, resolving, troubles
from domain.delivery.resolving import Resolution, ResolveCase, SecondPersonMissing
from domain.delivery.steps import FulfillmentStep, StepStatus
from domain.errors import Refusal
from domain.fallout import casework, triaging
from domain.fallout.cases import UNRESOLVED, USER_TASK, FalloutCase, FalloutStatus, Queue, Severity
from domain.fallout.casework import CaseCommand
from domain.fallout.triaging import OpenCase
from domain.store import UnitOfWork
from domain.workflows.keys import BusinessKey, Kind
from workers.pod.contract import GiveUp, Task
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable
from workers.tasks import fallout_form
from workers.tasks.commands import evaluate_order, open_unit_of_work
from workers.tasks.contracts import topic
from workers.tasks.durations import duration
from workers.tasks.persons import Person, who_completed

SECOND_TASK = "confirm-resolution"
ESCALATE = "ESCALATE"
APPLIED, REFUSED, CONFIRMATION_NEEDED = "APPLIED", "REFUSED", "CONFIRMATION_NEEDED"
EXHAUSTED = "ATTEMPTS_EXHAUSTED"
RESOLUTION = ("resolution", "externalReference", "evidence")
FRESH: dict[str, Variable] = dict.fromkeys(
    ("resolution", "externalReference", "evidence", "comment", "confirmed", "confirmationComment")
)
"""Clears the form: the next person must not find the last one's input."""


class Fallout:
    """The handlers. The engine says who completed a user task, and in which groups that person is."""

    def __init__(self, database: Database, engine: Engine) -> None:
        self._database = database
        self._engine = engine

    @topic(
        "fallout.open-case",
        Kind.STEP,
        Kind.ORDER,
        reads=("falloutQueue", "falloutSeverity", "falloutSla"),
        sets=("caseId", "stepOutcome"),
    )
    def open_case(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Hold the step and open its case, as the model's rules say; a step that is final already needs no case."""
        with open_unit_of_work(self._database, task, key) as uow:
            if key.kind is Kind.ORDER:
                failed = troubles.of_failed_decomposition(key.id, "The order's steps cannot be planned.")
                return {"caseId": str(triaging.open_case(uow, failed).id)}
            step = fulfilling.hold(uow, key.id, EXHAUSTED)
            case_id = triaging.open_case(uow, _of_step(task, step)).id if step.status == StepStatus.HELD else ""
        evaluate_order(self._database, task, key, step.order_id)
        return {"caseId": str(case_id), "stepOutcome": fulfilling.outcome_of(step.status)}

    @topic(
        "fallout.prepare-case",
        Kind.FALLOUT_CASE,
        sets=("caseStatus", "caseQueue", "caseOwner", "claimDueAt", "dueAt", *fallout_form.SHOWN),
    )
    def prepare_case(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Read the case's status, owner and deadlines, and everything that its form shows."""
        with open_unit_of_work(self._database, task, key) as uow:
            case = triaging.take_up(uow, key.id)
            return {
                "caseStatus": case.status,
                "caseQueue": case.queue,
                "caseOwner": case.owner_user_id,
                "claimDueAt": _iso(case.claim_due_at),
                "dueAt": _iso(case.due_at),
                **fallout_form.shown(uow, case),
                **FRESH,
            }

    @topic("fallout.apply-resolution", Kind.FALLOUT_CASE, reads=RESOLUTION, sets=("resolutionOutcome", "resolutionRefused"))
    def apply_resolution(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Carry out the person's resolution on that person's behalf; a refusal is shown on the form."""
        person = self._who(task, USER_TASK)
        chosen = str(task.variables.get("resolution") or "")
        if chosen == ESCALATE:
            return self._try(task, key, person, lambda uow: casework.escalate(uow, _seen(uow, key, person)))
        return self._resolve(task, key, person, chosen)

    @topic(
        "fallout.confirm-resolution",
        Kind.FALLOUT_CASE,
        reads=(*RESOLUTION, "confirmed", "confirmationComment"),
        sets=("resolutionOutcome", "resolutionRefused"),
    )
    def confirm_resolution(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Record the second person's confirmation, then carry the resolution out on behalf of the first."""
        second = self._who(task, SECOND_TASK)
        comment = str(task.variables.get("confirmationComment") or "no comment")
        if task.variables.get("confirmed") is not True:
            return _refused(f"{second.user_id} did not confirm: {comment}")
        reference = str(task.variables.get("externalReference") or "")
        answer = self._try(task, key, second, lambda uow: casework.confirm(uow, _seen(uow, key, second), reference, comment))
        if answer["resolutionOutcome"] != APPLIED:
            return answer
        return self._resolve(task, key, self._who(task, USER_TASK), str(task.variables.get("resolution") or ""))

    @topic("fallout.escalate", Kind.FALLOUT_CASE, reads=("escalationCause",))
    def escalate(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Escalate the case when nobody claimed it, or nobody resolved it, in time."""
        worker = Person(user_id=f"worker:{task.worker_id}", task_id=task.id, roles=(), may_have_seen_other_facts=False)
        with open_unit_of_work(self._database, task, key) as uow:
            case = uow.read(FalloutCase, key.id)
            is_due = case.status == FalloutStatus.OPEN if task.text("escalationCause") == "CLAIM" else case.status in UNRESOLVED
            if is_due:
                casework.escalate(uow, _seen(uow, key, worker))
        return {}

    def _resolve(self, task: Task, key: BusinessKey, person: Person, chosen: str) -> dict[str, Variable]:
        try:
            resolution = Resolution(chosen)
        except ValueError:
            return _refused(f"{chosen!r} is not a resolution: choose one of those listed.")
        # The person who completes the task in Tasklist owns the case: the engine lets nobody else complete it. The claim has a transaction
        # of its own, because a resolution locks the order and the step before their case.
        answer = self._try(task, key, person, lambda uow: casework.claim(uow, _seen(uow, key, person), has_task=True))
        if answer["resolutionOutcome"] == APPLIED:
            answer = self._try(task, key, person, lambda uow: _carry_out(uow, task, key, person, resolution))
        with open_unit_of_work(self._database, task, key) as uow:
            order_id = uow.read(FalloutCase, key.id).order_id
        if order_id and answer["resolutionOutcome"] == APPLIED:
            evaluate_order(self._database, task, key, order_id)
        return answer

    def _try(self, task: Task, key: BusinessKey, person: Person, act: Callable[[UnitOfWork], object]) -> dict[str, Variable]:
        try:
            with open_unit_of_work(self._database, task, key, on_behalf_of=person.user_id) as uow:
                act(uow)
        except SecondPersonMissing:
            return {"resolutionOutcome": CONFIRMATION_NEEDED, "resolutionRefused": None}
        except Refusal as refusal:
            return _refused(f"{person.user_id}: {refusal}")
        return {"resolutionOutcome": APPLIED, "resolutionRefused": None}

    def _who(self, task: Task, user_task: str) -> Person:
        person = who_completed(self._engine, task, user_task)
        if person is None:
            raise GiveUp("Nobody has completed the task of this case: move the token back to Prepare case")
        return person


def _seen(uow: UnitOfWork, key: BusinessKey, person: Person) -> CaseCommand:
    """A command on the current version of the case: in Tasklist the person has seen that version, because every change ends the task."""
    case = uow.read(FalloutCase, key.id)
    return CaseCommand(case_id=case.id, expected_version=case.version, person=person.user_id, roles=person.roles)


def _carry_out(uow: UnitOfWork, task: Task, key: BusinessKey, person: Person, resolution: Resolution) -> None:
    case = uow.read(FalloutCase, key.id)
    step = uow.read(FulfillmentStep, case.step_id) if case.step_id else None
    command = ResolveCase(
        case_id=case.id,
        expected_version=case.version,
        person=person.user_id,
        roles=person.roles,
        resolution=resolution,
        expected_step_version=step.version if step is not None else None,
        external_ref=str(task.variables.get("externalReference") or "") or None,
        evidence=str(task.variables.get("evidence") or "") or None,
    )
    resolving.resolve(uow, command)


def _refused(why: str) -> dict[str, Variable]:
    return {"resolutionOutcome": REFUSED, "resolutionRefused": why}


def _of_step(task: Task, step: Row[Any]) -> OpenCase:
    return replace(
        troubles.of_held_step(step),
        queue=_one_of(Queue, task, "falloutQueue"),
        severity=_one_of(Severity, task, "falloutSeverity"),
        time_to_resolve=duration(task, "falloutSla"),
    )


def _one_of(kind: Any, task: Task, name: str) -> Any:
    text = task.text(name)
    try:
        return kind(text)
    except ValueError:
        raise GiveUp(f"{name} must be one of {', '.join(kind)}, it is {text!r}: correct the rules of fallout-policy") from None


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
