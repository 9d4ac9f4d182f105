"""The server becomes a standby while sessions are open: they are dropped, and the work goes on at the new primary."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

import pytest
from sqlalchemy import Engine
from structlog.testing import capture_logs

from tests.support.answering import Reply, answering
from tests.support.database import acting
from tests.support.failover import Failover, failover_of
from tests.support.http import Api, is_problem, new_quote, serving
from tests.support.offers import Offers
from tests.support.ports import free_port_that_refuses
from tests.support.waiting import eventually
from workers.dispatch import Dispatcher
from workers.kafka.relay import Relay
from workers.runtime.database import connect
from workers.runtime.database_fitness import DatabaseUnreachableError, require_fit
from workers.runtime.engine import Engine as ProcessEngine
from workers.runtime.kafka_access import KafkaAccess
from workers.runtime.process import Loop


@contextmanager
def pool_of(db: Engine, process: str) -> Iterator[Engine]:
    pool = connect(acting(db, process).url.render_as_string(hide_password=False), process)
    yield pool
    pool.dispose()


def is_fit(pool: Engine) -> bool:
    try:
        require_fit(pool)
    except DatabaseUnreachableError:
        return False
    return True


@pytest.fixture
def pool(db: Engine) -> Iterator[Engine]:
    with pool_of(db, "http") as pool:
        yield pool


@pytest.fixture
def failover(pool: Engine) -> Iterator[Failover]:
    with failover_of(pool) as failover:
        yield failover


@pytest.fixture
def api(pool: Engine, failover: Failover, offers: Offers) -> Iterator[Api]:
    """An edge that has open sessions."""
    with serving(pool, offers.tenant_id) as api:
        assert api.sales.post("/quotes", new_quote()).status_code == 201
        yield api


def test_a_command_finds_the_new_primary(api: Api, failover: Failover) -> None:
    failover.happen(with_a_new_primary=True)

    assert api.sales.post("/quotes", new_quote()).status_code == 201


def test_a_command_is_answered_try_again_while_there_is_no_primary(api: Api, failover: Failover) -> None:
    failover.happen(with_a_new_primary=False)

    refused = api.sales.post("/quotes", new_quote(), key="one")

    is_problem(refused, 503, "TRY_AGAIN")
    assert refused.headers["Retry-After"] == "1"


def test_a_command_takes_effect_after_the_failover_without_a_restart(api: Api, failover: Failover) -> None:
    failover.happen(with_a_new_primary=False)
    assert api.sales.post("/quotes", new_quote(), key="one").status_code == 503
    failover.end()

    assert api.sales.post("/quotes", new_quote(), key="one").status_code == 201


def test_a_read_is_answered_by_a_standby(api: Api, failover: Failover) -> None:
    quote = api.sales.post("/quotes", new_quote()).json()
    failover.happen(with_a_new_primary=False)

    assert api.sales.get(f"/quotes/{quote['quoteId']}").status_code == 200


def test_a_process_is_not_ready_while_its_session_is_read_only(pool: Engine, failover: Failover) -> None:
    assert is_fit(pool)
    failover.happen(with_a_new_primary=False)

    with pytest.raises(DatabaseUnreachableError, match="read-only"):
        require_fit(pool)


def test_a_command_that_only_reads_is_content_with_a_standby(pool: Engine, failover: Failover) -> None:
    assert is_fit(pool)
    failover.happen(with_a_new_primary=False)

    require_fit(pool, only_to_read=True)


def test_a_process_is_ready_again_after_the_failover(pool: Engine, failover: Failover) -> None:
    assert is_fit(pool)
    failover.happen(with_a_new_primary=False)
    assert not is_fit(pool)
    failover.end()

    assert is_fit(pool)


@contextmanager
def running(loop: Loop) -> Iterator[Thread]:
    stop = Event()
    thread = Thread(target=loop.run, args=(stop,))
    thread.start()
    try:
        yield thread
    finally:
        stop.set()
        thread.join(30)


def outage_of(loop: Loop, failover: Failover) -> list[str]:
    """Run a loop through a failover, and return what it logs about it, until the database is there again."""

    def logged() -> list[str]:
        return [str(log["event"]) for log in logs if "service" in log]

    with capture_logs() as logs, running(loop) as thread:
        eventually(lambda: failover.is_in_use, "the loop has a session")
        failover.happen(with_a_new_primary=False)
        eventually(lambda: logged() or not thread.is_alive(), "the loop meets the standby")
        failover.end()
        eventually(lambda: len(logged()) == 2 or not thread.is_alive(), "the loop has another session")
        assert thread.is_alive()
    return logged()


THROUGH = ["service_unavailable", "service_available_again"]


def test_the_relay_goes_on_after_a_failover(db: Engine) -> None:
    with pool_of(db, "relay") as pool, failover_of(pool) as failover, free_port_that_refuses() as port:
        assert outage_of(Relay(pool, KafkaAccess(bootstrap=f"127.0.0.1:{port}")), failover) == THROUGH


def test_the_dispatcher_goes_on_after_a_failover(db: Engine) -> None:
    version = Reply(body=b'{"version": "7.24.0"}')
    with pool_of(db, "dispatch") as pool, failover_of(pool) as failover, answering(lambda _: version) as address:
        engine = ProcessEngine(f"{address}/engine-rest", "user", "password")
        assert outage_of(Dispatcher(pool, engine), failover) == THROUGH
        engine.close()
