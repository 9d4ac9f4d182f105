"""The registry of the commands that meet: what each does, in which states it can succeed, and which rows it touches."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from domain.offers.quotes import QUOTE_MATRIX, QuoteEvent, QuoteStatus
from domain.store import UnitOfWork
from tests.races.explorer.scenes import Scene
from tests.support.offers import OWNER

Work = Callable[[Scene, UnitOfWork, int], str]
"""Runs a command about an offer; returns its result in a word."""
OFFER, PRICES, AUTHORITY = "offer", "prices", "authority"
ENGINE, SWEEP, ADMINISTRATOR = "quote-approval", "sweep", "admin"
OK = "ok"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """`states`: states of the quote in which it can succeed (in delivery: scenes). `touches`: whose rows it changes, or locks while it reads them.

    `has_key`: its edge requires an idempotency key. `checks`: the checks that it makes without a change.
    """

    name: str
    work: Callable[[Any, UnitOfWork, int], str]
    states: frozenset[str]
    touches: frozenset[str]
    actor: str
    has_key: bool
    checks: frozenset[str]


COMMANDS: dict[str, Command] = {}


def command(
    *events: QuoteEvent,
    states: tuple[QuoteStatus, ...] = (),
    touches: tuple[str, ...] = (OFFER,),
    actor: str = OWNER,
    has_key: bool = True,
    checks: tuple[str, ...] = (),
) -> Callable[[Work], Work]:
    """Register a command for the states in which the matrix allows its events, or for the given states."""
    allowed = {state for state in QuoteStatus for event in events if QUOTE_MATRIX.cell(event, state) is not None}

    def register(work: Work) -> Work:
        name = work.__name__.replace("_", " ")
        COMMANDS[name] = Command(
            name=name,
            work=work,
            states=frozenset(allowed | set(states)),
            touches=frozenset(touches),
            actor=actor,
            has_key=has_key,
            checks=frozenset(checks),
        )
        return work

    return register
