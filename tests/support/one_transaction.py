"""The commands of a quote and its order in one transaction, which is rolled back: so they can be measured in any database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from domain.delivery.resolving import Resolution
from domain.delivery.steps import FailureClass, StepEvent
from domain.store import UnitOfWork
from tests.support.fulfilment import Fulfilment
from tests.support.held import CHECK, RESERVE, open_case
from tests.support.offers import ANNA, Offers
from tests.support.reconciling import callback


class InOneTransaction(Offers):
    """Offers whose commands share the transaction of one unit of work. Nothing is committed."""

    def __init__(self, uow: UnitOfWork, offers: Offers) -> None:
        super().__init__(offers.engine, offers.tenant_id)
        self._uow = uow

    @contextmanager
    def uow(self, *_: str, **__: str) -> Iterator[UnitOfWork]:
        """The unit of work that all share. What it has collected is sent at the end of each command, as before a COMMIT."""
        yield self._uow
        self._uow.flush()


def offer_and_deliver(uow: UnitOfWork, offers: Offers) -> None:
    """Take a quote from its creation to its acceptance, and its order to a held step, a person's resolution and a cancellation."""
    work = Fulfilment.running(InOneTransaction(uow, offers))
    work.start(CHECK)
    callback(work.offers, work.step(CHECK).id)
    work.start(RESERVE)
    work.say(RESERVE, StepEvent.FAIL_FINALLY, failure_class=FailureClass.REJECTED, reason="no such article")
    open_case(work)
    work.claim(ANNA)
    work.resolve(ANNA, Resolution.RETRY)
    work.cancel()
