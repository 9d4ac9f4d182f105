"""Fixtures for the audit: a settled tenant, and a transaction in which a test plants bad history."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Connection, Engine, text

from domain.auditing.invariants import INVARIANTS, Side
from reconciliation.audit_report import AuditReport
from tests.support.database import empty
from tests.support.offers import Offers
from tests.support.planting import OTHER_TENANT, UNPROTECT
from tests.support.settled import Settled

OF_CLIENTS = {code for code, invariant in INVARIANTS.items() if invariant.side is Side.CLIENTS}


@pytest.fixture(scope="module")
def settled(migrated: Engine) -> Iterator[Settled]:
    """Make a tenant with two fulfilled orders, an open approval and a revised quote, and another tenant with a quote."""
    empty(migrated)
    for tenant_id in (UUID(OTHER_TENANT), uuid4()):
        offers = Offers(migrated, tenant_id)
        offers.publish_prices()
        offers.grant_staff()
        if tenant_id == UUID(OTHER_TENANT):
            offers.draft_quote()
    yield Settled(offers)
    empty(migrated)


@pytest.fixture
def planted(settled: Settled) -> Iterator[Connection]:
    """Open a transaction without constraints and triggers; it is rolled back at the end."""
    with settled.offers.engine.connect() as connection:
        connection.execute(text(UNPROTECT))
        yield connection
        connection.rollback()


def broken(report: AuditReport) -> list[str]:
    """List the codes of the checks that found something."""
    return [check.code for check in report.checks if check.violations]


def wrong(report: AuditReport) -> list[str]:
    """List a sentence for each violation and for everything that was not looked at, although all sides were there to be read.

    Only what needs a record of the clients may be left out: nobody gave one.
    """
    broken = [f"{check.code}: {sentence}" for check in report.checks for sentence in check.violations]
    unseen = [
        f"{check.code} was not looked at: {check.unseen}"
        for check in report.checks
        if check.unseen and check.code not in OF_CLIENTS
    ]
    return [*broken, *unseen, *(f"out of reach: {reason}" for reason in report.out_of_reach)]


def figures(report: AuditReport, code: str) -> dict[str, int]:
    return dict(next(check.counted for check in report.checks if check.code == code))
