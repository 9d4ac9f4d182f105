"""Jeopardy: an order still moves, but will hardly be done in time. Term: TMF jeopardy alert (Normal, Hazard, Critical)."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, Numeric, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from domain.store import Aggregate, Base, Matrix, ref


class JeopardyLevel(StrEnum):
    NORMAL = "NORMAL"
    HAZARD = "HAZARD"
    CRITICAL = "CRITICAL"


class AlertStatus(StrEnum):
    RAISED = "RAISED"


class AlertEvent(StrEnum):
    """None: an alert is raised once and stays on record."""


ALERT_MATRIX = Matrix(AlertStatus, AlertEvent, moves={})


class JeopardyAlert(Aggregate, Base):
    """Raised once per order and level; `used_percent` is the share of the promised time that was over."""

    ID_FIELD = "alert_id"
    __tablename__ = "jeopardy_alert"
    __table_args__ = (
        ALERT_MATRIX.check_status(),
        CheckConstraint("level IN ('NORMAL', 'HAZARD', 'CRITICAL')", name="level"),
        ref("sales_order", "order_id"),
        UniqueConstraint("tenant_id", "order_id", "level"),
    )
    order_id: Mapped[UUID]
    level: Mapped[str]
    used_percent: Mapped[Decimal] = mapped_column(Numeric(10, 1))
    open_steps: Mapped[int]
    held_steps: Mapped[int]
