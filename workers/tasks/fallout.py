"""Topics of `fallout-case` that need no person: open a case, read how it stands, escalate it when nobody acts in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import fulfilling, holding, proposing, reading, troubles
from domain.delivery.steps import FINAL, StepStatus
from domain.fallout import casework, triaging
from domain.fallout.cases import UNRESOLVED, FalloutCase, FalloutStatus, Queue, Severity
from domain.fallout.casework import CaseCommand
from domain.fallout.triaging import OpenCase
from domain.workflows.keys import BusinessKey, Kind
from domain.workflows.timers import NotDue
from workers.pod.contract import GiveUp, Task
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable
from workers.tasks.commands import evaluate_order, open_unit_of_work
from workers.tasks.contracts import topic
from workers.tasks.durations import DURATION
from workers.tasks.rules import the_only_row

POLICY = "fallout-policy"
EXHAUSTED = "ATTEMPTS_EXHAUSTED"


class Fallout:
    """The handlers. The engine says which version of the rules decides."""

    def __init__(self, database: Database, engine: Engine) -> None:
        self._database = database
        self._engine = engine

    @topic("fallout.open-case", Kind.STEP, Kind.ORDER, sets=("caseId", *fulfilling.OUTCOME))
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
        return {"caseId": str(case_id or ""), **fulfilling.process_variables(step)}

    def _hold(self, task: Task, key: BusinessKey, step: Row[Any]) -> UUID | None:
        is_ruled_by_the_model = "falloutQueue" in task.properties
        rule = task.properties if is_ruled_by_the_model else the_only_row(self._engine, task, POLICY, fulfilling.policy_facts(step))
        with open_unit_of_work(self._database, task, key) as uow:
            held = holding.hold(uow, key.id, EXHAUSTED)
            is_held = held.status == StepStatus.HELD
            return UUID(str(triaging.open_case(uow, _as_ruled(troubles.of_held_step(held), rule)).id)) if is_held else None

    @topic("fallout.read-case", Kind.FALLOUT_CASE, sets=("caseStatus", "isProposed"))
    def read_case(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Read how the case stands, and whether a second person must confirm a resolution."""
        with open_unit_of_work(self._database, task, key) as uow:
            case = triaging.take_up(uow, key.id)
            return {"caseStatus": case.status, "isProposed": proposing.last_proposal(uow, case) is not None}

    @topic("fallout.escalate", Kind.RESOLUTION, configured=("escalationCause",))
    def escalate(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Escalate the case when nobody claimed it, or nobody resolved it, in time.

        A timer that somebody has fired before its time escalates nothing: the case's process asks anew, with timers of its own.
        """
        is_unclaimed = task.configured("escalationCause") == "CLAIM"
        with open_unit_of_work(self._database, task, key) as uow:
            case = uow.read(FalloutCase, key.id)
        if not (case.status == FalloutStatus.OPEN if is_unclaimed else case.status in UNRESOLVED):
            return {}
        command = CaseCommand(
            case_id=case.id,
            expected_version=case.version,
            person=f"worker:{task.worker_id}",
            process_instance_id=task.process_instance_id,
        )
        try:
            with open_unit_of_work(self._database, task, key) as uow:
                casework.escalate(uow, command, is_unclaimed=is_unclaimed)
        except NotDue:
            with open_unit_of_work(self._database, task, key) as uow:
                triaging.notify_case(uow, case)
        return {}


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
