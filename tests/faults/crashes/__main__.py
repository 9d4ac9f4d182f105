"""`make faults`: crash every command and every process of the suite at each place that they have (`docs/crashes.md`)."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from time import monotonic
from typing import Annotated, Self

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.faults.crashes import crew
from tests.faults.crashes.mortal import KilledError
from tests.faults.crashes.places import Places
from tests.faults.crashes.retaining import RETENTION
from tests.faults.crashes.ring import Fate, Part, parts
from tests.faults.crashes.running import crash_processes
from tests.faults.crashes.sweeps import Swept
from tests.races.explorer.__main__ import server
from tests.support.evidence import record
from tests.support.sweep_selections import SWEEPS
from workers.local.stack import LocalStack
from workers.runtime import logs

console = Console(highlight=False)
SAY_EVERY = 60.0  # seconds between two lines of progress where no terminal shows it all the time
QUIET_SECONDS = 60.0  # longer than any course takes to its next place while processes die


class Kind(StrEnum):
    """What is crashed."""

    COMMANDS = "commands"
    SWEEPS = "sweeps"
    PROCESSES = "processes"
    ALL = "all"


class _Line:
    """One line of progress: redrawn on a terminal, and written once a minute elsewhere."""

    def __init__(self, what: str, total: int | None = None) -> None:
        count = (BarColumn(20), MofNCompleteColumn()) if total else ()
        columns = (TextColumn(what), *count, TimeElapsedColumn(), TextColumn("{task.description}"))
        self._what, self._total, self._done = what, total, 0
        self._bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bar.add_task("begins", total=total)
        self._said = monotonic()

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def tell(self, text: str, advance: int = 0) -> None:
        self._done += advance
        self._bar.update(self._task, advance=advance, description=text)
        if not console.is_terminal and monotonic() - self._said >= SAY_EVERY:
            self._said = monotonic()
            console.print(f"{self._what}: {f'{self._done} of {self._total}, ' if self._total else ''}{text}", soft_wrap=True)


def main(
    only: Annotated[str, typer.Option(help="Only parts, `<scene>: <command>`, whose name contains this.")] = "",
    of: Annotated[Kind, typer.Option(help="Crash only these.")] = Kind.ALL,
    jobs: Annotated[int, typer.Option(help="Rings side by side.")] = os.cpu_count() or 1,
) -> None:
    """Crash commands at each of their gates, send them again, and compare what came of it with the undisturbed command; then sweeps, retention and processes."""
    chosen = [part for part in parts(every_scene=True) if only in str(part)]
    if not chosen:
        raise typer.BadParameter(f"the name of no part contains {only!r}", param_hint="--only")
    wrong = _commands(chosen, jobs, is_whole=not only) if of in {Kind.COMMANDS, Kind.ALL} else []
    if of in {Kind.SWEEPS, Kind.ALL} and not only:
        wrong += _sweeps(jobs)
    if of in {Kind.PROCESSES, Kind.ALL} and not only:
        wrong += _processes()
    for sentence in wrong:
        console.print(f"✗ {sentence}", style="red", markup=False, soft_wrap=True)
    raise typer.Exit(1 if wrong else 0)


def _commands(chosen: Sequence[Part], jobs: int, *, is_whole: bool) -> list[str]:
    began = monotonic()
    with server() as database_url:
        fates = list(_follow(crew.crash(database_url, chosen, jobs), len(chosen)))
    wrong = [sentence for fate in fates for sentence in fate.wrong]
    gates, crashes = sum(fate.gates for fate in fates), sum(fate.crashes for fate in fates)
    waits, without = sum(fate.waits for fate in fates), sum(not fate.waits for fate in fates)
    seconds = monotonic() - began
    console.print(
        f"{len(fates)} commands in their scenes, {gates:,} gates, {crashes:,} crashes, {waits:,} ends of a session that waited for a row "
        f"({without} commands wait for none) in {seconds:.0f} s, {len(wrong)} wrong",
        soft_wrap=True,
    )
    if is_whole:
        record("crashes of commands", crashes, "crashes", f"{gates} gates, {len(fates)} commands in their scenes")
        record("ends of sessions that waited for a row", waits, "ends", f"{without} commands wait for none")
        record("crashes of commands with a difference", len(wrong), "crashes")
    return wrong


def _sweeps(jobs: int) -> list[str]:
    began, done, kinds = monotonic(), list[Swept](), (*SWEEPS, RETENTION)
    with server() as database_url, _Line("sweeps", len(kinds)) as line:
        for swept in crew.crash_sweeps(database_url, kinds, jobs):
            done.append(swept)
            line.tell(swept.kind, advance=1)
    wrong = [sentence for swept in done for sentence in swept.wrong]
    gates, crashes = sum(swept.gates for swept in done), sum(swept.crashes for swept in done)
    console.print(
        f"{len(done)} sweeps, {gates:,} gates, {crashes:,} crashes in {monotonic() - began:.0f} s, {len(wrong)} wrong",
        soft_wrap=True,
    )
    record("crashes of sweeps", crashes, "crashes", f"{gates} gates, {len(done)} sweeps")
    record("crashes of sweeps with a difference", len(wrong), "crashes")
    return wrong


def _processes() -> list[str]:
    began, places = monotonic(), Places()
    threading.excepthook = _only_if_alive
    with (
        Path(os.devnull).open("w") as nowhere,
        tempfile.TemporaryDirectory() as directory,
        LocalStack(Path(directory)) as stack,
        _Line("processes") as line,
    ):
        logs.configure_logs("crashes", stream=nowhere)
        aftermath = crash_processes(
            stack,
            places,
            goes_on=lambda: monotonic() - places.last_news < QUIET_SECONDS,
            tells=lambda: line.tell(f"{places.crashes} deaths at {len(places.places)} places"),
        )
    wrong = aftermath.unexpected
    seconds = monotonic() - began
    of_each = ", ".join(f"{name} {number}" for name, number in sorted(Counter(place.process for place in places.places).items()))
    console.print(
        f"{places.crashes:,} deaths of processes at {len(places.places)} places ({of_each}) in {seconds:.0f} s, "
        f"{len(aftermath.samples)} quotes, {len(wrong)} wrong"
    )
    record("crashes of processes", places.crashes, "crashes", f"{len(places.places)} places: {of_each}")
    record("crashes of processes with a difference", len(wrong), "findings")
    return wrong


def _only_if_alive(died: threading.ExceptHookArgs) -> None:
    if not issubclass(died.exc_type, KilledError):
        sys.__excepthook__(died.exc_type, died.exc_value or died.exc_type(), died.exc_traceback)


def _follow(fates: Iterator[Fate], expected: int) -> Iterator[Fate]:
    seen: Counter[str] = Counter()
    with _Line("commands", expected) as line:
        for fate in fates:
            seen.update(crashes=fate.crashes, wrong=len(fate.wrong))
            line.tell(f"{seen['crashes']:,} crashes, {seen['wrong']} wrong", advance=1)
            yield fate


if __name__ == "__main__":
    typer.run(main)
