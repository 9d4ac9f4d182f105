"""An unusable answer of the engine sets one item of a sweep aside; an engine that is away ends the sweep at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple
from unittest.mock import Mock

import pytest
from structlog.testing import capture_logs

from domain.errors import TryAgain
from reconciliation import alone as the_module
from reconciliation.alone import UNUSABLE_IN_A_ROW, alone
from tests.support.fulfilment import Fulfilment
from tests.support.offers import Offers
from tests.support.watched import FIRST, SECOND, Watched, order_key
from workers.runtime.engine import EngineError, EngineOutcomeUnknownError, EngineUnavailableError
from workers.runtime.set_aside import Pauses

UNUSABLE, AWAY = EngineOutcomeUnknownError("not JSON (status 502)"), EngineUnavailableError("connection refused")


class Item(NamedTuple):
    id: int


class Swept(NamedTuple):
    """The items that a sweep has asked the engine about, and whether it has come to its end."""

    asked: list[int]
    is_whole: bool


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """Nothing that another test has set aside counts. On a terminal, a trace takes longer than a sweep may."""
    monkeypatch.setattr(the_module, "_pauses", Pauses())
    monkeypatch.setattr(the_module, "_unusable", defaultdict(set))
    with capture_logs() as logs:
        yield logs


def sweep(answers: dict[int, Exception], items: int = 10) -> Swept:
    """Ask the engine about each item; it answers as it is told."""
    asked: list[int] = []

    def ask(item: Item) -> bool:
        asked.append(item.id)
        if item.id in answers:
            raise answers[item.id]
        return True

    try:
        for number in range(items):
            alone("test", ask, Item(number))
    except EngineError:
        return Swept(asked, is_whole=False)
    return Swept(asked, is_whole=True)


def test_a_sweep_goes_on_behind_an_unusable_answer() -> None:
    """Kills: a sweep that stops at the item whose answer is unusable, and so never gets to the items behind it."""
    assert sweep({2: UNUSABLE, 3: UNUSABLE, 5: UNUSABLE}) == Swept(list(range(10)), is_whole=True)


def test_an_item_with_an_unusable_answer_is_left_alone_for_a_while() -> None:
    sweep({2: UNUSABLE})

    assert 2 not in sweep({2: UNUSABLE}).asked


def test_unusable_answers_for_one_item_after_the_other_end_the_sweep() -> None:
    """Kills: asking an engine behind a broken gateway about 200 items, one after the other, in every sweep."""
    broken: dict[int, Exception] = dict.fromkeys(range(10), UNUSABLE)

    assert sweep(broken) == Swept(list(range(UNUSABLE_IN_A_ROW)), is_whole=False)


def test_items_behind_many_unusable_answers_have_their_turn_in_the_next_sweep() -> None:
    broken: dict[int, Exception] = dict.fromkeys(range(UNUSABLE_IN_A_ROW), UNUSABLE)
    sweep(broken)

    assert sweep(broken) == Swept(list(range(UNUSABLE_IN_A_ROW, 10)), is_whole=True)


def test_an_engine_that_is_away_ends_the_sweep_at_once() -> None:
    assert sweep({2: AWAY}) == Swept([0, 1, 2], is_whole=False)


def test_an_item_that_another_process_has_locked_is_left_alone_for_a_while() -> None:
    """Kills: waiting five seconds for the same lock in every sweep, so that nothing behind it has its turn."""
    sweep({2: TryAgain()})

    assert sweep({}).asked == [0, 1, *range(3, 10)]


@pytest.fixture
def needless(offers: Offers) -> Watched:
    """Two instances whose orders are done."""
    for instance_id in (FIRST, SECOND):
        work = Fulfilment.running(offers)
        watched = Watched.of(offers, order_key(offers, work.order_id), instance_id)
        for name in work.states():
            work.complete(name)
    watched.execute("UPDATE workflow_correlation SET next_check_at = clock_timestamp()")
    return watched


def test_the_instances_behind_one_with_an_unusable_answer_are_ended(needless: Watched) -> None:
    unusable = Mock(side_effect=[UNUSABLE, True])
    needless.engine.delete_instance.side_effect = unusable

    needless.sweep("ACTIVE")

    assert {call.args[0] for call in unusable.call_args_list} == {FIRST, SECOND}


def test_an_instance_with_an_unusable_answer_waits_for_its_next_look(needless: Watched) -> None:
    """Kills: looking at it again as soon as its lease is over, whatever its age."""
    needless.engine.delete_instance.side_effect = UNUSABLE

    needless.sweep("ACTIVE")

    with needless.offers.engine.connect() as connection:
        waits = connection.exec_driver_sql(
            "SELECT next_check_at > clock_timestamp() + interval '45 s' FROM workflow_correlation WHERE process_instance_id IN (%s, %s)",
            (FIRST, SECOND),
        )
        assert waits.scalars().all() == [True, True]
