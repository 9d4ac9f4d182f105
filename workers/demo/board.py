"""Shows the progress of the demo: on a terminal a live table with a row per sample quote, elsewhere a line every few seconds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from time import monotonic

from rich.console import Console
from rich.live import Live
from rich.table import Table

from workers.demo.driver import SampleQuote

# Seconds between two lines, where no table can be drawn.
LINE_EVERY = 5.0
# Seconds between two updates of the table.
REFRESH = 0.25


def table_of(samples: Sequence[SampleQuote], title: str) -> Table:
    """A table that shows how far every sample quote is."""
    table = Table(title=title, title_justify="left", pad_edge=False)
    for heading, justify in (
        ("quote", "left"),
        ("course", "left"),
        ("quote is", "left"),
        ("order", "left"),
        ("steps", "right"),
        ("end", "left"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]  # rich wants literals
    for sample in samples:
        steps = sample.order.get("steps", [])
        done = sum(step["status"] == "COMPLETED" for step in steps)
        end = f"[{'green' if sample.as_expected else 'red'}]{sample.end}[/]" if sample.end else ""
        table.add_row(
            sample.quote.get("quoteNumber", f"#{sample.number}"),
            sample.course,
            sample.quote.get("status", "…"),
            sample.order.get("status", ""),
            f"{done}/{len(steps)}" if steps else "",
            end,
        )
    return table


@contextmanager
def live(console: Console, samples: Sequence[SampleQuote], title: str) -> Iterator[None]:
    """Show the progress of the sample quotes while the block runs."""
    over = Event()
    show = _show_table if console.is_terminal else _show_lines
    painter = Thread(target=show, args=(console, samples, title, over), name="board", daemon=True)
    painter.start()
    try:
        yield
    finally:
        over.set()
        painter.join()


def _show_table(console: Console, samples: Sequence[SampleQuote], title: str, over: Event) -> None:
    with Live(table_of(samples, title), console=console, auto_refresh=False) as table:
        while not over.wait(REFRESH):
            table.update(table_of(samples, title), refresh=True)
        table.update(table_of(samples, title), refresh=True)


def _show_lines(console: Console, samples: Sequence[SampleQuote], title: str, over: Event) -> None:
    began = monotonic()
    while not over.wait(LINE_EVERY):
        ended = sum(bool(sample.end) for sample in samples)
        fulfilled = sum(sample.order.get("status") == "FULFILLED" for sample in samples)
        console.print(
            f"{title}: {monotonic() - began:4.0f} s, {ended} of {len(samples)} quotes have reached their end, {fulfilled} orders are fulfilled"
        )
