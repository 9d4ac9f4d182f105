"""Ownership: a buyer reaches only quotes and orders of their own customers (OWASP API1:2023).

The rule: the name of the path parameter decides what is checked, so that a new path below a quote or an order needs no check of its own.
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
"""Path parameter -> the aggregate that it names, and that aggregate's name for people."""


def must_own(uow: UnitOfWork, path_parameters: Mapping[str, str], customers: frozenset[str] | None) -> None:
    """Demand that the quote or order of the path belongs to one of these customers (None: to any).

    Raises NotFound: another customer's looks as if it did not exist.
    """
    if customers is None:
        return
    for name in OF_A_CUSTOMER.keys() & path_parameters.keys():
        entity, called = OF_A_CUSTOMER[name]
        if uow.read(entity, UUID(path_parameters[name])).customer_id not in customers:
            raise NotFound(f"{called} does not exist.")
