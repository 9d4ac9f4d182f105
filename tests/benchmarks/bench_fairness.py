"""How long other work waits while one provider hangs, one tenant floods and 10,000 steps wait for callbacks (P16 to P19)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from threading import Event, Thread
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine

from domain.delivery.steps import StepEvent
from domain.store import outbox
from domain.store.facts import WorkflowCommand
from domain.store.unit_of_work import housekeeping
from domain.workflows import requests
from reconciliation.repairs import Repairs
from reconciliation.steps import Steps
from tests.benchmarks.figures import Figure, figure, ratio, tell
from tests.support.database import acting, new_database
from tests.support.engines import Deployer, Doors, running
from tests.support.handlers import Calls
from tests.support.loading import copied_tenant, insert_attempted_steps, insert_copies, insert_events, loading
from tests.support.models import one_task
from tests.support.offers import Offers
from tests.support.reconciling import OnlyAsked, record, silence, status, time_out
from tests.support.sweep_costs import Costs, analyze
from tests.support.sweep_selections import COMMANDS, costs_of, sweeps_of
from tests.support.waiting import eventually
from tests.support.work_loads import FIRST, make_open_work
from workers.pod.pod import Pod, Topic
from workers.providers.port import ProviderReply, ReplyStatus

ROUNDS, WAITING, FLOOD, HANGING, TENANTS = 3, 10_000, 10_000, 100, 100
FEW, MANY, MORE = 10_000, 1_000_000, 1.05
CHECK = "CHECK_SERVICEABILITY"
LEASE, CALL = timedelta(seconds=30), timedelta(seconds=10)
DONE = ProviderReply(status=ReplyStatus.COMPLETED, request_id="r-1", external_ref="e-1")
ACCEPTED = ProviderReply(status=ReplyStatus.ACCEPTED, request_id="r-1")
AGO = "clock_timestamp() - interval '1 hour'"


class Provider(OnlyAsked):
    """It has accepted the flood, and completed everything else."""

    def query(self, idempotency_key: str) -> ProviderReply:
        return ACCEPTED if idempotency_key.startswith("FLOOD") else DONE


class Hanging(OnlyAsked):
    """A provider whose every answer takes as long as a call may."""

    def __init__(self) -> None:
        self.ends = Event()

    def query(self, _: str) -> ProviderReply:
        self.ends.wait(CALL.total_seconds())
        return ACCEPTED


@contextmanager
def sweeping(sweep: Steps) -> Iterator[None]:
    """Sweep again and again, as the loop does, but without a pause."""
    stop = Event()

    def loop() -> None:
        while not stop.is_set():
            sweep.sweep()

    thread = Thread(target=loop)
    thread.start()
    yield
    stop.set()
    thread.join()


def settling(offers: Offers) -> float:
    """Make a step UNKNOWN, and wait until it is settled; returns how many seconds that took."""
    started = offers.start_step(offers.running_order().steps[CHECK])
    time_out(offers, started)
    begin = time.perf_counter()
    eventually(lambda: status(offers, started.step.id) == "COMPLETED", "the step is settled")
    return time.perf_counter() - begin


def flood_with_steps(offers: Offers) -> None:
    """Ten thousand accepted steps whose callbacks are overdue, and steps of a provider that hangs, all of another tenant and longer due."""
    waiting = offers.start_step(offers.running_order().steps[CHECK])
    record(offers, waiting.step.id, StepEvent.ACKNOWLEDGE)
    with loading(offers.engine) as connection:
        other = copied_tenant(connection, offers.tenant_id)
        step = str(waiting.step.id)
        insert_attempted_steps(connection, other, WAITING, code="FLOOD", step=step, next_check_at=AGO)
        hanging = {"provider_name": "'hanging'", "next_check_at": AGO}
        insert_attempted_steps(connection, other, HANGING, code="HANGING", step=step, **hanging)


def delays_of_a_step(offers: Offers) -> Iterator[Figure]:
    database, hanging = acting(offers.engine, "reconcile"), Hanging()
    sweep = Steps(database, {"sandbox": Provider(), "hanging": hanging}, Repairs(database, dry_run=False), silence())
    with sweeping(sweep):
        alone = [settling(offers) for _ in range(ROUNDS)]
    flood_with_steps(offers)
    with sweeping(sweep):
        crowded = [settling(offers) for _ in range(ROUNDS)]
        hanging.ends.set()
    yield ratio("P16 unknown step settled: 10,000 steps wait, a provider hangs / alone", crowded, alone)
    yield figure("unknown step settled while 10,000 steps wait and a provider hangs", crowded, "s")


def turns(offers: Offers, process: str, claim: Callable[[Connection], Sequence[Any]], quiet: UUID) -> Figure:
    with housekeeping(acting(offers.engine, process)) as connection:
        tenants = [str(row.tenant_id) for row in claim(connection)]
    turn = tenants.index(str(quiet)) + 1
    return Figure(
        name=f"P17 place of a quiet tenant in the claim of {process}, behind 10,000", value=turn, unit="th", spread="one claim"
    )


def order_of_claims(offers: Offers) -> Iterator[Figure]:
    with loading(offers.engine) as connection:
        insert_events(connection, offers.tenant_id, 1)
        quiet = copied_tenant(connection, offers.tenant_id)
        insert_events(connection, offers.tenant_id, FLOOD)
        which = f"position = (SELECT min(position) FROM workflow_command WHERE tenant_id = '{offers.tenant_id}')"
        changes = {"business_key": "'order:' || n", "due_at": AGO, "status": "'PENDING'"}
        insert_copies(connection, WorkflowCommand, FLOOD, changes, which)
    yield turns(offers, "dispatch", lambda connection: requests.claim(connection, 32, LEASE), quiet)
    yield turns(offers, "relay", lambda connection: outbox.claim(connection, 2_000, LEASE), quiet)


@pytest.mark.benchmark
@pytest.mark.timeout(600)
def test_the_delay_of_other_work_is_measured_in_sweeps_and_claims(offers: Offers) -> None:
    tell([*delays_of_a_step(offers), *order_of_claims(offers)])


@pytest.mark.benchmark
@pytest.mark.timeout(600)
def test_the_delay_of_an_approvers_task_is_measured_beside_a_provider_that_hangs(deploy: Deployer, doors: Doors) -> None:
    provider, approval, ends = deploy(one_task), deploy(one_task), Event()
    asked = Calls(lambda _: {"ended": ends.wait(CALL.total_seconds())})
    topics = {
        provider.topic: Topic(name=provider.topic, handler=asked, asks_provider=True),
        approval.topic: Topic(name=approval.topic, handler=Calls()),
    }

    def handled() -> float:
        begin = time.perf_counter()
        approval.reaches(approval.start(), "done")
        return time.perf_counter() - begin

    with running(Pod(doors.direct(), topics)):
        alone = [handled() for _ in range(ROUNDS)]
        with ThreadPoolExecutor(4) as starters:
            list(starters.map(lambda _: provider.start(), range(HANGING)))
        crowded = [handled() for _ in range(ROUNDS)]
        ends.set()
        tell(
            [
                ratio("P18 an approver's task: a provider hangs / alone", crowded, alone),
                figure("an approver's task while a provider hangs", crowded, "s"),
            ]
        )


@pytest.mark.benchmark
@pytest.mark.timeout(3600)
def test_the_selections_of_sweeps_are_measured_beside_a_million_finished_orders(database: str) -> None:
    with new_database(database, "q2o_bench_sweeps") as engine:
        few, many = selections_beside(engine)
        grown = {name: many[name].total() / few[name].total() for name in few if few[name].of}
        worst = max(grown, key=lambda name: grown[name])
        spread = f"the worst of {len(grown)}: {worst}"
        tell(
            [
                Figure(
                    name="P19 buffers of a sweep or a selection, with the levels of indexes: 10^6 / 10^4 finished orders",
                    value=grown[worst],
                    unit="ratio",
                    spread=spread,
                ),
                of_statements(
                    "that read 5 % more than deeper indexes explain",
                    few,
                    {name: list(many[name].grown(MORE, few[name])) for name in few},
                ),
                of_statements(
                    "of commands with another plan", few, {name: list(many[name].replanned(few[name])) for name in COMMANDS}
                ),
            ]
        )


def of_statements(which: str, few: Mapping[str, Costs], chosen: Mapping[str, list[str]]) -> Figure:
    known = sum(len(few[name].of) for name in chosen)
    told = [f"{name}: {' '.join(statement.split())[:60]}" for name, statements in chosen.items() for statement in statements]
    return Figure(
        name=f"P19 statements {which}: 10^6 / 10^4 finished orders",
        value=len(told),
        unit="statements",
        spread="; ".join([f"of {known}", *told]),
    )


def selections_beside(engine: Engine) -> Iterator[Mapping[str, Costs]]:
    load = make_open_work(engine, TENANTS)
    sweeps = sweeps_of(engine)
    for finished, prefix in ((FEW, FIRST), (MANY - FEW, "many")):
        with loading(engine) as connection:
            load.finish(connection, finished, prefix)
        analyze(engine)
        yield {name: measure() for name, measure in costs_of(engine, load, sweeps).items()}
