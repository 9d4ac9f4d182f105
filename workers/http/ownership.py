"""Whose is it: the check on every quote and order that a path names (OWASP API1:2023).

The rule: it hangs on the name of the path's parameter, not on the route, so that a new path below a quote or an order is checked by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from domain.delivery.orders import SalesOrder
from domain.errors import NotFound
from domain.offers.quotes import Quote
from domain.store import UnitOfWork

OF_A_CUSTOMER: Mapping[str, tuple[Any, str]] = {"quoteId": (Quote, "Quote"), "orderId": (SalesOrder, "Sales order")}
"""Path parameter -> what it names, and how people call it."""


def must_own(uow: UnitOfWork, named: Mapping[str, str], customers: frozenset[str] | None) -> None:
    """Demand that what the path names belongs to one of these customers (None: to any). Raises NotFound, as for what is not there."""
    if customers is None:
        return
    for name in OF_A_CUSTOMER.keys() & named.keys():
        entity, called = OF_A_CUSTOMER[name]
        if uow.read(entity, UUID(named[name])).customer_id not in customers:
            raise NotFound(f"{called} does not exist.")
