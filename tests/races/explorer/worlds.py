"""Worlds: which commands meet in which scene. Pairs come from the matrix, so a new command meets every command that it can meet."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement
from zlib import crc32

from domain.offers.prices import StalenessPolicy
from domain.offers.quotes import QuoteStatus
from tests.races.explorer import case_commands, delivery_commands  # noqa: F401 - imported for the commands that they register
from tests.races.explorer import commands as _  # noqa: F401 - likewise; `commands` is a word of the loops below
from tests.races.explorer.delivery_scenes import DELIVERIES
from tests.races.explorer.registry import COMMANDS, Command
from tests.races.explorer.scenes import OVERDUE

# Nearly every race that was ever found needs one or two (Musuvathi and Qadeer, "Iterative context bounding", PLDI 2007). What is most at
# stake is searched one further. Three actors have ten times as many schedules with two as with one.
PREEMPTIONS, PREEMPTIONS_AT_STAKE, PREEMPTIONS_OF_THREE = 2, 3, 1
# `make test` searches one preemption of every tenth of the pairs that are at stake, and tries both orders of whole commands in all the
# others; `make races` searches them all. Every outcome that is expected comes of whole commands, so none of them is left out.
SAMPLE = 10
# Where a pair meets in several states, it is at stake in the first of these.
BY_STAKES = (
    QuoteStatus.APPROVED,
    QuoteStatus.APPROVAL_IN_PROGRESS,
    QuoteStatus.SUBMITTED_FOR_APPROVAL,
    QuoteStatus.PRICED,
    QuoteStatus.DRAFT,
    QuoteStatus.EXPIRED,
)

# The scenes of a delivery in which a pair is at stake.
AT_STAKE = ("last steps", "cancellation asked", "step contradicted", "case left")
# Each of these names the version of the case, so one of them, `let it be tried again`, is enough to meet the others.
ON_A_CASE = frozenset(
    {
        *("ask for information", "put the case aside", "give the case back", "escalate the case", "confirm the reference"),
        *("repair it", "cancel the step", "fail the step", "skip the step"),
    }
)
# In a pair the second of these commands stands for the first, which makes the same moves.
LIKE = {"send back": "reject"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """What one actor does: a command, as the first or second of its kind, perhaps under an idempotency key."""

    command: str
    rank: int = 0
    key: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """`bound` and `quick_bound`: how many preemptions are searched by `make races` and by `make test`."""

    name: str
    scene: str
    roles: Sequence[Role]
    bound: int = PREEMPTIONS
    quick_bound: int = 1


def in_state(state: str) -> list[Command]:
    """List the commands that can succeed there, by name."""
    return sorted((command for command in COMMANDS.values() if state in command.states), key=lambda command: command.name)


def pairs() -> Iterator[World]:
    """Every two commands that can meet in a state: both can succeed there, and both touch the same rows."""
    met: set[tuple[str, str]] = set()
    for state in (*BY_STAKES, *(state for state in QuoteStatus if state not in BY_STAKES)):
        for first, second in combinations_with_replacement(in_state(state), 2):
            if first.touches & second.touches:
                meeting = LIKE.get(first.name, first.name), LIKE.get(second.name, second.name)
                is_at_stake = meeting not in met
                met.add(meeting)
                yield from (_bounded(world, is_at_stake=is_at_stake) for world in _pair(state, first, second))


def deliveries() -> Iterator[World]:
    """Every two commands that can succeed in a scene of delivery; of those that resolve a case, one stands for the others."""
    for scene in DELIVERIES:
        for first, second in combinations_with_replacement(in_state(scene), 2):
            if not {first.name, second.name} <= ON_A_CASE:
                yield from (_bounded(world, is_at_stake=scene in AT_STAKE) for world in _pair(scene, first, second))


def _bounded(world: World, *, is_at_stake: bool) -> World:
    """Give a pair its bounds. The sample of `make test` is chosen by the world's name, so that it is the same in every run."""
    if not is_at_stake:
        return replace(world, quick_bound=0)
    return replace(world, bound=PREEMPTIONS_AT_STAKE, quick_bound=int(crc32(world.name.encode()) % SAMPLE == 0))


def _pair(state: str, first: Command, second: Command) -> Iterator[World]:
    late = "expire" in {first.name, second.name} and state != QuoteStatus.EXPIRED
    scene = f"{state}{OVERDUE if late else ''}"
    name = f"{state}: {first.name} | {second.name}"
    if first is not second:
        yield World(name=name, scene=scene, roles=(Role(command=first.name), Role(command=second.name)))
        return
    keys = ("first", "second") if first.has_key else (None, None)
    yield World(name=name, scene=scene, roles=tuple(Role(command=first.name, rank=rank, key=key) for rank, key in enumerate(keys)))
    if first.has_key:
        same = Role(command=first.name, key="one")
        yield World(name=f"{name}, one key", scene=scene, roles=(same, same))


def _written(scene: str, *commands: str, label: str = "", ranks: Sequence[int] = (), key: str | None = None) -> World:
    """Several commands in a scene; commands that occur more than once share `key`."""
    roles = [
        Role(
            command=command,
            rank=ranks[number] if ranks else 0,
            key=key if commands.count(command) > 1 else None,
        )
        for number, command in enumerate(commands)
    ]
    world = World(name=f"{scene}: {' | '.join(commands)}{label}", scene=scene, roles=roles)
    return world if len(commands) == 2 else replace(world, bound=PREEMPTIONS_OF_THREE, quick_bound=0)


END = "end of the offer"
IN_APPROVAL, APPROVED, SUBMITTED = QuoteStatus.APPROVAL_IN_PROGRESS, QuoteStatus.APPROVED, QuoteStatus.SUBMITTED_FOR_APPROVAL
WRITTEN = (
    *(_written(f"{APPROVED}, {policy}", "accept", "publish") for policy in StalenessPolicy),
    _written(f"{APPROVED}, a stale price too", "accept", "publish"),
    _written(APPROVED, "accept", "accept", key="one", ranks=(0, 1), label=", one key, another body"),
    _written(APPROVED, "accept", END),
    _written(APPROVED, "decline", END),
    _written(QuoteStatus.PRICED, "submit", END),
    _written(f"{IN_APPROVAL}, two levels", "approve", "approve for finance"),
    _written(f"{IN_APPROVAL}, delegated", "approve as delegate", "revoke"),
    _written(f"{IN_APPROVAL}, delegated", "approve as delegate", "end delegation"),
    _written(f"{IN_APPROVAL}, delegated", "end delegation", "revoke"),
    _written(IN_APPROVAL, "approve without grant", "grant"),
    _written(f"{SUBMITTED}, approved before", "open requirements again", "revoke"),
    _written(f"{SUBMITTED}, approved before", "open requirements again", "edit"),
    _written(APPROVED, "accept", "accept", "edit", key="one", label=", one key"),
    _written(APPROVED, "accept", "accept", "edit"),
    _written(f"{APPROVED}, {StalenessPolicy.REPRICE_REQUIRED_ON_PUBLISH}", "accept", "edit", "publish"),
    _written(APPROVED, "accept", "expire", END),
    _written(APPROVED, "accept", "approve", "expire"),
    _written(IN_APPROVAL, "approve", "approve for finance", "edit"),
    _written(IN_APPROVAL, "approve", "approve for finance", "recall"),
    _written(IN_APPROVAL, "approve", "reject", "revoke"),
    _written(IN_APPROVAL, "approve", "escalate", "revoke"),
)
"""Worlds beyond two commands in one state: policies, delegations, time that passes, three commands."""
OF_DELIVERY = (
    _written("last steps", "completed", "B completed", "evaluate"),
    _written("last steps", "completed", "B completed", "ask to cancel"),
    _written("cancellation asked", "accept the cancellation", "completed", "evaluate"),
    _written("cancellation asked", "accept the cancellation", "decline the cancellation", "start B"),
    _written("step being cancelled", "completed", "cancelled", "evaluate"),
    # A reply between two reads of the evaluation once left the order settled and its step not undone.
    replace(_written("step being cancelled", "completed", "cancellation refused", "evaluate"), quick_bound=1),
    _written("case claimed", "let it be tried again", "completed", "evaluate"),
    _written("case left", "claim", "the lease runs out", "let it be tried again"),
)
"""Three commands at once in a delivery: races M12 and M11 of docs/races.md."""
WORLDS: dict[str, World] = {world.name: world for world in (*pairs(), *WRITTEN, *deliveries(), *OF_DELIVERY)}
