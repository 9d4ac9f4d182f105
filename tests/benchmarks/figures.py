"""A measured number and how it is told: every ratio is of two sides that took turns in one run."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.support.evidence import record


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number. `spread` is the lowest and the highest of the rounds."""

    name: str
    value: float
    unit: str
    spread: str


def figure(name: str, values: Sequence[float], unit: str) -> Figure:
    """The median of the rounds."""
    return Figure(name=name, value=statistics.median(values), unit=unit, spread=spread(values))


def ratio(name: str, ours: Sequence[float], theirs: Sequence[float]) -> Figure:
    """The median of the ratios of each round."""
    return figure(name, [mine / other for mine, other in zip(ours, theirs, strict=True)], "ratio")


def spread(values: Sequence[float]) -> str:
    """The lowest and the highest."""
    return f"{min(values):.3g} to {max(values):.3g}"


def tell(figures: Iterable[Figure]) -> None:
    """Print the figures and keep them as evidence."""
    for told in figures:
        print(f"{told.name}: {told.value:.3g} {told.unit} ({told.spread})")  # noqa: T201 - the figures are the result
        record(told.name, told.value, told.unit, told.spread)
