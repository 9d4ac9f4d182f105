"""What a fulfilment step needs of an external provider, whoever it is.

The rule: a call ends in exactly one of four ways: a reply, proof that nothing was sent, a refusal to speak of the request, or
an unknown outcome. What is not proven is unknown; nothing here guesses.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class ReplyStatus(StrEnum):
    """What the provider says about one request; ACCEPTED means that a callback follows, CANCELLED that its effect is not (any more) there."""

    ACCEPTED = "ACCEPTED"
    COMPLETED = "COMPLETED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRequest:
    """One request to a provider; every repetition of it carries the same `idempotency_key`.

    `compensates` is the key of the request whose effect is to be undone; None for one that fulfils.
    """

    idempotency_key: str
    step_ref: str
    step_code: str
    product_offering_id: str
    quantity: int
    order_ref: str
    compensates: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequest:
    """The wish that the request under `request_key` shall have no effect; a command with a key of its own."""

    idempotency_key: str
    request_key: str
    step_ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderReply:
    """The provider's word on a request: its own id of it, the reference of the effect, the reason of a rejection."""

    status: ReplyStatus
    request_id: str | None = None
    external_ref: str | None = None
    reason: str | None = None


class ProviderError(Exception):
    """The call gave no reply."""


class ProviderUnavailableError(ProviderError):
    """Proven: nothing of this call was sent, so it has no effect."""


class ProviderOutcomeUnknownError(ProviderError):
    """The call may have had its effect; only the provider's ledger or a callback can tell."""


class ProviderContractError(ProviderError):
    """The provider refuses to take the call as it is, and repeating it cannot help; an earlier call with this key may have its effect."""


class Provider(Protocol):
    """The port: one command, and one question about a command sent earlier."""

    def execute(self, request: ProviderRequest) -> ProviderReply:
        """Ask for the effect, once per idempotency key however often it is called.

        Raises ProviderUnavailableError, ProviderOutcomeUnknownError, ProviderContractError.
        """

    def cancel(self, request: CancelRequest) -> ProviderReply | None:
        """Ask that an earlier request shall have no effect: COMPLETED when it has none, REJECTED when it is too late.

        None means that the provider never saw the request that is to be cancelled, which may still be on its way.
        Raises ProviderUnavailableError, ProviderOutcomeUnknownError, ProviderContractError.
        """

    def query(self, idempotency_key: str) -> ProviderReply | None:
        """Tell what became of a key; None means that the provider says it never saw it.

        Raises ProviderUnavailableError, ProviderOutcomeUnknownError.
        """
