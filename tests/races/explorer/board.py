"""How explorations are shown: a bar and the worlds at work while they run, a table of all of them afterwards, one schedule step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.races.explorer import crew
from tests.races.explorer.exploring import Exploration, Played
from tests.races.explorer.worlds import World

# Worlds that were finished last, as many as fit under the bar.
SHOWN = 12
# Characters of a statement that tell which one it is.
STATEMENT = 90


@dataclass(slots=True)
class Seen:
    """What the explorers have said so far."""

    worlds: int
    began: float = field(default_factory=monotonic)
    explorations: list[Exploration] = field(default_factory=list)
    at_work: dict[str, int] = field(default_factory=dict)

    def take(self, news: crew.Progress | Exploration) -> None:
        if isinstance(news, crew.Progress):
            self.at_work[news.name] = news.schedules
        else:
            self.at_work.pop(news.world.name, None)
            self.explorations.append(news)

    @property
    def schedules(self) -> int:
        return sum(each.schedules for each in self.explorations) + sum(self.at_work.values())

    @property
    def seconds(self) -> float:
        return monotonic() - self.began

    def sentence(self) -> str:
        """The whole in one line."""
        violations = sum(len(each.violations) for each in self.explorations)
        return (
            f"{self.schedules:,} schedules of {len(self.explorations)} worlds in {self.seconds:.0f} s "
            f"({self.schedules / self.seconds:.0f}/s), {violations} with a violation"
        )


@contextmanager
def live(console: Console, plan: Sequence[tuple[str, int | None]]) -> Iterator[Seen]:
    """Show how far the explorers are while the block runs: a picture on a terminal, elsewhere a line for each world."""
    seen = _Painted(len(plan), console)
    with seen:
        yield seen


class _Painted(Seen):
    def __init__(self, worlds: int, console: Console) -> None:
        super().__init__(worlds)
        self._console = console
        self._bar = Progress(
            TextColumn("worlds"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
        )
        self._task = self._bar.add_task("", total=worlds)
        self._live = Live(self._picture(), console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> None:
        if self._live is not None:
            self._live.start()

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def take(self, news: crew.Progress | Exploration) -> None:
        super().take(news)
        if self._live is not None:
            self._bar.update(self._task, completed=len(self.explorations), description=self.sentence())
            self._live.update(self._picture(), refresh=True)
        elif isinstance(news, Exploration):
            self._console.print(
                f"{news.world.name}: {news.schedules} schedules, {news.schedules / news.seconds:.0f}/s, {bound(news)}"
            )

    def _picture(self) -> RenderableType:
        table = Table("world", "schedules", box=None, pad_edge=False)
        for each in self.explorations[-SHOWN:]:
            table.add_row(each.world.name, f"{each.schedules:,}")
        for name, schedules in self.at_work.items():
            table.add_row(f"[cyan]{name}[/]", f"{schedules:,} …")
        return Group(self._bar, table)


def bound(found: Exploration) -> str:
    """How much of the tree was searched."""
    return "whole" if found.is_whole else f"≤ {found.bound} preemptions"


def summary(found: Sequence[Exploration]) -> Table:
    """One row for each world, one line for each of its outcomes."""
    table = Table(title="Schedules", title_justify="left", pad_edge=False, show_lines=True)
    for heading in ("world", "schedules", "searched", "of them", "outcome", "violations", "per second"):
        table.add_column(heading, justify="left" if heading in {"world", "searched", "outcome"} else "right")
    for each in sorted(found, key=lambda each: each.world.name):
        outcomes = sorted(each.outcomes.items(), key=lambda item: -item[1])
        table.add_row(
            each.world.name,
            f"{each.schedules:,}",
            bound(each),
            "\n".join(f"{number:,}" for _, number in outcomes),
            "\n".join(outcome for outcome, _ in outcomes),
            f"[red]{len(each.violations)}[/]" if each.violations else "0",
            f"{each.schedules / each.seconds:.0f}",
        )
    return table


def told(world: World, played: Played) -> Table:
    """One schedule, step by step."""
    who = ", ".join(f"{name} = {role.command}" for name, role in zip("ABC", world.roles, strict=False))
    table = Table("", "statement", "and then", title=f"{world.name} ({who})", title_justify="left", pad_edge=False)
    for step in played.run.steps:
        label = " ".join(step.label.split())
        table.add_row(step.actor, label[:STATEMENT] + ("…" if len(label) > STATEMENT else ""), step.led_to)
    table.add_section()
    table.add_row("", played.outcome, "")
    return table


def complain(console: Console, wrong: Sequence[str]) -> None:
    """What must not be, one under the other."""
    for complaint in wrong:
        console.print(f"[red]✗[/] {complaint}", markup=True, soft_wrap=True)
