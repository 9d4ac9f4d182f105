"""People who call the engine's REST with their own logins, as Tasklist and Cockpit do for them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
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


@contextmanager
def hired(person: str, *groups: str, by: tuple[Shop, ...]) -> Iterator[str]:
    """Give a new person of some groups a login, who works for these tenants while the block runs."""
    engine = by[0].engine
    engine.ensure_user(person, first_name=person.title(), last_name="Tan", email=f"{person}@example.org", password=PEOPLE_PASSWORD)
    for group in groups:
        engine.ensure_membership(group, person)
    for shop in by:
        engine.ensure_user_in_tenant(shop.tenant_id, person)
    try:
        yield person
    finally:
        engine.call("DELETE", f"/user/{person}")
