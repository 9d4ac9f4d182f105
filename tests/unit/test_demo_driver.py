"""The users of the demo and of storms look for their task on every page of the list."""

from __future__ import annotations

from threading import Event
from typing import Any
from unittest.mock import create_autospec

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
