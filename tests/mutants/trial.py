"""A new tenant in a transaction that is rolled back: a story may drop constraints and insert rows by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row, select, text

from domain.authority import AuthorityGrant
from domain.offers import withdrawing
from domain.offers.approvals import Decision
from domain.store import Cause, UnitOfWork, table_of
from domain.store.isolation import name_tenant
from tests.support.as_read import Offer, read_offer
from tests.support.database import in_order
from tests.support.offers import OWNER, SIGNATURE, Offers


class Trial(Offers):
    """Every unit of work is a savepoint: a refused command leaves no rows, as in the product."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.engine, uuid4())
        self.connection = connection
        self.publish_prices()
        self.grant_staff()

    @contextmanager
    def uow(self, actor: str = OWNER, command: str = "test") -> Iterator[UnitOfWork]:
        """Open the unit of work of one command of this tenant."""
        with self.connection.begin_nested():
            name_tenant(self.connection, self.tenant_id)
            uow = UnitOfWork(self.connection, Cause(tenant_id=self.tenant_id, actor=actor, command=command))
            yield uow
            uow.flush()

    def quote(self, quote_id: UUID) -> Offer:
        """Read a quote in the transaction of the trial."""
        return read_offer(self.connection, self.tenant_id, quote_id)

    def two_levels(self) -> tuple[Offer, UUID, UUID]:
        """Make a quote in approval that a director signs after the regional sales manager; returns their requirements too."""
        offer = self.quote_in_approval(SIGNATURE, replace(SIGNATURE, level=2, approver_group="approverDirector"))
        first, second = self.requirement_ids(offer)
        return offer, first, second

    def rejected_quote(self) -> Offer:
        """Make a quote that the regional sales manager rejected."""
        offer = self.quote_in_approval()
        return self.decide(offer, self.requirement_ids(offer)[0], Decision.REJECT)

    def expired_quote(self) -> Offer:
        """Make a draft that expired because its end had passed."""
        offer = self.draft_quote()
        self.end_validity(offer)
        with self.uow() as uow:
            withdrawing.expire(uow, withdrawing.ExpireQuote(quote_id=offer.quote_id, expected_version=offer.version))
        return self.quote(offer.quote_id)

    def end_validity(self, offer: Offer) -> None:
        """Put the end of a quote into the past, without a change of its version."""
        self.by_hand("UPDATE quote SET valid_until = clock_timestamp() WHERE tenant_id = :tenant AND id = :id", id=offer.quote_id)

    def by_hand(self, statement: str, **values: Any) -> int:
        """Execute a statement; `:tenant` is this tenant. Returns how many rows it touched. Deferred checks run at once."""
        with self.connection.begin_nested():
            name_tenant(self.connection, self.tenant_id)
            touched = self.connection.execute(text(statement), {"tenant": self.tenant_id, **values}).rowcount
            self.connection.execute(text("SET CONSTRAINTS ALL IMMEDIATE"))
            self.connection.execute(text("SET CONSTRAINTS ALL DEFERRED"))
        return touched

    def count(self, table: str) -> int:
        """Count this tenant's rows of a table."""
        return self.by_hand(f"SELECT FROM {table} WHERE tenant_id = :tenant")

    def grants_of(self, subject: str) -> list[Row[Any]]:
        """List the authority grants of a person."""
        grant = table_of(AuthorityGrant)
        return list(self.connection.execute(in_order(select(*grant.c), grant).filter_by(tenant_id=self.tenant_id, subject=subject)))
