"""A worker that stands still between its claim and its request sends nothing: reconciliation may have concluded that the request never left."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain, repeat
from types import SimpleNamespace

import pytest

from tests.support.fulfilment import Fulfilment
from tests.support.handled import handler_of, task_of
from tests.support.offers import Offers
from workers.providers.port import (
    CancelRequest,
    ProviderOutcomeUnknownError,
    ProviderReply,
    ProviderRequest,
    ProviderUnavailableError,
    ReplyStatus,
)
from workers.tasks import fulfillment

RESERVE = "RESERVE_INVENTORY"
STALE_SECONDS = 60  # of the handler in tests/support/handled.py


@dataclass
class Accepting:
    """A provider that accepts everything, and remembers the keys."""

    sent: list[str] = field(default_factory=list)

    def execute(self, request: ProviderRequest) -> ProviderReply:
        return self._accept(request.idempotency_key)

    def cancel(self, request: CancelRequest) -> ProviderReply:
        return self._accept(request.idempotency_key)

    def query(self, idempotency_key: str) -> ProviderReply | None:
        raise ProviderOutcomeUnknownError(idempotency_key)

    def _accept(self, key: str) -> ProviderReply:
        self.sent.append(key)
        return ProviderReply(status=ReplyStatus.ACCEPTED, request_id="request-1")


@pytest.fixture
def provider() -> Accepting:
    return Accepting()


@pytest.fixture
def stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second look at the clock on, more than half of the time has passed after which a silent worker counts as dead."""
    looks = chain([0.0], repeat(STALE_SECONDS / 2 + 1))
    monkeypatch.setattr(fulfillment, "time", SimpleNamespace(monotonic=lambda: next(looks)))


@pytest.mark.usefixtures("stands_still")
def test_its_request_never_leaves(offers: Offers, provider: Accepting) -> None:
    """Kills: a step that is carried out at a provider for an order that was cancelled meanwhile."""
    work = Fulfilment.running(offers)

    with pytest.raises(ProviderUnavailableError, match="stood still"):
        handler_of(work, {"sandbox": provider}).execute(*task_of(work, RESERVE))

    assert (provider.sent, work.step(RESERVE).status) == ([], "RETRYABLE")


@pytest.mark.usefixtures("stands_still")
def test_its_request_to_cancel_never_leaves(offers: Offers, provider: Accepting) -> None:
    work = Fulfilment.running(offers)
    work.start(RESERVE)
    work.cancel()

    with pytest.raises(ProviderUnavailableError, match="stood still"):
        handler_of(work, {"sandbox": provider}).cancel(*task_of(work, RESERVE))

    assert (provider.sent, work.step(RESERVE).status) == ([], "CANCEL_REQUESTED")


def test_the_request_of_one_that_goes_on_leaves(offers: Offers, provider: Accepting) -> None:
    work = Fulfilment.running(offers)

    handler_of(work, {"sandbox": provider}).execute(*task_of(work, RESERVE))

    assert (len(provider.sent), work.step(RESERVE).status) == (1, "IN_PROGRESS")
