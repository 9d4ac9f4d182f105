"""The product by way of PgBouncer in transaction mode: each transaction may get another session of the server."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from uuid import uuid4

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.exc import OperationalError

from domain import accepting
from domain.delivery.orders import SalesOrder
from domain.errors import TryAgain
from domain.offers.quotes import Quote
from domain.store import Answer, Cause, once, remember, table_of, unit_of_work
from domain.store.isolation import EVERY_TENANT
from domain.store.limits import Limits
from domain.store.transactions import transaction
from tests.integration.test_limits import in_force
from tests.pgbouncer.conftest import Through
from tests.support.database import count
from tests.support.http import accept, new_quote, serving
from tests.support.offers import CUSTOMER, Offers
from tests.support.pgbouncer import SESSIONS

CLIENTS = 4 * SESSIONS
SESSION = text("SELECT pg_backend_pid()")


def test_the_sessions_of_the_server_are_shared(pool_of: Through) -> None:
    """Otherwise the other tests of this file would show nothing."""
    pool = pool_of("http", pool_size=CLIENTS)
    sessions = set()
    with ThreadPoolExecutor(CLIENTS) as threads:
        for found in threads.map(lambda _: session_of(pool), range(20 * CLIENTS)):
            sessions.add(found)

    assert 1 < len(sessions) <= SESSIONS
    assert pool.pool.checkedin() > SESSIONS  # type: ignore[attr-defined]  # SQLAlchemy's pool that grows


def session_of(pool: Engine) -> int:
    with transaction(pool, EVERY_TENANT) as connection:
        return int(connection.scalar(SESSION) or 0)


def test_an_order_is_made_by_every_command_on_its_way(offers_through: Offers) -> None:
    assert offers_through.order(offers_through.running_order().order_id).status == "IN_PROGRESS"


def test_prepared_statements_are_found_on_every_session(pool_of: Through, offers: Offers) -> None:
    clients = Offers(pool_of("http", pool_size=CLIENTS), offers.tenant_id)

    with ThreadPoolExecutor(CLIENTS) as threads:
        quotes = list(threads.map(lambda _: clients.draft_quote(), range(4 * CLIENTS)))

    assert len({quote.quote_id for quote in quotes}) == 4 * CLIENTS


def test_each_transaction_has_its_limits_and_leaves_none(pool_of: Through) -> None:
    pool = pool_of("http")
    with transaction(pool, EVERY_TENANT) as connection:
        assert in_force(connection) == Limits().by_name(180_000)

    with pool.connect() as connection:
        assert set(in_force(connection).values()) == {0}


def test_a_row_that_stays_locked_ends_a_command(pool_of: Through, db: Engine, offers: Offers) -> None:
    hasty = Offers(pool_of("http", Limits(lock=timedelta(milliseconds=50))), offers.tenant_id)
    with db.begin() as rival:
        rival.execute(text("SELECT * FROM price_book_head FOR UPDATE"))

        with pytest.raises(TryAgain):
            hasty.publish_prices("p-45", replaces="p-44")


def test_a_statement_that_takes_too_long_ends(pool_of: Through) -> None:
    pool = pool_of("http", Limits(statement=timedelta(milliseconds=50)))

    with pytest.raises(OperationalError, match="statement timeout"), transaction(pool, EVERY_TENANT) as connection:
        connection.execute(text("SELECT pg_sleep(60)"))


def test_a_transaction_sees_the_rows_of_its_tenant_alone(pool_of: Through, offers_through: Offers) -> None:
    """The next transaction on a session is another client's, of another tenant or of none."""
    offers_through.draft_quote()
    pool = pool_of("http", pool_size=CLIENTS)
    query = select(table_of(Quote).c.id)

    def seen(tenant: object) -> int:
        with transaction(pool, tenant) as connection:  # type: ignore[arg-type]  # an id
            return len(connection.execute(query).all())

    tenants = [offers_through.tenant_id, uuid4()] * 4 * CLIENTS
    with ThreadPoolExecutor(CLIENTS) as threads:
        rows = list(threads.map(seen, tenants))

    assert rows == [1, 0] * 4 * CLIENTS
    with pool.connect() as nobody:
        assert nobody.execute(query).all() == []


def test_the_edge_answers_commands_and_reads(pool_of: Through, offers: Offers) -> None:
    with serving(pool_of("http"), offers.tenant_id) as api:
        made = api.sales.post("/quotes", new_quote())

        assert made.status_code == 201
        assert api.sales.get(f"/quotes/{made.json()['quoteId']}").json()["status"] == "DRAFT"


def test_a_quote_that_is_accepted_many_times_at_once_becomes_one_order(pool_of: Through, offers: Offers, db: Engine) -> None:
    rush = Offers(pool_of(pool_size=CLIENTS), offers.tenant_id)
    offer = rush.approved_quote()

    def click(number: int) -> str:
        key = "first" if number % 2 else f"other-{number}"
        cause = Cause(tenant_id=rush.tenant_id, actor=CUSTOMER, command="accept-quote", idempotency_key=key)
        with unit_of_work(rush.engine, cause) as uow:
            if once(uow, key, {}):
                return "replayed"
            accepted = accepting.accept(uow, rush.acceptance(offer))
            remember(uow, key, Answer(status=201, body={}, version=accepted.quote_version))
            return "accepted"

    with ThreadPoolExecutor(CLIENTS) as threads:
        outcomes = list(threads.map(click, range(CLIENTS)))

    assert outcomes.count("replayed") == CLIENTS // 2 - 1
    assert count(db, SalesOrder) == 1


def test_the_edge_carries_a_command_out_once_for_its_key(pool_of: Through, offers: Offers, db: Engine) -> None:
    offer = offers.approved_quote()
    with serving(pool_of("http"), offers.tenant_id) as api, ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: accept(api.customer, offer, key="one"), range(8)))

    assert {answer.status_code for answer in answers} == {201}
    assert count(db, SalesOrder) == 1
