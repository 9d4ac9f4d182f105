"""The BPMN messages that the domain sends to waiting processes: the name of each, its variables, and for how long it matters.

A message is written here once. The commands queue it with `correlate`, and `q2o check` compares the models with these constants.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from domain.store import UnitOfWork
from domain.store.facts import WorkflowCommandKind

# A process that waits for a message about a step or an order asks the domain itself every 30 s: after two rounds it has asked
# (docs/decisions/0006-expired-messages.md).
MESSAGE_MATTERS: Final = timedelta(seconds=60)
# The process of a fallout case asks the domain itself every ten minutes.
CHANGE_MATTERS: Final = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message that the models receive. Without `matters_for` the engine must get it, because its process never asks by itself.

    `looked_for`: before it is sent, the engine is asked whether the process has the variables that it sets. A repeat would begin its work
    again, or find no process that waits for it and be tried for an hour.
    """

    name: str
    variables: tuple[str, ...] = ()
    matters_for: timedelta | None = None
    looked_for: bool = False

    def correlate(self, uow: UnitOfWork, business_key: str, **variables: Any) -> None:
        """Queue this message for the process of a business key. Raises ValueError for variables other than the declared ones."""
        if set(variables) != set(self.variables):
            raise ValueError(f"{self.name} carries {sorted(self.variables)}, not {sorted(variables)}")
        uow.ask_engine(WorkflowCommandKind.CORRELATE, self.name, business_key, variables, self.matters_for)


# Each ends the approval process of one quote revision.
QUOTE_REVISION_SUPERSEDED: Final = Message(name="QuoteRevisionSuperseded")
QUOTE_APPROVAL_RECALLED: Final = Message(name="QuoteApprovalRecalled")
QUOTE_CANCELLED: Final = Message(name="QuoteCancelled")
QUOTE_EXPIRED: Final = Message(name="QuoteExpired")

# An order's process that missed these two would go on as if nobody had asked for a cancellation.
ORDER_CANCELLATION_REQUESTED: Final = Message(name="OrderCancellationRequested", variables=("cancellation_id",), looked_for=True)
ORDER_CANCELLATION_ACCEPTED: Final = Message(
    name="OrderCancellationAccepted", variables=("accepted_cancellation_id",), looked_for=True
)
ORDER_RESUMED: Final = Message(name="OrderResumed", matters_for=MESSAGE_MATTERS)

FULFILLMENT_STEP_READY: Final = Message(name="FulfillmentStepReady", matters_for=MESSAGE_MATTERS)
PROVIDER_CALLBACK_RECEIVED: Final = Message(
    name="ProviderCallbackReceived",
    variables=("step_outcome", "failure_class", "attempt_no", "provider_name"),
    matters_for=MESSAGE_MATTERS,
)

FALLOUT_CASE_CHANGED: Final = Message(name="FalloutCaseChanged", matters_for=CHANGE_MATTERS)

ALL: Final = (
    QUOTE_REVISION_SUPERSEDED,
    QUOTE_APPROVAL_RECALLED,
    QUOTE_CANCELLED,
    QUOTE_EXPIRED,
    ORDER_CANCELLATION_REQUESTED,
    ORDER_CANCELLATION_ACCEPTED,
    ORDER_RESUMED,
    FULFILLMENT_STEP_READY,
    PROVIDER_CALLBACK_RECEIVED,
    FALLOUT_CASE_CHANGED,
)
LOOKED_FOR: Final = frozenset(message.name for message in ALL if message.looked_for)
