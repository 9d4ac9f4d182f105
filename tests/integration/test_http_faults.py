"""Commands over HTTP when the database is slow, responds late, or the response to COMMIT is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, select
from sqlalchemy.dialects.postgresql import insert

from domain.delivery.orders import SalesOrder
from domain.offers.quotes import Quote
from domain.store import table_of
from domain.store.idempotency import IdempotencyRecord
from tests.support.database import acting, count
from tests.support.http import Api, accept, edit, is_problem, serving
from tests.support.offers import Offers
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


class TestABusyDatabase:
    @pytest.fixture
    def hasty_pool(self, own_pool: Engine) -> Engine:
        """A pool whose commands wait for a locked row only for a moment."""

        def set_timeout(connection: Any, _: object) -> None:
            connection.execute("SET lock_timeout = '100ms'")
            connection.commit()

        event.listen(own_pool, "connect", set_timeout)
        return own_pool

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
