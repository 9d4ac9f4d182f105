"""Jeopardy: an order still moves, but will probably be late. Term: TMF jeopardy alert (Normal, Hazard, Critical)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Connection, Index, Numeric, Row, UniqueConstraint, and_, exists, func, or_, select, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.catalog import CATALOG
from domain.delivery import orders, steps
from domain.delivery.orders import ORDER, SalesOrder
from domain.delivery.steps import StepStatus
from domain.fallout import triaging
from domain.fallout.cases import FalloutType
from domain.fallout.triaging import CASE, OpenCase
from domain.store import Aggregate, Base, Matrix, Move, UnitOfWork, check_in, is_one_of, param, ref, sql_list, table_of
from domain.store.claims import NOW, Groups, fairly
from domain.store.leases import is_free

LATE, OVER = "deadline", "alert"
"""The kinds of leases on late orders, and on alerts that are over."""


class JeopardyLevel(StrEnum):
    NORMAL = "NORMAL"
    HAZARD = "HAZARD"
    CRITICAL = "CRITICAL"


class AlertStatus(StrEnum):
    RAISED = "RAISED"
    CLEARED = "CLEARED"


class AlertEvent(StrEnum):
    RAISE_AGAIN = "RAISE_AGAIN"
    CLEAR = "CLEAR"


ALERT_MATRIX = Matrix(
    AlertStatus,
    AlertEvent,
    moves={
        AlertEvent.CLEAR: {AlertStatus.RAISED: AlertStatus.CLEARED},
        AlertEvent.RAISE_AGAIN: {AlertStatus.CLEARED: AlertStatus.RAISED},
    },
)


IS_RAISED = f"status = '{AlertStatus.RAISED}'"


class JeopardyAlert(Aggregate, Base):
    """One per order and level, RAISED while the order is in that jeopardy.

    `used_percent` is the part of the promised time that was over when it was raised last.
    """

    ID_FIELD = "alert_id"
    __tablename__ = "jeopardy_alert"
    __table_args__ = (
        ALERT_MATRIX.check_status(),
        check_in("level", JeopardyLevel),
        ref("sales_order", "order_id"),
        UniqueConstraint("tenant_id", "order_id", "level"),
        Index("ix_jeopardy_alert_raised", "tenant_id", "updated_at", postgresql_where=text(IS_RAISED)),
    )
    order_id: Mapped[UUID]
    level: Mapped[str]
    used_percent: Mapped[Decimal] = mapped_column(Numeric(10, 1))
    open_steps: Mapped[int]
    held_steps: Mapped[int]


ALERT = table_of(JeopardyAlert)
CLEAR = Move(JeopardyAlert, ALERT_MATRIX, AlertEvent.CLEAR, emits="OrderJeopardyCleared")
RAISE_AGAIN = Move(
    JeopardyAlert,
    ALERT_MATRIX,
    AlertEvent.RAISE_AGAIN,
    sets={
        JeopardyAlert.used_percent: param("used_percent"),
        JeopardyAlert.open_steps: param("open_steps"),
        JeopardyAlert.held_steps: param("held_steps"),
    },
    emits="OrderJeopardyRaised",
)


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
    """Raise the alert of a level, and clear those of other levels; None if it is raised already, or the order is final by now."""
    order = uow.read(SalesOrder, order_id, lock=True)
    _clear(uow, [alert for alert in _alerts(uow, order_id, status=AlertStatus.RAISED) if alert.level != level])
    if order.status in orders.FINAL:
        return None
    seen = progress(uow, order_id)
    known = _alerts(uow, order_id, level=level)
    values = {name: getattr(seen, name) for name in ("used_percent", "open_steps", "held_steps")}
    if known:
        return uow.apply(RAISE_AGAIN, alert_id=known[0].id, **values) if known[0].status == AlertStatus.CLEARED else None
    return uow.create(
        JeopardyAlert,
        reason="RAISE",
        emits="OrderJeopardyRaised",
        status=AlertStatus.RAISED,
        order_id=order_id,
        level=level,
        **values,
    )


def clear_all(uow: UnitOfWork, order_id: UUID) -> int:
    """Clear the raised alerts of an order that is in no jeopardy any more; returns how many."""
    uow.read(SalesOrder, order_id, lock=True)
    return _clear(uow, _alerts(uow, order_id, status=AlertStatus.RAISED))


def clear_over(uow: UnitOfWork, order_id: UUID) -> int:
    """Clear the raised alerts of an order that are over: all when it is final, otherwise those about steps that were held; returns how many."""
    order = uow.read(SalesOrder, order_id, lock=True)
    raised = _alerts(uow, order_id, status=AlertStatus.RAISED)
    if order.status in orders.FINAL:
        return _clear(uow, raised)
    held = steps.of_order(uow, order_id, is_one_of(steps.STEP.c.status, StepStatus.HELD))
    return 0 if held else _clear(uow, [alert for alert in raised if alert.held_steps])


def over(connection: Connection, limit: int, lead_time: timedelta = CATALOG.lead_time) -> list[Row[Any]]:
    """Find raised alerts whose reason is gone: the order is final, or its held steps are held no longer and it is not late.

    Tenants take turns. Alerts that a reconciler has leased are left out.
    """
    step = steps.STEP.c
    is_held = exists(
        select(step.id).where(
            step.tenant_id == ALERT.c.tenant_id, step.order_id == ALERT.c.order_id, is_one_of(step.status, StepStatus.HELD)
        )
    )
    is_released = and_(ALERT.c.held_steps > 0, ~is_held, _promised(lead_time) > NOW)
    query = (
        select(*ALERT.c)
        .join(ORDER, and_(ORDER.c.tenant_id == ALERT.c.tenant_id, ORDER.c.id == ALERT.c.order_id))
        .where(or_(is_one_of(ORDER.c.status, *orders.FINAL), is_released), is_free(OVER, ALERT))
    )
    groups = Groups(by=(ALERT.c.tenant_id,), among=IS_RAISED)
    return list(connection.execute(select(fairly(query, groups, ALERT.c.updated_at, limit))))


def late_orders(connection: Connection, limit: int, lead_time: timedelta = CATALOG.lead_time) -> list[Row[Any]]:
    """Live orders whose promised time is over and that never had a case for it, the oldest of each tenant first.

    Tenants take turns. Orders that a reconciler has leased are left out.
    """
    has_case = exists(
        select(CASE.c.id).where(
            CASE.c.tenant_id == ORDER.c.tenant_id,
            CASE.c.order_id == ORDER.c.id,
            is_one_of(CASE.c.type, FalloutType.SLA_BREACH),
        )
    )
    promised = _promised(lead_time)
    is_late = and_(ORDER.c.created_at < NOW - lead_time, promised < NOW)
    query = select(*ORDER.c, promised.label("promised")).where(is_late, ~has_case, is_free(LATE, ORDER))
    groups = Groups(by=(ORDER.c.tenant_id,), among=f"status IN {sql_list(orders.LIVE)}")
    return list(connection.execute(select(fairly(query, groups, ORDER.c.created_at, limit))))


def report_late(uow: UnitOfWork, order_id: UUID, promised: datetime) -> bool:
    """Open a case for a late order. Returns False when the order has ended, or has such a case already."""
    order = uow.read(SalesOrder, order_id, lock=True)
    if order.status in orders.FINAL:
        return False
    return triaging.open_once(
        uow,
        OpenCase(
            type=FalloutType.SLA_BREACH,
            dedupe_key=f"late:{order_id}",
            detail=f"Order {order.order_number} was promised for {promised.isoformat()} and is {order.status}: tell the customer.",
            order_id=order_id,
            evidence={"promised": promised, "order_status": order.status},
        ),
    )


def _alerts(uow: UnitOfWork, order_id: UUID, **named: str) -> list[Row[Any]]:
    query = select(*ALERT.c).filter_by(tenant_id=uow.tenant_id, order_id=order_id, **named)
    return list(uow.connection.execute(query.order_by(ALERT.c.id)))


def _promised(lead_time: timedelta) -> ColumnElement[datetime]:
    return func.coalesce(ORDER.c.requested_completion, ORDER.c.created_at + lead_time)


def _clear(uow: UnitOfWork, over: Sequence[Row[Any]]) -> int:
    for alert in over:
        uow.apply(CLEAR, alert_id=alert.id)
    return len(over)
