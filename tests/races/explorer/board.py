"""Shows explorations: each world when it is finished, a progress bar below, and one schedule step by step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from time import monotonic

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from tests.races.explorer import crew
from tests.races.explorer.exploring import Exploration, Played
from tests.races.explorer.worlds import World

# So many characters of a statement are enough to recognize it.
STATEMENT = 60


@dataclass(slots=True)
class Seen:
    """The reports of the explorers so far."""

    began: float = field(default_factory=monotonic)
    explorations: list[Exploration] = field(default_factory=list)
    at_work: dict[str, int] = field(default_factory=dict)

    def take(self, news: crew.Progress | Exploration) -> None:
        """Take a report about a world that is being explored, or is finished."""
        if isinstance(news, crew.Progress):
            self.at_work[news.name] = news.schedules
        else:
            self.at_work.pop(news.world.name, None)
            self.explorations.append(news)

    @property
    def schedules(self) -> int:
        return sum(each.schedules for each in self.explorations) + sum(self.at_work.values())

    @property
    def violations(self) -> int:
        return sum(len(each.violations) for each in self.explorations)

    @property
    def seconds(self) -> float:
        return monotonic() - self.began

    def __str__(self) -> str:
        speed = f"{self.schedules:,} schedules in {self.seconds:.0f} s ({self.schedules / self.seconds:.0f}/s)"
        return f"{speed}, {self.violations} with a violation"


def follow(console: Console, worlds: int, news: Iterator[crew.Progress | Exploration]) -> Seen:
    """Show the progress of the explorers until they are done."""
    seen = Seen()
    columns = (TextColumn("worlds"), BarColumn(20), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=worlds)
        for each in news:
            seen.take(each)
            if isinstance(each, Exploration):
                console.print(in_words(each), soft_wrap=True, markup=False)
            bar.update(task, completed=len(seen.explorations), description=str(seen))
    return seen


def in_words(found: Exploration) -> str:
    """A world in words: how much of it was searched, and every outcome with its number of schedules."""
    searched = "all" if found.is_whole else f"at most {found.bound} preemptions"
    head = f"{found.world.name}: {found.schedules:,} schedules ({searched}), {found.schedules / found.seconds:.0f}/s"
    violated = f", {len(found.violations)} WITH A VIOLATION" if found.violations else ""
    return "\n".join([head + violated, *(f"{number:7,}  {outcome}" for outcome, number in found.outcomes.most_common())])


def step_by_step(world: World, played: Played) -> str:
    """One schedule: which actor went through the gate before which statement, and where it stopped next."""
    who = ", ".join(f"{name} = {role.command}" for name, role in zip("ABC", world.roles, strict=False))
    steps = (f"{step.actor}  {' '.join(step.label.split())[:STATEMENT]:{STATEMENT}}  {step.led_to}" for step in played.run.steps)
    return "\n".join([f"{world.scene}: {who}", *map(str.rstrip, steps), played.outcome])


def complain(console: Console, wrong: Sequence[str]) -> None:
    """Print the objections, one below the other."""
    for complaint in wrong:
        console.print(f"✗ {complaint}", style="red", markup=False, soft_wrap=True)
