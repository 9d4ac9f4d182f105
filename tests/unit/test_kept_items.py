"""What a sweep has found and keeps until it is dealt with: each tenant has its turn, however much another one has."""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from reconciliation.walks import Kept

FLOODED, QUIET = UUID(int=1), UUID(int=2)
MANY = 40  # times a coin is thrown: that it falls on one side each time happens once in a million million
NO_TIME = 0.0  # by the monotonic clock, which is later


class Item(NamedTuple):
    tenant_id: UUID
    id: UUID


def kept(acted: list[Item]) -> Kept[Item]:
    def act(item: Item) -> bool:
        acted.append(item)
        return True

    found = Kept("test", act)
    found.add([*(Item(FLOODED, UUID(int=number)) for number in range(MANY)), Item(QUIET, UUID(int=0))])
    return found


def test_a_sweep_that_has_time_for_one_item_does_not_always_have_it_for_the_same_tenant() -> None:
    """Kills: beginning with the lowest tenant each time, so that the others wait until its flood is over."""
    acted: list[Item] = []
    for _ in range(MANY):
        kept(acted).settle(NO_TIME)

    assert (len(acted), {item.tenant_id for item in acted}) == (MANY, {FLOODED, QUIET})


def test_every_item_is_dealt_with_once() -> None:
    acted: list[Item] = []
    found = kept(acted)

    assert (found.settle(), found.settle()) == (MANY + 1, 0)
    assert len(set(acted)) == MANY + 1
