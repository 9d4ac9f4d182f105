"""Approved quotes by the thousand: copies of one that the domain's own commands made, each to be accepted once.

Every id of copy `n` is the original's id with `n` in its first four bytes, here and in the database, so nobody has to look one up.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID, uuid4

from sqlalchemy import Engine, Table, Uuid, select, text

from domain import accepting
from domain.offers.approvals import ApprovalRequest, ApprovalRequirement
from domain.offers.documents import QuoteDocument
from domain.offers.prices import ConfigurationResult, PriceResult
from domain.offers.quotes import Quote, QuoteLine, QuoteRevision
from domain.store import Answer, Cause, as_json, once, remember, table_of, unit_of_work
from domain.store.isolation import name_tenant
from tests.support.offers import CUSTOMER, Offers

# What an acceptance reads, parents first.
TABLES = [
    table_of(entity)
    for entity in (
        Quote,
        QuoteRevision,
        QuoteLine,
        ConfigurationResult,
        PriceResult,
        ApprovalRequest,
        ApprovalRequirement,
        QuoteDocument,
    )
]
NAMED = ("quote_id", "revision_id", "price_result_id", "approval_request_id", "document_id")
_UUID = re.compile(r"[0-9a-f]{8}((-[0-9a-f]{4}){3}-[0-9a-f]{12})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Copies:
    """How a copy's ids follow from its number; small enough to be sent to another process."""

    tenant_id: UUID
    version: int
    ids: Mapping[str, UUID]

    def renamed(self, told: str, number: int) -> str:
        """A text with every id in it, except the tenant's, as copy `number` has it."""
        return _UUID.sub(lambda found: self._other(found, number), told)

    def _other(self, found: re.Match[str], number: int) -> str:
        return found[0] if found[0] == str(self.tenant_id) else f"{number:08x}{found[1]}"

    def acceptance(self, number: int) -> accepting.AcceptQuote:
        """The command that accepts copy `number`."""
        ids = {name: UUID(self.renamed(str(known), number)) for name, known in self.ids.items()}
        return accepting.AcceptQuote(expected_version=self.version, channel="WEB", **ids)


class Approved:
    """The supply. Numbers are given out once."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.offers = Offers(engine, uuid4())
        self.offers.publish_prices()
        self.offers.grant_authority()
        original = self.offers.approved_quote()
        ids = {name: getattr(original, name) for name in NAMED}
        self.copies = Copies(tenant_id=self.offers.tenant_id, version=original.version, ids=ids)
        with engine.connect() as connection:
            self._originals = {table: connection.scalars(select(table.c.id)).all() for table in TABLES}
        self._made = 0

    def supply(self, count: int) -> range:
        """Make `count` copies; returns their numbers."""
        numbers = range(self._made + 1, self._made + 1 + count)
        self._made += count
        with self.engine.begin() as connection:
            name_tenant(connection, self.copies.tenant_id)  # quotes are numbered per tenant
            # Lines are copied after their revision was frozen, which the trigger refuses to everybody else.
            connection.execute(text("ALTER TABLE quote_line DISABLE TRIGGER quote_line_frozen"))
            for table in TABLES:
                bounds = {"first": numbers.start, "last": numbers.stop - 1, "ids": self._originals[table]}
                connection.execute(text(_copy(table)), bounds)
            connection.execute(text("ALTER TABLE quote_line ENABLE TRIGGER quote_line_frozen"))
        self.settle()
        return numbers

    def settle(self) -> None:
        """Give every contender the same tables: cleaned, with fresh statistics, on disk."""
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))


def _copy(table: Table) -> str:
    taken = [column for column in table.c if column.identity is None and column.name != "quote_number"]
    values = [
        f"overlay(t.{column.name}::text placing lpad(to_hex(n), 8, '0') from 1)::uuid"
        if isinstance(column.type, Uuid) and column.name != "tenant_id"
        else f"t.{column.name}"
        for column in taken
    ]
    names = ", ".join(column.name for column in taken)
    return (
        f"INSERT INTO {table.name} ({names}) SELECT {', '.join(values)} FROM {table.name} t, generate_series(CAST(:first AS integer), :last) n "
        f"WHERE t.id = ANY(:ids) ORDER BY n"
    )


def accept(engine: Engine, tenant_id: UUID, command: accepting.AcceptQuote) -> None:
    """Accept as the HTTP edge does: claim, command, stored answer, in one unit of work."""
    key = str(uuid4())
    cause = Cause(tenant_id=tenant_id, actor=CUSTOMER, command="accept-quote", idempotency_key=key)
    body = as_json({name: getattr(command, name) for name in (*NAMED[1:], "channel")})
    with unit_of_work(engine, cause) as uow:
        once(uow, key, {"path": f"/quotes/{command.quote_id}/acceptances", "ifMatch": '"1"', "actor": CUSTOMER, "body": body})
        accepted = accepting.accept(uow, command)
        assert accepted.is_new
        order = {"order_id": accepted.order.id, "order_number": accepted.order.order_number, "order_status": accepted.order.status}
        answer = {
            **order,
            "quote_id": command.quote_id,
            "quote_version": accepted.quote_version,
            "revision_id": command.revision_id,
        }
        remember(uow, key, Answer(status=201, body=as_json(answer), version=accepted.quote_version))
