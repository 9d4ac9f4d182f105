"""The database separates tenants as well: against a query that forgot its tenant, against a write, and against a foreign id."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import pytest
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Engine, func, insert, select, update
from sqlalchemy.exc import ProgrammingError

from domain.errors import NotFound
from domain.offers.quotes import Quote
from domain.schema import METADATA
from domain.store import Cause, table_of, unit_of_work
from domain.store.facts import ConflictLog
from domain.store.unit_of_work import housekeeping
from tests.support.offers import Offers
from workers.runtime.database import connect

QUOTE = table_of(Quote)
EVERY_ROW = select(func.count()).select_from(QUOTE)


@pytest.fixture
def product(db: Engine) -> Iterator[Engine]:
    """A pool with the role of a process of the product."""
    engine = connect(db.url.render_as_string(hide_password=False), "tests")
    yield engine
    engine.dispose()


@pytest.fixture
def stranger(offers: Offers) -> Offers:
    """Another tenant than the one that has a quote."""
    offers.draft_quote()
    return Offers(offers.engine, uuid4())


def test_a_connection_that_names_no_tenant_sees_no_row_of_any_table(product: Engine, offers: Offers) -> None:
    """Kills: dropping FORCE, which policies need because the product owns its tables."""
    offers.accepted_quote()

    with product.connect() as connection:
        seen = {name: connection.scalar(select(func.count()).select_from(table)) for name, table in METADATA.tables.items()}

    assert set(seen.values()) == {0}


def test_a_query_that_forgot_its_tenant_finds_nothing_of_another(product: Engine, offers: Offers, stranger: Offers) -> None:
    counts = []
    for tenant_id in (offers.tenant_id, stranger.tenant_id):
        with unit_of_work(product, Cause(tenant_id=tenant_id, actor="test", command="test")) as uow:
            counts.append(uow.connection.scalar(EVERY_ROW))
    with housekeeping(product) as connection:
        counts.append(connection.scalar(EVERY_ROW))

    assert counts == [1, 0, 1]


def test_the_tenant_of_one_transaction_is_forgotten_in_the_next(product: Engine, offers: Offers, stranger: Offers) -> None:
    """The pool gives the same connection to the next transaction. Kills: naming the tenant for the session."""
    with unit_of_work(product, Cause(tenant_id=offers.tenant_id, actor="test", command="test")) as uow:
        assert uow.connection.scalar(EVERY_ROW) == 1

    with product.connect() as connection:
        assert connection.scalar(EVERY_ROW) == 0


def test_a_write_that_forgot_its_tenant_changes_nothing_of_another(offers: Offers, stranger: Offers) -> None:
    with stranger.uow() as uow:
        changed = uow.connection.execute(update(QUOTE).values(region="STOLEN")).rowcount

    assert changed == 0


def test_a_row_is_not_written_for_another_tenant(offers: Offers, stranger: Offers) -> None:
    row = {"tenant_id": offers.tenant_id, "id": uuid4(), "conflict_code": "X", "command": "x", "actor": "x", "command_id": uuid4()}

    with pytest.raises(ProgrammingError) as refused, stranger.uow() as uow:
        uow.connection.execute(insert(table_of(ConflictLog)), row)

    assert isinstance(refused.value.orig, InsufficientPrivilege)


def test_the_id_of_another_tenant_s_quote_is_not_found(offers: Offers, stranger: Offers) -> None:
    quote = offers.draft_quote()

    with pytest.raises(NotFound):
        stranger.body(quote)


def test_a_process_that_serves_one_tenant_sees_the_work_of_no_other(db: Engine, offers: Offers, stranger: Offers) -> None:
    """Such a process belongs to a tenant with an engine of its own: no claim and no sweep finds a row of another tenant."""
    counts = []
    for tenant_id in (offers.tenant_id, stranger.tenant_id, None):
        database = connect(db.url.render_as_string(hide_password=False), "tests", only_tenant=tenant_id)
        with housekeeping(database) as connection:
            counts.append(connection.scalar(EVERY_ROW))
        database.dispose()

    assert counts == [1, 0, 1]
