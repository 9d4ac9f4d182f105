"""Jeopardy: an order still moves, but will probably be late. Term: TMF jeopardy alert (Normal, Hazard, Critical)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Numeric, Row, UniqueConstraint, func, select
from sqlalchemy.orm import Mapped, mapped_column

from domain.catalog import CATALOG
from domain.delivery import orders, steps
from domain.delivery.orders import SalesOrder
from domain.delivery.steps import StepStatus
from domain.errors import AlreadyExists
from domain.store import Aggregate, Base, Matrix, UnitOfWork, check_in, ref


class JeopardyLevel(StrEnum):
    NORMAL = "NORMAL"
    HAZARD = "HAZARD"
    CRITICAL = "CRITICAL"


class AlertStatus(StrEnum):
    RAISED = "RAISED"


class AlertEvent(StrEnum):
    """None: an alert is raised once, and never changes."""


ALERT_MATRIX = Matrix(AlertStatus, AlertEvent, moves={})


class JeopardyAlert(Aggregate, Base):
    """Raised once per order and level; `used_percent` is the part of the promised time that was over by then."""

    ID_FIELD = "alert_id"
    __tablename__ = "jeopardy_alert"
    __table_args__ = (
        ALERT_MATRIX.check_status(),
        check_in("level", JeopardyLevel),
        ref("sales_order", "order_id"),
        UniqueConstraint("tenant_id", "order_id", "level"),
    )
    order_id: Mapped[UUID]
    level: Mapped[str]
    used_percent: Mapped[Decimal] = mapped_column(Numeric(10, 1))
    open_steps: Mapped[int]
    held_steps: Mapped[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How an order stands in time. `used_percent`: the part of the promised time that is over."""

    used_percent: Decimal
    open_steps: int
    held_steps: int
    is_final: bool


def progress(uow: UnitOfWork, order_id: UUID, lead_time: timedelta = CATALOG.lead_time) -> Progress:
    """Compare an order with its promised time. Raises NotFound."""
    order = uow.read(SalesOrder, order_id)
    now = uow.connection.scalar(select(func.clock_timestamp()))
    promised = order.requested_completion or order.created_at + lead_time
    whole = max(promised - order.created_at, timedelta(seconds=1))
    states = [step.status for step in steps.of_order(uow, order_id)]
    return Progress(
        used_percent=Decimal(str(round(100 * ((now - order.created_at) / whole), 1))),
        open_steps=sum(state not in steps.FINAL for state in states),
        held_steps=sum(state == StepStatus.HELD for state in states),
        is_final=order.status in orders.FINAL,
    )


def raise_alert(uow: UnitOfWork, order_id: UUID, level: JeopardyLevel) -> Row[Any] | None:
    """Raise an alert once per level; None if it was raised before, or the order is final by now."""
    seen = progress(uow, order_id)
    if seen.is_final:
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
