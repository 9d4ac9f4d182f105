"""What fifty tenants cost one engine beside one tenant: its start-up, and the memory of the definitions of each.

The engine has the heap of the local stack. The start form of each process of each tenant is asked for once, so that each definition is
parsed once: an engine that kept them all would run out of memory.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID, uuid4

import psutil
import pytest

from domain.workflows.keys import PROCESSES
from tests.benchmarks.figures import Figure, figure, ratio, tell
from tests.support.services import local_stack
from tests.support.waiting import eventually
from workers.deployment import deploy
from workers.local.camunda import HEAP_MIB
from workers.local.stack import LocalStack
from workers.runtime.engine import Engine

TENANTS = 50
ROUNDS = 3
# The JVM prints its heap on SIGQUIT: "Tenured    total 174784K, used 98156K".
TENURED = re.compile(r"Tenured +total \d+K, used (\d+)K")


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """An engine of its own, without Kafka: nothing else runs in it."""
    with local_stack(tmp_path_factory, {"postgres", "engine"}) as stack:
        yield stack


def door(stack: LocalStack) -> Engine:
    return Engine(stack.engine.url, stack.engine.user, stack.engine.password)


def start_ups(stack: LocalStack) -> list[float]:
    """Start the engine anew; the CPU seconds that its JVM needs until it answers, round by round."""
    needed = []
    for _ in range(ROUNDS):
        stack.engine.restart()
        times = psutil.Process(stack.engine.pid).cpu_times()
        needed.append(times.user + times.system)
    return needed


def old_generation(stack: LocalStack) -> float:
    """How many MiB the objects take that have outlived several collections."""
    log = Path(stack.data_dir) / "logs" / "engine.log"
    before = log.stat().st_size
    os.kill(stack.engine.pid, signal.SIGQUIT)
    found = eventually(lambda: TENURED.findall(log.read_bytes()[before:].decode(errors="replace")), "the JVM tells its heap")
    return int(found[-1]) / 1024


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_fifty_tenants_are_measured_beside_one(stack: LocalStack) -> None:
    engine, tenants = door(stack), [uuid4() for _ in range(TENANTS)]
    deploy(engine, tenants[0])
    of_one = start_ups(stack)
    for tenant in tenants[1:]:
        deploy(engine, tenant)
    of_all = start_ups(stack)
    loaded = list(loading(stack, engine, tenants))
    tell(
        [
            ratio("start-up with 50 tenants / with 1", of_all, of_one),
            figure(
                "old generation with every process of 50 tenants parsed / the heap", [part / HEAP_MIB for part in loaded], "ratio"
            ),
            Figure(name="processes parsed", value=TENANTS * len(PROCESSES), unit="of 50 tenants", spread="none failed"),
        ]
    )


def loading(stack: LocalStack, engine: Engine, tenants: list[UUID]) -> Iterator[float]:
    """Have each process of each tenant parsed once; the old generation after each tenth part of them."""
    for number, tenant in enumerate(tenants, 1):
        for process in engine.rows("/process-definition", tenantIdIn=str(tenant)):
            engine.get(f"/process-definition/{process['id']}/startForm")
        if number % (TENANTS // 10) == 0:
            yield old_generation(stack)
