"""Explorers for tests: one stage for all tests of a worker, one explorer for each file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.races.explorer.exploring import Explorer
from tests.races.explorer.schedules import Scheduler
from tests.races.explorer.stage import Stage, stage_on
from tests.support.evidence import record


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put a test that draws on the others of its file behind them, after the tests were shuffled."""
    files = {path: number for number, path in enumerate(dict.fromkeys(item.path for item in items))}
    items.sort(key=lambda item: (files[item.path], item.get_closest_marker("after_the_others") is not None))


@pytest.fixture(scope="session")
def stage(database: str) -> Iterator[Stage]:
    """Make a database to play schedules on."""
    with stage_on(database, "q2o_explorer") as stage:
        yield stage


@pytest.fixture(scope="module")
def explorer(stage: Stage, request: pytest.FixtureRequest) -> Iterator[Explorer]:
    """Give the explorer of the product's commands. For each file of tests, the number of its schedules is recorded as evidence."""
    explorer = Explorer(stage)
    yield explorer
    explorer.close()
    if explorer.schedules:
        speed = f"{explorer.schedules / explorer.seconds:.0f} schedules/s"
        record(f"race schedules of {request.path.stem}", explorer.schedules, "schedules", speed)


@pytest.fixture
def scheduler(stage: Stage) -> Iterator[Scheduler]:
    """Give three actors that have no programs yet."""
    scheduler = Scheduler(stage)
    yield scheduler
    scheduler.close()
