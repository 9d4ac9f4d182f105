"""Topics of `quote-approval`: facts for the rules, requirements from the rules, decisions of people, the outcome.

Nothing is decided here: a handler turns variables into a command, and a refusal into the BPMN error of the same code.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from decimal import Decimal
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.offers import approving, deciding, precedents, reading
from domain.offers.approvals import (
    ApprovalAlreadyDecided,
    AuthorityExceeded,
    Decision,
    FourEyesViolation,
    RequestStatus,
    RequirementStatus,
    StaleApproval,
)
from domain.offers.approving import ApprovalFacts
from domain.offers.prices import StalePrice
from domain.offers.quotes import StaleRevision
from domain.store import UnitOfWork
from workers.pod.contract import BpmnError, GiveUp, Task
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable
from workers.tasks import approval_form
from workers.tasks.commands import open_unit_of_work
from workers.tasks.contracts import QUOTE, topic
from workers.tasks.durations import DURATION
from workers.tasks.escalation import DECISION_FORM, USER_TASK, asked

POLICY = "approval-requirements"
POLICY_FACTS = ("maxDiscountPercent", "marginPercent", "dealAmount", "region", "productFamily", "paymentTermDays", "priceStale")
CHANGES = ("hasBasis", "discountChange", "marginChange", "dealAmountChange", "paymentTermChange", "linesAdded", "basisAgeDays")
OUTCOME = {
    RequestStatus.OPEN: "OPEN",
    RequestStatus.APPROVED: "APPROVED",
    RequestStatus.REJECTED: "REJECTED",
    RequestStatus.REWORK: "REWORK",
}


class Approval:
    """The handlers. The engine says who completed a user task, and which version of the policy decided."""

    def __init__(self, database: Database, engine: Engine) -> None:
        self._database = database
        self._engine = engine

    @topic(
        "quote.collect-approval-facts",
        reads=QUOTE,
        sets=(*POLICY_FACTS, *CHANGES, *approval_form.SHOWN),
        errors=(StaleRevision.code, StalePrice.code),
    )
    def collect_facts(self, task: Task) -> dict[str, Variable]:
        """Collect the inputs of the rules, and what the approver reads."""
        try:
            with open_unit_of_work(self._database, task) as uow:
                facts = approving.collect_facts(uow, task.uuid("quoteId"), task.uuid("quoteRevisionId"), task.uuid("priceResultId"))
        except (StaleRevision, StalePrice) as refusal:
            raise BpmnError(refusal.code, str(refusal)) from refusal
        return {**_policy_facts(facts), **_changes(facts), **approval_form.shown(facts)}

    @topic(
        "quote.open-requirements",
        reads=(*QUOTE, "requirements", "reuse"),
        sets=("approvalRequestId", "approvalNeeded", "approvalReused", "levels", "rulesText"),
        errors=(StaleApproval.code,),
    )
    def open_requirements(self, task: Task) -> dict[str, Variable]:
        """Store the requirements that the policy asks for; returns by level the signatures that are still missing."""
        command = approving.OpenRequirements(
            quote_id=task.uuid("quoteId"),
            quote_revision_id=task.uuid("quoteRevisionId"),
            price_result_id=task.uuid("priceResultId"),
            policy_definition_id=self._engine.decision_definition_id(task.process_instance_id, POLICY),
            process_instance_id=task.process_instance_id,
            requirements=[_requirement(row) for row in task.variables.get("requirements") or []],
            reuse=bool(task.variables.get("reuse")),
        )
        try:
            with open_unit_of_work(self._database, task) as uow:
                request = approving.open_requirements(uow, command)
                requirements = reading.requirements_of(uow, request.id)
                reused = _reused(uow, command.quote_id)
        except StaleApproval as refusal:
            raise BpmnError(refusal.code, str(refusal)) from refusal
        levels = _levels(requirements, reused)
        return {
            "approvalRequestId": str(request.id),
            "approvalNeeded": bool(levels),
            "approvalReused": bool(requirements) and not levels,
            "levels": levels,
            "rulesText": approval_form.rules(requirements, reused),
        }

    @topic(
        "approval.record-decision",
        reads=("tenantId", "quoteRevisionId", "priceResultId", "requirementId", "decision", "reasonCode", "comment"),
        sets=("requirementOutcome", "approvalOutcome", "levels", *DECISION_FORM, "decisionRefused"),
        errors=(StaleApproval.code, FourEyesViolation.code, AuthorityExceeded.code),
    )
    def record_decision(self, task: Task) -> dict[str, Variable]:
        """Record the decision of an approver in Tasklist; a decision that came over HTTP is recorded already."""
        with open_unit_of_work(self._database, task) as uow:
            requirement = reading.requirement(uow, task.uuid("requirementId"))
        if requirement.decision is None:
            self._decide(task)
        with open_unit_of_work(self._database, task) as uow:
            requirement = reading.requirement(uow, requirement.id)
            requirements = reading.requirements_of(uow, requirement.request_id)
            reused = _reused(uow, requirement.quote_id)
        outcome = OUTCOME.get(RequestStatus(requirement.request_status))
        if outcome is None:
            raise BpmnError(StaleApproval.code, f"The approval request is {requirement.request_status}.")
        answer = {"requirementOutcome": requirement.status, "approvalOutcome": outcome, "decisionRefused": ""}
        if any(row.level == requirement.level and row.status == RequirementStatus.PENDING for row in requirements):
            return answer
        # The time of the next level begins now, so the process needs its deadlines.
        return {**answer, "levels": _levels(requirements, reused)}

    def _decide(self, task: Task) -> None:
        completion = self._engine.who_completed(task.process_instance_id, USER_TASK, beside=task.activity_instance_id)
        if completion is None:
            raise GiveUp("The engine's user operation log does not say who completed the task: check that history level is full.")
        command = deciding.Decide(
            requirement_id=task.uuid("requirementId"),
            quote_revision_id=task.uuid("quoteRevisionId"),
            price_result_id=task.uuid("priceResultId"),
            decision=_decision(task),
            reason_code=str(task.variables.get("reasonCode") or "NONE"),
            comment=str(task.variables.get("comment") or "") or None,
            decided_by=completion.user_id,
            roles=self._engine.groups_of(completion.user_id),
            approval_task_id=completion.task_id,
        )
        try:
            with open_unit_of_work(self._database, task, on_behalf_of=completion.user_id) as uow:
                deciding.decide(uow, command)
        except ApprovalAlreadyDecided:
            return  # another person was faster; that decision counts
        except (FourEyesViolation, AuthorityExceeded) as refusal:
            raise BpmnError(refusal.code, str(refusal), _asked_again(f"{completion.user_id}: {refusal}")) from refusal
        except StaleApproval as refusal:
            raise BpmnError(refusal.code, str(refusal)) from refusal

    @topic("quote.apply-outcome", reads=("tenantId", "approvalRequestId"), sets=("approvalOutcome",))
    def apply_outcome(self, task: Task) -> dict[str, Variable]:
        """Read from the domain how the request ended: the process only shows it."""
        with open_unit_of_work(self._database, task) as uow:
            status = reading.request_status(uow, task.uuid("approvalRequestId"))
        outcome = OUTCOME.get(RequestStatus(status), "VOID")
        return {"approvalOutcome": "VOID" if outcome == "OPEN" else outcome}


def _asked_again(reason: str) -> dict[str, Variable]:
    """Say why nothing was recorded, and clear the form for the next approver."""
    return {"decisionRefused": reason, "decision": None, "reasonCode": None, "comment": None}


def _decision(task: Task) -> Decision:
    chosen = task.variables.get("decision")
    try:
        return Decision(str(chosen))
    except ValueError:
        raise BpmnError(
            AuthorityExceeded.code,
            f"{chosen!r} is not a decision.",
            _asked_again("Please choose APPROVE, REJECT, REWORK or ESCALATE."),
        ) from None


def _policy_facts(facts: ApprovalFacts) -> dict[str, Variable]:
    """The inputs of DMN `approval-requirements`."""
    return {
        "maxDiscountPercent": float(facts.price.max_discount_percent),
        "marginPercent": float(facts.price.margin_percent),
        "dealAmount": float(facts.price.net_total),
        "region": facts.quote.region,
        "productFamily": facts.product_family,
        "paymentTermDays": facts.quote.payment_term_days,
        "priceStale": facts.price_stale,
    }


def _changes(facts: ApprovalFacts) -> dict[str, Variable]:
    """The inputs of DMN `reapproval-reuse`: new minus approved, 0 without an approved revision."""
    basis, price = facts.precedent, facts.price
    before = basis.price if basis else price
    offered = {line.product_offering_id for line in basis.lines} if basis else set()
    return {
        "hasBasis": basis is not None,
        "discountChange": float(price.max_discount_percent - before.max_discount_percent),
        "marginChange": float(price.margin_percent - before.margin_percent),
        "dealAmountChange": float(price.net_total - before.net_total),
        # The payment term belongs to the quote and is the same for all of its revisions.
        "paymentTermChange": 0,
        "linesAdded": any(priced.line.product_offering_id not in offered for priced in facts.lines),
        "basisAgeDays": (basis.age_days or 0.0) if basis else 0.0,
    }


def _requirement(row: Mapping[str, Any]) -> approving.Requirement:
    return approving.Requirement(
        type=row["requirementType"],
        level=int(row["level"]),
        approver_group=row["approverGroup"],
        min_authority=Decimal(str(row["minAuthorityDiscountPercent"])),
        # An instance of model 1.0.0 goes on with its own rules, which give no reason.
        because=row.get("because") or f"The rules ask for {row['requirementType']}.",
        sla=DURATION.validate_python(row["slaDuration"]),
    )


def _reused(uow: UnitOfWork, quote_id: UUID) -> frozenset[UUID]:
    decisions = precedents.decisions(uow, quote_id)
    return frozenset(row.requirement_id for row in decisions if row.decision == deciding.REUSED)


def _levels(requirements: Sequence[Row[Any]], reused: Container[UUID]) -> list[dict[str, Any]]:
    # A requirement that was signed over HTTP meanwhile stays: the completion of its user task tells the engine.
    left = [requirement for requirement in requirements if requirement.id not in reused]
    return [
        {"level": level, "requirements": [_shown(requirement) for requirement in group]}
        for level, group in groupby(left, key=lambda requirement: requirement.level)
    ]


def _shown(requirement: Row[Any]) -> dict[str, Variable]:
    of_requirement = {"requirementId": str(requirement.id), "requirementType": requirement.type, "because": requirement.because}
    return {**of_requirement, **asked(requirement)}
