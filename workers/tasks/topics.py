"""Every topic of the suite: what it reads and sets, which BPMN errors it raises, and the code behind it.

`CONTRACTS` is data, so that models can be held against it without a database or an engine (`q2o check`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Engine as Database

from domain import messages
from domain.delivery.orders import DecompositionFailed, OrderInvalid
from domain.delivery.steps import StepObsolete
from domain.offers.approvals import ApprovalAlreadyDecided, AuthorityExceeded, FourEyesViolation, StaleApproval
from domain.offers.prices import StalePrice
from domain.offers.quotes import StaleRevision
from domain.store.base import camel
from domain.workflows.starts import DuplicateWorkflow
from workers.pod.contract import Handler, Topic
from workers.providers.port import Provider
from workers.runtime.engine import Engine
from workers.runtime.settings import Settings
from workers.tasks.approval import Approval
from workers.tasks.escalation import Escalation
from workers.tasks.fallout import Fallout
from workers.tasks.fulfillment import Fulfillment
from workers.tasks.orders import Orders
from workers.tasks.registration import Registration


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What a model may count on: the variables that a topic reads and sets, the error codes that it may raise."""

    name: str
    variables: tuple[str, ...]
    sets: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()


QUOTE = ("tenantId", "quoteId", "quoteRevisionId", "priceResultId")
ORDER = ("tenantId", "orderId")
STEP = ("tenantId", "stepId")
CASE = ("tenantId", "caseId")
OUTCOME = ("stepOutcome", "failureClass", "attemptNo", "providerName")
RESOLUTION = ("orderId", "resolution", "externalReference", "evidence")
SHOWN_CASE = (
    "caseNumber",
    "caseTitle",
    "caseType",
    "caseSeverity",
    "orderNumber",
    "stepCode",
    "stepStatus",
    "whatHappened",
    "timelineText",
    "attemptsText",
    "allowedText",
    "confirmationText",
)
CANCELLATION_FACTS = ("ponrReached", "stepsCompleted", "stepsInFlight", "stepsOpen", "undoableSteps", "orderValue")
SHOWN_CANCELLATION = ("orderNumber", "customerId", "cancellationReason", "requestedBy", "orderValueText", "stepsText")
DECISION = ("tenantId", "quoteRevisionId", "priceResultId", "requirementId", "decision", "reasonCode", "comment")
ANSWER = ("decision", "reasonCode", "comment", "decisionRefused")
POLICY_FACTS = ("maxDiscountPercent", "marginPercent", "dealAmount", "region", "productFamily", "paymentTermDays", "priceStale")
CHANGES = ("hasBasis", "discountChange", "marginChange", "dealAmountChange", "paymentTermChange", "linesAdded", "basisAgeDays")
SHOWN = (
    "quoteNumber",
    "revisionNo",
    "customerId",
    "ownerUserId",
    "currency",
    "listTotal",
    "netTotal",
    "priceValidUntil",
    "comparedText",
    "linesText",
    "decisionsText",
)

# Process -> the variables that the domain starts it with.
STARTS: Mapping[str, tuple[str, ...]] = {
    "quote-approval": (*QUOTE, "startToken"),
    "order-fulfillment": (*ORDER, "startToken"),
    "fallout-case": (*CASE, "orderId", "stepId", "startToken"),
    "late-compensation": (*STEP, "orderId", "stepCode", "startToken"),
}
# Message -> the variables that the domain sends with it.
SENT: Mapping[str, tuple[str, ...]] = {message.name: tuple(camel(name) for name in message.variables) for message in messages.ALL}
# Loop variable -> what the worker that delivers the list says of each of its elements.
ELEMENTS: Mapping[str, tuple[str, ...]] = {
    "level": ("level", "requirements"),
    "requirement": (
        "requirementId",
        "requirementType",
        "because",
        "approverGroup",
        "remindAt",
        "dueAt",
        "escalationLevel",
    ),
    # Steps to be fulfilled, cancelled, undone; what is to be cancelled is not asked whether it is ready.
    "step": ("stepId", "stepCode", "ready"),
}
# Decision -> the outputs that `quote.open-requirements` reads.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "approval-requirements": (
        "level",
        "requirementType",
        "approverGroup",
        "minAuthorityDiscountPercent",
        "slaDuration",
        "because",
    ),
}

CONTRACTS: Mapping[str, Contract] = {
    contract.name: contract
    for contract in (
        Contract(name="workflow.register", variables=("tenantId", "startToken"), errors=(DuplicateWorkflow.code,)),
        Contract(
            name="quote.collect-approval-facts",
            variables=QUOTE,
            sets=(*POLICY_FACTS, *CHANGES, *SHOWN),
            errors=(StaleRevision.code, StalePrice.code),
        ),
        Contract(
            name="quote.open-requirements",
            variables=(*QUOTE, "requirements", "reuse"),
            sets=("approvalRequestId", "approvalNeeded", "approvalReused", "levels", "rulesText"),
            errors=(StaleApproval.code,),
        ),
        Contract(
            name="approval.record-decision",
            variables=DECISION,
            sets=("requirementOutcome", "approvalOutcome", "levels", *ANSWER),
            errors=(StaleApproval.code, FourEyesViolation.code, AuthorityExceeded.code),
        ),
        Contract(
            name="approval.remind-approver", variables=("tenantId", "requirementId", "escalationLevel"), sets=("reminderNotice",)
        ),
        Contract(
            name="approval.escalate-requirement",
            variables=(
                "tenantId",
                "requirementId",
                "approverGroup",
                "escalationLevel",
                "nextApproverGroup",
                "slaDuration",
                "decision",
                "reasonCode",
                "comment",
            ),
            sets=("approverGroup", "remindAt", "dueAt", "escalationLevel", "escalationNotice", "reminderNotice", *ANSWER),
            errors=(StaleApproval.code, ApprovalAlreadyDecided.code),
        ),
        Contract(name="quote.apply-outcome", variables=("tenantId", "approvalRequestId"), sets=("approvalOutcome",)),
        Contract(name="order.decompose", variables=ORDER, sets=("steps",), errors=(OrderInvalid.code, DecompositionFailed.code)),
        Contract(name="order.evaluate", variables=ORDER, sets=("orderOutcome", "compensations")),
        Contract(name="order.list-cancellations", variables=ORDER, sets=("cancellations",)),
        Contract(
            name="order.collect-cancellation-facts",
            variables=(*ORDER, "cancellationId"),
            sets=(*CANCELLATION_FACTS, *SHOWN_CANCELLATION),
        ),
        Contract(
            name="order.decide-cancellation",
            variables=(*ORDER, "cancellationId", "cancellationDecision", "decisionReason", "assessmentReason"),
            sets=("cancellationOutcome",),
        ),
        Contract(name="order.assess-jeopardy", variables=ORDER, sets=("usedPercent", "openSteps", "heldSteps")),
        Contract(name="order.record-jeopardy", variables=(*ORDER, "jeopardyLevel")),
        Contract(name="fulfillment.check-readiness", variables=STEP, sets=("readiness",)),
        Contract(name="fulfillment.execute-step", variables=STEP, sets=OUTCOME, errors=(StepObsolete.code,)),
        Contract(name="fulfillment.check-outcome", variables=STEP, sets=OUTCOME),
        Contract(name="fulfillment.cancel-step", variables=STEP, sets=OUTCOME),
        Contract(name="fulfillment.fail-step", variables=STEP, sets=OUTCOME),
        Contract(
            name="fallout.open-case",
            variables=(*ORDER, "stepId", "falloutQueue", "falloutSeverity", "falloutSla"),
            sets=("caseId", "stepOutcome"),
        ),
        Contract(
            name="fallout.prepare-case",
            variables=CASE,
            sets=("caseStatus", "caseQueue", "caseOwner", "claimDueAt", "dueAt", *SHOWN_CASE),
        ),
        Contract(name="fallout.apply-resolution", variables=(*CASE, *RESOLUTION), sets=("resolutionOutcome", "resolutionRefused")),
        Contract(
            name="fallout.confirm-resolution",
            variables=(*CASE, *RESOLUTION, "confirmed", "confirmationComment"),
            sets=("resolutionOutcome", "resolutionRefused"),
        ),
        Contract(name="fallout.escalate", variables=(*CASE, "escalationCause")),
    )
}


def topics(database: Database, engine: Engine, providers: Mapping[str, Provider], settings: Settings) -> dict[str, Topic]:
    """All topics, ready to run."""
    approval, escalation = Approval(database, engine), Escalation(database, engine)
    fulfillment = Fulfillment(database, providers, settings.attempt_stale_after)
    order, fallout = Orders(database, engine), Fallout(database, engine)
    handlers: dict[str, Handler] = {
        "workflow.register": Registration(database).register,
        "quote.collect-approval-facts": approval.collect_facts,
        "quote.open-requirements": approval.open_requirements,
        "approval.record-decision": approval.record_decision,
        "approval.remind-approver": escalation.remind,
        "approval.escalate-requirement": escalation.escalate,
        "quote.apply-outcome": approval.apply_outcome,
        "order.decompose": order.decompose,
        "fulfillment.check-readiness": fulfillment.check_readiness,
        "fulfillment.execute-step": fulfillment.execute,
        "fulfillment.check-outcome": fulfillment.check_outcome,
        "fulfillment.cancel-step": fulfillment.cancel,
        "fulfillment.fail-step": fulfillment.fail,
        "order.evaluate": order.evaluate,
        "order.list-cancellations": order.list_cancellations,
        "order.collect-cancellation-facts": order.collect_cancellation_facts,
        "order.decide-cancellation": order.decide_cancellation,
        "order.assess-jeopardy": order.assess_jeopardy,
        "order.record-jeopardy": order.record_jeopardy,
        "fallout.open-case": fallout.open_case,
        "fallout.prepare-case": fallout.prepare_case,
        "fallout.apply-resolution": fallout.apply_resolution,
        "fallout.confirm-resolution": fallout.confirm_resolution,
        "fallout.escalate": fallout.escalate,
    }
    signs_of_life = dict.fromkeys(("fulfillment.execute-step", "fulfillment.cancel-step"), fulfillment.heartbeat)
    return {
        name: Topic(
            name=name,
            handler=handlers[name],
            variables=contract.variables,
            errors=contract.errors,
            heartbeat=signs_of_life.get(name),
        )
        for name, contract in CONTRACTS.items()
    }
