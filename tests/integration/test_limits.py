"""Every transaction has the limits of its pool, whatever its session has, and a process does not start without them."""

from __future__ import annotations

import select
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import DBAPIError, OperationalError

from domain.errors import TryAgain
from domain.rights import PROCESSES
from domain.store import Cause, reading
from domain.store.isolation import EVERY_TENANT
from domain.store.limits import Limits
from domain.store.transactions import transaction
from domain.store.unit_of_work import housekeeping
from tests.support.database import acting
from tests.support.http import is_problem, new_quote, serving
from tests.support.offers import Offers
from workers import suite
from workers.http.edge import DRAIN_TIME
from workers.local.logins import addresses_of_processes
from workers.runtime.database import NO_LIMIT, OF_MIGRATION, OF_REPORTS, POOL_WAIT, connect
from workers.runtime.database_connection import MARGIN
from workers.runtime.database_fitness import DatabaseUnfitError, require_fit
from workers.runtime.outages import sqlstate_of
from workers.runtime.settings import Settings

NAMES = ("lock_timeout", "statement_timeout", "idle_in_transaction_session_timeout", "transaction_timeout")
IN_FORCE = text(f"SELECT name, setting::integer FROM pg_settings WHERE name IN {NAMES}")


def in_force(connection: Connection) -> dict[str, int]:
    return {row.name: row.setting for row in connection.execute(IN_FORCE)}


def address(db: Engine, process: str = "http") -> str:
    return acting(db, process).url.render_as_string(hide_password=False)


@pytest.fixture
def pool(db: Engine) -> Iterator[Engine]:
    pool = connect(address(db), "tests")
    yield pool
    pool.dispose()


@pytest.mark.parametrize("process", PROCESSES)
def test_the_transactions_of_a_process_have_limits(process: str, db: Engine) -> None:
    settings = Settings(addresses_of_processes(db.url.render_as_string(hide_password=False)))
    pool = suite.connect(settings, process)

    with housekeeping(pool) as connection:
        assert in_force(connection) == (OF_REPORTS if process == "audit" else Limits()).by_name(180_000)

    pool.dispose()


def test_a_read_has_the_limits_of_a_command(pool: Engine, offers: Offers) -> None:
    with reading(pool, Cause(tenant_id=offers.tenant_id, actor="a", command="read")) as uow:
        assert in_force(uow.connection) == Limits().by_name(180_000)


def test_a_session_is_asked_for_nothing_that_a_pooler_would_refuse_or_lose(pool: Engine) -> None:
    with pool.connect() as connection:
        assert in_force(connection) == dict.fromkeys(NAMES, 0)
        assert "options" not in connection.connection.driver_connection.info.get_parameters()  # type: ignore[union-attr]  # psycopg's


def test_a_limit_that_a_server_does_not_know_is_left_out() -> None:
    assert "transaction_timeout" not in Limits().by_name(160_004)


@pytest.mark.parametrize("limits", [Limits(), OF_REPORTS])
def test_each_limit_leaves_the_one_below_it_its_time(limits: Limits) -> None:
    """A limit that is not above the one below it would answer in its place, with less to say."""
    assert limits.lock < limits.statement < limits.statement + MARGIN < limits.transaction
    assert limits.lock <= POOL_WAIT
    assert Limits().transaction <= DRAIN_TIME


def test_a_migration_waits_for_locks_as_short_as_a_command_and_works_as_long_as_it_takes() -> None:
    assert (OF_MIGRATION.lock, OF_MIGRATION.statement, OF_MIGRATION.transaction) == (Limits().lock, NO_LIMIT, NO_LIMIT)


@pytest.mark.parametrize("name", NAMES)
def test_a_process_does_not_start_without_a_limit(name: str, pool: Engine) -> None:
    def lose(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> tuple[str, Any]:
        return statement.replace(f"SET LOCAL {name}", "SET LOCAL q2o.lost"), parameters

    event.listen(pool, "before_cursor_execute", lose, retval=True)

    with pytest.raises(DatabaseUnfitError, match=f"^{name} is 0 ms") as refused:
        require_fit(pool)

    assert "\n" not in str(refused.value)


def test_a_statement_ends_at_its_limit(db: Engine) -> None:
    hasty = connect(address(db), "hasty", limits=Limits(statement=timedelta(milliseconds=50)))

    with pytest.raises(OperationalError, match="statement timeout"), transaction(hasty, EVERY_TENANT) as connection:
        connection.execute(text("SELECT pg_sleep(60)"))

    hasty.dispose()


@pytest.mark.parametrize(
    ("limits", "state"),
    [(Limits(idle=timedelta(milliseconds=50)), "25P03"), (Limits(transaction=timedelta(milliseconds=50)), "25P04")],
)
def test_a_process_that_pauses_within_a_transaction_gives_its_rows_free(limits: Limits, state: str, db: Engine) -> None:
    hasty = connect(address(db), "hasty", limits=limits)

    with pytest.raises(DBAPIError) as ended, transaction(hasty, EVERY_TENANT) as connection:
        wait_for_the_end_of(connection)
        connection.execute(text("SELECT 1"))

    assert sqlstate_of(ended.value) == state
    assert ended.value.connection_invalidated
    hasty.dispose()


def wait_for_the_end_of(connection: Connection) -> None:
    """Wait until the server has said something unasked."""
    ended = select.poll()
    ended.register(connection.connection.driver_connection.fileno(), select.POLLIN)  # type: ignore[union-attr]  # psycopg's
    assert ended.poll(30_000)


def test_a_command_that_finds_no_free_connection_is_answered_try_again(
    db: Engine, offers: Offers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.runtime.database.POOL_WAIT", timedelta(milliseconds=100))
    pool = connect(address(db), "small", pool_size=1)
    with pool.connect(), pool.connect(), serving(pool, offers.tenant_id) as api:
        is_problem(api.sales.post("/quotes", new_quote()), 503, "TRY_AGAIN")
    pool.dispose()


def test_a_caller_waits_for_a_connection_as_long_as_for_a_row(pool: Engine) -> None:
    assert pool.pool.timeout() == POOL_WAIT.total_seconds()  # type: ignore[attr-defined]


def test_a_row_that_stays_locked_ends_a_command(db: Engine, offers: Offers) -> None:
    hasty = Offers(connect(address(db), "hasty", limits=Limits(lock=timedelta(milliseconds=50))), offers.tenant_id)
    with db.begin() as rival:
        rival.execute(text("SELECT * FROM price_book_head FOR UPDATE"))

        with pytest.raises(TryAgain):
            hasty.publish_prices("p-45", replaces="p-44")

    hasty.engine.dispose()
