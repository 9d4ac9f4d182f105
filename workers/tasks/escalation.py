"""Topics of a late signature: remind the group that is asked, then ask the next group, or give the same group more time.

The process owner's rules name the next group (DMN `approval-escalation`); this module carries their result out. Both topics may be
repeated: the domain reminds once, and escalates each level once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.offers import deciding, escalating, reading
from domain.offers.approvals import (
    AlreadyEscalated,
    ApprovalAlreadyDecided,
    ApprovalRequirement,
    FourEyesViolation,
    NotAsked,
    StaleApproval,
)
from domain.offers.escalating import EscalateRequirement, HandOn
from domain.store import UnitOfWork
from domain.workflows import forms
from domain.workflows.forms import FormChanged
from domain.workflows.keys import BusinessKey, Kind
from domain.workflows.timers import NotDue
from workers.pod.contract import BpmnError, Task
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable
from workers.tasks import approval_form
from workers.tasks.commands import open_unit_of_work
from workers.tasks.contracts import topic
from workers.tasks.durations import DURATION, duration
from workers.tasks.markdown import LONGEST_NOTICE, plain
from workers.tasks.persons import AnswerNotUnderstood, Person, answered_form, refuse_answer, who_completed
from workers.tasks.rules import evaluated

RULES = "approval-escalation"
BY_HAND = "ESCALATE"
"""What an approver chooses to hand a signature on."""


class Escalation:
    """The handlers. The engine says who escalated a user task, and which version of the rules decides."""

    def __init__(self, database: Database, engine: Engine) -> None:
        self._database = database
        self._engine = engine

    @topic("approval.remind-approver", Kind.APPROVAL_REQUIREMENT, sets=("reminderNotice",))
    def remind(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Announce the reminder and put a notice on the form, unless the signature was given, or the reminder is not due.

        It is not due when another group is asked by now, or when somebody has fired the timer before its time.
        """
        try:
            with open_unit_of_work(self._database, task, key) as uow:
                return {"reminderNotice": approval_form.reminder(escalating.remind(uow, key.id, task.process_instance_id))}
        except (StaleApproval, ApprovalAlreadyDecided, NotDue):
            return {}

    @topic(
        "approval.collect-escalation-facts", Kind.APPROVAL_REQUIREMENT, sets=("approverGroup", "escalationLevel", "requirementType")
    )
    def collect_facts(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Collect the inputs of DMN `approval-escalation`."""
        with open_unit_of_work(self._database, task, key) as uow:
            asked = reading.requirement(uow, key.id)
        return {"approverGroup": asked.approver_group, "escalationLevel": asked.escalation_level, "requirementType": asked.type}

    @topic(
        "approval.escalate-requirement",
        Kind.APPROVAL_REQUIREMENT,
        answers=("decision", "reasonCode", "comment"),
        errors=(StaleApproval.code, ApprovalAlreadyDecided.code),
    )
    def escalate(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Ask the next group, as the rules name it. A person who is not asked gets the task back."""
        return self._ask_others(task, key, timedelta(0))

    @topic(
        "approval.extend-deadline",
        Kind.APPROVAL_REQUIREMENT,
        answers=("decision", "reasonCode", "comment"),
        configured=("slaDuration",),
        errors=(StaleApproval.code, ApprovalAlreadyDecided.code),
    )
    def extend(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Give the same group more time, because the rules name no other. A person who escalates in vain gets the old deadline."""
        return self._ask_others(task, key, duration(task, "slaDuration"))

    def _ask_others(self, task: Task, key: BusinessKey, extension: timedelta) -> dict[str, Variable]:
        person = who_completed(self._engine, task, deciding.TASK)
        try:
            if person is None:
                self._escalate(task, key, extension)
            else:
                self._hand_on(task, key, person)
        except AlreadyEscalated:
            pass  # this very task escalated it, and its report to the engine was lost
        except NotDue:
            pass  # somebody has fired the timer before its time: the form is renewed, with a timer of its own
        except (StaleApproval, ApprovalAlreadyDecided) as refusal:
            raise BpmnError(refusal.code, str(refusal)) from refusal
        return {}

    def _escalate(self, task: Task, key: BusinessKey, extension: timedelta) -> None:
        try:
            with open_unit_of_work(self._database, task, key) as uow:
                asked = _Asked.of(forms.last_shown(uow, task.process_instance_id))
        except FormChanged:
            return  # nobody was shown anything: the form is prepared again
        group, sla = self._next(task, asked) or (asked.group, extension)
        if not sla:
            return  # the rules name nobody for this requirement: the form is renewed, and the rules are asked again
        what = "The task was escalated" if group != asked.group else "Nobody stands above; the deadline is extended"
        command = EscalateRequirement(
            **_at_level(task, key, asked), approver_group=group, sla=sla, notice=f"{asked.group} did not decide in time. {what}."
        )
        with open_unit_of_work(self._database, task, key) as uow:
            escalating.escalate(uow, command)

    def _hand_on(self, task: Task, key: BusinessKey, person: Person) -> None:
        try:
            with open_unit_of_work(self._database, task, key) as uow:
                asked, why = _chosen(uow, task, key, person)
            self._hand_on_to_the_next(task, key, asked, person, why)
        except (FourEyesViolation, NotAsked, FormChanged, AnswerNotUnderstood) as refusal:
            with open_unit_of_work(self._database, task, key) as uow:
                said = refuse_answer(uow, task, key, person, refusal)
                deciding.ask_again(uow, key.id, plain(said, LONGEST_NOTICE))

    def _hand_on_to_the_next(self, task: Task, key: BusinessKey, asked: _Asked, person: Person, why: str) -> None:
        following = self._next(task, asked)
        if following is None:
            vain = f"{plain(person.user_id)} wanted to escalate the task ({why}), but nobody stands above {asked.group}."
            with open_unit_of_work(self._database, task, key) as uow:
                deciding.ask_again(uow, key.id, vain)
            return
        group, sla = following
        command = HandOn(
            **_at_level(task, key, asked),
            approver_group=group,
            sla=sla,
            notice=f"{plain(person.user_id)} ({asked.group}) escalated the task: {why}",
            decided_by=person.user_id,
            roles=person.roles,
        )
        with open_unit_of_work(self._database, task, key, on_behalf_of=person.user_id) as uow:
            escalating.hand_on(uow, command)

    def _next(self, task: Task, asked: _Asked) -> tuple[str, timedelta] | None:
        """The group that the rules name next, and its time; the rules are evaluated with what the form has shown, as the domain keeps it."""
        inputs: dict[str, Variable] = {
            "approverGroup": asked.group,
            "escalationLevel": asked.level,
            "requirementType": asked.requirement_type,
        }
        rows = evaluated(self._engine, task, RULES, inputs)
        if not rows:
            return None
        return rows[0]["nextApproverGroup"], DURATION.validate_python(rows[0]["slaDuration"])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """Whom the open task has asked for what, as its form has shown it: an escalation that is repeated names the level before it."""

    requirement_type: str
    group: str
    level: int

    @classmethod
    def of(cls, form: Row[Any]) -> _Asked:
        asked = form.facts["requirement"]
        return cls(requirement_type=asked["type"], group=asked["approverGroup"], level=asked["escalationLevel"])


def _chosen(uow: UnitOfWork, task: Task, key: BusinessKey, person: Person) -> tuple[_Asked, str]:
    """Whom the form asked for what, and why the person hands it on. Raises FormChanged when the person has not chosen that on this form."""
    form = answered_form(uow, task, person, later=approval_form.later(uow.read(ApprovalRequirement, key.id)))
    if person.text("decision") != BY_HAND:
        raise FormChanged
    reasons = (person.identifier("reasonCode"), person.prose("comment"))
    return _Asked.of(form), " – ".join(plain(text) for text in reasons if text)


def _at_level(task: Task, key: BusinessKey, asked: _Asked) -> dict[str, Any]:
    return {
        "requirement_id": key.id,
        "process_instance_id": task.process_instance_id,
        "expected_escalation_level": asked.level,
    }
