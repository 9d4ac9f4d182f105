"""`make storm`: faults of every kind on a suite that works, and a judgement of what its clients have seen."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import SystemRandom
from threading import Event, Thread
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from tests.faults.storm.faults import FAULTS
from tests.faults.storm.running import Outcome, Progress, storm
from tests.support.evidence import record
from workers.local.stack import LocalStack
from workers.runtime import logs

console = Console(highlight=False)
SHOWN = 20  # violations


def main(
    seconds: Annotated[float, typer.Option(help="How long faults happen.")] = 120.0,
    seed: Annotated[int, typer.Option(help="Chooses the faults; printed, so that a run can be repeated.")] = -1,
    faults: Annotated[str, typer.Option(help="Only kinds whose name contains one of these, separated by commas.")] = "",
    history: Annotated[Path, typer.Option(help="Where the history is written.")] = Path("build/storm.jsonl"),
    clients: Annotated[int, typer.Option(help="Clients at the same time.")] = 6,
) -> None:
    """Let clients work under faults, heal, wait until everything is quiet, and judge. Exits with 0 when nothing is violated."""
    chosen = [name for name in FAULTS if any(part.strip() in name for part in faults.split(","))]
    if not chosen:
        raise typer.BadParameter(f"no kind is named like {faults!r}; there are: {', '.join(FAULTS)}", param_hint="--faults")
    seed = seed if seed >= 0 else SystemRandom().randrange(1_000_000)
    history.parent.mkdir(parents=True, exist_ok=True)
    console.print(f"seed {seed}, history {history}, logs {history.with_suffix('.logs')}, {len(chosen)} kinds of fault")
    progress = Progress()
    with (
        Path(os.devnull).open("w") as nowhere,
        tempfile.TemporaryDirectory() as directory,
        LocalStack(Path(directory)) as stack,
        _showing(progress),
    ):
        logs.configure_logs("storm", stream=nowhere)
        outcome = storm(stack, history, seconds=seconds, seed=seed, faults=chosen, clients=clients, progress=progress)
        shutil.copytree(stack.data_dir / "logs", history.with_suffix(".logs"), dirs_exist_ok=True)
    _tell(outcome, progress, seed)
    raise typer.Exit(0 if outcome.passed else 1)


@contextmanager
def _showing(progress: Progress) -> Iterator[None]:
    """Show the table while the block runs; without a terminal, a line every 30 seconds."""
    over = Event()

    def show() -> None:
        if not console.is_terminal:
            while not over.wait(30):
                console.print(_line(progress), soft_wrap=True)
            return
        with Live(_table(progress), console=console, refresh_per_second=2, transient=True) as live:
            while not over.wait(0.5):
                live.update(_table(progress))

    thread = Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _line(progress: Progress) -> str:
    return (
        f"{progress.phase}: {progress.operations:,} operations ({progress.unknown:,} attempts unknown), {progress.quotes} quotes done, "
        f"{progress.cases} cases resolved, {progress.faults.total()} faults of {len(progress.faults)} kinds "
        f"({progress.idle.total()} more found nothing to strike); now: "
        f"{', '.join(progress.now) or 'nothing'}"
    )


def _table(progress: Progress) -> Table:
    table = Table(title=_line(progress), title_justify="left")
    for _ in range(2):
        table.add_column("fault")
        table.add_column("times", justify="right")
    cells = [(name, str(number)) for name, number in sorted(progress.faults.items())]
    for left, right in zip(cells[::2], [*cells[1::2], ("", "")], strict=False):
        table.add_row(*left, *right)
    return table


def _tell(outcome: Outcome, progress: Progress, seed: int) -> None:
    console.print(_table(progress))
    for sentence in outcome.violations[:SHOWN]:
        console.print(f"✗ {sentence}", style="red", markup=False, soft_wrap=True)
    more = len(outcome.violations) - SHOWN
    if more > 0:
        console.print(f"✗ and {more} more", style="red")
    quiet = "never quiet" if outcome.quiet_after is None else f"quiet {outcome.quiet_after:.0f} s after healing"
    unknown = sum(1 for operation in outcome.found.operations if operation.is_write and operation.unknown)
    console.print(
        f"seed {seed}, history {outcome.history}: {outcome.faults.total()} faults of {len(outcome.faults)} kinds, "
        f"{len(outcome.found.operations):,} operations, {unknown} commands were unknown, {quiet}, {len(outcome.violations)} violations",
        soft_wrap=True,
    )
    record("storm: faults", outcome.faults.total(), "faults", f"{len(outcome.faults)} kinds, seed {seed}")
    record("storm: operations", len(outcome.found.operations), "operations", f"{unknown} commands were unknown")
    record("storm: violations", len(outcome.violations), "violations", quiet)


if __name__ == "__main__":
    typer.run(main)
