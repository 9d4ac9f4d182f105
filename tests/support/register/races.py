from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Race:
    code: str


RACES = [Race(f"M{n}") for n in range(1, 13)]
