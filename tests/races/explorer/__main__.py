"""`make races`: explore every world, or play one schedule again and print each step."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from tests.races.explorer import board, crew
from tests.races.explorer.expected import as_written, expectations, objections, objections_to
from tests.races.explorer.exploring import Explorer
from tests.races.explorer.stage import stage_on
from tests.races.explorer.worlds import WORLDS
from tests.support.evidence import record
from tests.support.services import open_to_tests
from workers.local.stack import LocalStack

console = Console(highlight=False)


def main(
    schedule: Annotated[str | None, typer.Option(help="Play one schedule: '<world>:<token>'.")] = None,
    world: Annotated[str, typer.Option(help="Only worlds whose name contains this.")] = "",
    bound: Annotated[int | None, typer.Option(help="At most so many preemptions (default: what each world says).")] = None,
    whole: Annotated[bool, typer.Option("--whole", help="Without a bound.")] = False,  # noqa: FBT002 - a flag
    jobs: Annotated[int, typer.Option(help="Explorers side by side.")] = os.cpu_count() or 1,
) -> None:
    """Play commands that meet in every order of their statements, and check the outcome of each schedule."""
    plan = [(each.name, None if whole else bound or each.bound) for each in WORLDS.values() if world in each.name]
    if not plan:
        raise typer.BadParameter(f"no world's name contains {world!r}", param_hint="--world")
    with server() as database_url:
        is_right = replay(database_url, schedule) if schedule is not None else explore(database_url, plan, jobs)
    raise typer.Exit(0 if is_right else 1)


@contextmanager
def server() -> Iterator[str]:
    """Run a PostgreSQL for the explorers alone; yields its address."""
    with tempfile.TemporaryDirectory() as directory, LocalStack(Path(directory), {"postgres"}, {}) as stack:
        yield open_to_tests(stack)


def replay(database_url: str, schedule: str) -> bool:
    """Play one schedule and print its steps; returns whether its outcome is expected and every invariant holds."""
    name, _, token = schedule.rpartition(":")
    if name not in WORLDS:
        raise typer.BadParameter(f"no world is called {name!r}", param_hint="--schedule")
    with stage_on(database_url, "q2o_explorer") as stage:
        explorer = Explorer(stage)
        played = explorer.play(WORLDS[name], token, closely=True)
        explorer.close()
    wrong = objections_to(name, played)
    console.print(board.step_by_step(WORLDS[name], played), markup=False, soft_wrap=True)
    board.complain(console, wrong)
    return not wrong


def explore(database_url: str, plan: Sequence[tuple[str, int | None]], jobs: int) -> bool:
    """Explore worlds, show the progress and record the figures; returns whether no world has an objection."""
    # Worlds of three actors take longest, so they come first; worlds of one scene stand together, because the scene is prepared once.
    plan = sorted(plan, key=lambda task: (-len(WORLDS[task[0]].roles), WORLDS[task[0]].scene))
    seen = board.follow(console, len(plan), crew.explore(database_url, plan, jobs))
    found = seen.explorations
    for each in found:
        if each.world.name not in expectations():
            console.print(as_written(each), markup=False, soft_wrap=True)
    wrong = [complaint for each in found for complaint in objections(each)]
    board.complain(console, wrong)
    console.print(f"{len(found)} worlds: {seen}")
    if len(found) == len(WORLDS):
        record("race schedules explored", seen.schedules, "schedules", f"{len(found)} worlds in {seen.seconds:.0f} s")
        record("race schedules per second", round(seen.schedules / seen.seconds, 1), "schedules/s", f"{jobs} explorers")
        record("race schedules with a violation", seen.violations, "schedules")
    return not wrong


if __name__ == "__main__":
    typer.run(main)
