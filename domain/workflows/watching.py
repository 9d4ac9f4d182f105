"""Watching the registered instances: what has become of each, as the engine tells it (docs/domain.md#process-starts).

The rule it keeps: an instance that has ended as its model says is ENDED. One that was ended from outside before the business was done is LOST,
until a person has another one started.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, func, select, tuple_

from domain.store import Move, UnitOfWork
from domain.store.claims import Claiming, Groups, claim, claiming, since
from domain.workflows.keys import BusinessKey
from domain.workflows.starts import (
    CORRELATION,
    CORRELATION_MATRIX,
    IS_REGISTERED,
    WATCHED,
    CorrelationEvent,
    CorrelationMovedOn,
    CorrelationStatus,
    WorkflowCorrelation,
)

MOVED_ON = dict.fromkeys(CorrelationStatus, CorrelationMovedOn)

END = Move(
    WorkflowCorrelation,
    CORRELATION_MATRIX,
    CorrelationEvent.END,
    IS_REGISTERED,
    key=WorkflowCorrelation.business_key,
    illegal=MOVED_ON,
)
LOSE = Move(
    WorkflowCorrelation,
    CORRELATION_MATRIX,
    CorrelationEvent.LOSE,
    IS_REGISTERED,
    sets={WorkflowCorrelation.next_check_at: func.clock_timestamp()},
    key=WorkflowCorrelation.business_key,
    illegal=MOVED_ON,
)


def end(uow: UnitOfWork, business_key: str, process_instance_id: str) -> None:
    """Record that the registered instance has ended and is missed by nobody. Raises CorrelationMovedOn."""
    uow.apply(END, business_key=business_key, process_instance_id=process_instance_id)


def lose(uow: UnitOfWork, business_key: str, process_instance_id: str) -> None:
    """Record that the registered instance was ended before the business was done. Raises CorrelationMovedOn."""
    uow.apply(LOSE, business_key=business_key, process_instance_id=process_instance_id)


def due_instances(connection: Connection, limit: int, lease: timedelta | None) -> list[Row[Any]]:
    """Claim the registered instances to look at now, in turns between tenants; `age` is the time since they were registered or lost."""
    return claim(connection, _due_instances(limit, lease))


@cache
def _due_instances(limit: int, lease: timedelta | None) -> Claiming:
    c = CORRELATION.c
    query = select(*(column for column in c if column.name != "next_check_at"), since(c.updated_at).label("age"))
    return claiming(query, CORRELATION, Groups(by=(c.tenant_id,), among=WATCHED), limit=limit, lease=lease)


def registered(connection: Connection, instance_ids: Collection[str]) -> list[Row[Any]]:
    """The correlations that have one of these instances registered."""
    return list(connection.execute(select(*CORRELATION.c).where(CORRELATION.c.process_instance_id.in_(instance_ids))))


def correlations_of(connection: Connection, keys: Collection[BusinessKey]) -> dict[str, Row[Any]]:
    """What the domain knows of the processes of these business keys, by the text of the key."""
    named = [(key.tenant_id, str(key)) for key in keys]
    query = select(*CORRELATION.c).where(tuple_(CORRELATION.c.tenant_id, CORRELATION.c.business_key).in_(named))
    return {row.business_key: row for row in connection.execute(query)}


def tenants_among(connection: Connection, tenant_ids: Collection[UUID]) -> set[UUID]:
    """Those of these tenants for which the domain has ever asked for a process."""
    asked = select(CORRELATION.c.tenant_id).limit(1)
    return {one for one in tenant_ids if connection.execute(asked.filter_by(tenant_id=one)).first() is not None}
