"""Watching orders: one that will hardly be done in time is announced while it still moves (TMF jeopardy)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row, func, select

from domain import orders, steps
from domain.catalog import CATALOG
from domain.errors import AlreadyExists
from domain.jeopardy import AlertStatus, JeopardyAlert, JeopardyLevel
from domain.orders import SalesOrder
from domain.step_moves import STEP
from domain.steps import StepStatus
from domain.store import UnitOfWork


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """`used_percent`: how much of the time that the customer was promised is over, in percent."""

    used_percent: Decimal
    open_steps: int
    held_steps: int
    is_settled: bool


def progress(uow: UnitOfWork, order_id: UUID, lead_time: timedelta = CATALOG.lead_time) -> Progress:
    """How an order stands in time. Raises NotFound."""
    order = uow.read(SalesOrder, order_id)
    now = uow.connection.scalar(select(func.clock_timestamp()))
    promised = order.requested_completion or order.created_at + lead_time
    whole = max(promised - order.created_at, timedelta(seconds=1))
    states = uow.connection.scalars(select(STEP.c.status).filter_by(tenant_id=uow.tenant_id, order_id=order_id)).all()
    return Progress(
        used_percent=Decimal(str(round(100 * ((now - order.created_at) / whole), 1))),
        open_steps=sum(state not in steps.FINAL for state in states),
        held_steps=sum(state == StepStatus.HELD for state in states),
        is_settled=order.status in orders.FINAL,
    )


def raise_alert(uow: UnitOfWork, order_id: UUID, level: JeopardyLevel) -> Row[Any] | None:
    """Announce the danger, once per level; None when that was done before or the order is settled meanwhile."""
    seen = progress(uow, order_id)
    if seen.is_settled:
        return None
    try:
        return uow.create(
            JeopardyAlert,
            reason="RAISE",
            emits="OrderJeopardyRaised",
            status=AlertStatus.RAISED,
            order_id=order_id,
            level=level,
            used_percent=seen.used_percent,
            open_steps=seen.open_steps,
            held_steps=seen.held_steps,
        )
    except AlreadyExists:
        return None
