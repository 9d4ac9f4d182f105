"""Every topic of the suite: what it reads and sets, which BPMN errors it raises, and the code behind it.

`CONTRACTS` is data, so that models can be held against it without a database or an engine (`q2o check`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Engine as Database

from domain.approvals import ApprovalAlreadyDecided, AuthorityExceeded, FourEyesViolation, StaleApproval
from domain.orders import OrderInvalid
from domain.prices import StalePrice
from domain.quotes import StaleRevision
from domain.steps import StepObsolete
from domain.workflows import DuplicateWorkflow
from workers.providers.port import Provider
from workers.runtime.engine import Engine
from workers.runtime.settings import Settings
from workers.tasks.approval import Approval
from workers.tasks.contract import Handler, Topic
from workers.tasks.escalation import Escalation
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
}
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
        Contract(name="order.decompose", variables=ORDER, sets=("steps",), errors=(OrderInvalid.code,)),
        Contract(name="fulfillment.check-readiness", variables=STEP, sets=("readiness",)),
        Contract(name="fulfillment.execute-step", variables=STEP, sets=("stepOutcome",), errors=(StepObsolete.code,)),
        Contract(name="fulfillment.check-outcome", variables=STEP, sets=("stepOutcome",)),
        Contract(name="order.evaluate", variables=ORDER, sets=("orderOutcome",)),
    )
}


def topics(database: Database, engine: Engine, providers: Mapping[str, Provider], settings: Settings) -> dict[str, Topic]:
    """All topics, ready to run."""
    approval, escalation = Approval(database, engine), Escalation(database, engine)
    fulfillment = Fulfillment(database, providers, settings.attempt_stale_after)
    order = Orders(database, engine)
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
        "order.evaluate": order.evaluate,
    }
    signs_of_life = {"fulfillment.execute-step": fulfillment.heartbeat}
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
