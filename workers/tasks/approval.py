"""Topics of `quote-approval` and `approve-requirement`: facts and requirements from the rules, forms and decisions of people, the outcome.

Nothing is decided here: a handler turns what the rules and people say into a command, and a refusal into the BPMN error of the same code.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from decimal import Decimal
from itertools import groupby
from typing import Any
from uuid import UUID

from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain.errors import Refusal
from domain.offers import approving, deciding, facts, precedents, reading
from domain.offers.approvals import (
    ApprovalAlreadyDecided,
    ApprovalRequest,
    ApprovalRequirement,
    AuthorityExceeded,
    Decision,
    EarlierLevelOpen,
    FourEyesViolation,
    RequestStatus,
    RequirementStatus,
    StaleApproval,
)
from domain.offers.facts import ApprovalFacts
from domain.offers.prices import StalePrice
from domain.offers.quotes import StaleRevision
from domain.store import UnitOfWork
from domain.workflows import forms, starts
from domain.workflows.forms import FormChanged
from domain.workflows.keys import BusinessKey, Kind
from workers.pod.contract import BpmnError, GiveUp, Task
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable, encode
from workers.tasks import approval_form
from workers.tasks.commands import open_unit_of_work
from workers.tasks.contracts import topic
from workers.tasks.durations import DURATION
from workers.tasks.markdown import LONGEST_NOTICE, plain
from workers.tasks.persons import AnswerNotUnderstood, Person, answered_form, refuse_answer, who_completed
from workers.tasks.rules import the_only_row

POLICY, REUSE = "approval-requirements", "reapproval-reuse"
POLICY_FACTS = ("maxDiscountPercent", "marginPercent", "dealAmount", "region", "productFamily", "paymentTermDays", "priceStale")
CHANGES = ("hasBasis", "discountChange", "marginChange", "dealAmountChange", "paymentTermChange", "linesAdded", "basisAgeDays")
OUTCOME = {
    RequestStatus.OPEN: "OPEN",
    RequestStatus.APPROVED: "APPROVED",
    RequestStatus.REJECTED: "REJECTED",
    RequestStatus.REWORK: "REWORK",
}
DECISION_FORM = ("decision", "reasonCode", "comment")
"""What an approver fills in."""


class Approval:
    """The handlers. The engine says who completed a user task, and which versions of the rules decide."""

    def __init__(self, database: Database, engine: Engine) -> None:
        self._database = database
        self._engine = engine

    @topic(
        "quote.collect-approval-facts",
        Kind.QUOTE_REVISION,
        sets=(*POLICY_FACTS, *CHANGES),
        errors=(StaleRevision.code, StalePrice.code),
    )
    def collect_facts(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Collect the inputs of the rules."""
        try:
            with open_unit_of_work(self._database, task, key) as uow:
                collected = approving.collect_facts(uow, key.ids[0], key.id, _submitted_price(uow, task))
        except (StaleRevision, StalePrice) as refusal:
            raise BpmnError(refusal.code, str(refusal)) from refusal
        return _inputs(collected)

    @topic(
        "quote.open-requirements",
        Kind.QUOTE_REVISION,
        sets=("approvalRequestId", "approvalNeeded", "approvalReused", "levels"),
        errors=(StaleApproval.code,),
    )
    def open_requirements(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Store the requirements that the policy asks for; returns by level the signatures that are still missing.

        The engine evaluates the rules once more, with facts from the database: what stands in process variables may be anybody's word.
        """
        quote_id, revision_id = key.ids
        try:
            with open_unit_of_work(self._database, task, key) as uow:
                price_id = _submitted_price(uow, task)
                collected = approving.collect_facts(uow, quote_id, revision_id, price_id)
        except (StaleRevision, StalePrice) as refusal:
            raise BpmnError(StaleApproval.code, str(refusal)) from refusal
        policy = self._engine.decision_definition_id(task.process_instance_id, POLICY)
        inputs = _inputs(collected)
        rows = self._engine.evaluate_version(policy, inputs)
        may_reuse = the_only_row(self._engine, task, REUSE, inputs)
        command = approving.OpenRequirements(
            quote_id=quote_id,
            quote_revision_id=revision_id,
            price_result_id=price_id,
            policy_definition_id=policy,
            process_instance_id=task.process_instance_id,
            requirements=[_requirement(row) for row in rows],
            reuse=bool(may_reuse["reuse"]),
        )
        try:
            with open_unit_of_work(self._database, task, key) as uow:
                request = approving.open_requirements(uow, command)
                requirements = reading.requirements_of(uow, request.id)
                reused = _reused(uow, quote_id)
        except StaleApproval as refusal:
            raise BpmnError(refusal.code, str(refusal)) from refusal
        levels = _levels(requirements, reused)
        return {
            "approvalRequestId": str(request.id),
            "approvalNeeded": bool(levels),
            "approvalReused": bool(requirements) and not levels,
            "levels": levels,
        }

    @topic(
        "approval.prepare-form",
        Kind.APPROVAL_REQUIREMENT,
        sets=("isDecided", *approval_form.SHOWN, *DECISION_FORM),
        errors=(StaleApproval.code,),
    )
    def prepare_form(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Read what an approver is shown, and keep it; the form of the last approver is emptied."""
        with open_unit_of_work(self._database, task, key) as uow:
            requirement = reading.requirement(uow, key.id)
            if requirement.request_status != RequestStatus.OPEN and requirement.decision is None:
                raise BpmnError(StaleApproval.code, f"The approval request is {requirement.request_status}.")
            shown = facts.shown_to_approver(uow, requirement, uow.read(ApprovalRequest, requirement.request_id))
            if any(row.level < requirement.level and row.status == RequirementStatus.PENDING for row in shown.requirements):
                raise BpmnError(StaleApproval.code, str(EarlierLevelOpen()))
            values: dict[str, Variable] = {
                "isDecided": requirement.decision is not None,
                **approval_form.shown(shown, _reused(uow, requirement.quote_id)),
                **dict.fromkeys(DECISION_FORM),
            }
            forms.show(uow, key.id, shown.as_evidence(), task.process_instance_id, encode(values))
        return values

    @topic(
        "approval.record-decision",
        Kind.APPROVAL_REQUIREMENT,
        answers=DECISION_FORM,
        sets=("approvalOutcome",),
        errors=(StaleApproval.code, FourEyesViolation.code, AuthorityExceeded.code, FormChanged.code),
    )
    def record_decision(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Record the decision of an approver in Tasklist; a decision that came over HTTP is recorded already."""
        with open_unit_of_work(self._database, task, key) as uow:
            requirement = reading.requirement(uow, key.id)
        if requirement.decision is None:
            self._decide(task, key)
        with open_unit_of_work(self._database, task, key) as uow:
            status = reading.requirement(uow, key.id).request_status
        outcome = OUTCOME.get(RequestStatus(status))
        if outcome is None:
            raise BpmnError(StaleApproval.code, f"The approval request is {status}.")
        return {"approvalOutcome": outcome}

    def _decide(self, task: Task, key: BusinessKey) -> None:
        person = who_completed(self._engine, task, deciding.TASK)
        if person is None:
            raise GiveUp("Nobody has completed the task of this requirement: move the token back to Prepare form")
        try:
            with open_unit_of_work(self._database, task, key, on_behalf_of=person.user_id) as uow:
                deciding.decide(uow, _command(uow, task, key, person))
        except ApprovalAlreadyDecided:
            return  # another person was faster; that decision counts
        except (StaleApproval, EarlierLevelOpen) as refusal:
            raise BpmnError(StaleApproval.code, str(refusal)) from refusal
        except AnswerNotUnderstood as refusal:
            self._ask_again(task, key, person, refusal, FormChanged.code)
        except (FourEyesViolation, AuthorityExceeded, FormChanged) as refusal:
            self._ask_again(task, key, person, refusal, refusal.code)

    def _ask_again(self, task: Task, key: BusinessKey, person: Person, refusal: Refusal, code: str) -> None:
        with open_unit_of_work(self._database, task, key) as uow:
            why = refuse_answer(uow, task, key, person, refusal)
            deciding.ask_again(uow, key.id, plain(why, LONGEST_NOTICE))
        raise BpmnError(code, str(refusal)) from refusal

    @topic("quote.apply-outcome", Kind.QUOTE_REVISION, sets=("approvalOutcome", "levels"))
    def apply_outcome(self, task: Task, key: BusinessKey) -> dict[str, Variable]:
        """Read from the domain how the request of the revision stands, and the signatures that are missing while it is open.

        However the processes of the signatures ended: an approver may end one by an error, and an operator may move its token.
        """
        with open_unit_of_work(self._database, task, key) as uow:
            request = reading.request_of(uow, key.id)
            missing = [row for row in reading.requirements_of(uow, request.id) if row.status == RequirementStatus.PENDING]
        return {"approvalOutcome": OUTCOME.get(RequestStatus(request.status), "VOID"), "levels": _levels(missing, ())}


def _submitted_price(uow: UnitOfWork, task: Task) -> UUID:
    """The price that was submitted, as the domain noted it when it asked for the process."""
    return UUID(starts.find(uow, task.business_key).variables["price_result_id"])


def _command(uow: UnitOfWork, task: Task, key: BusinessKey, person: Person) -> deciding.Decide:
    """The decision on exactly what the form has shown. Raises FormChanged, and AnswerNotUnderstood for anything but a decision."""
    requirement = uow.read(ApprovalRequirement, key.id)
    form = answered_form(uow, task, person, later=approval_form.later(requirement))
    try:
        decision = Decision(person.text("decision"))
    except ValueError:
        raise AnswerNotUnderstood("Please choose APPROVE, REJECT, REWORK or ESCALATE.") from None
    request = uow.read(ApprovalRequest, requirement.request_id)
    return deciding.Decide(
        requirement_id=key.id,
        quote_revision_id=request.quote_revision_id,
        price_result_id=request.price_result_id,
        decision=decision,
        reason_code=person.identifier("reasonCode") or "NONE",
        comment=person.prose("comment") or None,
        decided_by=person.user_id,
        roles=person.roles,
        approval_task_id=person.task_id,
        process_instance_id=task.process_instance_id,
        shown_form_id=form.id,
    )


def _inputs(collected: ApprovalFacts) -> dict[str, Variable]:
    """The inputs of both decisions."""
    return {**_policy_facts(collected), **_changes(collected)}


def _policy_facts(collected: ApprovalFacts) -> dict[str, Variable]:
    """The inputs of DMN `approval-requirements`."""
    return {
        "maxDiscountPercent": float(collected.price.max_discount_percent),
        "marginPercent": float(collected.price.margin_percent),
        "dealAmount": float(collected.price.net_total),
        "region": collected.quote.region,
        "productFamily": collected.product_family,
        "paymentTermDays": collected.quote.payment_term_days,
        "priceStale": collected.price_stale,
    }


def _changes(collected: ApprovalFacts) -> dict[str, Variable]:
    """The inputs of DMN `reapproval-reuse`: new minus approved, 0 without an approved revision."""
    basis, price = collected.precedent, collected.price
    before = basis.price if basis else price
    offered = {line.product_offering_id for line in basis.lines} if basis else set()
    return {
        "hasBasis": basis is not None,
        "discountChange": float(price.max_discount_percent - before.max_discount_percent),
        "marginChange": float(price.margin_percent - before.margin_percent),
        "dealAmountChange": float(price.net_total - before.net_total),
        # The payment term belongs to the quote and is the same for all of its revisions.
        "paymentTermChange": 0,
        "linesAdded": any(priced.line.product_offering_id not in offered for priced in collected.lines),
        "basisAgeDays": (basis.age_days or 0.0) if basis else 0.0,
    }


def _requirement(row: Mapping[str, Any]) -> approving.Requirement:
    return approving.Requirement(
        type=row["requirementType"],
        level=int(row["level"]),
        approver_group=row["approverGroup"],
        min_authority=Decimal(str(row["minAuthorityDiscountPercent"])),
        because=row["because"],
        sla=DURATION.validate_python(row["slaDuration"]),
    )


def _reused(uow: UnitOfWork, quote_id: UUID) -> frozenset[UUID]:
    decisions = precedents.decisions(uow, quote_id)
    return frozenset(row.requirement_id for row in decisions if row.decision == deciding.REUSED)


def _levels(requirements: Sequence[Row[Any]], reused: Container[UUID]) -> list[dict[str, Any]]:
    # A requirement that was signed over HTTP meanwhile stays: its own process finds the decision.
    left = [requirement for requirement in requirements if requirement.id not in reused]
    return [
        {"level": level, "requirements": [{"requirementId": str(requirement.id)} for requirement in group]}
        for level, group in groupby(left, key=lambda requirement: requirement.level)
    ]
