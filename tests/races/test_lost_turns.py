"""A lock in Redis that expires in the middle of the work, or whose server dies: two hold it, and the database still lets one of them win.

No command of the product asks for such a lock. Here two processes do, as somebody might: what is right must not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Table

from domain import accepting
from domain.delivery import starting
from domain.delivery.attempts import ProviderAttempt
from domain.delivery.orders import SalesOrder
from domain.delivery.starting import StartStep
from domain.delivery.steps import FulfillmentStep
from domain.errors import Conflict
from domain.offers.approvals import ApprovalDecision, ApprovalRequirement
from domain.offers.quotes import Quote
from domain.store import table_of
from tests.support.database import count
from tests.support.metrics import metric
from tests.support.offers import CUSTOMER, Offers
from tests.support.races import race_for_row, refusals
from tests.support.redis import RedisServer

LASTS = timedelta(milliseconds=200)
WORK = "protected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that is carried out twice, the row at which both meet, and the rows of which there must be one."""

    act: Callable[[], object]
    table: Table
    row_id: UUID
    effect: Any


def order_creation(offers: Offers) -> Command:
    offer = offers.approved_quote()

    def act() -> None:
        with offers.uow(CUSTOMER) as uow:
            accepting.accept(uow, offers.acceptance(offer))

    return Command(act=act, table=table_of(Quote), row_id=offer.quote_id, effect=SalesOrder)


def approval_decision(offers: Offers) -> Command:
    offer = offers.quote_in_approval()
    [requirement_id] = offers.requirement_ids(offer)

    return Command(
        act=lambda: offers.decide(offer, requirement_id),
        table=table_of(ApprovalRequirement),
        row_id=requirement_id,
        effect=ApprovalDecision,
    )


def reservation(offers: Offers) -> Command:
    step_id = offers.running_order().steps["RESERVE_INVENTORY"]

    def act() -> None:
        worker = f"worker-{uuid4()}"
        with offers.uow(worker) as uow:
            starting.start_step(uow, StartStep(step_id=step_id, expected_version=1, worker_id=worker, external_task_id=None))

    return Command(act=act, table=table_of(FulfillmentStep), row_id=step_id, effect=ProviderAttempt)


COMMANDS = (order_creation, approval_decision, reservation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """What came of two who both had the turn: whether each had it, how the commands ended, how many effects and lost locks there are."""

    had_turn: Sequence[bool]
    refusals: Sequence[type[BaseException] | None]
    effects: int
    lost: float


def overlapping(server: RedisServer, offers: Offers, command: Command, lasts: timedelta, free: Callable[[], object]) -> Overlap:
    """Let two take the turn for one command, the second after `free`, while the first one waits for the row in the database."""
    had_turn, lost = list[bool](), metric("q2o_redis_lock_expired_total", purpose=WORK)

    def work() -> None:
        with server.turns(lasts) as turns, turns.turn(WORK, rests=lasts) as is_ours:
            had_turn.append(is_ours)
            command.act()

    def work_later() -> None:
        free()
        work()

    before = count(offers.engine, command.effect)
    rivals = race_for_row(offers.engine, command.table, command.row_id, work, work_later)
    return Overlap(
        had_turn=had_turn,
        refusals=refusals(rivals),
        effects=count(offers.engine, command.effect) - before,
        lost=metric("q2o_redis_lock_expired_total", purpose=WORK) - lost,
    )


def assert_one_won(overlap: Overlap) -> None:
    """The second one is refused by the domain, or gets the answer of the first: an order that is there already."""
    assert overlap.had_turn == [True, True]
    assert overlap.effects == 1
    first, second = overlap.refusals
    assert first is None
    assert second is None or issubclass(second, Conflict)


@pytest.mark.parametrize("prepare", COMMANDS, ids=lambda command: command.__name__)
def test_two_holders_of_a_lock_that_expired_have_one_effect(
    prepare: Callable[[Offers], Command], offers: Offers, redis_server: RedisServer
) -> None:
    overlap = overlapping(redis_server, offers, prepare(offers), LASTS, lambda: redis_server.expires(WORK))

    assert_one_won(overlap)
    assert overlap.lost >= 1


@pytest.mark.parametrize("prepare", COMMANDS, ids=lambda command: command.__name__)
def test_two_who_go_on_because_redis_was_killed_have_one_effect(
    prepare: Callable[[Offers], Command], offers: Offers, redis_server: RedisServer
) -> None:
    overlap = overlapping(redis_server, offers, prepare(offers), timedelta(minutes=1), redis_server.kill)

    assert_one_won(overlap)
