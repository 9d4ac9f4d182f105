"""Process instances without tenant, on the real engine: a new one of the tenant takes the place of each, wherever the command breaks off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import Engine as Database

from domain.store.facts import WorkflowCommandKind
from domain.workflows.keys import Kind
from tests.support.engines import DeployedProcess, Deployer, Doors
from tests.support.models import TENANT, one_task
from tests.support.waiting import eventually
from tests.support.wanted import Wanted
from workers.dispatch import Dispatcher
from workers.restarts import Outcome, Restarts, Result
from workers.runtime.engine import Engine
from workers.runtime.variables import encode
from workers.sandbox.proxy import FaultProxy

pytestmark = pytest.mark.stack


@dataclass
class Shared:
    """A process that is deployed for a tenant and, as before tenants were switched on, for none; and the command behind a proxy."""

    database: Database
    process: DeployedProcess
    engine: Engine
    proxy: FaultProxy

    def before_tenants(self) -> tuple[Wanted, str]:
        """Start and register an instance without tenant; returns its id as well."""
        wanted = Wanted.of(self.database, self.process.key, Kind.FALLOUT_CASE)
        [command] = wanted.commands
        instance_id = self.start(wanted.business_key, startToken=command.variables["startToken"])
        wanted.pass_gate(instance_id)
        return wanted, instance_id

    def start(self, business_key: str, **variables: str) -> str:
        path = f"/process-definition/key/{self.process.key}/start"
        return str(self.process.engine.ask(path, {"businessKey": business_key, "variables": encode(variables)})["id"])

    def restart(self, *, dry_run: bool = False) -> list[Result]:
        return list(Restarts(self.database, self.engine, [self.process.key], dry_run=dry_run).run())

    def states(self, wanted: Wanted) -> list[tuple[str, str | None]]:
        """The state and the tenant of every instance of a business key, oldest first."""
        rows = self.process.engine.rows("/history/process-instance", processInstanceBusinessKey=wanted.business_key)
        return [(row["state"], row["tenantId"]) for row in sorted(rows, key=lambda row: row["startTime"])]


@pytest.fixture
def shared(db: Database, deploy: Deployer, doors: Doors, tmp_path: Path) -> Shared:
    process = deploy(one_task)
    process.engine.ensure_tenant(TENANT, "small models")
    file = tmp_path / f"{process.key}.bpmn"
    with file.open("rb") as model:
        fields = {"deployment-name": process.key}
        process.engine.call("POST", "/deployment/create", data=fields, files=[(file.name, (file.name, model))])
    engine, proxy = doors.through_proxy()
    return Shared(db, process, engine, proxy)


def outcomes(results: Sequence[Result]) -> list[tuple[str, Outcome]]:
    return [(result.instance.id, result.outcome) for result in results]


def test_an_instance_without_tenant_ends_and_one_of_the_tenant_has_its_place(shared: Shared) -> None:
    wanted, old = shared.before_tenants()

    results = shared.restart()
    Dispatcher(shared.database, shared.engine).run_once()

    assert outcomes(results) == [(old, Outcome.RESTARTED)]
    assert shared.states(wanted) == [("EXTERNALLY_TERMINATED", None), ("ACTIVE", str(wanted.tenant_id))]
    assert wanted.correlation.status == "STARTED"
    assert wanted.correlation.process_instance_id not in {None, old}
    assert shared.restart() == []


def test_a_dry_run_names_what_it_would_restart_and_changes_nothing(shared: Shared) -> None:
    wanted, old = shared.before_tenants()
    before = wanted.correlation

    results = shared.restart(dry_run=True)

    assert outcomes(results) == [(old, Outcome.RESTARTED)]
    assert wanted.correlation == before
    assert shared.states(wanted) == [("ACTIVE", None)]


@pytest.mark.parametrize("break_off", [FaultProxy.drop_request, FaultProxy.drop_response], ids=["request", "response"])
def test_a_command_that_broke_off_before_it_learnt_that_an_instance_has_ended_is_repeated(
    shared: Shared, break_off: Callable[[FaultProxy, str], None]
) -> None:
    wanted, old = shared.before_tenants()
    break_off(shared.proxy, f"/process-instance/{old}")

    first, second = shared.restart(), shared.restart()
    Dispatcher(shared.database, shared.engine).run_once()

    assert outcomes(first) == [(old, Outcome.UNKNOWN)]
    assert outcomes(second) == [(old, Outcome.ENDED)]
    assert wanted.history == ["REQUESTED", "STARTED", "REQUESTED", "STARTED"]
    assert shared.states(wanted) == [("EXTERNALLY_TERMINATED", None), ("ACTIVE", str(wanted.tenant_id))]


def test_an_instance_that_cannot_be_restarted_stops_no_other(shared: Shared) -> None:
    unsettled = Wanted.of(shared.database, shared.process.key)
    left = {
        shared.start("typed in Cockpit"),
        shared.start(f"order:{uuid4()}:{uuid4()}"),
        shared.start(f"order:{unsettled.tenant_id}:{uuid4()}"),
        shared.start(unsettled.business_key),
    }
    _, old = shared.before_tenants()

    results = shared.restart()

    assert {result.instance.id for result in results if result.outcome is Outcome.LEFT} == left
    assert [result.instance.id for result in results if result.outcome is Outcome.RESTARTED] == [old]
    assert {result.remedy.partition(":")[0] for result in results if result.outcome is Outcome.LEFT} == {
        "'typed in Cockpit' is not a business key of this suite",
        "the engine does not know its tenant",
        "the domain has asked for no such process",
        "its start is not settled yet",
    }


def test_a_message_for_the_new_instance_waits_while_its_start_is_not_settled(shared: Shared) -> None:
    """Kills: taking the old instance, which has ended, for the end of the process."""
    wanted, _ = shared.before_tenants()
    shared.restart()
    dispatcher = Dispatcher(shared.database, shared.engine)
    shared.proxy.drop_request("/start")
    dispatcher.run_once()
    wanted.ask(WorkflowCommandKind.CORRELATE, "OrderResumed")

    def was_tried_again() -> bool:
        dispatcher.run_once()
        return bool(wanted.commands[-1].attempts > 1)

    eventually(was_tried_again, "the message is tried again")

    assert wanted.correlation.status == "START_UNKNOWN"
    assert wanted.commands[-1].status == "PENDING"
