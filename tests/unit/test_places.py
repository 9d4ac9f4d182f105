"""The places of a pod: some are kept for topics that ask no provider, and every handler that asks one says so."""

from __future__ import annotations

import ast
import inspect
from datetime import timedelta

import pytest

from workers.pod.contract import Task, Topic
from workers.pod.places import Places
from workers.runtime.engine import TopicRequest
from workers.runtime.variables import Variable
from workers.tasks.topics import CONTRACTS, HANDLERS

CAPACITY = 16


def nothing(_: Task) -> dict[str, Variable]:
    return {}


def places(**asks_provider: bool) -> Places:
    topics = {name: Topic(name=name, handler=nothing, asks_provider=asks) for name, asks in asks_provider.items()}
    requests = [TopicRequest(name=name, lock_duration=timedelta(seconds=1), variables=()) for name in topics]
    return Places(topics, requests, CAPACITY)


def offered(places: Places, *running: str) -> tuple[list[str], int]:
    offer = places.offer(running)
    return [topic.name for topic in offer.topics], offer.room


def test_one_place_in_four_is_kept_for_topics_that_ask_no_provider() -> None:
    assert offered(places(execute=True, approve=False)) == (["execute", "approve"], 12)


def test_topics_without_a_place_are_left_out_of_the_fetch() -> None:
    assert offered(places(execute=True, approve=False), *["execute"] * 12) == (["approve"], 4)


def test_a_topic_that_has_a_place_again_is_fetched_with_the_others() -> None:
    assert offered(places(execute=True, approve=False), *["execute"] * 11) == (["execute", "approve"], 1)


def test_topics_that_ask_no_provider_may_take_every_place() -> None:
    assert offered(places(execute=True, approve=False), *["approve"] * 15) == (["execute", "approve"], 1)


@pytest.mark.parametrize("asks_provider", [True, False])
def test_a_pod_with_topics_of_one_kind_keeps_no_place(asks_provider: bool) -> None:  # noqa: FBT001 - parametrized
    assert offered(places(only=asks_provider)) == (["only"], CAPACITY)


def test_every_handler_that_asks_a_provider_declares_it() -> None:
    asking = {name for handlers in HANDLERS for name in asking_topics(handlers)}

    assert asking == {name for name, contract in CONTRACTS.items() if contract.asks_provider}
    assert asking


def asking_topics(handlers: type) -> set[str]:
    """The topics whose handler reaches `self._providers`, by the source of its class."""
    (body,) = ast.parse(inspect.getsource(handlers)).body
    uses = {each.name: own_attributes(each) for each in ast.walk(body) if isinstance(each, ast.FunctionDef)}
    reached = {name for name, used in uses.items() if "_providers" in used} - {"__init__"}
    while found := {name for name, used in uses.items() if used & reached} - reached:
        reached |= found
    return {vars(handlers)[name].contract.name for name in reached if hasattr(vars(handlers)[name], "contract")}


def own_attributes(function: ast.FunctionDef) -> set[str]:
    attributes = (each for each in ast.walk(function) if isinstance(each, ast.Attribute))
    return {each.attr for each in attributes if isinstance(each.value, ast.Name) and each.value.id == "self"}
