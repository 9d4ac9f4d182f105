"""Which process may call which: the business keys of the processes that may ask for something on behalf of another one.

A called process has a key of its own, and no correlation: the domain starts its caller only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from domain.delivery import cancellations, steps
from domain.errors import NotFound
from domain.fallout import cases
from domain.offers import approvals
from domain.store import UnitOfWork
from domain.workflows.keys import Kind, parse

CALLING_KEYS: Mapping[Kind, Callable[[UnitOfWork, UUID], Sequence[str]]] = {
    Kind.APPROVAL_REQUIREMENT: approvals.calling_keys,
    Kind.STEP: steps.calling_keys,
    Kind.CANCELLATION: cancellations.calling_keys,
    Kind.RESOLUTION: cases.calling_keys,
    Kind.CONFIRMATION: cases.calling_keys,
}


def keys_of_callers(uow: UnitOfWork, business_key: str) -> Sequence[str]:
    """The business keys of the possible callers of a process; none when the domain starts the process itself, or does not know its subject."""
    try:
        key = parse(business_key)
        calling = CALLING_KEYS.get(key.kind)
        return calling(uow, key.id) if calling else ()
    except (ValueError, NotFound):
        return ()
