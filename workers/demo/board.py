"""The live table of the demo: one row per sample quote, on a terminal; a line now and then where there is none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic

from rich.console import Console
from rich.live import Live
from rich.table import Table

from workers.demo.teller import Story

# Seconds between two lines where no table can be drawn.
LINE_EVERY = 5.0
# Seconds between two pictures of the table.
REFRESH = 0.25


def table_of(stories: Sequence[Story], title: str) -> Table:
    """Where every story stands."""
    table = Table(title=title, title_justify="left", pad_edge=False)
    for heading, justify in (
        ("quote", "left"),
        ("fate", "left"),
        ("quote is", "left"),
        ("order", "left"),
        ("steps", "right"),
        ("end", "left"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]  # rich wants literals
    for story in stories:
        steps = story.order.get("steps", [])
        done = sum(step["status"] == "COMPLETED" for step in steps)
        end = f"[{'green' if story.as_expected else 'red'}]{story.end}[/]" if story.end else ""
        table.add_row(
            story.quote.get("quoteNumber", f"#{story.number}"),
            story.fate,
            story.quote.get("status", "…"),
            story.order.get("status", ""),
            f"{done}/{len(steps)}" if steps else "",
            end,
        )
    return table


@contextmanager
def live(console: Console, stories: Sequence[Story], title: str) -> Iterator[None]:
    """Show the stories while the block runs."""
    over = Event()
    show = _draw if console.is_terminal else _tell
    painter = Thread(target=show, args=(console, stories, title, over), name="board", daemon=True)
    painter.start()
    try:
        yield
    finally:
        over.set()
        painter.join()


def _draw(console: Console, stories: Sequence[Story], title: str, over: Event) -> None:
    with Live(table_of(stories, title), console=console, auto_refresh=False) as picture:
        while not over.wait(REFRESH):
            picture.update(table_of(stories, title), refresh=True)
        picture.update(table_of(stories, title), refresh=True)


def _tell(console: Console, stories: Sequence[Story], title: str, over: Event) -> None:
    began = monotonic()
    while not over.wait(LINE_EVERY):
        ended = sum(bool(story.end) for story in stories)
        fulfilled = sum(story.order.get("status") == "FULFILLED" for story in stories)
        console.print(
            f"{title}: {monotonic() - began:4.0f} s, {ended} of {len(stories)} quotes at their end, {fulfilled} orders fulfilled"
        )
