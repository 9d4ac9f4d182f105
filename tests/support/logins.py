"""People who call the engine's REST with their own logins, as Tasklist does for them."""

from __future__ import annotations

from contextlib import closing
from typing import Any

from tests.support.suite import Shop
from workers.demo.local_suite import PEOPLE_PASSWORD
from workers.runtime.engine import Engine, UserTask


def logged_in(shop: Shop, person: str) -> closing[Engine]:
    """The engine as a person reaches it with a login of their own."""
    return closing(Engine(shop.local.settings.engine_url, person, PEOPLE_PASSWORD))


def complete(shop: Shop, person: str, task: UserTask, **variables: Any) -> None:
    """Complete a task as a person, with any variables."""
    with logged_in(shop, person) as engine:
        assert engine.complete_user_task(task.id, variables)
