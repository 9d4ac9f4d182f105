"""Explores a world: plays each schedule from the same start, then reads its outcome and checks the invariants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from time import perf_counter
from uuid import UUID

from tests.races.explorer.actors import Program
from tests.races.explorer.delivery_scenes import Delivery
from tests.races.explorer.invariants import Invariants
from tests.races.explorer.outcomes import Outcomes
from tests.races.explorer.programs import command_id, end_of_the_offer, program, refusal_codes
from tests.races.explorer.registry import COMMANDS
from tests.races.explorer.scenes import Scene, set_the_scene
from tests.races.explorer.schedules import Run, Scheduler
from tests.races.explorer.search import Search
from tests.races.explorer.stage import Stage
from tests.races.explorer.worlds import END, Role, World

REFUSALS = refusal_codes()


@dataclass(slots=True)
class Exploration:
    """What an exploration found. `outcomes` counts schedules, `serial` are the outcomes of those without a preemption.

    `tokens`: one schedule for each outcome. `violations`: token and sentences. `is_whole`: the bound left no schedule out.
    """

    world: World
    bound: int | None
    is_whole: bool = False
    schedules: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    serial: set[str] = field(default_factory=set)
    tokens: dict[str, str] = field(default_factory=dict)
    violations: list[tuple[str, list[str]]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """One schedule of a world, its outcome, and the invariants that it violates."""

    run: Run
    outcome: str
    violations: list[str]


class Explorer:
    """Plays worlds on one stage. A scene is prepared for the first world that needs it, and kept for the next one."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.scheduler = Scheduler(stage)
        self.schedules = 0
        self.seconds = 0.0
        self._prepared: tuple[str, Scene | Delivery, Invariants, Outcomes] | None = None

    def close(self) -> None:
        """End the actors."""
        self.scheduler.close()

    def forget(self) -> None:
        """Prepare the scene of the next world again."""
        self._prepared = None

    def explore(
        self,
        world: World,
        bound: int | None = None,
        *,
        stops: Callable[[Played], bool] = lambda _: False,
        tells: Callable[[Exploration], None] = lambda _: None,
    ) -> Exploration:
        """Play every schedule within the bound; `stops` may end the search early, `tells` receives the progress."""
        found, began = Exploration(world=world, bound=bound), perf_counter()
        last: list[Played] = []

        def play(token: str) -> Run:
            last[:] = [self.play(world, token)]
            return last[0].run

        search = Search(play, bound)
        for run in search:
            [played] = last
            self._count(found, run, played)
            found.seconds = perf_counter() - began
            tells(found)
            if stops(played):
                break
        self.schedules += found.schedules
        self.seconds += found.seconds
        found.is_whole = not search.is_cut
        self._demand_restored()
        return found

    def moves_of(self, command_id: UUID) -> set[str]:
        """The moves that a command made in the last schedule, by their names in the registry."""
        query = "SELECT aggregate_type, lower(reason) FROM transition_log WHERE command_id = %(command)s AND transition_from IS NOT NULL"
        return {f"{aggregate}.{event}" for aggregate, event in self.stage.look(query, {"command": command_id})}

    def play(self, world: World, token: str, *, closely: bool = False) -> Played:
        """Play one schedule."""
        scene, invariants, outcomes = self._set(world.scene)
        self.scheduler.restore()
        programs = [self._program(scene, role, number) for number, role in enumerate(world.roles)]
        run = self.scheduler.run(programs, token, closely=closely)
        commands = [command_id(number) for number in range(len(programs))]
        refused = [command for command, ended in zip(commands, run.ended, strict=True) if ended in REFUSALS]
        return Played(
            run=run,
            outcome=f"{' / '.join(run.ended)} -> {outcomes.difference()}",
            violations=invariants.violations(commands, refused),
        )

    def _program(self, scene: Scene | Delivery, role: Role, number: int) -> Program:
        if role.command == END:
            return end_of_the_offer(self.stage)
        return program(scene, COMMANDS[role.command], number, rank=role.rank, key=role.key)

    def _set(self, name: str) -> tuple[Scene | Delivery, Invariants, Outcomes]:
        if self._prepared is None or self._prepared[0] != name:
            scene = set_the_scene(self.stage, name)
            tenant_id = scene.offers.tenant_id
            self._prepared = name, scene, Invariants(self.stage, tenant_id), Outcomes(self.stage, tenant_id)
        return self._prepared[1:]

    @staticmethod
    def _count(found: Exploration, run: Run, played: Played) -> None:
        found.schedules += 1
        found.outcomes[played.outcome] += 1
        found.tokens.setdefault(played.outcome, run.token)
        if run.preemptions == 0:
            found.serial.add(played.outcome)
        if played.violations:
            found.violations.append((run.token, played.violations))

    def _demand_restored(self) -> None:
        self.scheduler.restore()
        left = self.stage.restore()
        assert left == 0, f"{left} rows of a schedule were left to the next: a write that the explorer does not see"
