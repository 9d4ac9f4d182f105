"""Tenants for a race that is run once for several tests. Such a race keeps what its tests ask for: the next one empties the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest
from sqlalchemy import Engine

from tests.support.database import empty
from tests.support.http import Api
from tests.support.offers import Offers, offers_of_new_tenant
from workers.http.edge import HttpEdge


@pytest.fixture(scope="module")
def new_offers(migrated: Engine) -> Callable[[], Offers]:
    """A function that empties the database and returns the builders of a new tenant. Each race calls it once."""

    def make() -> Offers:
        empty(migrated)
        return offers_of_new_tenant(migrated)

    return make


@pytest.fixture(scope="module")
def api_of(edge: HttpEdge) -> Iterator[Callable[[Offers], Api]]:
    """Give the edge for the tenant of some offers."""
    with httpx.Client(base_url=edge.address, timeout=30) as client:
        yield lambda offers: Api(client=client, tenant_id=offers.tenant_id)
