"""Two commands at once, one of which has begun and not yet committed: how that is brought about, and what is shown by it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, event, text

from domain.errors import Refusal
from domain.store import UnitOfWork
from tests.support.offers import Offers
from tests.support.waiting import eventually


@dataclass(frozen=True, slots=True, kw_only=True)
class Rivalry:
    """What comes of it as things are (`kept`), and what without the layer (`broken`)."""

    kind: str
    protects: str
    kept: object
    broken: object
    tell: Callable[[Engine, Offers], object]
    without: Callable[[Engine], AbstractContextManager[None]]


RIVALRIES: dict[str, Rivalry] = {}


def rivals(name: str, without: Callable[[Engine], AbstractContextManager[None]], **rest: Any) -> Callable[[Any], Any]:
    """Register what happens between two commands, under the name of what it shows to be needed."""

    def register(tell: Callable[[Engine, Offers], object]) -> Any:
        RIVALRIES[name] = Rivalry(without=without, tell=tell, **rest)
        return tell

    return register


@contextmanager
def rewritten(statements: tuple[str, str], new: str, engine: Engine) -> Iterator[None]:
    """Send statements that match the first pattern with the second one replaced; one at least must come by."""
    which, old = statements
    seen = []

    def rewrite(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_rest: Any) -> tuple[str, Any]:
        if not re.search(which, statement):
            return statement, parameters
        changed = re.sub(old, new, statement)
        seen.append(changed != statement)
        return changed, parameters

    event.listen(engine, "before_cursor_execute", rewrite, retval=True)
    try:
        yield
    finally:
        event.remove(engine, "before_cursor_execute", rewrite)
    assert any(seen), f"nothing to rewrite: {statements}"


def meanwhile(engine: Engine, rival: Callable[[], object], first: AbstractContextManager[Any]) -> tuple[bool, Future[object]]:
    """Let a rival come while `first` has not committed; returns whether it went ahead, and how it ended after all."""
    with ThreadPoolExecutor(1) as pool:
        with first:
            later = pool.submit(rival)
            eventually(lambda: later.done() or waits(engine), "the rival waits, or is done")
            went_ahead = later.done()
        later.exception()
    return went_ahead, later


def waits(engine: Engine) -> bool:
    with engine.connect() as connection:
        return bool(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))


@contextmanager
def begun(offers: Offers, actor: str, command: Callable[[UnitOfWork], object]) -> Iterator[None]:
    """A command that has done everything but commit."""
    with offers.uow(actor) as uow:
        command(uow)
        uow.flush()
        yield


def told(offers: Offers, actor: str, command: Callable[[UnitOfWork], object]) -> str:
    try:
        with offers.uow(actor) as uow:
            command(uow)
    except Refusal as refusal:
        return refusal.code
    return "done"
