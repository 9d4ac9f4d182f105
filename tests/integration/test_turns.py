"""Turns in Redis: they spare work while Redis is there, and stop no work when it is away, silent, or has lost a lock."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import timedelta
from typing import cast

import pytest
from redis import Connection
from structlog.testing import capture_logs

from tests.support.metrics import metric
from tests.support.redis import PATIENCE, RedisServer
from tests.support.tls import Authority, tls_door
from workers.runtime.turns import AWAY, Turns, client
from workers.runtime.turns import PATIENCE as LONGEST

WORK = "test"
RESTS = timedelta(minutes=1)
SHORT = timedelta(milliseconds=200)


class Clock:
    """A clock that goes on when the test says so."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def mine(redis_server: RedisServer) -> Iterator[Turns]:
    with redis_server.turns() as turns:
        yield turns


@pytest.fixture
def others(redis_server: RedisServer) -> Iterator[Turns]:
    with redis_server.turns() as turns:
        yield turns


def has_turn(turns: Turns, rests: timedelta = RESTS) -> bool:
    with turns.turn(WORK, rests=rests) as is_ours:
        return is_ours


def lost() -> float:
    return metric("q2o_redis_lock_expired_total", purpose=WORK)


def test_while_one_process_works_another_one_has_no_turn(mine: Turns, others: Turns) -> None:
    with mine.turn(WORK, rests=RESTS) as is_ours:
        assert (is_ours, has_turn(others)) == (True, False)


def test_work_that_ended_well_is_repeated_by_nobody_until_it_has_rested(redis_server: RedisServer, others: Turns) -> None:
    """Kills: a release at the end, after which the next process would do the same again."""
    with redis_server.turns(timedelta(hours=1)) as mine:
        assert has_turn(mine, rests=RESTS)

    assert not has_turn(others)
    assert timedelta(0) < redis_server.life(WORK) <= RESTS


def test_work_that_failed_is_free_at_once(mine: Turns, others: Turns) -> None:
    with pytest.raises(ZeroDivisionError), mine.turn(WORK, rests=RESTS):
        raise ZeroDivisionError

    assert has_turn(others)


def test_other_work_and_another_scope_have_turns_of_their_own(redis_server: RedisServer, mine: Turns, others: Turns) -> None:
    with mine.turn(WORK, rests=RESTS), redis_server.turns(scope="one tenant") as elsewhere:
        with others.turn("other work", rests=RESTS) as is_ours:
            assert is_ours
        assert has_turn(elsewhere)


def work_beyond_the_lock(server: RedisServer, mine: Turns, others: Turns, *, fails: bool) -> tuple[bytes | None, bytes | None]:
    """My lock expires during my work, and another process takes the turn; returns its token before my work ends, and after."""
    with others_turn(server, mine, others, fails=fails) as before:
        return before, server.key(WORK)


@contextmanager
def others_turn(server: RedisServer, mine: Turns, others: Turns, *, fails: bool) -> Iterator[bytes | None]:
    with ExitStack() as theirs:
        with suppress(ZeroDivisionError), mine.turn(WORK, rests=RESTS):
            server.expires(WORK)
            assert theirs.enter_context(others.turn(WORK, rests=RESTS))
            token = server.key(WORK)
            if fails:
                raise ZeroDivisionError
        yield token


@pytest.mark.parametrize("fails", [False, True], ids=["it ends well", "it fails"])
def test_a_lock_that_expires_during_the_work_is_counted_and_that_of_the_next_one_is_left_alone(
    redis_server: RedisServer, others: Turns, *, fails: bool
) -> None:
    """Kills: an extension or a release that does not compare the token."""
    counted = lost()
    with redis_server.turns(SHORT) as mine, capture_logs() as log:
        before, after = work_beyond_the_lock(redis_server, mine, others, fails=fails)

    assert before == after is not None
    assert lost() == counted + 1
    assert [line["event"] for line in log] == ["redis_lock_expired"]


def test_without_an_address_every_turn_is_its_own() -> None:
    turns = Turns()

    with turns.turn(WORK, rests=RESTS):
        assert has_turn(turns)


def test_a_server_that_is_killed_during_the_work_ends_no_work(redis_server: RedisServer, mine: Turns, others: Turns) -> None:
    with mine.turn(WORK, rests=RESTS):
        redis_server.kill()

        assert has_turn(others)


def test_a_dead_server_is_logged_once_and_not_asked_again_for_a_while(redis_server: RedisServer) -> None:
    """Kills: asking at each turn, which would cost each of them the time-out."""
    clock = Clock()
    with redis_server.turns(clock=clock) as turns, capture_logs() as log:
        redis_server.kill()
        assert has_turn(turns)
        redis_server.start()
        assert has_turn(turns)
        asked_too_early = redis_server.key(WORK)
        clock.now += AWAY.total_seconds()
        assert has_turn(turns)

    assert asked_too_early is None
    assert redis_server.key(WORK) is not None
    assert [line["event"] for line in log] == ["service_unavailable", "service_available_again"]


def test_a_server_that_says_nothing_delays_the_work_by_a_time_out_only(redis_server: RedisServer) -> None:
    mine = Turns(client(f"redis://127.0.0.1:{redis_server.port}"))
    with closing(mine), redis_server.silent(), ThreadPoolExecutor(1) as pool:
        turn = pool.submit(has_turn, mine)
        try:
            assert turn.result(30)
        finally:
            redis_server.kill()  # so that a client that waits for ever fails the test and does not hang it


def test_a_client_waits_for_a_quarter_of_a_second_and_repeats_nothing() -> None:
    """Kills: the waits of the library, which are twenty times as long. That it repeats nothing is its own default for an address."""
    with closing(client("redis://127.0.0.1:1")) as asking:
        connection = cast("Connection", asking.connection_pool.make_connection())

    waits = connection.socket_connect_timeout, connection.socket_timeout
    assert (*waits, connection.retry.get_retries()) == (0.25, 0.25, 0)


def test_a_lock_that_nobody_gives_back_is_waited_for_a_minute_at_most(redis_server: RedisServer) -> None:
    redis_server.asking.set(f"q2o:turn:all:{WORK}", "somebody")
    clock = Clock()
    with redis_server.turns(clock=clock) as turns:
        first = has_turn(turns)
        clock.now += LONGEST.total_seconds()

        assert [first, has_turn(turns), has_turn(turns)] == [False, True, False]


@pytest.mark.parametrize(("name", "is_asked"), [("127.0.0.1", True), ("another.example", False)])
def test_a_server_with_the_certificate_of_another_one_is_not_believed(
    redis_server: RedisServer, authority: Authority, name: str, *, is_asked: bool
) -> None:
    """Kills: a client that does not compare the certificate with the address."""
    with (
        tls_door(redis_server.port, authority.server(authority.issue(name))) as door,
        closing(Turns(client(door.url("rediss"), authority.client("redis"), timeout=PATIENCE))) as turns,
    ):
        assert has_turn(turns)

    assert (redis_server.key(WORK) is not None) == is_asked
