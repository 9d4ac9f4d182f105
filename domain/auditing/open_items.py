"""How many items of each kind are open in each state, over all tenants, and since when. The metrics and `q2o status` show it.

The rule it keeps: each condition is that of a partial index, so the cost follows what is open and not what there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple

from sqlalchemy import Connection, text

from domain import findings
from domain.delivery import attempts, cancellations, contradictions, orders
from domain.delivery.callbacks import ProcessedStatus
from domain.delivery.steps import StepStatus
from domain.fallout import cases
from domain.offers.approvals import RequestStatus
from domain.store import sql_list
from domain.store.facts import OutboxStatus, WorkflowCommandKind, WorkflowCommandStatus
from domain.workflows import starts

UNANSWERED: Final = "UNANSWERED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """A kind of open item: the rows of `table` that `condition` selects, by `state` (SQL, with the values that it may have)."""

    what: str
    table: str
    condition: str
    states: Sequence[str]
    state: str = "status"
    since: str = "updated_at"


class Open(NamedTuple):
    """The items of one kind in one state; `oldest` is the time since which the oldest is open, None when there is none."""

    what: str
    state: str
    number: int
    oldest: datetime | None


KINDS: Final = (
    Kind(
        what="order",
        table="sales_order",
        condition=f"status IN {sql_list(orders.LIVE)}",
        states=orders.LIVE,
        since="created_at",
    ),
    Kind(what="step", table="fulfillment_step", condition="status = 'HELD'", states=(StepStatus.HELD,)),
    Kind(what="step", table="fulfillment_step", condition="status = 'RETRYABLE'", states=(StepStatus.RETRYABLE,)),
    Kind(
        what="approval",
        table="approval_request",
        condition="status = 'OPEN'",
        states=(RequestStatus.OPEN,),
        since="created_at",
    ),
    Kind(
        what="case",
        table="fallout_case",
        condition="status NOT IN ('CLOSED', 'CANCELLED')",
        states=(*cases.UNRESOLVED, cases.FalloutStatus.RESOLVED),
        since="created_at",
    ),
    Kind(
        what="cancellation",
        table="cancellation_request",
        condition=f"status IN {sql_list(cancellations.OPEN)}",
        states=cancellations.OPEN,
        since="created_at",
    ),
    Kind(
        what="provider_attempt", table="provider_attempt", condition=attempts.LIVE, states=attempts.LIVE_STATUSES, since="sent_at"
    ),
    Kind(
        what="workflow_command",
        table="workflow_command",
        condition=f"status = '{WorkflowCommandStatus.PENDING}'",
        state="kind",
        states=tuple(WorkflowCommandKind),
        since="created_at",
    ),
    Kind(
        what="event",
        table="outbox_event",
        condition=f"status = '{OutboxStatus.PENDING}'",
        states=(OutboxStatus.PENDING,),
        since="created_at",
    ),
    Kind(what="workflow_start", table="workflow_correlation", condition=starts.UNRESOLVED, states=starts.UNSETTLED),
    Kind(
        what="contradiction",
        table="step_contradiction",
        condition=contradictions.UNANSWERED,
        state=f"'{UNANSWERED}'",
        states=(UNANSWERED,),
        since="created_at",
    ),
    Kind(
        what="callback",
        table="external_callback_record",
        condition="processed_status = 'UNMATCHED' AND step_id IS NOT NULL",
        state="processed_status",
        states=(ProcessedStatus.UNMATCHED,),
        since="received_at",
    ),
    Kind(
        what="finding",
        table="reconciliation_finding",
        condition=findings.IS_OPEN,
        states=(findings.FindingStatus.OPEN,),
        since="created_at",
    ),
)
_QUERY: Final = text(
    " UNION ALL ".join(
        f"SELECT '{kind.what}' AS what, {kind.state} AS state, count(*) AS number, min({kind.since}) AS oldest"  # noqa: S608 - constants
        f" FROM {kind.table} WHERE {kind.condition} GROUP BY 2"
        for kind in KINDS
    )
)


def open_items(connection: Connection) -> list[Open]:
    """Every kind in every state, also those without any item."""
    found = {(row.what, row.state): Open(*row) for row in connection.execute(_QUERY)}
    none = {(kind.what, str(state)): Open(kind.what, str(state), 0, None) for kind in KINDS for state in kind.states}
    return list({**none, **found}.values())
