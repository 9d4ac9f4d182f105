"""Every two commands that can meet, and some threes: whole commands in each order, and one preemption in a sample of them.

`make races` searches all of them further; `docs/explorer.md` tells what is searched, and how to play a schedule again.
"""

from __future__ import annotations

from collections import Counter

import pytest

import domain.schema  # noqa: F401 - moves register when their module is imported
from domain.store import Check
from tests.races.explorer.expected import expectations, objections
from tests.races.explorer.exploring import Exploration, Explorer
from tests.races.explorer.programs import command_id
from tests.races.explorer.registry import COMMANDS
from tests.races.explorer.worlds import END, WORLDS, World

EXPLORED = (
    *("quote.", "approval_request.", "approval_requirement.", "authority_grant.", "price_book_head."),
    *("sales_order.", "fulfillment_step.", "cancellation_request.", "fallout_case."),
)


# It follows a decision and then another failure of the same step: two commands of the same process, which never meet.
NEVER_MET = frozenset({"fallout_case.reopen"})


@pytest.fixture(scope="module")
def made() -> set[str]:
    """The moves that commands have made in the tests of this module, each with no other command before it."""
    return set()


@pytest.mark.parametrize("scene", sorted({world.scene for world in WORLDS.values()}))
def test_whatever_the_order_of_the_statements_only_this_may_come_of_a_meeting(
    scene: str, explorer: Explorer, made: set[str]
) -> None:
    def note(found: Exploration) -> None:
        if found.schedules == 1:  # the whole first command, then the others
            made.update(explorer.moves_of(command_id(0)))

    meetings = [world for world in WORLDS.values() if world.scene == scene]

    assert not [wrong for world in meetings for wrong in objections(explorer.explore(world, world.quick_bound, tells=note))]


def test_every_world_has_its_outcomes_written_down_and_nothing_else_has() -> None:
    assert set(expectations()) == set(WORLDS)


def alone() -> list[World]:
    """Each command of a world by itself; the scenes of most commands come first."""
    parts = {(world.scene, role.command): role for world in WORLDS.values() for role in world.roles if role.command != END}
    commands = Counter(scene for scene, _ in parts)
    ordered = sorted(parts, key=lambda part: (-commands[part[0]], part))
    return [World(name=f"{scene}: {command}", scene=scene, roles=[parts[scene, command]]) for scene, command in ordered]


@pytest.mark.after_the_others
def test_every_move_and_check_of_an_offer_and_an_order_is_met_by_another_command(explorer: Explorer, made: set[str]) -> None:
    """A move that is added fails here, until a command of the explorer makes it: then it meets all others in every state it can.

    What the meetings before have not shown (when only some of them were tested), the commands show by themselves.
    """
    known = {name for name in Check.registry if name.startswith(EXPLORED)} - NEVER_MET
    seen = made.union(*(command.checks for command in COMMANDS.values()))
    parts = alone()
    while parts and not seen >= known:
        explorer.play(parts.pop(0), "")
        seen |= explorer.moves_of(command_id(0))

    assert {name for name in seen if name.startswith(EXPLORED)} == known
