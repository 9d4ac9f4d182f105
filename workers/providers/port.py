"""What a fulfilment step needs of an external provider.

The rule it keeps: a call ends in exactly one of four ways: a reply, proof that nothing was sent, a refusal to take the call as it is, or an
unknown outcome. An outcome that is not proven is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class ReplyStatus(StrEnum):
    """What the provider replies about one request; ACCEPTED: a callback follows, CANCELLED: the request has no effect (any more).

    A request to cancel is COMPLETED or REJECTED; CANCELLED about it says nothing about the step.
    """

    ACCEPTED = "ACCEPTED"
    COMPLETED = "COMPLETED"
    REJECTED = "REJECTED"
    CANCELLED = "CANCELLED"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderRequest:
    """One request to a provider; every attempt of it carries the same `idempotency_key`.

    `compensates` is the key of the request whose effect this one undoes; None for a request that fulfils. `instructions` are what a person has
    added to the request.
    """

    idempotency_key: str
    step_ref: str
    step_code: str
    product_offering_id: str
    quantity: int
    order_ref: str
    compensates: str | None = None
    instructions: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRequest:
    """The wish that the request under `request_key` has no effect; it is sent under a key of its own."""

    idempotency_key: str
    request_key: str
    step_ref: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderReply:
    """The provider's reply: its own id of the request, the reference of the effect, the reason of a rejection."""

    status: ReplyStatus
    request_id: str | None = None
    external_ref: str | None = None
    reason: str | None = None


class ProviderError(Exception):
    """The call gave no reply."""


class ProviderUnavailableError(ProviderError):
    """Proven: nothing of this call was sent, so it has no effect."""


class ProviderOutcomeUnknownError(ProviderError):
    """The call may have had its effect; only the provider's ledger or a callback can prove it."""


class ProviderContractError(ProviderError):
    """The provider refuses the call as it is, and a repetition cannot help; an earlier call with this key may have had its effect."""


class Provider(Protocol):
    """The port: two commands, and one question about a command that was sent earlier."""

    def execute(self, request: ProviderRequest) -> ProviderReply:
        """Ask for the effect; it comes once per idempotency key, however often this is called.

        Raises ProviderUnavailableError, ProviderOutcomeUnknownError, ProviderContractError.
        """

    def cancel(self, request: CancelRequest) -> ProviderReply | None:
        """Ask that an earlier request has no effect: COMPLETED when it has none, REJECTED when it is too late.

        None: the provider never saw the request that is to be cancelled, which may still be on its way.
        Raises ProviderUnavailableError, ProviderOutcomeUnknownError, ProviderContractError.
        """

    def query(self, idempotency_key: str) -> ProviderReply | None:
        """Ask what became of a key; None: the provider says that it never saw the key.

        Raises ProviderUnavailableError, ProviderOutcomeUnknownError.
        """
