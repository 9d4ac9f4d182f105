"""`make faults`: crash every command at each of its gates, in every scene of the explorer, and its repeat as well."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby
from multiprocessing import get_context
from time import monotonic
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.faults.crashes.ring import Fate, Part, Ring, parts
from tests.races.explorer.__main__ import server
from tests.races.explorer.stage import stage_on
from tests.support.evidence import record

console = Console(highlight=False)


def main(
    only: Annotated[str, typer.Option(help="Only parts, `<scene>: <command>`, whose name contains this.")] = "",
    jobs: Annotated[int, typer.Option(help="Rings side by side.")] = os.cpu_count() or 1,
) -> None:
    """Crash commands at each of their gates, send them again, and compare what came of it with the undisturbed command."""
    chosen = [part for part in parts(every_scene=True) if only in str(part)]
    if not chosen:
        raise typer.BadParameter(f"the name of no part contains {only!r}", param_hint="--only")
    began = monotonic()
    with server() as database_url:
        fates = list(_follow(_crash(database_url, chosen, jobs), len(chosen)))
    wrong = [sentence for fate in fates for sentence in fate.wrong]
    for sentence in wrong:
        console.print(f"✗ {sentence}", style="red", markup=False, soft_wrap=True)
    gates, crashes = sum(fate.gates for fate in fates), sum(fate.crashes for fate in fates)
    seconds = monotonic() - began
    console.print(
        f"{len(fates)} commands in their scenes, {gates:,} gates, {crashes:,} crashes in {seconds:.0f} s, {len(wrong)} wrong"
    )
    if not only:
        record("crashes of commands", crashes, "crashes", f"{gates} gates, {len(fates)} commands in their scenes")
        record("crashes of commands with a difference", len(wrong), "crashes")
    raise typer.Exit(1 if wrong else 0)


def _crash(database_url: str, chosen: Sequence[Part], jobs: int) -> Iterator[Fate]:
    """Crash the parts, scene by scene, in several processes; a scene is prepared once."""
    scenes = [list(group) for _, group in groupby(chosen, key=lambda part: part.scene)]
    with get_context("spawn").Pool(jobs) as pool:
        for fates in pool.imap_unordered(_crash_a_scene, [(database_url, number, scene) for number, scene in enumerate(scenes)]):
            yield from fates


def _crash_a_scene(task: tuple[str, int, Sequence[Part]]) -> list[Fate]:
    database_url, number, scene = task
    with stage_on(database_url, f"q2o_crashes_{number}") as stage:
        ring = Ring(stage)
        try:
            return [ring.crash(part) for part in scene]
        finally:
            ring.close()


def _follow(fates: Iterator[Fate], expected: int) -> Iterator[Fate]:
    columns = (TextColumn("commands"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    seen: Counter[str] = Counter()
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=expected)
        for fate in fates:
            seen.update(crashes=fate.crashes, wrong=len(fate.wrong))
            bar.update(task, advance=1, description=f"{seen['crashes']:,} crashes, {seen['wrong']} wrong")
            yield fate


if __name__ == "__main__":
    typer.run(main)
