"""Which events make which projection: the header of a row, as the events of one Kafka topic carry it.

The rule it keeps: a member that only newer releases write may be absent; the row is then shown without it until it is rebuilt
(docs/domain.md#events-and-projections).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Column

from domain.projections.merging import Change
from domain.projections.tables import IDENTITY, Projection, header_of
from domain.store.base import camel
from domain.store.facts import TOPICS
from workers.kafka import wire
from workers.kafka.wire import Envelope

DECISION_ID = camel(IDENTITY[Projection.DECISIONS])


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A projection with the topic that it is built from. `consumer` is its name in the inbox.

    `event_type`: only such events change a row; None: every event of `aggregate_type` does.
    """

    projection: Projection
    consumer: str
    aggregate_type: str
    event_type: str | None = None

    @property
    def topic(self) -> str:
        return TOPICS[self.aggregate_type]

    @property
    def group(self) -> str:
        """The name of the Kafka consumer group of this view."""
        return f"q2o.{self.consumer}"

    def change_by(self, envelope: Envelope) -> Change | None:
        """What an event changes in the projection; None: nothing. Raises UnreadableMessageError."""
        if envelope.aggregate_type != self.aggregate_type or self.event_type not in {None, envelope.event_type}:
            return None
        if self.projection is Projection.DECISIONS and DECISION_ID not in envelope.data:
            return None  # it comes from 0.1.0; the decision was taken from the authority by the migration
        known = _identity_of(self, envelope)
        header = {column.name: _read(envelope.data, column) for column in header_of(self.projection) if column.name not in known}
        is_whole = all(camel(name) in envelope.data for name in header)
        return Change(projection=self.projection, header={**header, **known}, is_whole=is_whole)


def _identity_of(view: View, envelope: Envelope) -> dict[str, Any]:
    """The columns that the envelope itself gives."""
    if view.projection is Projection.DECISIONS:
        # The requirement changed when the decision was made.
        return {"requirement_id": envelope.aggregate_id, "decided_at": wire.read_member(envelope.data, "updatedAt", datetime)}
    return {IDENTITY[view.projection]: envelope.aggregate_id, "aggregate_version": envelope.aggregate_version}


def _read(data: Mapping[str, Any], column: Column[Any]) -> Any:
    name = camel(column.name)
    if column.nullable and data.get(name) is None:
        return None
    return wire.read_member(data, name, column.type.python_type)


VIEWS = (
    View(projection=Projection.QUOTES, consumer="quote-search", aggregate_type="quote"),
    View(
        projection=Projection.DECISIONS,
        consumer="approval-decisions",
        aggregate_type="approval_requirement",
        event_type="ApprovalDecided",
    ),
    View(projection=Projection.ORDERS, consumer="order-search", aggregate_type="sales_order"),
)
"""Each has a consumer group of its own: what stops or delays one of them does not touch the others (decision 0037)."""
QUOTES, DECISIONS, ORDERS = VIEWS
