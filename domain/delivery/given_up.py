"""What was given up for a process, and waits for a person: one open case for each process.

A case about the process of a fallout case would need such a process itself, so there is none: that case stays listed over HTTP
(docs/domain.md#fallout).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from sqlalchemy import Row, func, select

from domain.delivery import processes
from domain.fallout import triaging
from domain.fallout.cases import FINAL, FalloutType
from domain.fallout.triaging import CASE, OpenCase
from domain.store import UnitOfWork, is_one_of
from domain.workflows.keys import OF_CASES, key_in


def trouble_of(business_key: str) -> str:
    """The key of the trouble that a process has."""
    return f"process:{business_key}"


def open_case(uow: UnitOfWork, business_key: str, detail: str, evidence: Mapping[str, Any]) -> Row[Any] | None:
    """Open the case about what was given up for a process, or find the one that it has; None when it may have none.

    `detail` says what happened, `evidence` what was tried, how often, since when, and the last reason. A text that is no business key has a
    case as well: it names nobody, so only a person can say what it was meant for. Raises TryAgain.
    """
    key = key_in(business_key)
    if key is not None and key.kind in OF_CASES:
        return None
    about = {"about": key.kind, "subject_id": key.id} if key is not None else {}
    return triaging.open_case(
        uow,
        OpenCase(
            type=FalloutType.WORKFLOW_INCIDENT,
            dedupe_key=trouble_of(business_key),
            detail=detail,
            order_id=processes.order_of(uow, key) if key is not None else None,
            business_key=business_key,
            evidence={"business_key": business_key, **about, **evidence},
        ),
    )


def has_open_case(uow: UnitOfWork, business_key: str) -> bool:
    """Whether the process has a case about what was given up for it that is not over."""
    named = select(CASE.c.id).filter_by(tenant_id=uow.tenant_id, dedupe_key=trouble_of(business_key))
    return uow.connection.execute(named.where(~is_one_of(CASE.c.status, *FINAL))).first() is not None


def was_decided_within(uow: UnitOfWork, business_key: str, time: timedelta) -> bool:
    """Whether a person has decided about a process within this time, so that it is still being tried again."""
    last = select(func.max(CASE.c.updated_at) > func.clock_timestamp() - time).where(
        CASE.c.tenant_id == uow.tenant_id, CASE.c.business_key == business_key, CASE.c.resolved_by.is_not(None)
    )
    return bool(uow.connection.scalar(last))
