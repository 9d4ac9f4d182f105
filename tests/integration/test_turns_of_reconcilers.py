"""Two reconcilers with one Redis: of the sweeps that read the same, one is made at a time. Without Redis, all are made by both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Engine

from reconciliation import loop
from reconciliation.loop import IN_TURN, Intervals, Reconciler
from tests.support.database import acting
from tests.support.redis import RedisServer
from workers.runtime.engine import Engine as Camunda
from workers.runtime.turns import Turns

INTERVALS = Intervals(
    start_safe_interval=timedelta(minutes=1),
    attempt_stale_after=timedelta(minutes=1),
    request_safe_interval=timedelta(minutes=1),
)
Reconcilers = Callable[[Turns | None], "Counted"]


class Counted:
    """A reconciler whose sweeps are only counted, by kind."""

    def __init__(self, reconciler: Reconciler) -> None:
        self.reconciler = reconciler
        self.made: Counter[str] = Counter()
        self.meanwhile: Callable[[str], object] = lambda _: None
        reconciler._sweep = self._sweep  # type: ignore[method-assign]

    def _sweep(self, sweep: object) -> int:
        kind: str = sweep.kind  # type: ignore[attr-defined]
        self.made[kind] += 1
        self.meanwhile(kind)
        return 0


@pytest.fixture
def counted(db: Engine) -> Iterator[Reconcilers]:
    engine = Camunda("http://127.0.0.1:9/engine-rest", "q2o-reconcile", "x")

    def make(turns: Turns | None) -> Counted:
        return Counted(Reconciler(acting(db, "reconcile"), engine, {}, INTERVALS, turns=turns))

    yield make
    engine.close()


@pytest.fixture(autouse=True)
def long_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Longer than a test on a busy machine takes."""
    monkeypatch.setattr(loop, "RESTS", timedelta(minutes=1))


@contextmanager
def two(server: RedisServer, counted: Reconcilers) -> Iterator[tuple[Counted, Counted]]:
    with server.turns() as mine, server.turns() as theirs:
        yield counted(mine), counted(theirs)


def test_a_sweep_that_reads_the_same_everywhere_is_made_by_one_reconciler_at_a_time(
    redis_server: RedisServer, counted: Reconcilers
) -> None:
    with two(redis_server, counted) as (first, second):
        first.meanwhile = lambda kind: second.reconciler._round() if kind == "projection" else None
        first.reconciler._round()

    assert second.made["projection"] == 0
    assert second.made["start"] == 1


def test_a_sweep_that_was_just_made_is_not_repeated_by_another_reconciler(redis_server: RedisServer, counted: Reconcilers) -> None:
    with two(redis_server, counted) as (first, second):
        first.reconciler._round()
        second.reconciler._round()

    assert set(first.made) - set(second.made) == IN_TURN


def test_a_sweep_is_made_again_when_it_has_rested(
    redis_server: RedisServer, counted: Reconcilers, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "RESTS", timedelta(milliseconds=50))
    with two(redis_server, counted) as (first, second):
        first.reconciler._round()
        for kind in IN_TURN:
            redis_server.expires(kind)
        second.reconciler._round()

    assert first.made == second.made


@pytest.mark.parametrize("is_there", [True, False], ids=["killed", "absent"])
def test_without_redis_every_reconciler_makes_every_sweep(
    redis_server: RedisServer, counted: Reconcilers, *, is_there: bool
) -> None:
    redis_server.kill()
    with redis_server.turns() as turns:
        first, second = (counted(turns if is_there else None) for _ in range(2))
        first.reconciler._round()
        second.reconciler._round()

    assert first.made == second.made
    assert first.made.keys() >= IN_TURN


def test_a_run_by_hand_makes_every_sweep_whoever_has_the_turn(redis_server: RedisServer, counted: Reconcilers) -> None:
    with two(redis_server, counted) as (first, second):
        first.reconciler._round()
        second.reconciler.run_once()

    assert second.made.keys() >= IN_TURN
