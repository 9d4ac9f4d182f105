"""Moves of orders, steps, cancellations, cases and processes, each tried in a state in which it must not be made.

The state is written by hand, so that every guard of the move is satisfied and only the state refuses it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text

from domain.delivery import jeopardy
from domain.delivery.jeopardy import JeopardyLevel
from domain.fallout.cases import LADDER
from tests.mutants.layers import MOVES, STATE
from tests.mutants.telling import refused_by
from tests.mutants.trial import Trial
from tests.support.fulfilment import Fulfilment
from tests.support.offers import BERT

RESERVE = "RESERVE_INVENTORY"
LEASE, OWNER = "ck_fallout_case_lease", "ck_fallout_case_owner"
NOW = "clock_timestamp()"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wrong:
    """The state, the columns that are set `beside` it, and the layers before and after it that would refuse the move as well."""

    state: str
    beside: str = ""
    behind: tuple[str, ...] = ()
    masked_by: tuple[str, ...] = ()


def sent(trial: Trial) -> UUID:
    work = Fulfilment.running(trial)
    work.start(RESERVE)
    return UUID(str(work.step(RESERVE).id))


def planned(trial: Trial) -> UUID:
    return UUID(str(Fulfilment.running(trial).step(RESERVE).id))


def contradicted(trial: Trial) -> UUID:
    work = Fulfilment.contradicted(trial)
    return UUID(str(work.case().id))


def cancellation_requested(trial: Trial) -> UUID:
    work = Fulfilment.running(trial)
    work.ask_to_cancel()
    return UUID(str(work.cancellation().id))


def in_jeopardy(trial: Trial) -> UUID:
    work = Fulfilment.running(trial)
    with trial.uow() as uow:
        alert = jeopardy.raise_alert(uow, work.order_id, JeopardyLevel.HAZARD)
    assert alert is not None
    return UUID(str(alert.id))


def of_steps(states: str, trial: Trial) -> UUID:
    """An order whose steps were brought to states by hand; `states` is an expression over them."""
    work = Fulfilment.running(trial)
    trial.by_hand(f"UPDATE fulfillment_step SET status = {states} WHERE tenant_id = :tenant")
    return work.order_id


def begun(table: str, trial: Trial) -> UUID:
    trial.submitted_quote()
    with trial.connection.begin_nested():
        query = text(f"SELECT id FROM {table} WHERE tenant_id = :tenant LIMIT 1")
        return UUID(str(trial.connection.execute(query, {"tenant": trial.tenant_id}).scalar_one()))


MIXED = "CASE step_code WHEN 'RESERVE_INVENTORY' THEN 'COMPLETED' ELSE 'FAILED' END"
HELD = "CASE step_code WHEN 'RESERVE_INVENTORY' THEN 'HELD' ELSE 'PENDING' END"
MINE, LEASED = f"owner_user_id = '{BERT}'", f"owner_user_id = '{BERT}', claim_expires_at = {NOW}"

OF_STEPS = {
    "start": Wrong(state="HELD"),
    "acknowledge": Wrong(state="HELD"),
    "complete": Wrong(state="COMPLETED"),
    "complete_otherwise": Wrong(state="PENDING"),
    "fail_without_effect": Wrong(state="HELD"),
    "fail_finally": Wrong(state="CANCELLED"),
    "time_out": Wrong(state="CANCEL_REQUESTED"),
    "find_absent": Wrong(state="HELD"),
    "find_unclear": Wrong(state="COMPLETED"),
    "cancel": Wrong(state="COMPLETED"),
    "cancel_released": Wrong(state="COMPLETED"),
    "confirm_cancel": Wrong(state="HELD"),
    "refuse_cancel": Wrong(state="COMPLETED"),
    **{f"resolve_{decision}": Wrong(state="COMPLETED") for decision in ("completed", "skip", "cancel", "fail")},
}
BEFORE_SENDING = {
    "resolve_retry": Wrong(state="PENDING"),
    "resolve_repaired": Wrong(state="PENDING"),
}
OF_ORDERS: dict[str, tuple[str, str]] = {
    "submit": ("FULFILLED", "status"),
    "validation_failed": ("IN_PROGRESS", "status"),
    "plan_ready": ("CANCELLED", "status"),
    "all_steps_done": ("CANCELLING", "'COMPLETED'"),
    "all_required_failed": ("CANCELLING", "'FAILED'"),
    "mixed_final": ("CANCELLING", MIXED),
    "blocked": ("CANCELLING", HELD),
    "unblocked": ("CANCELLING", "status"),
    "request_cancel": ("CANCELLING", "status"),
    "cancel_accepted": ("IN_PROGRESS", "status"),
    "cancel_declined": ("CANCELLING", "status"),
    "undo_settled": ("CANCELLED", "'CANCELLED'"),
    "undo_incomplete": ("FULFILLED", "'COMPLETED'"),
}
OF_CASES = {
    "claim": Wrong(state="AWAITING_INFORMATION", beside=MINE, masked_by=(LEASE,)),
    "release": Wrong(state="ON_HOLD", beside=MINE, masked_by=(OWNER,)),
    "expire_claim": Wrong(state="ON_HOLD", beside=LEASED, behind=(LEASE,), masked_by=(OWNER,)),
    "request_information": Wrong(state="ON_HOLD", beside=MINE),
    "receive_information": Wrong(state="ON_HOLD", beside=MINE, masked_by=(LEASE,)),
    "hold": Wrong(state="AWAITING_INFORMATION", beside=MINE),
    "resume": Wrong(state="AWAITING_INFORMATION", beside=MINE, masked_by=(LEASE,)),
    "escalate": Wrong(state="RESOLVED", beside="due_at = clock_timestamp()"),
    "hand_on": Wrong(state="RESOLVED"),
    "resolve": Wrong(state="ON_HOLD", beside=MINE, masked_by=(OWNER,)),
    "self_heal": Wrong(state="CLOSED"),
    "verify": Wrong(state="OPEN"),
    "reopen": Wrong(state="CLOSED"),
    "cancel": Wrong(state="RESOLVED"),
}
OF_REQUESTS = {
    "assess": Wrong(state="EXECUTING"),
    "accept": Wrong(state="DECLINED"),
    "decline": Wrong(state="EXECUTING"),
    "finish": Wrong(state="DECLINED"),
    "finish_partly": Wrong(state="DECLINED"),
}
OF_CORRELATIONS = {
    "register": Wrong(state="ENDED"),
    "time_out": Wrong(state="STARTED"),
    "find_absent": Wrong(state="STARTED"),
    "refuse": Wrong(state="STARTED"),
    "restart": Wrong(state="ENDED", beside="process_instance_id = 'one'"),
    "end": Wrong(state="REQUESTED", beside="process_instance_id = 'one'"),
    "lose": Wrong(state="ENDED", beside="process_instance_id = 'one'"),
    "give_up": Wrong(state="STARTED"),
}
OF_ALERTS = {"clear": Wrong(state="CLEARED"), "raise_again": Wrong(state="RAISED")}
OF_COMMANDS = {
    "finish": Wrong(state="EXPIRED"),
    "expire": Wrong(state="DONE"),
    "give_up": Wrong(state="DONE"),
    "ask_again": Wrong(state="EXPIRED"),
}


def a_move_in_another_state(look: str, wrong: Wrong, made: Callable[[Trial], UUID], trial: Trial) -> None:
    move, row_id = MOVES[look], made(trial)
    changes = ", ".join(filter(None, (f"status = '{wrong.state}'", wrong.beside)))
    trial.by_hand(f"UPDATE {move.table.name} SET {changes} WHERE tenant_id = :tenant AND id = :id", id=row_id)
    query = text(f"SELECT * FROM {move.table.name} WHERE id = :id")
    with trial.uow(BERT) as uow:
        uow.apply(move, **parameters_of(uow.connection.execute(query, {"id": row_id}).one()))


OWN = (
    "business_key",
    "start_token",
    "variables",
    "process_instance_id",
    "type",
    "severity",
    "detail",
    "claim_due_at",
    "due_at",
    "used_percent",
    "open_steps",
    "held_steps",
    "request_changes",
)
"""Parameters that have the value of the row's own column, if it has one."""


def parameters_of(row: Row[Any]) -> dict[str, Any]:
    """A value for every parameter of every move, as it fits the row."""
    ids = ("step_id", "order_id", "case_id", "cancellation_id", "command_id", "workflow_command_id", "alert_id")
    unsaid = (
        "reason",
        "external_ref",
        "external_event_id",
        "external_event_at",
        "evidence",
        "hold_reason",
        "decided_by",
        "outcome",
    )
    return {
        **dict.fromkeys(ids, row.id),
        **dict.fromkeys(unsaid),
        **{name: getattr(row, name, None) for name in OWN},
        "expected_version": row.version,
        "expected_status": row.status,
        "failure_class": "NONE",
        "attempt_stale_after": timedelta(0),
        "request_safe_interval": timedelta(0),
        "person": BERT,
        "is_unclaimed": False,
        "roles": list(LADDER),
        "needed_role": LADDER[0],
        "shown_form_id": None,
        "next_queue": LADDER[-1],
        "resolution": "RETRY",
        "is_alone_enough": True,
        "decision_reason": None,
    }


def register(table: str, wrongs: dict[str, Wrong], made: Callable[[Trial], UUID]) -> None:
    for verb, wrong in wrongs.items():
        look = f"{STATE}{table}.{verb}"
        refused_by(look, behind=wrong.behind, masked_by=wrong.masked_by)(partial(a_move_in_another_state, look, wrong, made))


register("fulfillment_step", OF_STEPS, sent)
register("fulfillment_step", BEFORE_SENDING, planned)
register("fallout_case", OF_CASES, contradicted)
register("cancellation_request", OF_REQUESTS, cancellation_requested)
register("workflow_correlation", OF_CORRELATIONS, partial(begun, "workflow_correlation"))
register("jeopardy_alert", OF_ALERTS, in_jeopardy)
register("workflow_command", OF_COMMANDS, partial(begun, "workflow_command"))
for verb, (state, states) in OF_ORDERS.items():
    register("sales_order", {verb: Wrong(state=state)}, partial(of_steps, states))
