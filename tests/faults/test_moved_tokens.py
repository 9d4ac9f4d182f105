"""Tokens of a case that an operator moves or cancels in Cockpit, on the whole suite: whoever has to decide is asked again.

The models come back to the question what the domain still needs, and reconciliation finds the process that cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from sqlalchemy import Row

from domain.fallout import triaging
from domain.fallout.cases import FalloutCase, FalloutType
from domain.fallout.triaging import OpenCase
from domain.store import Cause, unit_of_work
from tests.faults.test_deleted_instances import correlation, let_it_be_looked_at
from tests.support.suite import Shop
from tests.support.waiting import eventually
from tests.support.walk import Walk

pytestmark = pytest.mark.stack


class Asked:
    """A case, and the processes that ask people about it."""

    def __init__(self, shop: Shop) -> None:
        with unit_of_work(shop.database, Cause(tenant_id=shop.tenant_id, actor="test", command="test")) as uow:
            case = triaging.open_case(uow, OpenCase(type=FalloutType.TECHNICAL, dedupe_key="trouble", detail="Something is wrong."))
        self.shop = shop
        self.case_id = case.id
        self.about = f"fallout:{shop.tenant_id}:{case.id}"
        self.asks = f"resolution:{shop.tenant_id}:{case.id}"
        [self.task] = eventually(lambda: shop.engine.user_tasks(self.asks), "somebody is asked about the case", patience=60)
        eventually(lambda: self.root().process_instance_id, "the process of the case is registered")

    def root(self) -> Row[Any]:
        return correlation(self.shop, self.about)

    def move(self, instance_id: str, source: str, *targets: str) -> None:
        starts = [{"type": "startBeforeActivity", "activityId": target} for target in targets]
        instructions = [*starts, {"type": "cancel", "activityId": source}]
        self.shop.engine.post(f"/process-instance/{instance_id}/modification", {"instructions": instructions})

    def is_asked_again(self) -> None:
        def again() -> set[str]:
            return {each.id for each in self.shop.engine.user_tasks(self.asks)} - {self.task.id}

        eventually(again, "somebody is asked again", patience=90)
        assert [row.id for row in self.shop.rows(FalloutCase)] == [self.case_id]


@pytest.fixture
def asked(shop: Shop) -> Asked:
    return Asked(shop)


@pytest.mark.parametrize("targets", [(), ("nothing-to-do",)], ids=["cancelled", "moved to the end"])
def test_a_case_whose_task_was_taken_away_asks_again(asked: Asked, targets: Sequence[str]) -> None:
    """The engine ends a process that has nothing left to do, and so the process that called it."""
    asked.move(asked.task.process_instance_id, "resolve-fallout", *targets)
    let_it_be_looked_at(asked.shop, asked.about)

    asked.is_asked_again()


def test_a_case_whose_process_was_moved_to_its_end_asks_again(asked: Asked) -> None:
    asked.move(asked.root().process_instance_id, "resolve-case", "case-closed")
    let_it_be_looked_at(asked.shop, asked.about)

    asked.is_asked_again()


def test_a_case_whose_process_was_moved_to_where_it_waits_asks_again_when_the_wait_is_over(asked: Asked) -> None:
    asked.move(asked.root().process_instance_id, "resolve-case", "wait-until-verified")
    walk = Walk(engine=asked.shop.engine, business_key=asked.about, instance_id=asked.root().process_instance_id)
    walk.let_time_pass("verification-wait-over")

    asked.is_asked_again()
