"""Topics of `resolve-case` and `confirm-case`: show a case to people, and carry out what they decide.

What a person does in Tasklist goes through the same commands as over HTTP, on that person's behalf. The engine's history says who it was,
what they typed and what they saw; what the person was shown, and what was proposed, is what the domain has kept.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import proposing, repairing, resolving
from domain.delivery.proposing import AnswerProposal
from domain.delivery.repairing import Change
from domain.delivery.resolving import Resolution, ResolveCase, SecondPersonMissing
from domain.errors import Refusal
from domain.fallout import casework, triaging
from domain.fallout.cases import UNRESOLVED, USER_TASK, FalloutCase
from domain.fallout.casework import CaseCommand
from domain.store import UnitOfWork
from domain.workflows import forms
from domain.workflows.keys import BusinessKey, Kind
from workers.pod.contract import GiveUp, Task
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable, encode
from workers.tasks import fallout_form
from workers.tasks.commands import evaluate_order, open_unit_of_work
from workers.tasks.contracts import topic
from workers.tasks.markdown import notice
from workers.tasks.persons import AnswerNotUnderstood, Person, answered_form, refuse_answer, who_completed

SECOND_TASK = "confirm-resolution"
ESCALATE = "ESCALATE"
NONE, APPLIED, REFUSED, CONFIRMATION_NEEDED = "NONE", "APPLIED", "REFUSED", "CONFIRMATION_NEEDED"
REPAIRED = {
    repairing.OFFERING: "repairedOffering",
    repairing.QUANTITY: "repairedQuantity",
    repairing.INSTRUCTIONS: "repairedInstructions",
}
"""Field of the provider request -> where the first person types its new value."""
TYPED = ("resolution", "externalReference", "evidence", *REPAIRED.values())
"""What the first person fills in."""
LONGEST_NUMBER = 10  # digits, and more than any quantity has
CONFIRMATION = ("confirmed", "confirmationComment")
"""What the second person fills in."""


class Casework:
    """The handlers. The engine's history says who completed a user task, and how."""

    def __init__(self, database: Database, engine: Engine) -> None:
        self._database = database
        self._engine = engine

    @topic(
        "fallout.prepare-form",
        Kind.RESOLUTION,
        sets=(
            "isOpen",
            "resolutionOutcome",
            "caseQueue",
            "caseOwner",
            "claimDueAt",
            "dueAt",
            "resolutionRefused",
            *fallout_form.SHOWN,
            *TYPED,
        ),
    )
    def prepare_form(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Read who has the case until when, and what the form shows, and keep it; the form of the last person is emptied."""
        with open_unit_of_work(self._database, task, key) as uow:
            case = triaging.take_up(uow, key.id)
            values: dict[str, Variable] = {
                "isOpen": case.status in UNRESOLVED,
                "resolutionOutcome": NONE,
                "caseQueue": case.queue,
                "caseOwner": case.owner_user_id,
                "claimDueAt": _iso(case.claim_due_at),
                "dueAt": _iso(case.due_at),
                "resolutionRefused": notice(forms.why_refused(uow, task.process_instance_id)),
                **fallout_form.shown(uow, case),
                **dict.fromkeys(TYPED),
            }
            forms.show(uow, case.id, fallout_form.evidence(uow, case), task.process_instance_id, encode(values))
        return values

    @topic("fallout.apply-resolution", Kind.RESOLUTION, answers=TYPED, sets=("resolutionOutcome",))
    def apply_resolution(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Carry out the person's resolution on that person's behalf; a refusal is shown on the renewed form."""
        person = self._who(task, USER_TASK)
        outcome = self._answer(task, key, person, self._carry_out)
        if outcome == APPLIED:
            self._evaluate(task, key)
        return {"resolutionOutcome": outcome}

    @topic(
        "fallout.prepare-confirmation",
        Kind.CONFIRMATION,
        sets=("isOpen", "confirmers", "dueAt", "confirmationRefused", *fallout_form.SHOWN, *fallout_form.PROPOSED, *CONFIRMATION),
    )
    def prepare_confirmation(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Read what the first person has proposed, and keep what the second one is shown."""
        with open_unit_of_work(self._database, task, key) as uow:
            case = triaging.take_up(uow, key.id)
            proposal = proposing.last_proposal(uow, case)
            values: dict[str, Variable] = {
                "isOpen": proposal is not None,
                "confirmers": ",".join(proposing.confirmers(case)),
                "dueAt": _iso(case.due_at),
                "confirmationRefused": notice(forms.why_refused(uow, task.process_instance_id)),
                **fallout_form.shown(uow, case),
                **fallout_form.proposed(proposal),
                **dict.fromkeys(CONFIRMATION),
            }
            shown = {**fallout_form.evidence(uow, case), "proposal_id": _id_of(proposal)}
            forms.show(uow, case.id, shown, task.process_instance_id, encode(values))
        return values

    @topic("fallout.confirm-resolution", Kind.CONFIRMATION, answers=CONFIRMATION, sets=("confirmationOutcome",))
    def confirm_resolution(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Record what the second person says; what is confirmed is carried out on behalf of the first, exactly as it was proposed."""
        second = self._who(task, SECOND_TASK)
        outcome = self._answer(task, key, second, self._confirm_or_decline)
        if outcome == APPLIED and second.has_checked("confirmed"):
            self._evaluate(task, key)
        return {"confirmationOutcome": outcome}

    def _answer(self, task: Task, key: BusinessKey, person: Person, carry_out: Callable[[Task, BusinessKey, Person], str]) -> str:
        """Carry out a person's answer once; returns the outcome. A task that is repeated gets that of the first time."""
        if (known := self._known_outcome(task, key, person)) is not None:
            return known
        try:
            return carry_out(task, key, person)
        except Refusal as refusal:
            # Two workers may have the same task at once: for the slower one the case has changed, by the same answer.
            return self._known_outcome(task, key, person) or self._refuse(task, key, person, refusal)

    def _known_outcome(self, task: Task, key: BusinessKey, person: Person) -> str | None:
        with open_unit_of_work(self._database, task, key) as uow:
            return forms.outcome_of(uow, task.process_instance_id, person.task_id)

    def _confirm_or_decline(self, task: Task, key: BusinessKey, second: Person) -> str:
        answer = proposing.confirm if second.has_checked("confirmed") else proposing.decline
        return self._act(task, key, second, lambda uow: answer(uow, _about_proposal(uow, task, key, second)))

    def _carry_out(self, task: Task, key: BusinessKey, person: Person) -> str:
        """Carry out what a person has chosen; returns the outcome. Raises the refusals of the commands."""
        chosen = person.text("resolution")
        if chosen == ESCALATE:
            return self._act(task, key, person, lambda uow: casework.hand_on(uow, _as_shown(uow, task, key, person)))
        try:
            resolution = Resolution(chosen)
        except ValueError:
            raise AnswerNotUnderstood(f"{chosen!r} is not a resolution: choose one of those listed.") from None
        decided = partial(_decided, task=task, key=key, person=person, resolution=resolution)
        # The person who completes the task in Tasklist owns the case: the engine lets nobody else complete it. The claim has a transaction
        # of its own, because a resolution locks the order and the step before their case.
        with open_unit_of_work(self._database, task, key, on_behalf_of=person.user_id) as uow:
            casework.claim(uow, _as_shown(uow, task, key, person), has_task=True)
        try:
            return self._act(task, key, person, lambda uow: resolving.resolve(uow, decided(uow)))
        except SecondPersonMissing:
            return self._act(task, key, person, lambda uow: proposing.propose(uow, decided(uow)), CONFIRMATION_NEEDED)

    def _act(
        self, task: Task, key: BusinessKey, person: Person, act: Callable[[UnitOfWork], object], outcome: str = APPLIED
    ) -> str:
        """Carry out an answer, and keep its outcome in the same transaction; returns the outcome."""
        with open_unit_of_work(self._database, task, key, on_behalf_of=person.user_id) as uow:
            act(uow)
            forms.close(uow, key.id, task.process_instance_id, person.task_id, outcome)
        return outcome

    def _refuse(self, task: Task, key: BusinessKey, person: Person, refusal: Refusal) -> str:
        with open_unit_of_work(self._database, task, key) as uow:
            refuse_answer(uow, task, key, person, refusal)
        return REFUSED

    def _evaluate(self, task: Task, key: BusinessKey) -> None:
        with open_unit_of_work(self._database, task, key) as uow:
            order_id = uow.read(FalloutCase, key.id).order_id
        if order_id:
            evaluate_order(self._database, task, key, order_id)

    def _who(self, task: Task, user_task: str) -> Person:
        person = who_completed(self._engine, task, user_task)
        if person is None:
            raise GiveUp("Nobody has completed the task of this case: move the token back to Prepare form")
        return person


def _locked(uow: UnitOfWork, key: BusinessKey) -> Row[Any]:
    """The case, locked: of two workers with the same answer, the second must see that the form is answered before it does anything."""
    resolving.lock_delivery(uow, uow.read(FalloutCase, key.id))
    return uow.read(FalloutCase, key.id, lock=True)


def _answered(uow: UnitOfWork, task: Task, case: Row[Any], person: Person, **more: Any) -> Row[Any]:
    """The form that a person has answered. Raises FormChanged when it showed other facts than those of now."""
    form = answered_form(uow, task, person)
    forms.answer(uow, case.id, {**fallout_form.evidence(uow, case), **more}, form.id)
    return form


def _as_shown(uow: UnitOfWork, task: Task, key: BusinessKey, person: Person) -> CaseCommand:
    """A command on the case whose facts the form has shown. Raises FormChanged."""
    case = _locked(uow, key)
    _answered(uow, task, case, person)
    return CaseCommand(**_by(person, task, case))


def _decided(uow: UnitOfWork, task: Task, key: BusinessKey, person: Person, resolution: Resolution) -> ResolveCase:
    """The person's decision on exactly what the form has shown. Raises FormChanged, AnswerNotUnderstood."""
    case = _locked(uow, key)
    form = _answered(uow, task, case, person)
    return ResolveCase(
        **_by(person, task, case),
        resolution=resolution,
        expected_step_version=form.facts["step"]["version"] if form.facts["step"] else None,
        external_ref=person.identifier("externalReference") or None,
        evidence=person.prose("evidence") or None,
        shown_form_id=form.id,
        changes=_repairs(person, form) if resolution is Resolution.REPAIR_AND_RETRY else (),
    )


def _repairs(person: Person, form: Row[Any]) -> list[Change]:
    """The fields that the person has given another value, with the value that the form has shown. Raises AnswerNotUnderstood."""
    typed = {field: person.identifier(name) for field, name in REPAIRED.items()}
    new = {field: _number(value) if field == repairing.QUANTITY else value for field, value in typed.items() if value}
    shown = form.facts.get("request") or {}  # a case without a held step has no request to repair, and its resolution is refused
    return [Change(field=field, old=shown.get(field), new=value) for field, value in new.items()]


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < LONGEST_NUMBER):
        raise AnswerNotUnderstood(f"The quantity must be a whole number; it is {text!r}.")
    return int(text)


def _about_proposal(uow: UnitOfWork, task: Task, key: BusinessKey, person: Person) -> AnswerProposal:
    """The second person's answer to exactly the proposal that the form showed. Raises FormChanged, AnswerNotUnderstood."""
    case = _locked(uow, key)
    form = _answered(uow, task, case, person, proposal_id=_id_of(proposing.last_proposal(uow, case)))
    return AnswerProposal(
        **_by(person, task, case),
        proposal_id=form.facts["proposalId"],
        text=person.prose("confirmationComment") or "no comment",
    )


def _by(person: Person, task: Task, case: Row[Any]) -> dict[str, Any]:
    """What every command on a case names: the case as it is now, who acts, and by which process instance."""
    return {
        "case_id": case.id,
        "expected_version": case.version,
        "person": person.user_id,
        "roles": person.roles,
        "process_instance_id": task.process_instance_id,
    }


def _id_of(proposal: Row[Any] | None) -> UUID | None:
    return proposal.id if proposal is not None else None


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
