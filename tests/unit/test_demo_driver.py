"""The users of the demo and of storms find their tasks on every page, and go on although an answer was lost."""

from __future__ import annotations

from threading import Event
from typing import Any
from unittest.mock import create_autospec
from uuid import uuid4

from workers.demo.api import Api
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
