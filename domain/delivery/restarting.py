"""Restarting the process of an aggregate: a new instance takes the place of the registered one, and goes on where the business stands.

A new instance finds in the domain what is done: signatures, steps, outcomes, cases. Only what an order's process learns by a message alone,
its cancellation, is said once more.
"""

from __future__ import annotations

from domain.delivery import cancelling
from domain.delivery.orders import SalesOrder
from domain.store import UnitOfWork
from domain.workflows import requests, restarts, starts
from domain.workflows.keys import Kind, parse
from domain.workflows.starts import CorrelationStatus


def restart(uow: UnitOfWork, business_key: str, process_instance_id: str | None) -> None:
    """Let a new instance take the place of this one; None: the start has failed, so there is no old instance.

    The caller ends the old instance afterwards.

    Raises CorrelationMovedOn when this instance is not the registered one any more, NotFound when the domain has asked for none.
    """
    key = parse(business_key)
    if key.kind is not Kind.ORDER:
        restarts.restart(uow, business_key, process_instance_id)
        return
    # A request to cancel the order waits, or is seen: it must not expire with what is queued for the old instance.
    uow.read(SalesOrder, key.id, lock=True)
    cancellation = cancelling.open_request(uow, key.id)
    restarts.restart(uow, business_key, process_instance_id)
    if cancellation is not None:
        cancelling.tell_again(uow, cancellation)


def ask_again(uow: UnitOfWork, business_key: str) -> None:
    """Let a process go on after a person's decision: its start, or what was given up for it, is asked for again."""
    if starts.status_of(uow, business_key) == CorrelationStatus.START_FAILED:
        restart(uow, business_key, None)
    else:
        requests.ask_again(uow, business_key)
