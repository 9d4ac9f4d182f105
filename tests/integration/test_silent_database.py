"""A database that says nothing any more costs a command seconds: the server is stopped, or the line to it is half-open."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import OperationalError

from domain.errors import OutcomeUnknownError
from domain.offers.quotes import Quote
from domain.store.isolation import EVERY_TENANT, open_for
from domain.store.limits import Limits
from tests.support.database import acting, count
from tests.support.http import is_problem, new_quote, serving
from tests.support.links.link import Link
from tests.support.offers import Offers
from workers.runtime import database_connection
from workers.runtime.database import connect
from workers.runtime.database_connection import TCP, NoResponseError
from workers.runtime.outages import is_database_outage

SHORT = Limits(statement=timedelta(milliseconds=200))
NEARLY_NOTHING = timedelta(milliseconds=300)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a response take half a second, and a connection two, which is the shortest that libpq has."""
    monkeypatch.setattr("workers.runtime.database.MARGIN", NEARLY_NOTHING)
    monkeypatch.setattr(database_connection, "CONNECT_SECONDS", 2)


@pytest.fixture
def behind(link: Link, db: Engine) -> Iterator[Engine]:
    """The database through the link, with one open session."""
    url = acting(db, "http").url.set(host="127.0.0.1", port=link.port)
    pool = connect(url.render_as_string(hide_password=False), "behind the link", limits=SHORT)
    pool.connect().close()
    yield pool
    link.cut()
    pool.dispose()


def declared(connection: Connection) -> None:
    """Send a statement the way the product does, by `domain.store.declared`."""
    open_for(connection, EVERY_TENANT)


def plain(connection: Connection) -> None:
    """A statement as SQLAlchemy sends it."""
    connection.execute(text("SELECT 1"))


@pytest.mark.parametrize("ask", [declared, plain])
def test_a_statement_on_a_silent_line_ends_in_an_outage(behind: Engine, link: Link, ask: Callable[[Connection], None]) -> None:
    with behind.connect() as connection:
        link.silence()
        with pytest.raises(OperationalError) as silent:
            ask(connection)

    assert is_database_outage(silent.value)


def test_the_connection_of_a_silent_line_is_dropped(behind: Engine, link: Link) -> None:
    """What the server sends later would be taken for the response to the next statement."""
    with behind.connect() as connection:
        link.silence()
        with pytest.raises(OperationalError) as silent:
            connection.execute(text("SELECT 1"))
        assert isinstance(silent.value.orig, NoResponseError)
        assert silent.value.connection_invalidated
    link.mend()

    with behind.connect() as connection:
        assert connection.scalar(text("SELECT 2")) == 2


def test_a_command_on_a_silent_line_is_answered_try_again(behind: Engine, link: Link, offers: Offers, db: Engine) -> None:
    with serving(behind, offers.tenant_id) as api:
        link.silence()

        refused = api.sales.post("/quotes", new_quote())

    is_problem(refused, 503, "TRY_AGAIN")
    assert count(db, Quote) == 0


def test_a_commit_on_a_silent_line_is_unknown(behind: Engine, link: Link, offers: Offers) -> None:
    behind_the_cable = Offers(behind, offers.tenant_id)
    event.listen(behind, "commit", lambda _: link.silence())

    with pytest.raises(OutcomeUnknownError):
        behind_the_cable.publish_prices("p-45", replaces="p-44")


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process of the server. Its kernel still acknowledges what it receives."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_statement_on_a_stopped_server_ends_in_an_outage(db: Engine) -> None:
    pool = connect(db.url.render_as_string(hide_password=False), "stopped", limits=SHORT)
    with pool.connect() as connection:
        pid = connection.scalar(text("SELECT pg_backend_pid()"))
        with stopped(pid), pytest.raises(OperationalError) as silent:
            connection.execute(text("SELECT 1"))
    pool.dispose()

    assert isinstance(silent.value.orig, NoResponseError)


def test_the_kernel_watches_idle_connections_and_what_is_on_its_way(behind: Engine) -> None:
    with behind.connect() as connection:
        parameters = connection.connection.driver_connection.info.get_parameters()  # type: ignore[union-attr]  # psycopg's

    assert {name: parameters.get(name) for name in TCP if name != "keepalives"} == {
        name: str(value) for name, value in TCP.items() if name != "keepalives"
    }
