"""Crashes one command at each of its gates, and while it waits for a row, sends it again, and compares what came of it with the command that nobody disturbed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TypeAlias

from sqlalchemy.exc import OperationalError

from domain.schema import METADATA
from tests.faults.crashes.mortal import COMMIT, Crash, Death, KilledError, Mortal
from tests.faults.crashes.waits import Wait, held, locked_tables
from tests.races.explorer.delivery_scenes import Delivery
from tests.races.explorer.exploring import REFUSALS
from tests.races.explorer.invariants import Invariants
from tests.races.explorer.lone_commands import LONE
from tests.races.explorer.outcomes import Outcomes
from tests.races.explorer.programs import REPLAYED, carry_out, command_id
from tests.races.explorer.registry import COMMANDS, Command
from tests.races.explorer.scenes import Scene, set_the_scene
from tests.races.explorer.sessions import connect
from tests.races.explorer.stage import Stage
from tests.races.explorer.worlds import END, WORLDS
from tests.support.offers import ANNA, BERT, MONA

Plan: TypeAlias = Sequence[Crash | Wait]
DIED = "died"
# Case workers send these commands over HTTP, under a key. The explorer leaves the key out: two people have two keys.
UNDER_A_KEY = frozenset({ANNA, BERT, MONA})
WITHOUT_IDENTITY = {
    "ask again": "its handler asks again only when it has kept the reason, once for each form",
    **dict.fromkeys(
        ("completed otherwise", "order planned: completed", "step to be undone: cancelled", "step retryable: accepted"),
        "a callback that contradicts what is known; it has an identity of its own, and its record refuses a repeat",
    ),
}
"""Commands, or commands in one scene, that do their work again when they are sent again, and what prevents that: they crash only before
their COMMIT."""
# A repeat that is refused records its refusal; every other table is the same whether or not anything crashed.
_TABLES = sorted(table.name for table in METADATA.sorted_tables if table.name != "conflict_log")
_COUNTS = " UNION ALL ".join(f"SELECT '{name}', count(*) FROM {name}" for name in _TABLES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A command in a scene in which it succeeds, and what it does there as the `rank`-th of its kind."""

    scene: str
    command: str
    rank: int
    has_key: bool

    def __str__(self) -> str:
        return f"{self.scene}: {self.command}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How the tries of a command ended, what it left, and which invariants that violates."""

    ended: tuple[str, ...]
    difference: str
    counts: dict[str, int]
    violations: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fate:
    """What became of a part: how many gates it has, how often it crashed, how often it was cut while it waited, and what was wrong then."""

    part: Part
    gates: int
    crashes: int
    waits: int
    wrong: tuple[str, ...]


def parts(*, every_scene: bool) -> list[Part]:
    """Every command in every scene of the explorer's worlds, or in one scene each, and the lone ones; the parts of a scene stand together."""
    found = {(world.scene, role.command): role.rank for world in WORLDS.values() for role in world.roles if role.command != END}
    found |= dict.fromkeys(LONE, 0)
    one_each = {command: (scene, command) for scene, command in sorted(found)}
    return [
        Part(scene=scene, command=command, rank=found[scene, command], has_key=_has_key(COMMANDS[command]))
        for scene, command in sorted(found if every_scene else one_each.values())
    ]


def _has_key(command: Command) -> bool:
    return command.has_key or command.actor in UNDER_A_KEY


class Ring:
    """Crashes parts on one stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._immortal = Mortal(connect(stage.database_url, "mortal"))  # kept, because a connection costs more than most tries
        self._gates: list[str] = []
        self._prepared: tuple[str, Scene | Delivery, Invariants, Outcomes] | None = None

    def close(self) -> None:
        """End the connections."""
        self._immortal.engine.dispose()

    def crash(self, part: Part, depth: int = 2) -> Fate:
        """Crash the part at each gate of its first try; with depth 2 also at each gate of the try after a COMMIT without a reply.

        Before the COMMIT nothing has happened, so its repeat would be the first try once more. With depth 1 the COMMIT meets all ways, and
        every other gate before it one of them in turn. Its session is cut while it waits for a row, too: for the last table where it waits,
        and with depth 2 for each.
        """
        calm = self._play(part, [])
        gates = list(self._gates)
        plans = list(_single(gates)) if depth > 1 else list(_sample(gates))
        if {part.command, str(part)} & WITHOUT_IDENTITY.keys():
            plans = [plan for plan in plans if not plan[0].death.is_after]
        elif depth > 1:
            commits = [Crash(number, Death.KILLED_AFTER) for number, label in enumerate(gates) if label == COMMIT]
            plans += [plan for first in commits for plan in self._after(part, first)]
        waits = list(self._waiting(part, gates, only_last=depth == 1))
        played: Iterator[tuple[Plan, Result]] = chain(((plan, self._play(part, plan)) for plan in plans), waits)
        wrong = [*calm.violations, *chain.from_iterable(_objections(part, calm, plan, result) for plan, result in played)]
        return Fate(part=part, gates=len(gates), crashes=sum(map(len, plans)), waits=len(waits), wrong=tuple(wrong))

    def _waiting(self, part: Part, gates: Sequence[str], *, only_last: bool) -> Iterator[tuple[Plan, Result]]:
        """Cut the session while it waits for a row, in one table after another, the last first. Tables without a wait are left out."""
        for table in reversed(locked_tables(gates)):
            played = self._play(part, plan := (Wait(table),))
            if played.ended[0] == DIED:
                yield plan, played
                if only_last:
                    return

    def _after(self, part: Part, first: Crash) -> Iterator[list[Crash]]:
        self._play(part, [first])
        return ([first, *second] for second in list(_single(self._gates)))

    def _play(self, part: Part, crashes: Plan) -> Result:
        """Try once for each crash, and once more; from the prepared scene."""
        scene, invariants, outcomes = self._set(part.scene)
        self._stage.restore()
        ended = tuple(self._try(scene, part, number, crash) for number, crash in enumerate([*crashes, None]))
        answered = {command_id(number): word for number, word in enumerate(ended) if word != DIED}
        refused = [number for number, word in answered.items() if word in REFUSALS]
        return Result(
            ended=ended,
            difference=outcomes.difference(),
            counts={str(name): int(number) for name, number in self._stage.look(_COUNTS, {})},
            violations=invariants.violations(list(answered), refused),
        )

    def _try(self, scene: Scene | Delivery, part: Part, number: int, end: Crash | Wait | None) -> str:
        key = "key" if part.has_key else None
        crash = end if isinstance(end, Crash) else None
        mortal = Mortal(connect(self._stage.database_url, "mortal"), crash) if end else self._immortal
        mortal.gates.clear()
        attempt = partial(carry_out, mortal.engine, scene, COMMANDS[part.command], number, rank=part.rank, key=key)
        try:
            return held(self._stage, end.table, attempt) if isinstance(end, Wait) else attempt()
        except (KilledError, OperationalError):
            return DIED
        finally:
            self._gates = mortal.gates
            if end:
                mortal.engine.dispose()

    def _set(self, name: str) -> tuple[Scene | Delivery, Invariants, Outcomes]:
        if self._prepared is None or self._prepared[0] != name:
            scene = set_the_scene(self._stage, name)
            tenant_id = scene.offers.tenant_id
            self._prepared = name, scene, Invariants(self._stage, tenant_id), Outcomes(self._stage, tenant_id)
        return self._prepared[1:]


def _objections(part: Part, calm: Result, plan: Plan, played: Result) -> Iterator[str]:
    where = f"{part}, {', then '.join(map(str, plan))}"
    if played.difference != calm.difference:
        yield f"{where}: {played.difference}, and undisturbed {calm.difference}"
    for table, number in calm.counts.items():
        if played.counts[table] != number:
            yield f"{where}: {played.counts[table]} rows in {table}, and undisturbed {number}"
    if part.has_key and played.ended[-1] not in {calm.ended[-1], REPLAYED}:
        yield f"{where}: its repeat was answered {played.ended[-1]}, and undisturbed {calm.ended[-1]}"
    yield from (f"{where}: {violation}" for violation in played.violations)


def _single(gates: Sequence[str]) -> Iterator[list[Crash]]:
    for number, label in enumerate(gates):
        deaths = Death if label == COMMIT else (Death.KILLED, Death.CUT)
        yield from ([Crash(number, death)] for death in deaths)


def _sample(gates: Sequence[str]) -> Iterator[list[Crash]]:
    for number, label in enumerate(gates):
        if label == COMMIT:
            yield from ([Crash(number, death)] for death in Death)
        elif number % 2 == 0:
            yield [Crash(number, (Death.KILLED, Death.CUT)[number // 2 % 2])]
