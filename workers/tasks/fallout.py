"""Topics of `fallout-case`, `resolve-case` and `confirm-case`: open a case, show it to people, carry out what they decide, escalate it.

What a person does in Tasklist goes through the same commands as over HTTP, on that person's behalf. The engine's operation log says who it
was; what the person was shown, and what was proposed, is what the domain has kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import fulfilling, proposing, reading, resolving, troubles
from domain.delivery.proposing import AnswerProposal
from domain.delivery.resolving import Resolution, ResolveCase, SecondPersonMissing
from domain.delivery.steps import FINAL, StepStatus
from domain.errors import Refusal
from domain.fallout import casework, triaging
from domain.fallout.cases import UNRESOLVED, USER_TASK, FalloutCase, FalloutStatus, Queue, Severity
from domain.fallout.casework import CaseCommand
from domain.fallout.triaging import OpenCase
from domain.store import UnitOfWork
from domain.texts import LONGEST_IDENTIFIER
from domain.workflows import forms
from domain.workflows.forms import FormChanged
from domain.workflows.keys import BusinessKey, Kind
from workers.pod.contract import GiveUp, Task
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable
from workers.tasks import fallout_form
from workers.tasks.commands import evaluate_order, open_unit_of_work, typed
from workers.tasks.contracts import topic
from workers.tasks.durations import DURATION
from workers.tasks.markdown import plain
from workers.tasks.persons import Person, who_completed
from workers.tasks.rules import the_only_row

POLICY = "fallout-policy"
SECOND_TASK = "confirm-resolution"
ESCALATE = "ESCALATE"
NONE, APPLIED, REFUSED, CONFIRMATION_NEEDED = "NONE", "APPLIED", "REFUSED", "CONFIRMATION_NEEDED"
EXHAUSTED = "ATTEMPTS_EXHAUSTED"
TYPED = ("resolution", "externalReference", "evidence")
"""What the first person fills in."""
CONFIRMATION = ("confirmed", "confirmationComment")
"""What the second person fills in."""


class Fallout:
    """The handlers. The engine says who completed a user task, and which version of the rules decides."""

    def __init__(self, database: Database, engine: Engine) -> None:
        self._database = database
        self._engine = engine

    @topic("fallout.open-case", Kind.STEP, Kind.ORDER, sets=("caseId", "stepOutcome"))
    def open_case(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Hold the step and open its case; a step that is final already needs no case.

        The model's task may say who gets the case (`falloutQueue`, `falloutSeverity`, `falloutSla`); otherwise the rules say it.
        """
        if key.kind is Kind.ORDER:
            failed = troubles.of_failed_decomposition(key.id, "The order's steps cannot be planned.")
            with open_unit_of_work(self._database, task, key) as uow:
                return {"caseId": str(triaging.open_case(uow, _as_ruled(failed, task.properties)).id)}
        with open_unit_of_work(self._database, task, key) as uow:
            step = reading.step(uow, key.id)
        case_id = None if step.status in FINAL else self._hold(task, key, step)
        with open_unit_of_work(self._database, task, key) as uow:
            step = reading.step(uow, key.id)
        evaluate_order(self._database, task, key, step.order_id)
        return {"caseId": str(case_id or ""), "stepOutcome": fulfilling.outcome_of(step.status)}

    def _hold(self, task: Task, key: BusinessKey, step: Row[Any]) -> UUID | None:
        is_ruled_by_the_model = "falloutQueue" in task.properties
        rule = task.properties if is_ruled_by_the_model else the_only_row(self._engine, task, POLICY, fulfilling.policy_facts(step))
        with open_unit_of_work(self._database, task, key) as uow:
            held = fulfilling.hold(uow, key.id, EXHAUSTED)
            is_held = held.status == StepStatus.HELD
            return UUID(str(triaging.open_case(uow, _as_ruled(troubles.of_held_step(held), rule)).id)) if is_held else None

    @topic("fallout.read-case", Kind.FALLOUT_CASE, sets=("caseStatus",))
    def read_case(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Read how the case stands."""
        with open_unit_of_work(self._database, task, key) as uow:
            return {"caseStatus": triaging.take_up(uow, key.id).status}

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
            *fallout_form.SHOWN,
            *TYPED,
        ),
    )
    def prepare_form(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Read who has the case until when, and what the form shows, and keep it; the form of the last person is emptied."""
        with open_unit_of_work(self._database, task, key) as uow:
            case = triaging.take_up(uow, key.id)
            forms.show(uow, case.id, fallout_form.evidence(uow, case), task.process_instance_id)
            return {
                "isOpen": case.status in UNRESOLVED,
                "resolutionOutcome": NONE,
                "caseQueue": case.queue,
                "caseOwner": case.owner_user_id,
                "claimDueAt": _iso(case.claim_due_at),
                "dueAt": _iso(case.due_at),
                **fallout_form.shown(uow, case),
                **dict.fromkeys(TYPED),
            }

    @topic("fallout.apply-resolution", Kind.RESOLUTION, reads=TYPED, sets=("resolutionOutcome", "resolutionRefused"))
    def apply_resolution(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Carry out the person's resolution on that person's behalf; a refusal is shown on the renewed form."""
        person = self._who(task, USER_TASK)
        if task.variables.get("resolution") == ESCALATE:
            return self._try(task, key, person, lambda uow: casework.hand_on(uow, _as_shown(uow, task, key, person)))
        return self._resolve(task, key, person)

    @topic(
        "fallout.prepare-confirmation",
        Kind.CONFIRMATION,
        sets=("isOpen", "dueAt", *fallout_form.SHOWN, *fallout_form.PROPOSED, *CONFIRMATION),
    )
    def prepare_confirmation(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Read what the first person has proposed, and keep what the second one is shown."""
        with open_unit_of_work(self._database, task, key) as uow:
            case = triaging.take_up(uow, key.id)
            proposal = proposing.last_proposal(uow, case)
            shown = {**fallout_form.evidence(uow, case), "proposal_id": _id_of(proposal)}
            forms.show(uow, case.id, shown, task.process_instance_id)
            return {
                "isOpen": proposal is not None,
                "dueAt": _iso(case.due_at),
                **fallout_form.shown(uow, case),
                **fallout_form.proposed(proposal),
                **dict.fromkeys(CONFIRMATION),
            }

    @topic("fallout.confirm-resolution", Kind.CONFIRMATION, reads=CONFIRMATION)
    def confirm_resolution(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Record what the second person says; what is confirmed is carried out on behalf of the first, exactly as it was proposed."""
        second = self._who(task, SECOND_TASK)
        is_confirmed = task.variables.get("confirmed") is True
        answer = proposing.confirm if is_confirmed else proposing.decline
        outcome = self._try(task, key, second, lambda uow: answer(uow, _about_proposal(uow, task, key, second)))
        if is_confirmed and outcome["resolutionOutcome"] == APPLIED:
            self._evaluate(task, key)
        return {}

    @topic("fallout.escalate", Kind.RESOLUTION, configured=("escalationCause",))
    def escalate(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Escalate the case when nobody claimed it, or nobody resolved it, in time."""
        with open_unit_of_work(self._database, task, key) as uow:
            case = uow.read(FalloutCase, key.id)
            is_due = (
                case.status == FalloutStatus.OPEN if task.configured("escalationCause") == "CLAIM" else case.status in UNRESOLVED
            )
            if is_due:
                worker = f"worker:{task.worker_id}"
                command = CaseCommand(
                    case_id=case.id, expected_version=case.version, person=worker, process_instance_id=task.process_instance_id
                )
                casework.escalate(uow, command)
        return {}

    def _resolve(self, task: Task, key: BusinessKey, person: Person) -> dict[str, Variable]:
        chosen = str(task.variables.get("resolution") or "")
        try:
            resolution = Resolution(chosen)
        except ValueError:
            return _refused(f"{chosen!r} is not a resolution: choose one of those listed.")
        # The person who completes the task in Tasklist owns the case: the engine lets nobody else complete it. The claim has a transaction
        # of its own, because a resolution locks the order and the step before their case.
        claimed = self._try(task, key, person, lambda uow: casework.claim(uow, _as_shown(uow, task, key, person), has_task=True))
        if claimed["resolutionOutcome"] != APPLIED:
            return claimed
        answer = self._try(task, key, person, lambda uow: resolving.resolve(uow, _decided(uow, task, key, person, resolution)))
        if answer["resolutionOutcome"] == CONFIRMATION_NEEDED:
            proposed = self._try(
                task, key, person, lambda uow: proposing.propose(uow, _decided(uow, task, key, person, resolution))
            )
            return answer if proposed["resolutionOutcome"] == APPLIED else proposed
        if answer["resolutionOutcome"] == APPLIED:
            self._evaluate(task, key)
        return answer

    def _try(self, task: Task, key: BusinessKey, person: Person, act: Callable[[UnitOfWork], object]) -> dict[str, Variable]:
        try:
            with open_unit_of_work(self._database, task, key, on_behalf_of=person.user_id) as uow:
                if person.may_have_seen_other_facts:
                    raise FormChanged
                act(uow)
        except SecondPersonMissing:
            return {"resolutionOutcome": CONFIRMATION_NEEDED, "resolutionRefused": None}
        except Refusal as refusal:
            return _refused(f"{person.user_id}: {refusal}")
        return {"resolutionOutcome": APPLIED, "resolutionRefused": None}

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


def _answered(uow: UnitOfWork, task: Task, case: Row[Any], **more: Any) -> Row[Any]:
    """The form that a person has answered. Raises FormChanged when it showed other facts than those of now."""
    form = forms.last_shown(uow, task.process_instance_id)
    forms.answer(uow, case.id, {**fallout_form.evidence(uow, case), **more}, form.id)
    return form


def _as_shown(uow: UnitOfWork, task: Task, key: BusinessKey, person: Person) -> CaseCommand:
    """A command on the case whose facts the form has shown. Raises FormChanged."""
    case = uow.read(FalloutCase, key.id)
    _answered(uow, task, case)
    return CaseCommand(
        case_id=key.id,
        expected_version=case.version,
        person=person.user_id,
        roles=person.roles,
        process_instance_id=task.process_instance_id,
    )


def _decided(uow: UnitOfWork, task: Task, key: BusinessKey, person: Person, resolution: Resolution) -> ResolveCase:
    """The person's decision on exactly what the form has shown. Raises FormChanged."""
    case = uow.read(FalloutCase, key.id)
    form = _answered(uow, task, case)
    return ResolveCase(
        case_id=key.id,
        expected_version=case.version,
        person=person.user_id,
        roles=person.roles,
        process_instance_id=task.process_instance_id,
        resolution=resolution,
        expected_step_version=form.facts["step"]["version"] if form.facts["step"] else None,
        external_ref=typed(task, "externalReference", LONGEST_IDENTIFIER) or None,
        evidence=typed(task, "evidence") or None,
        shown_form_id=form.id,
    )


def _about_proposal(uow: UnitOfWork, task: Task, key: BusinessKey, person: Person) -> AnswerProposal:
    """What the second person says about exactly the proposal that the form has shown. Raises FormChanged."""
    case = uow.read(FalloutCase, key.id)
    form = _answered(uow, task, case, proposal_id=_id_of(proposing.last_proposal(uow, case)))
    return AnswerProposal(
        case_id=key.id,
        expected_version=case.version,
        person=person.user_id,
        roles=person.roles,
        process_instance_id=task.process_instance_id,
        proposal_id=form.facts["proposalId"],
        text=typed(task, "confirmationComment") or "no comment",
    )


def _id_of(proposal: Row[Any] | None) -> UUID | None:
    return proposal.id if proposal is not None else None


def _refused(why: str) -> dict[str, Variable]:
    return {"resolutionOutcome": REFUSED, "resolutionRefused": plain(why, longest=1000)}


def _as_ruled(case: OpenCase, rule: Mapping[str, Any]) -> OpenCase:
    try:
        return replace(
            case,
            queue=Queue(rule["falloutQueue"]),
            severity=Severity(rule["falloutSeverity"]),
            time_to_resolve=DURATION.validate_python(rule["falloutSla"]),
        )
    except (KeyError, ValueError) as error:
        raise GiveUp(f"{dict(rule)} does not say who gets the case: correct {POLICY}, or the task in the model ({error})") from None


def _iso(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
