"""Statements that are declared once have the same rows, errors and listeners as with `Connection.execute`, at less cost."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, create_engine, event, insert, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from domain.offers.quotes import Quote
from domain.store import param, table_of
from domain.store.declared import _declared, run
from domain.store.isolation import EVERY_TENANT, open_for
from tests.support.as_read import Offer
from tests.support.offers import Offers
from workers.runtime.database import connect

QUOTE = table_of(Quote)
BY_ID = select(*QUOTE.c).where(QUOTE.c.id == param("id"))
PREPARED = text("SELECT count(*) FROM pg_prepared_statements")


@pytest.fixture
def lone(offers: Offers) -> Iterator[Engine]:
    """Give a pool of one connection, which has not been used."""
    engine = connect(offers.engine.url.render_as_string(hide_password=False), "tests", pool_size=1)
    yield engine
    engine.dispose()


def look(connection: Connection, offer: Offer) -> Any:
    return run(connection, BY_ID, {"in_id": offer.quote_id}).one()


def test_a_row_is_the_one_that_sqlalchemy_gives(offers: Offers) -> None:
    offer = offers.priced_quote()
    with offers.engine.connect() as connection:
        expected = connection.execute(select(*QUOTE.c).where(QUOTE.c.id == offer.quote_id)).one()
        found = look(connection, offer)

    assert found == expected
    assert found._mapping == expected._mapping


def test_the_server_prepares_a_statement_once_for_a_connection_whatever_is_rolled_back(offers: Offers, lone: Engine) -> None:
    """Kills: letting psycopg prepare too, which deallocates everything after a rollback."""
    offer = offers.draft_quote()
    with lone.connect() as connection:
        for _ in range(8):
            connection.begin()
            open_for(connection, EVERY_TENANT)
            look(connection, offer)
            connection.execute(text("SELECT 1"))
            connection.rollback()
        assert connection.scalar(PREPARED) == 1


def test_a_connection_on_which_the_driver_prepares_is_refused(offers: Offers) -> None:
    engine = create_engine(offers.engine.url)
    with engine.connect() as connection, pytest.raises(ValueError, match="prepare_threshold=None"):
        open_for(connection, EVERY_TENANT)
    engine.dispose()


def test_the_error_of_a_constraint_is_the_one_that_sqlalchemy_raises(offers: Offers) -> None:
    statement = insert(QUOTE)
    offer = offers.draft_quote()
    with offers.engine.connect() as connection:
        values = {**look(connection, offer)._mapping, "quote_number": "Q-0"}
        with pytest.raises(IntegrityError, match="pk_quote") as raised:
            run(connection, statement, values)

    assert "INSERT INTO quote" in str(raised.value.statement)


def test_a_lost_connection_is_retired_and_the_next_command_has_another(offers: Offers, lone: Engine) -> None:
    offer = offers.draft_quote()
    with lone.connect() as connection:
        open_for(connection, EVERY_TENANT)
        pid = connection.connection.driver_connection.info.backend_pid  # type: ignore[union-attr]  # psycopg's
        with offers.engine.connect() as other:
            other.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        with pytest.raises(OperationalError) as raised:
            look(connection, offer)
        assert raised.value.connection_invalidated
    with lone.connect() as connection:
        open_for(connection, EVERY_TENANT)
        assert look(connection, offer).id == offer.quote_id


def test_a_listener_gets_each_statement_and_may_rewrite_it(offers: Offers) -> None:
    offer = offers.draft_quote()
    seen = []

    def rewrite(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> tuple[str, Any]:
        seen.append(statement)
        return statement.replace("quote.status,", "'REWRITTEN' AS status,"), parameters

    event.listen(offers.engine, "before_cursor_execute", rewrite, retval=True)
    try:
        with offers.engine.connect() as connection:
            found = look(connection, offer)
    finally:
        event.remove(offers.engine, "before_cursor_execute", rewrite)

    assert found.status == "REWRITTEN"
    assert len(seen) == 1


def test_a_command_declares_no_new_statement(offers: Offers) -> None:
    """Kills: `run` with a statement that is built each time, of which every one would stay in memory and on the server."""
    offers.running_order()
    known = _declared.cache_info().currsize
    offers.running_order()

    assert _declared.cache_info().currsize == known
