"""Rings in several processes, each on a database of its own; a scene is prepared once."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path

from tests.faults.crashes.retaining import RETENTION, retained_world
from tests.faults.crashes.ring import Fate, Part, Ring
from tests.faults.crashes.sweeps import Swept, swept_world
from tests.races.explorer.stage import stage_on
from workers.runtime import logs


def crash_sweeps(database_url: str, kinds: Sequence[str], jobs: int) -> Iterator[Swept]:
    """Crash these sweeps, or retention, at all their gates, each in a database of its own."""
    with get_context("spawn").Pool(jobs) as pool:
        yield from pool.imap_unordered(_crash_a_sweep, [(database_url, kind) for kind in kinds])


def _crash_a_sweep(task: tuple[str, str]) -> Swept:
    database_url, kind = task
    with Path(os.devnull).open("w") as nowhere:
        logs.configure_logs("crashes", stream=nowhere)
        name = f"q2o_swept_{kind.replace('-', '_')}"
        if kind == RETENTION:
            with retained_world(database_url, name) as retaining:
                return retaining.crash()
        with swept_world(database_url, name) as sweeping:
            return sweeping.crash(kind)


def crash(database_url: str, chosen: Sequence[Part], jobs: int) -> Iterator[Fate]:
    """Crash the parts, scene by scene."""
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
