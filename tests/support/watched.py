"""Registered process instances as a sweep sees them: the engine says what the test says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from unittest.mock import Mock, create_autospec
from uuid import UUID

import pytest
from sqlalchemy import Row, select, text

from domain.delivery.resolving import Resolution, ResolveCase, resolve
from domain.fallout import casework
from domain.fallout.cases import FalloutCase
from domain.fallout.casework import CaseCommand
from domain.store import table_of
from domain.store.facts import WorkflowCommand
from domain.workflows import starts
from domain.workflows.starts import RegisterWorkflow
from reconciliation.incidents import Incidents
from reconciliation.instances import Instances
from reconciliation.repairs import Repairs
from tests.support.database import acting, in_order
from tests.support.fulfilment import Fulfilment
from tests.support.offers import BERT, STAFF, Offers
from workers.runtime.engine import Engine
from workers.runtime.engine_history import EngineInstance, Incident

FIRST, SECOND = "first instance", "second instance"
AT_ONCE, LONG = timedelta(0), timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Watched:
    """One business key with its registered instance, and an engine that the test speaks for."""

    offers: Offers
    business_key: str
    engine: Mock = field(default_factory=lambda: create_autospec(Engine, instance=True))

    @classmethod
    def of(cls, offers: Offers, business_key: str, instance_id: str = FIRST) -> Watched:
        """Register an instance as the one that works for its business key."""
        watched = cls(offers, business_key)
        watched.register(instance_id)
        return watched

    def register(self, instance_id: str) -> None:
        with self.offers.uow() as uow:
            token = starts.find(uow, self.business_key).start_token
            gate = RegisterWorkflow(business_key=self.business_key, start_token=token, process_instance_id=instance_id)
            starts.register(uow, gate)

    def sweep(
        self,
        state: str | None,
        *,
        grace: timedelta = AT_ONCE,
        dry_run: bool = False,
        meanwhile: Callable[[], object] = lambda: None,
    ) -> int:
        """Look at what is due, by an engine that says this of every instance (None: it knows none); `meanwhile` happens while it is asked."""
        self._let_time_pass()

        def known(instance_ids: list[str]) -> dict[str, EngineInstance]:
            meanwhile()
            return {id_: self.instance(id_, state) for id_ in instance_ids} if state else {}

        self.engine.instances_by_id.side_effect = known
        database = acting(self.offers.engine, "reconcile")
        return Instances(database, self.engine, Repairs(database, dry_run=dry_run), grace).sweep()

    def look_at_incidents(self, *found: Incident, grace: timedelta = AT_ONCE, dry_run: bool = False) -> int:
        """Compare cases and incidents, by an engine that has these incidents."""
        self.engine.incidents_from.return_value = list(found)
        self.engine.incidents_at.side_effect = lambda instance_id, activity_id: [
            one for one in found if (one.process_instance_id, one.activity_id) == (instance_id, activity_id)
        ]
        self.engine.instances_by_id.side_effect = lambda ids: {id_: self.instance(id_, "ACTIVE") for id_ in ids}
        database = acting(self.offers.engine, "reconcile")
        return Incidents(database, self.engine, Repairs(database, dry_run=dry_run), grace).sweep()

    def instance(self, instance_id: str, state: str) -> EngineInstance:
        return EngineInstance(
            id=instance_id,
            business_key=self.business_key,
            definition_key="process",
            state=state,
            tenant_id=str(self.offers.tenant_id),
        )

    @property
    def correlation(self) -> Row[Any]:
        with self.offers.uow() as uow:
            return starts.find(uow, self.business_key)

    def due_instances(self, within: timedelta = AT_ONCE) -> int:
        """Count the registered instances of the tenant that a sweep would look at now, or within this time."""
        due = "SELECT count(*) FROM workflow_correlation WHERE status = 'STARTED' AND next_check_at <= clock_timestamp() + :within"
        with self.offers.uow() as uow:
            return int(uow.connection.scalar(text(due), {"within": within}) or 0)

    def cases(self) -> list[Row[Any]]:
        """The cases of processes, oldest first."""
        return self._rows(FalloutCase, type="WORKFLOW_INCIDENT")

    def case(self) -> Row[Any]:
        [found] = self.cases()
        return found

    def resolve(self, resolution: Resolution = Resolution.RETRY) -> Row[Any]:
        """Claim the newest case of the process and resolve it, as a person of the second level."""
        roles, case = (STAFF[BERT],), self.cases()[-1]
        with self.offers.uow(BERT) as uow:
            claimed = casework.claim(uow, CaseCommand(case_id=case.id, expected_version=case.version, person=BERT, roles=roles))
        command = ResolveCase(
            case_id=case.id, expected_version=claimed.version, person=BERT, roles=roles, resolution=resolution, evidence="seen"
        )
        with self.offers.uow(BERT) as uow:
            return resolve(uow, command)

    def queued(self, kind: str) -> list[Row[Any]]:
        """The pending commands of one kind for the business key, oldest first."""
        return self._rows(WorkflowCommand, business_key=self.business_key, kind=kind, status="PENDING")

    def execute(self, statement: str, **values: Any) -> None:
        with self.offers.engine.begin() as connection:
            connection.execute(text(statement), values)

    def _let_time_pass(self) -> None:
        self.execute(
            "UPDATE workflow_correlation SET next_check_at = clock_timestamp() WHERE business_key = :key", key=self.business_key
        )

    def _rows(self, entity: Any, **named: Any) -> list[Row[Any]]:
        table = table_of(entity)
        with self.offers.uow() as uow:
            query = in_order(select(*table.c), table).filter_by(tenant_id=self.offers.tenant_id, **named)
            return list(uow.connection.execute(query))


def incident(activity_id: str = "execute-step", instance_id: str = FIRST, number: int = 1) -> Incident:
    return Incident(
        id=f"incident-{number}",
        process_instance_id=instance_id,
        activity_id=activity_id,
        message="no attempt is left",
        type="failedExternalTask",
        configuration=f"task-{number}",
    )


def order_key(offers: Offers, order_id: UUID) -> str:
    return f"order:{offers.tenant_id}:{order_id}"


@pytest.fixture
def work(offers: Offers) -> Fulfilment:
    """An order that is being delivered."""
    return Fulfilment.running(offers)


@pytest.fixture
def watched(work: Fulfilment) -> Watched:
    """A live order with its registered instance."""
    return Watched.of(work.offers, order_key(work.offers, work.order_id))
