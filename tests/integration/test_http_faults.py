"""Commands over HTTP when the database is slow, responds late, or the response to COMMIT is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, select, text
from sqlalchemy.dialects.postgresql import insert
from structlog.testing import capture_logs

from domain.delivery.orders import SalesOrder
from domain.errors import TryAgain
from domain.offers.quotes import Quote
from domain.store import Cause, UnitOfWork, reading, table_of
from domain.store.idempotency import IdempotencyRecord
from domain.store.limits import Limits
from tests.support.database import acting, count
from tests.support.http import Api, accept, edit, is_problem, new_quote, serving
from tests.support.offers import Offers
from workers.http.execution import Executor
from workers.runtime.database import connect

Fault = Callable[[Connection], None]


@contextmanager
def edge_on(database: Engine, offers: Offers) -> Iterator[Api]:
    """An edge with its own pool, so that a fault in the pool affects no other test."""
    try:
        with serving(database, offers.tenant_id) as api:
            yield api
    finally:
        database.dispose()


@pytest.fixture
def own_pool(db: Engine) -> Engine:
    return connect(acting(db, "http").url.render_as_string(hide_password=False), "tests")


def committed_without_response(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    driver.commit()
    driver.close()


def lost_before_commit(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    driver.close()


@contextmanager
def losing_one(database: Engine, name: str) -> Iterator[None]:
    """The connection of this pool is lost at the next event of this name."""
    left = [1]

    def lose(connection: Connection, *_: object) -> None:
        if left.pop() if left else 0:
            lost_before_commit(connection)

    event.listen(database, name, lose)
    yield
    event.remove(database, name, lose)


def end_session(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    driver.close()


@contextmanager
def fail_commits(fault: Fault, database: Engine, times: int) -> Iterator[None]:
    """The next `times` commits of this pool meet the fault."""
    left = [times]

    def meet(connection: Connection) -> None:
        if left[0] > 0:
            left[0] -= 1
            fault(connection)

    event.listen(database, "commit", meet)
    yield
    event.remove(database, "commit", meet)


class TestALostCommit:
    def test_that_took_place_is_answered_as_done(self, own_pool: Engine, offers: Offers, db: Engine) -> None:
        offer = offers.approved_quote()
        with edge_on(own_pool, offers) as api, fail_commits(committed_without_response, own_pool, times=1):
            before = api.metric("q2o_commit_unknown_total", command="accept-quote", resolution="replayed")

            response = accept(api.customer, offer)

            assert response.status_code == 201
            assert api.metric("q2o_commit_unknown_total", command="accept-quote", resolution="replayed") == before + 1
        assert count(db, SalesOrder) == 1

    def test_that_did_not_take_place_is_carried_out_again(self, own_pool: Engine, offers: Offers, db: Engine) -> None:
        offer = offers.approved_quote()
        with edge_on(own_pool, offers) as api, fail_commits(lost_before_commit, own_pool, times=1):
            before = api.metric("q2o_commit_unknown_total", command="accept-quote", resolution="executed")

            response = accept(api.customer, offer)

            assert response.status_code == 201
            assert api.metric("q2o_commit_unknown_total", command="accept-quote", resolution="executed") == before + 1
        assert count(db, SalesOrder) == 1

    def test_that_stays_unknown_is_reported_and_the_same_key_gets_the_result_later(
        self, own_pool: Engine, offers: Offers, db: Engine
    ) -> None:
        offer = offers.approved_quote()
        with edge_on(own_pool, offers) as api:
            with fail_commits(lost_before_commit, own_pool, times=10):
                unknown = accept(api.customer, offer, key="accept-1")

            later = accept(api.customer, offer, key="accept-1")

        assert is_problem(unknown, 503, "OUTCOME_UNKNOWN")["safeUserAction"] == "RETRY_WITH_SAME_KEY"
        assert unknown.headers["Retry-After"] == "1"
        assert later.status_code == 201
        assert count(db, SalesOrder) == 1


class TestALostConnection:
    """A read changes nothing, so nothing about it is ever unknown."""

    def test_at_the_end_of_a_read_leaves_its_outcome_known(self, own_pool: Engine, offers: Offers) -> None:
        quote = offers.draft_quote()
        with edge_on(own_pool, offers) as api, fail_commits(lost_before_commit, own_pool, times=10):
            assert api.sales.get(f"/quotes/{quote.quote_id}").status_code == 200

    @pytest.mark.parametrize("name", ["before_cursor_execute", "rollback"])
    def test_within_a_read_is_replaced_by_another(self, name: str, own_pool: Engine, offers: Offers) -> None:
        quote = offers.draft_quote()
        with edge_on(own_pool, offers) as api, losing_one(own_pool, name):
            assert api.sales.get(f"/quotes/{quote.quote_id}").status_code == 200

    def test_within_a_command_is_replaced_by_another(self, own_pool: Engine, offers: Offers, db: Engine) -> None:
        with edge_on(own_pool, offers) as api, losing_one(own_pool, "before_cursor_execute"):
            assert api.sales.post("/quotes", new_quote()).status_code == 201
        assert count(db, Quote) == 1

    def test_that_is_lost_again_at_once_is_no_error_of_ours(self, own_pool: Engine, offers: Offers) -> None:
        """The idle session has ended, and so has the one that takes its place."""
        quote = offers.draft_quote()
        with edge_on(own_pool, offers) as api:
            api.sales.get(f"/quotes/{quote.quote_id}")
            with own_pool.connect() as idle:
                end_session(idle)
            event.listen(own_pool, "connect", lambda connection, _: connection.close())

            refused = api.sales.get(f"/quotes/{quote.quote_id}")

        is_problem(refused, 503, "TRY_AGAIN")

    def test_is_logged_when_the_outage_begins_and_when_it_ends(self, own_pool: Engine, offers: Offers) -> None:
        quote = offers.draft_quote()
        with edge_on(own_pool, offers) as api, capture_logs() as logs, losing_one(own_pool, "before_cursor_execute"):
            api.sales.get(f"/quotes/{quote.quote_id}")

        assert [log["event"] for log in logs if "service" in log] == ["service_unavailable", "service_available_again"]


def test_a_read_that_would_write_is_an_error_of_ours(own_pool: Engine, offers: Offers) -> None:
    """It is no failover, although the server refuses both with the same code."""
    cause = Cause(tenant_id=offers.tenant_id, actor="sally", command="read")

    with pytest.raises(TypeError, match="must not write"), reading(own_pool, cause) as uow:
        uow.connection.execute(text("UPDATE quote SET region = 'X'"))

    own_pool.dispose()


def test_a_statement_that_takes_too_long_is_503(own_pool: Engine, offers: Offers) -> None:
    cause = Cause(tenant_id=offers.tenant_id, actor="sally", command="slow", idempotency_key="slow")

    def slow(uow: UnitOfWork) -> None:
        uow.connection.execute(text("SET LOCAL statement_timeout = 50"))
        uow.connection.execute(text("SELECT pg_sleep(60)"))

    with pytest.raises(TryAgain):
        Executor(own_pool).decided(cause, slow)

    own_pool.dispose()


class TestABusyDatabase:
    @pytest.fixture
    def hasty_pool(self, db: Engine) -> Engine:
        """A pool whose commands wait for a locked row only for a moment."""
        address = acting(db, "http").url.render_as_string(hide_password=False)
        return connect(address, "tests", limits=Limits(lock=timedelta(milliseconds=100)))

    def test_a_row_that_stays_locked_is_503_and_leaves_no_rows(self, hasty_pool: Engine, offers: Offers, db: Engine) -> None:
        offer = offers.draft_quote()
        path, body = f"/quotes/{offer.quote_id}", edit(offer.ids)
        quote = table_of(Quote)
        with edge_on(hasty_pool, offers) as api:
            with db.connect() as blocker:
                blocker.execute(select(quote.c.id).where(quote.c.id == offer.quote_id).with_for_update()).one()
                busy = api.sales.patch(path, body, version=1, key="edit-1")

            later = api.sales.patch(path, body, version=1, key="edit-1")

        assert is_problem(busy, 503, "TRY_AGAIN")["safeUserAction"] == "RETRY_WITH_SAME_KEY"
        assert busy.headers["Retry-After"] == "1"
        assert later.status_code == 200

    def test_the_lock_wait_of_a_command_is_measured_under_its_name(self, hasty_pool: Engine, offers: Offers, db: Engine) -> None:
        offer = offers.draft_quote()
        quote, waited = table_of(Quote), {"name": "q2o_db_lock_wait_seconds_sum", "command": "edit-quote"}
        with edge_on(hasty_pool, offers) as api, db.connect() as blocker:
            blocker.execute(select(quote.c.id).where(quote.c.id == offer.quote_id).with_for_update()).one()
            before = api.metric(**waited)

            api.sales.patch(f"/quotes/{offer.quote_id}", edit(offer.ids), version=1)

            # The database ends a wait after the 100 ms of this pool, and not before.
            assert api.metric(**waited) - before >= 0.1

    def test_a_key_whose_command_is_in_progress_is_409(self, hasty_pool: Engine, offers: Offers, db: Engine) -> None:
        offer = offers.draft_quote()
        claim = {
            "tenant_id": offers.tenant_id,
            "command_name": "edit-quote",
            "idempotency_key": "edit-1",
            "request_hash": "",
            "status": "IN_PROGRESS",
            "actor": "sally",
        }
        with edge_on(hasty_pool, offers) as api, db.connect() as blocker:
            blocker.execute(insert(table_of(IdempotencyRecord)), claim)

            response = api.sales.patch(f"/quotes/{offer.quote_id}", edit(offer.ids), version=1, key="edit-1")

        is_problem(response, 409, "IDEMPOTENT_REQUEST_IN_PROGRESS")
        assert response.headers["Retry-After"] == "1"
