"""Topics of a late signature: remind the group that is asked, then ask the next group, or give the same group more time.

The process owner's rules name the next group (DMN `approval-escalation`); this module carries their result out. Both topics may be
repeated: the domain reminds once, and escalates each level once.
"""

from __future__ import annotations

from datetime import UTC
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.offers import escalating, reading
from domain.offers.approvals import AlreadyEscalated, ApprovalAlreadyDecided, StaleApproval
from domain.store import UnitOfWork
from workers.pod.contract import BpmnError, GiveUp, Task
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable
from workers.tasks.commands import open_unit_of_work
from workers.tasks.contracts import topic
from workers.tasks.durations import duration
from workers.tasks.markdown import moment, plain

USER_TASK = "approve-quote"
BY_HAND = "ESCALATE"
# What an approver fills in.
DECISION_FORM = ("decision", "reasonCode", "comment")


def asked(requirement: Row[Any]) -> dict[str, Variable]:
    """The group that is asked for a signature, and its deadlines, in the variables of the user task and its timers."""
    return {
        "approverGroup": requirement.approver_group,
        "remindAt": requirement.remind_at.astimezone(UTC).isoformat(),
        "dueAt": requirement.due_at.astimezone(UTC).isoformat(),
        "escalationLevel": requirement.escalation_level,
    }


class Escalation:
    """The handlers. The engine says who escalated a user task."""

    def __init__(self, database: Database, engine: Engine) -> None:
        self._database = database
        self._engine = engine

    @topic("approval.remind-approver", reads=("tenantId", "requirementId", "escalationLevel"), sets=("reminderNotice",))
    def remind(self, task: Task) -> dict[str, Variable]:
        """Announce the reminder and put a notice on the form, unless the signature was given, or another group is asked."""
        requirement_id = task.uuid("requirementId")
        try:
            with open_unit_of_work(self._database, task) as uow:
                requirement = reading.requirement(uow, requirement_id)
                if requirement.escalation_level != task.variables.get("escalationLevel"):
                    return {}
                reminded = escalating.remind(uow, requirement_id)
        except (StaleApproval, ApprovalAlreadyDecided):
            return {}
        return {"reminderNotice": f"Half of the time is gone. Please decide by {moment(reminded.due_at)}."}

    @topic(
        "approval.escalate-requirement",
        reads=("tenantId", "requirementId", "approverGroup", "escalationLevel", "nextApproverGroup", "slaDuration", *DECISION_FORM),
        sets=(
            *("approverGroup", "remindAt", "dueAt", "escalationLevel", "escalationNotice", "reminderNotice"),
            *(*DECISION_FORM, "decisionRefused"),
        ),
        errors=(StaleApproval.code, ApprovalAlreadyDecided.code),
    )
    def escalate(self, task: Task) -> dict[str, Variable]:
        """Ask the next group, or give the same group more time.

        A person who escalates where no group stands above gets the task back with its old deadline.
        """
        group, next_group = task.text("approverGroup"), task.text("nextApproverGroup")
        person = self._who_escalated(task) if _by_hand(task) else None
        with open_unit_of_work(self._database, task, on_behalf_of=person) as uow:
            if group == next_group and _by_hand(task):
                requirement = reading.requirement(uow, task.uuid("requirementId"))
            else:
                requirement = _escalate(uow, task, next_group)
        fresh = {"reminderNotice": None, "decisionRefused": None, "decision": None, "reasonCode": None, "comment": None}
        return {**asked(requirement), "escalationNotice": _notice(task, person, group, next_group), **fresh}

    def _who_escalated(self, task: Task) -> str:
        completion = self._engine.who_completed(task.process_instance_id, USER_TASK, beside=task.activity_instance_id)
        if completion is None:
            raise GiveUp("The engine's user operation log does not say who escalated the task: check that history level is full.")
        return completion.user_id


def _notice(task: Task, person: str | None, group: str, next_group: str) -> str:
    is_last = group == next_group
    if person is None:
        what = "Nobody stands above; the deadline is extended" if is_last else "The task was escalated"
        return f"{group} did not decide in time. {what}."
    why = " – ".join(plain(str(text)) for name in ("reasonCode", "comment") if (text := task.variables.get(name)))
    if is_last:
        return f"{person} wanted to escalate the task ({why}), but nobody stands above {group}."
    return f"{person} ({group}) escalated the task: {why}"


def _by_hand(task: Task) -> bool:
    return task.variables.get("decision") == BY_HAND


def _escalate(uow: UnitOfWork, task: Task, group: str) -> Row[Any]:
    requirement_id = task.uuid("requirementId")
    command = escalating.EscalateRequirement(
        requirement_id=requirement_id,
        expected_escalation_level=int(task.variables.get("escalationLevel") or 0),
        approver_group=group,
        sla=duration(task, "slaDuration"),
    )
    try:
        return escalating.escalate(uow, command)
    except AlreadyEscalated:
        return reading.requirement(uow, requirement_id)  # this very task escalated it, and its report to the engine was lost
    except (StaleApproval, ApprovalAlreadyDecided) as refusal:
        raise BpmnError(refusal.code, str(refusal)) from refusal
