"""All topics of the suite, and what the domain and the rules give to the models beside them.

Everything but `topics` is data, so `q2o check` compares the models with it without a database or an engine.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Engine as Database

from domain import messages
from domain.store.base import camel
from domain.workflows.keys import Kind
from workers.pod.contract import Topic
from workers.providers.port import Provider
from workers.runtime.engine import Engine
from workers.runtime.settings import Settings
from workers.tasks.approval import Approval
from workers.tasks.cancellation import Cancellation
from workers.tasks.casework import Casework
from workers.tasks.contracts import contracts_of, topics_of
from workers.tasks.escalation import Escalation
from workers.tasks.fallout import Fallout
from workers.tasks.fulfillment import Fulfillment
from workers.tasks.orders import Orders
from workers.tasks.registration import Registration
from workers.tasks.subjects import Subjects

# Process -> the variables that the domain starts it with.
STARTS: Mapping[str, tuple[str, ...]] = {
    "quote-approval": ("tenantId", "quoteId", "quoteRevisionId", "priceResultId", "startToken"),
    "order-fulfillment": ("tenantId", "orderId", "startToken"),
    "fallout-case": ("tenantId", "caseId", "orderId", "stepId", "startToken"),
    "late-compensation": ("tenantId", "stepId", "orderId", "stepCode", "startToken"),
}
# Process -> the first word of its business key.
ACTS_FOR: Mapping[str, Kind] = {
    "quote-approval": Kind.QUOTE_REVISION,
    "order-fulfillment": Kind.ORDER,
    "fallout-case": Kind.FALLOUT_CASE,
    "late-compensation": Kind.UNDO_STEP,
}
# Message -> the variables that the domain sends with it.
SENT: Mapping[str, tuple[str, ...]] = {message.name: tuple(camel(name) for name in message.variables) for message in messages.ALL}
# Loop variable -> the fields of each element of its list.
ELEMENTS: Mapping[str, tuple[str, ...]] = {
    "level": ("level", "requirements"),
    "requirement": ("requirementId",),
    # Steps to fulfil, to cancel or to undo; a cancellation does not depend on `ready`.
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

HANDLERS = (Registration, Approval, Escalation, Orders, Cancellation, Fulfillment, Fallout, Casework)
CONTRACTS = contracts_of(*HANDLERS)


def topics(database: Database, engine: Engine, providers: Mapping[str, Provider], settings: Settings) -> dict[str, Topic]:
    """All topics, ready to run."""
    return topics_of(
        [
            Registration(database),
            Approval(database, engine),
            Escalation(database, engine),
            Orders(database, engine),
            Cancellation(database, engine),
            Fulfillment(database, engine, providers, settings.attempt_stale_after),
            Fallout(database, engine),
            Casework(database, engine),
        ],
        Subjects(database, engine),
    )
