"""Process instances that the database asks the engine for, as the dispatcher and the reconciler see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import Engine, Row, select

from domain.store import Cause, unit_of_work
from domain.store.facts import TransitionLog, WorkflowCommand, WorkflowCommandKind
from domain.store.unit_of_work import housekeeping
from domain.workflows import requests, starts
from domain.workflows.keys import Kind, key_of
from domain.workflows.starts import RegisterWorkflow
from tests.support.database import acting
from tests.support.engines import Doors
from tests.support.models import TENANT
from workers.dispatch import Dispatcher


@dataclass(frozen=True, slots=True)
class Wanted:
    """One process instance of the tenant of small models, requested in the database; the engine need not have it."""

    database: Engine
    process: str
    business_key: str
    tenant_id: UUID
    aggregate_id: UUID

    @classmethod
    def of(cls, database: Engine, process: str, kind: Kind = Kind.ORDER, **variables: Any) -> Wanted:
        """Ask for an instance of `process`, as a command of the product does; what it acts for (`kind`) does not exist."""
        tenant_id, aggregate_id = TENANT, uuid4()
        wanted = cls(database, process, key_of(kind, tenant_id, aggregate_id), tenant_id, aggregate_id)
        with unit_of_work(database, wanted.cause) as uow:
            begin = starts.BeginWorkflow(
                workflow_name=process,
                aggregate_type="sales_order",
                aggregate_id=aggregate_id,
                business_key=wanted.business_key,
                variables={"order_id": aggregate_id, **variables},
            )
            starts.begin(uow, begin)
        return wanted

    @property
    def cause(self) -> Cause:
        return Cause(tenant_id=self.tenant_id, actor="test", command="test", business_key=self.business_key)

    @property
    def correlation(self) -> Row[Any]:
        with unit_of_work(self.database, self.cause) as uow:
            return starts.find(uow, self.business_key)

    @property
    def commands(self) -> Sequence[Row[Any]]:
        """Read every workflow command for this business key, in order."""
        command = WorkflowCommand.__table__.c
        with self.database.connect() as connection:
            query = select(*command).where(command.business_key == self.business_key).order_by(command.position)
            return connection.execute(query).all()

    @property
    def history(self) -> list[str]:
        """List every status that the correlation has had."""
        log = TransitionLog.__table__.c
        with self.database.connect() as connection:
            query = select(log.transition_to).where(log.aggregate_id == self.correlation.id).order_by(log.aggregate_version)
            return list(connection.scalars(query))

    def pass_gate(self, instance_id: str) -> None:
        """Register an instance as the first task of every process does. Raises DuplicateWorkflow."""
        with unit_of_work(self.database, self.cause) as uow:
            command = RegisterWorkflow(
                business_key=self.business_key, start_token=self.correlation.start_token, process_instance_id=instance_id
            )
            starts.register(uow, command)

    def ask(self, kind: WorkflowCommandKind, name: str, expires_after: timedelta = timedelta(minutes=1), **variables: Any) -> None:
        """Add another workflow command for this business key."""
        with unit_of_work(self.database, self.cause) as uow:
            uow.ask_engine(kind, name, self.business_key, variables, expires_after)


def claimed_by_a_dead_dispatcher(database: Engine) -> list[Row[Any]]:
    """Claim everything due, with a lease that is over at once."""
    with housekeeping(database) as connection:
        return requests.claim(connection, 100, timedelta(0))


@pytest.fixture
def dispatcher(db: Engine, doors: Doors) -> Dispatcher:
    return Dispatcher(acting(db, "dispatch"), doors.direct())
