"""The users of the demo and of storms find their tasks on every page, and go on although an answer was lost."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event
from typing import Any
from unittest.mock import create_autospec
from uuid import uuid4

import pytest

from workers.demo.api import Answer, Api, UnexpectedAnswerError
from workers.demo.courses import sample_quotes
from workers.demo.driver import Driver
from workers.demo.people import SALES


def test_a_task_on_the_second_page_is_found() -> None:
    """Kills: a look at the first page alone, after which nobody signs any more once fifty tasks are left by others."""
    pages: dict[Any, dict[str, Any]] = {
        None: {"items": [{"quoteId": "other", "taskId": "t-1"}], "next": "t-1"},
        "t-1": {"items": [{"quoteId": "mine", "taskId": "t-2"}], "next": None},
    }
    api = create_autospec(Api, instance=True)
    api.get.side_effect = lambda *_, **named: pages[named.get("after")]
    driver = Driver(api, Event(), lambda *_: True)
    [sample, *_] = sample_quotes(1)
    sample.quote = {"quoteId": "mine"}

    assert driver.task_for(sample, SALES)["taskId"] == "t-2"

    driver.close()


def test_a_person_whose_task_is_done_goes_on_although_tasklist_never_said_so() -> None:
    """Kills: waiting for ever for a task that was completed, because the answer to the completion was lost."""
    stop, signed = Event(), list[str]()
    api = create_autospec(Api, instance=True, tenant_id=uuid4())
    task = {"quoteId": "mine", "taskId": "t-1", "requirementId": str(uuid4())}
    api.get.side_effect = lambda *_, **__: {"items": [] if signed else [task], "next": None}

    def sign(decision: str, _: str) -> bool:
        signed.append(decision)
        if len(signed) > 1:
            stop.set()
        return False

    driver = Driver(api, stop, sign)
    [sample, *_] = sample_quotes(1)
    sample.quote = {"quoteId": "mine"}

    driver.decide_in_tasklist(sample, SALES, "APPROVE")

    assert signed == ["APPROVE"]
    driver.close()


def answered_with(*orders: str) -> tuple[Driver, Any]:
    """A driver whose acceptances are answered with these orders, one after the other."""
    api = create_autospec(Api, instance=True, tenant_id=uuid4())
    api.acceptance.return_value = {}
    api.accept.side_effect = [Answer(status=201, body={"orderId": order}, replayed=False) for order in orders]
    return Driver(api, Event(), lambda *_: True), api


@pytest.mark.parametrize("orders", [("1", "2", "1"), ("1", "1", "2")], ids=["a double click", "a partner"])
def test_an_acceptance_that_gets_another_order_is_no_right_answer(orders: Sequence[str]) -> None:
    driver, _ = answered_with(*orders)
    [sample, *_] = sample_quotes(1)

    with pytest.raises(UnexpectedAnswerError, match="answered with order"):
        driver.accept(sample)

    driver.close()


def test_an_order_that_is_fulfilled_after_its_cancellation_says_what_came_of_that() -> None:
    """Kills: an order that was cancelled and is fulfilled all the same, which would pass for one that was cancelled too late."""
    driver, api = answered_with("1", "1", "1")
    shown = {
        "/orders/1": {"status": "FULFILLED", "steps": ["a step"]},
        "/orders/1/cancellations": {"items": [{"status": "EXECUTING"}]},
    }
    api.get.side_effect = lambda path, *_, **__: shown[path]
    api.cancel_order.return_value = Answer(status=202, body={}, replayed=False)
    api.create.return_value = api.quote.return_value = {"quoteId": "q", "status": "APPROVED"}
    [sample] = [each for each in sample_quotes(26) if each.course == "cancelled during delivery"]

    driver.drive(sample)

    assert (sample.end, sample.as_expected) == ("FULFILLED, cancellation EXECUTING", False)
    driver.close()
