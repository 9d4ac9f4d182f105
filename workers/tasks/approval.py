"""Topics of `quote-approval`: facts for the policy, requirements from it, decisions of people, the outcome.

Nothing is decided here: a handler turns variables into a command and a refusal into the BPMN error of the same code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

from pydantic import TypeAdapter
from sqlalchemy import Engine as Database
from sqlalchemy import Row

from domain import approving, reading
from domain.approvals import ApprovalAlreadyDecided, AuthorityExceeded, Decision, FourEyesViolation, RequestStatus, StaleApproval
from domain.catalog import CATALOG
from domain.prices import StalePrice
from domain.quotes import Line, StaleRevision
from workers.runtime.engine import Engine
from workers.runtime.variables import Variable
from workers.tasks.commands import open_unit_of_work
from workers.tasks.contract import BpmnError, GiveUp, Task

POLICY = "approval-requirements"
USER_TASK = "approve-quote"
# A text variable of the engine holds 4,000 characters.
SHOWN_LINES = 40
DURATION = TypeAdapter(timedelta)
OUTCOME = {
    RequestStatus.OPEN: "OPEN",
    RequestStatus.APPROVED: "APPROVED",
    RequestStatus.REJECTED: "REJECTED",
    RequestStatus.REWORK: "REWORK",
}


class Approval:
    """The handlers; `engine` tells who completed a user task and which version of the policy decided."""

    def __init__(self, database: Database, engine: Engine) -> None:
        self._database = database
        self._engine = engine

    def collect_facts(self, task: Task) -> dict[str, Variable]:
        """What policy and approver look at."""
        try:
            with open_unit_of_work(self._database, task) as uow:
                facts = approving.collect_facts(uow, task.uuid("quoteId"), task.uuid("quoteRevisionId"), task.uuid("priceResultId"))
        except (StaleRevision, StalePrice) as refusal:
            raise BpmnError(refusal.code, str(refusal)) from refusal
        quote, price = facts.quote, facts.price
        return {
            "maxDiscountPercent": float(price.max_discount_percent),
            "marginPercent": float(price.margin_percent),
            "dealAmount": float(price.net_total),
            "currency": price.currency,
            "region": quote.region,
            "productFamily": facts.product_family,
            "paymentTermDays": quote.payment_term_days,
            "priceStale": facts.price_stale,
            "quoteNumber": quote.quote_number,
            "customerId": quote.customer_id,
            "ownerUserId": quote.owner_user_id,
            "linesText": _table(facts.lines),
            "listTotal": str(price.list_total),
            "netTotal": str(price.net_total),
            "priceValidUntil": price.valid_until.astimezone(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        }

    def open_requirements(self, task: Task) -> dict[str, Variable]:
        """Write down what the policy asked for, by level."""
        command = approving.OpenRequirements(
            quote_id=task.uuid("quoteId"),
            quote_revision_id=task.uuid("quoteRevisionId"),
            price_result_id=task.uuid("priceResultId"),
            policy_definition_id=self._engine.decision_definition_id(task.process_instance_id, POLICY),
            process_instance_id=task.process_instance_id,
            requirements=[_requirement(row) for row in task.variables.get("requirements") or []],
        )
        try:
            with open_unit_of_work(self._database, task) as uow:
                request = approving.open_requirements(uow, command)
                requirements = reading.requirements_of(uow, request.id)
        except StaleApproval as refusal:
            raise BpmnError(refusal.code, str(refusal)) from refusal
        return {"approvalRequestId": str(request.id), "approvalNeeded": bool(requirements), "levels": _levels(requirements)}

    def record_decision(self, task: Task) -> dict[str, Variable]:
        """Record what an approver said in Tasklist; a decision that came over HTTP is recorded already."""
        with open_unit_of_work(self._database, task) as uow:
            requirement = reading.requirement(uow, task.uuid("requirementId"))
        if requirement.decision is None:
            self._decide(task)
        with open_unit_of_work(self._database, task) as uow:
            requirement = reading.requirement(uow, requirement.id)
        outcome = OUTCOME.get(RequestStatus(requirement.request_status))
        if outcome is None:
            raise BpmnError(StaleApproval.code, f"The approval request is {requirement.request_status}.")
        return {"requirementOutcome": requirement.status, "approvalOutcome": outcome, "decisionRefused": ""}

    def _decide(self, task: Task) -> None:
        completion = self._engine.who_completed(task.process_instance_id, USER_TASK, beside=task.activity_instance_id)
        if completion is None:
            raise GiveUp("The engine's user operation log does not say who completed the task: check that history level is full.")
        command = approving.Decide(
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
            with open_unit_of_work(self._database, task) as uow:
                approving.decide(uow, command)
        except ApprovalAlreadyDecided:
            return  # somebody else was first; the outcome is theirs
        except (FourEyesViolation, AuthorityExceeded) as refusal:
            raise BpmnError(refusal.code, str(refusal), _asked_again(f"{completion.user_id}: {refusal}")) from refusal
        except StaleApproval as refusal:
            raise BpmnError(refusal.code, str(refusal)) from refusal

    def apply_outcome(self, task: Task) -> dict[str, Variable]:
        """How the request ended, asked of the domain: the process only shows it."""
        with open_unit_of_work(self._database, task) as uow:
            status = reading.request_status(uow, task.uuid("approvalRequestId"))
        outcome = OUTCOME.get(RequestStatus(status), "VOID")
        return {"approvalOutcome": "VOID" if outcome == "OPEN" else outcome}


def _asked_again(reason: str) -> dict[str, Variable]:
    """Show why nothing was recorded; the next approver must not find the last one's choice filled in."""
    return {"decisionRefused": reason, "decision": None, "reasonCode": None, "comment": None}


def _decision(task: Task) -> Decision:
    said = task.variables.get("decision")
    try:
        return Decision(str(said))
    except ValueError:
        raise BpmnError(
            AuthorityExceeded.code,
            f"{said!r} is no decision.",
            _asked_again("Please choose APPROVE, REJECT or REWORK."),
        ) from None


def _requirement(row: Mapping[str, Any]) -> approving.Requirement:
    return approving.Requirement(
        type=row["requirementType"],
        level=int(row["level"]),
        approver_group=row["approverGroup"],
        min_authority=Decimal(str(row["minAuthorityDiscountPercent"])),
        sla=DURATION.validate_python(row["slaDuration"]),
    )


def _levels(requirements: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    return [
        {"level": level, "requirements": [_shown(requirement) for requirement in group]}
        for level, group in groupby(requirements, key=lambda requirement: requirement.level)
    ]


def _shown(requirement: Row[Any]) -> dict[str, str]:
    due_at: datetime = requirement.due_at
    return {
        "requirementId": str(requirement.id),
        "requirementType": requirement.type,
        "approverGroup": requirement.approver_group,
        "dueAt": due_at.astimezone(UTC).isoformat(),
    }


def _table(lines: Sequence[Line]) -> str:
    head = "| # | Offering | Quantity | Months | Discount |\n|---:|---|---:|---:|---:|\n"
    rows = [
        f"| {line.line_no} | {CATALOG.offerings[line.product_offering_id].name} | {line.quantity} | {line.term_months} "
        f"| {line.discount_percent:.2f} % |"
        for line in lines[:SHOWN_LINES]
    ]
    more = f"\n\n… and {len(lines) - SHOWN_LINES} more lines" if len(lines) > SHOWN_LINES else ""
    return head + "\n".join(rows) + more
