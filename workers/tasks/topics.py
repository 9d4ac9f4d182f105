"""Every topic of the suite: its handler, what it reads, which BPMN errors it raises. Models are checked against this (`q2o check`)."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Engine as Database

from domain.approvals import AuthorityExceeded, FourEyesViolation, StaleApproval
from domain.orders import OrderInvalid
from domain.prices import StalePrice
from domain.quotes import StaleRevision
from domain.steps import StepObsolete
from domain.workflows import DuplicateWorkflow
from workers.providers.port import Provider
from workers.runtime.engine import Engine
from workers.runtime.settings import Settings
from workers.tasks.approval import Approval
from workers.tasks.contract import Topic
from workers.tasks.fulfillment import Fulfillment
from workers.tasks.registration import Registration

QUOTE = ("tenantId", "quoteId", "quoteRevisionId", "priceResultId")
STEP = ("tenantId", "stepId")
DECISION = ("tenantId", "quoteRevisionId", "priceResultId", "requirementId", "decision", "reasonCode", "comment")


def topics(database: Database, engine: Engine, providers: Mapping[str, Provider], settings: Settings) -> dict[str, Topic]:
    """All topics, ready to run."""
    approval = Approval(database, engine)
    fulfillment = Fulfillment(database, providers, settings.attempt_stale_after)
    known = (
        Topic(
            name="workflow.register",
            handler=Registration(database).register,
            variables=("tenantId", "startToken"),
            errors=(DuplicateWorkflow.code,),
        ),
        Topic(
            name="quote.collect-approval-facts",
            handler=approval.collect_facts,
            variables=QUOTE,
            errors=(StaleRevision.code, StalePrice.code),
        ),
        Topic(
            name="quote.open-requirements",
            handler=approval.open_requirements,
            variables=(*QUOTE, "requirements"),
            errors=(StaleApproval.code,),
        ),
        Topic(
            name="approval.record-decision",
            handler=approval.record_decision,
            variables=DECISION,
            errors=(StaleApproval.code, FourEyesViolation.code, AuthorityExceeded.code),
        ),
        Topic(name="quote.apply-outcome", handler=approval.apply_outcome, variables=("tenantId", "approvalRequestId")),
        Topic(
            name="order.decompose", handler=fulfillment.decompose, variables=("tenantId", "orderId"), errors=(OrderInvalid.code,)
        ),
        Topic(name="fulfillment.check-readiness", handler=fulfillment.check_readiness, variables=STEP),
        Topic(
            name="fulfillment.execute-step",
            handler=fulfillment.execute,
            variables=STEP,
            errors=(StepObsolete.code,),
            heartbeat=fulfillment.heartbeat,
        ),
        Topic(name="fulfillment.check-outcome", handler=fulfillment.check_outcome, variables=STEP),
        Topic(name="order.evaluate", handler=fulfillment.evaluate, variables=("tenantId", "orderId")),
    )
    return {topic.name: topic for topic in known}
