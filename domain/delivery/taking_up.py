"""Reads a step for its process, and expires the messages about the changes that the process thereby sees.

Such a message would be tried for a minute while nobody waits for it, and each try asks the engine. The messages expire before the step is
read, so a later change keeps its message.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Row

from domain.delivery import reading, steps
from domain.store import UnitOfWork
from domain.workflows import requests


def step(uow: UnitOfWork, step_id: UUID) -> Row[Any]:
    """Read a step with its live attempt, as `reading.step` does. Raises NotFound."""
    _expire_messages(uow, step_id)
    return reading.step(uow, step_id)


def readiness(uow: UnitOfWork, step_id: UUID) -> str:
    """Read what a waiting step should do next, as `reading.readiness` does. Raises NotFound."""
    _expire_messages(uow, step_id)
    return reading.readiness(uow, step_id)


def _expire_messages(uow: UnitOfWork, step_id: UUID) -> None:
    requests.expire_messages(uow, steps.business_key(uow.tenant_id, step_id))
