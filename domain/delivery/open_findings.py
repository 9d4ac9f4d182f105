"""Open findings, and what they wait for: the end of a process instance, or a person's case. Queries across tenants, which only read."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, exists, func, select

from domain.fallout.cases import FINAL
from domain.fallout.triaging import CASE
from domain.findings import FINDING, FindingStatus
from domain.store import is_one_of


def open_after(connection: Connection, last: UUID, limit: int) -> list[Row[Any]]:
    """The open findings whose ids come after `last`, ordered by id.

    `instance_id`: the process instance that a finding is about, None when it is about none. `has_case`: a person has its case.
    """
    key = func.concat(FINDING.c.kind, ":", FINDING.c.aggregate_id)
    has_case = exists(
        select(CASE.c.id).where(
            CASE.c.tenant_id == FINDING.c.tenant_id, CASE.c.dedupe_key == key, ~is_one_of(CASE.c.status, *FINAL)
        )
    )
    instance_id = FINDING.c.evidence["processInstanceId"].astext
    query = (
        select(FINDING.c.tenant_id, FINDING.c.id, FINDING.c.business_key)
        .add_columns(instance_id.label("instance_id"), has_case.label("has_case"))
        .where(is_one_of(FINDING.c.status, FindingStatus.OPEN), FINDING.c.id > last)
        .order_by(FINDING.c.id)
    )
    return list(connection.execute(query.limit(limit)))
