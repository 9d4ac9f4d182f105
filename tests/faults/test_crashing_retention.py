"""Retention dies at some of its gates, and another process goes on; `make faults` takes every gate."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.crashes.retaining import Retaining, retained_world

CRASHES = 10


@pytest.fixture(scope="module")
def retaining(database: str) -> Iterator[Retaining]:
    with retained_world(database, "q2o_retained") as retaining:
        yield retaining


def test_retention_that_died_leaves_to_another_process_what_it_leaves_undisturbed(retaining: Retaining) -> None:
    retained = retaining.crash(CRASHES)

    assert retained.wrong == ()
    assert retained.changed > 0
