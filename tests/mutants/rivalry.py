"""Two commands at once, one of which has begun and not yet committed: how a test brings that about, and what it must show."""

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
    """Two rivals, and what comes of them with the layer (`kept`) and without it (`broken`)."""

    kind: str
    protects: str
    kept: object
    broken: object
    tell: Callable[[Engine, Offers], object]
    without: Callable[[Engine], AbstractContextManager[None]]


RIVALRIES: dict[str, Rivalry] = {}


def rivals(name: str, without: Callable[[Engine], AbstractContextManager[None]], **rest: Any) -> Callable[[Any], Any]:
    """Register a rivalry under the name of the layer that it shows to be needed."""

    def register(tell: Callable[[Engine, Offers], object]) -> Any:
        RIVALRIES[name] = Rivalry(without=without, tell=tell, **rest)
        return tell

    return register


@contextmanager
def rewritten(statements: tuple[str, str], new: str, engine: Engine) -> Iterator[None]:
    """Replace the second pattern in statements that match the first; at least one statement must match."""
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
    assert any(seen), f"no statement to rewrite: {statements}"


def meanwhile(engine: Engine, rival: Callable[[], object], first: AbstractContextManager[Any]) -> tuple[bool, Future[object]]:
    """Start a rival while `first` has not committed; returns whether the rival finished before the commit, and its future."""
    with ThreadPoolExecutor(1) as pool:
        with first:
            later = pool.submit(rival)
            eventually(lambda: later.done() or waits(engine), "the rival waits, or has finished")
            went_ahead = later.done()
        later.exception()
    return went_ahead, later


def waits(engine: Engine) -> bool:
    with engine.connect() as connection:
        return bool(connection.scalar(text("SELECT count(*) FROM pg_locks WHERE NOT granted")))


@contextmanager
def begun(offers: Offers, actor: str, command: Callable[[UnitOfWork], object]) -> Iterator[None]:
    """Run a command up to its commit, and commit at the end of the block."""
    with offers.uow(actor) as uow:
        command(uow)
        uow.flush()
        yield


def outcome_of(offers: Offers, actor: str, command: Callable[[UnitOfWork], object]) -> str:
    try:
        with offers.uow(actor) as uow:
            command(uow)
    except Refusal as refusal:
        return refusal.code
    return "done"
