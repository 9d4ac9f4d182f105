"""A settled tenant to audit, a transaction to plant bad history in, and what an audit's report says."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, text

from reconciliation.audit import AuditReport
from tests.support.database import empty
from tests.support.offers import Offers
from tests.support.planting import OTHER_TENANT, UNPROTECT
from tests.support.settled import Settled


@pytest.fixture(scope="module")
def settled(migrated: Engine) -> Iterator[Settled]:
    """Two fulfilled orders, an open approval and a revised quote; beside it another tenant with a quote."""
    empty(migrated)
    for tenant_id in (UUID(OTHER_TENANT), uuid4()):
        offers = Offers(migrated, tenant_id)
        offers.publish_prices()
        offers.grant_authority()
        if tenant_id == UUID(OTHER_TENANT):
            offers.draft_quote()
    yield Settled(offers)
    empty(migrated)


@pytest.fixture
def planted(settled: Settled) -> Iterator[Connection]:
    """A transaction in which nothing protects the data, and of which nothing stays."""
    with settled.offers.engine.connect() as connection:
        connection.execute(text(UNPROTECT))
        yield connection
        connection.rollback()


def broken(report: AuditReport) -> list[str]:
    """Codes of the checks that found something."""
    return [check.code for check in report.checks if not check.passed]


def figures(report: AuditReport, code: str) -> dict[str, int]:
    return dict(next(check.counted for check in report.checks if check.code == code))
