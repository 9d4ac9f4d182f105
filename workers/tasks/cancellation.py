"""Topics of `cancellation-assessment`: show a person what a cancellation would undo, and record what the person decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.delivery import cancellations, cancelling
from domain.delivery.cancellations import CancellationDecided, CancellationRequest
from domain.delivery.cancelling import AssessCancellation, CancellationFacts
from domain.errors import Refusal
from domain.store import UnitOfWork
from domain.workflows import forms, instances
from domain.workflows.keys import BusinessKey, Kind
from workers.pod.contract import GiveUp, Task
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable, encode
from workers.tasks.commands import open_unit_of_work
from workers.tasks.contracts import topic
from workers.tasks.markdown import notice, one_line, plain, table
from workers.tasks.orders import ACCEPT, CANCELLATION_FACTS, DECLINE, POLICY, policy_inputs
from workers.tasks.persons import AnswerNotUnderstood, Person, answered_form, refuse_answer, who_completed

APPLIED, REFUSED = "APPLIED", "REFUSED"
TYPED = ("cancellationDecision", "assessmentReason")
"""What the person fills in."""
SHOWN = (
    *("orderNumber", "customerId", "customerText", "cancellationReason", "cancellationReasonText", "requestedBy"),
    *("decisionReason", "orderValueText", "stepsText", "assessmentRefused"),
)
STEPS_HEAD = "| Step | State | Point of no return | Can be undone |\n|---|---|---|---|\n"


class Cancellation:
    """The handlers. The engine says who completed a user task."""

    def __init__(self, database: Database, engine: Engine) -> None:
        self._database = database
        self._engine = engine

    @topic("cancellation.prepare-form", Kind.CANCELLATION, sets=("isOpen", *CANCELLATION_FACTS, *SHOWN, *TYPED))
    def prepare_form(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Read how far the order has come, and keep what the form shows; the form of the last person is emptied."""
        with open_unit_of_work(self._database, task, key) as uow:
            facts = cancelling.facts_of(uow, uow.read(CancellationRequest, key.id))
            known = instances.find(uow, task.process_instance_id)
        asked_because = self._why(str(known.caller_instance_id), facts) if known is not None else ""
        with open_unit_of_work(self._database, task, key) as uow:
            values: dict[str, Variable] = {
                "isOpen": facts.request.status in cancellations.UNDECIDED,
                **policy_inputs(facts),
                **_shown(facts),
                "decisionReason": asked_because,
                "assessmentRefused": notice(forms.why_refused(uow, task.process_instance_id)),
                **dict.fromkeys(TYPED),
            }
            forms.show(uow, key.id, facts.as_evidence(), task.process_instance_id, encode(values))
        return values

    @topic("cancellation.record-decision", Kind.CANCELLATION, answers=TYPED, sets=("assessmentOutcome",))
    def record_decision(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Carry out the decision on the person's behalf; a refusal is shown on the renewed form."""
        person = who_completed(self._engine, task, cancelling.TASK)
        if person is None:
            raise GiveUp("Nobody has completed the task of this cancellation: move the token back to Prepare form")
        try:
            with open_unit_of_work(self._database, task, key, on_behalf_of=person.user_id) as uow:
                cancelling.decide_by_person(uow, _decided(uow, task, key, person))
        except CancellationDecided:
            pass  # another person was faster; that decision counts
        except Refusal as refusal:
            with open_unit_of_work(self._database, task, key) as uow:
                refuse_answer(uow, task, key, person, refusal)
            return {"assessmentOutcome": REFUSED}
        return {"assessmentOutcome": APPLIED}

    def _why(self, caller_instance_id: str, facts: CancellationFacts) -> str:
        """The reason of the rule that leaves it to a person, evaluated with the facts of now."""
        version = self._engine.decision_definition_id(caller_instance_id, POLICY)
        return ", ".join(str(row["decisionReason"]) for row in self._engine.evaluate_version(version, policy_inputs(facts)))


def _decided(uow: UnitOfWork, task: Task, key: BusinessKey, person: Person) -> AssessCancellation:
    """The decision on what the form has shown. Raises FormChanged, AnswerNotUnderstood."""
    form = answered_form(uow, task, person)
    chosen = person.text("cancellationDecision")
    if chosen not in {ACCEPT, DECLINE}:
        raise AnswerNotUnderstood(f"{chosen!r} is not a decision: choose one of those listed.")
    return AssessCancellation(
        cancellation_id=key.id,
        expected_version=form.facts["request"]["version"],
        accept=chosen == ACCEPT,
        reason=person.identifier("assessmentReason") or "NONE",
        decided_by=person.user_id,
        roles=person.roles,
        process_instance_id=task.process_instance_id,
        shown_form_id=form.id,
    )


def _shown(facts: CancellationFacts) -> dict[str, Variable]:
    return {
        "orderNumber": facts.order.order_number,
        "customerId": one_line(facts.order.customer_id),
        "customerText": plain(facts.order.customer_id),
        "cancellationReason": one_line(facts.request.reason_code),
        "cancellationReasonText": plain(facts.request.reason_code),
        "requestedBy": plain(facts.request.requested_by),
        "orderValueText": f"{facts.order_value:.2f} {facts.currency}",
        "stepsText": table(STEPS_HEAD, _rows(facts.steps)),
    }


def _rows(steps: Sequence[Row[Any]]) -> list[str]:
    return [
        f"| {plain(step.step_code)} | {plain(step.status)} | {'yes' if step.is_ponr else ''} | {'yes' if step.compensable else 'no'} |"
        for step in steps
    ]
