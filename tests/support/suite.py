"""The whole suite on the run's one stack, for tests that follow a quote through every part.

The loops are those of the service processes. They run for one module and end with it: a worker that outlived its tests would take the
tasks of models that other tests walk by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from threading import Event, Thread
from typing import Any
from unittest.mock import patch
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine as Database
from sqlalchemy import Row, select

from domain.auditing import open_work
from domain.delivery import orders, steps
from domain.delivery.attempts import ProviderAttempt
from domain.delivery.orders import SalesOrder
from domain.fallout.cases import FalloutCase
from domain.offers import approvals
from domain.offers.approvals import ApprovalRequest, ApprovalRequirement
from domain.projections.tables import OrderSearchProjection
from domain.store import table_of
from domain.store.facts import TransitionLog
from reconciliation.audit import Audit, Outside
from reconciliation.audit_report import AuditReport
from reconciliation.audit_sources import CamundaHistory, KafkaTopics
from reconciliation.loop import CASE_GRACE
from tests.support.database import seeing_every_tenant
from tests.support.waiting import eventually
from workers import suite
from workers.demo.api import Api
from workers.demo.command import as_manager, tasklist
from workers.demo.courses import approved_automatically
from workers.demo.driver import Driver, SampleQuote
from workers.demo.local_suite import LocalSuite
from workers.local.stack import LocalStack
from workers.pod.pod import Pod
from workers.providers.http_provider import HttpProvider
from workers.providers.port import Provider
from workers.runtime.engine import Engine, EngineRefusedError, UserTask
from workers.runtime.engine_history import EngineInstance
from workers.runtime.process import run_loops
from workers.runtime.secret_files import reveal
from workers.runtime.settings import Settings

EVERYTHING = frozenset(suite.PROCESSES)
_connect, _engine_of = suite.connect, suite.engine_of
POLL = timedelta(seconds=1)
"""How long a poll for tasks waits: ten seconds in the product. A poll misses tenants that are made after it began, and most tests make one."""
SHORT_INTERVALS = {"Q2O_START_SAFE_INTERVAL_SECONDS": "5"}


@contextmanager
def prepared(stack: LocalStack, **environment: str) -> Iterator[LocalSuite]:
    """Prepare the stack (schema, models, people, topics) and start the provider; no loop runs yet."""
    with LocalSuite(stack.data_dir, {**SHORT_INTERVALS, **environment}, stack=stack) as local:
        yield local


@contextmanager
def working(settings: Settings, *names: str) -> Iterator[None]:
    """Run these processes of the suite as threads for the length of the block."""
    with closing_what_is_opened(), patch("workers.pod.pod.Pod", partial(Pod, poll=POLL)):
        loops = {name: suite.PROCESSES[name](settings.of(name)) for name in names}
        stop, codes = Event(), list[int]()
        runner = Thread(target=lambda: codes.append(run_loops(loops, stop)), name="loops")
        runner.start()
        try:
            yield
        finally:
            stop.set()
            runner.join()
    assert codes == [0], "a loop died or did not end"


@contextmanager
def closing_what_is_opened() -> Iterator[None]:
    """Close the connections that parts of the suite open in this block: a process would close them when it ends, a thread does not."""

    def connect(settings: Settings, process: str, purpose: str = "") -> Database:
        opened.callback((database := _connect(settings, process, purpose)).dispose)
        return database

    def engine_of(settings: Settings, **options: timedelta) -> Engine:
        opened.callback((engine := _engine_of(settings, **options)).close)
        return engine

    def providers_of(settings: Settings) -> Mapping[str, Provider]:
        provider = HttpProvider(settings.provider_url, settings.provider_token)
        opened.callback(provider.close)
        return {"sandbox": provider}

    with (
        ExitStack() as opened,
        patch.multiple(suite, connect=connect, engine_of=engine_of, providers_of=providers_of),
    ):
        yield


@dataclass(frozen=True, slots=True, kw_only=True)
class Shop:
    """A new tenant with a price book, its API client, and doors to database, engine and provider."""

    local: LocalSuite
    database: Database
    engine: Engine
    api: Api
    driver: Driver

    @property
    def tenant_id(self) -> UUID:
        return self.api.tenant_id

    def approved_quote(self, discount: str = "5") -> dict[str, Any]:
        """Make a quote that needs no signature, with its document: ready to be accepted."""
        sample = new_sample(discount)
        self.driver.offer(sample)
        self.driver.document(sample)
        return sample.quote

    def accepted_order(self) -> UUID:
        """Make such a quote and accept it; returns the order's id."""
        quote = self.approved_quote()
        return UUID(self.api.accept(quote, self.api.acceptance(quote), str(uuid4())).expect(201)["orderId"])

    def case_of(self, order_id: UUID) -> Row[Any]:
        """Wait for the case of an order."""
        return eventually(lambda: self.rows(FalloutCase, order_id=order_id), "a case is opened", patience=60)[0]

    def order(self, order_id: UUID) -> dict[str, Any]:
        order: dict[str, Any] = self.api.get(f"/orders/{order_id}")
        return order

    def order_key(self, order_id: UUID) -> str:
        return orders.business_key(self.tenant_id, order_id)

    def comes_to_rest(self) -> None:
        """Wait until nothing of the tenant is open in the database, in Kafka and in the engine."""
        eventually(self._is_quiet, f"tenant {self.tenant_id} comes to rest", patience=60)

    def _is_quiet(self) -> bool:
        with self.database.connect() as connection:
            if any(open_work.open_work(connection, self.tenant_id).values()):
                return False
        views = {(view.order_id, view.aggregate_version) for view in self.rows(OrderSearchProjection)}
        if views != {(order.id, order.version) for order in self.rows(SalesOrder)}:
            return False
        return not self.engine.count_unfinished("order-fulfillment", f"order:{self.tenant_id}:%")

    def audit(self) -> AuditReport:
        """Audit the tenant: compare database, engine, Kafka and provider."""
        outside = Outside(
            engine=CamundaHistory(self.engine),
            events=KafkaTopics(self.local.settings.kafka),
            ledger=self.local.provider.ledger.entries,
        )
        with closing_what_is_opened():
            reading = suite.connect(self.local.settings, "audit")
            return Audit(reading, outside).run(self.tenant_id)

    def ledger(self) -> dict[UUID, dict[str, Any]]:
        """Read the provider's ledger for this tenant, by step."""
        ours = steps.business_keys(self.tenant_id)
        entries = [entry for entry in self.local.provider.ledger.entries() if str(entry["stepRef"]).startswith(ours)]
        return {UUID(str(entry["stepRef"]).removeprefix(ours)): entry for entry in entries}

    def instances(self) -> list[EngineInstance]:
        """List every process instance of this tenant, running or ended."""
        return CamundaHistory(self.engine).instances(self.tenant_id)

    def ends(self, instance_id: str) -> set[str]:
        """The names of the end events that an instance reached."""
        activities = self.engine.rows("/history/activity-instance", processInstanceId=instance_id)
        return {str(row["activityName"]) for row in activities if row["activityType"].endswith("EndEvent")}

    def processes_end(self) -> None:
        """Wait until no process instance of the tenant runs; a message that no instance waits for may still be open.

        The process of a case ends with its case, and reconciliation closes a resolved case after its grace.
        """
        patience = CASE_GRACE.total_seconds() + 60
        eventually(lambda: not any(instance.is_running for instance in self.instances()), "every process has ended", patience)

    def end_processes(self) -> None:
        """End the instances that still run: those of a failed test must not reach the workers of the next one."""
        eventually(self._end_running_ones, "every process can be ended")

    def part(self) -> None:
        """End every membership: the demo's people work for each new tenant, and would see the numbers of one twice."""
        self.engine.call("DELETE", f"/tenant/{self.tenant_id}")

    def _end_running_ones(self) -> bool:
        """Try to end the instances that still run; returns whether there were none."""
        left = [instance for instance in self.instances() if instance.is_running]
        for instance in left:
            with suppress(EngineRefusedError):  # a worker or a job has changed it at the same moment
                self.engine.delete_instance(instance.id, "its test is over")
        return not left

    def external_tasks(self, *instance_ids: str, **query: str) -> int:
        """Count the external tasks that these instances ever had."""
        path, query = "/history/external-task-log/count", {"creationLog": "true", **query}
        return sum(self.engine.get(path, processInstanceId=instance_id, **query)["count"] for instance_id in instance_ids)

    def attempts(self, step_id: UUID) -> list[Row[Any]]:
        """List the attempts of one step, in their order."""
        return sorted(self.rows(ProviderAttempt, step_id=step_id), key=lambda row: int(row.attempt_no))

    def changes(self, aggregate_id: UUID) -> list[str]:
        """List the reasons of an aggregate's changes, version by version."""
        log = self.rows(TransitionLog, aggregate_id=aggregate_id)
        return [row.reason for row in sorted(log, key=lambda row: int(row.aggregate_version))]

    def rows(self, entity: Any, **values: Any) -> list[Row[Any]]:
        """Read the tenant's rows of an entity, in arbitrary order."""
        table = table_of(entity)
        query = select(*table.c).filter_by(tenant_id=self.tenant_id, **values)
        with self.database.connect() as connection:
            return list(connection.execute(query))

    def signature_keys(self, sample: SampleQuote) -> list[str]:
        """The business keys of the processes that ask for signatures on the revision of a quote, in no order."""
        requests = self.rows(ApprovalRequest, quote_revision_id=UUID(sample.quote["revisionId"]))
        rows = [row for request in requests for row in self.rows(ApprovalRequirement, request_id=request.id)]
        return [approvals.business_key(self.tenant_id, row.id) for row in rows]

    def asked(self, sample: SampleQuote) -> list[UserTask]:
        """The open user tasks of approvers who are asked about the revision of a quote."""
        return [task for key in self.signature_keys(sample) for task in self.engine.user_tasks(key)]

    def step_key(self, step_id: UUID) -> str:
        return steps.business_key(self.tenant_id, step_id)


def new_sample(discount: str) -> SampleQuote:
    """Make a quote for a fibre line with router and support, to which the demo does nothing by itself."""
    return SampleQuote(
        number=1, course="test", expected="FULFILLED", script=approved_automatically, discount=discount, quote={}, order={}
    )


@contextmanager
def open_shop(local: LocalSuite) -> Iterator[Shop]:
    """Make a new tenant on a prepared suite; the HTTP edge has to run for its API."""
    tenant_id = uuid4()
    local.add_tenant(tenant_id)
    database, engine = seeing_every_tenant(suite.connect(local.settings, "tests")), suite.engine_of(local.settings)
    api = Api(local.api_url, reveal(local.settings.jwt_secret), tenant_id)
    manager = as_manager(local)
    driver = Driver(api, local.stopped, tasklist(manager))
    shop = Shop(local=local, database=database, engine=engine, api=api, driver=driver)
    with ExitStack() as at_the_end:
        for close in (database.dispose, engine.close, api.close, manager.close, driver.close, shop.part, shop.end_processes):
            at_the_end.callback(close)
        yield shop


@pytest.fixture(scope="module")
def running_suite(stack: LocalStack) -> Iterator[LocalSuite]:
    """Run everything for the tests of one module."""
    with prepared(stack) as local, working(local.settings, *EVERYTHING):
        yield local


@pytest.fixture
def shop(running_suite: LocalSuite) -> Iterator[Shop]:
    """Give a new tenant on the running suite."""
    with open_shop(running_suite) as shop:
        yield shop


@pytest.fixture
def rival(running_suite: LocalSuite) -> Iterator[Shop]:
    """Give another new tenant on the same suite."""
    with open_shop(running_suite) as rival:
        yield rival
