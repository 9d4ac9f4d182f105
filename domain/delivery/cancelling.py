"""Cancelling an order: requested, assessed, then every step that is not final is cancelled in one transaction.

No step starts any more once the cancellation is accepted. A step that completes all the same is undone (`compensating`;
docs/domain.md#cancellation-and-undo).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Row, and_, exists, select

from domain import messages
from domain.delivery import attempts, cancellations, orders, steps, troubles
from domain.delivery.cancellations import CancellationRequest, CancellationStatus
from domain.delivery.orders import (
    ORDER_MATRIX,
    CancellationAlreadyOpen,
    OrderEvent,
    OrderStatus,
    OrderTerminal,
    OrderVersionConflict,
    PonrReached,
    SalesOrder,
)
from domain.delivery.step_moves import CANCELLATIONS, DECISIONS, EMITS
from domain.delivery.steps import STEP, STEP_MATRIX, StepEvent, StepKind, StepStatus
from domain.errors import AlreadyExists
from domain.offers.prices import PriceResult
from domain.offers.quotes import QuoteRevision
from domain.store import Guard, Move, UnitOfWork, is_one_of, param, table_of
from domain.store.facts import WorkflowCommandKind
from domain.workflows import forms

REQUEST, REVISION, PRICE = (table_of(entity) for entity in (CancellationRequest, QuoteRevision, PriceResult))
ORDER_CANCELLED = "ORDER_CANCELLED"
POLICY = "policy"
TASK = "assess-cancellation"
"""The user task of a cancellation, by its id in the model."""
OF_STEP = ("step_code", "kind", "version", "status", "is_ponr", "compensable")

# Read without a lock this can only miss a step that has just completed; `decide` repeats it with the steps locked.
PAST_PONR = exists(
    select(STEP.c.id).where(
        STEP.c.tenant_id == SalesOrder.tenant_id,
        STEP.c.order_id == SalesOrder.id,
        STEP.c.is_ponr,
        STEP.c.status == StepStatus.COMPLETED,
    )
)
NOT_PAST_PONR = Guard(PonrReached, ~PAST_PONR | is_one_of(SalesOrder.status, *orders.FINAL))
REQUEST_CANCEL = Move(
    SalesOrder,
    ORDER_MATRIX,
    OrderEvent.REQUEST_CANCEL,
    Guard(
        OrderVersionConflict,
        and_(SalesOrder.version == param("expected_version"), SalesOrder.status == param("expected_status")),
    ),
    NOT_PAST_PONR,
    illegal=dict.fromkeys((OrderStatus.CANCEL_REQUESTED, OrderStatus.CANCELLING), CancellationAlreadyOpen)
    | dict.fromkeys(orders.FINAL, OrderTerminal),
)
CANCEL_ACCEPTED = Move(
    SalesOrder,
    ORDER_MATRIX,
    OrderEvent.CANCEL_ACCEPTED,
    NOT_PAST_PONR,
    sets={SalesOrder.hold_reason: None},
    emits="OrderCancelling",
)
CANCEL_DECLINED = Move(SalesOrder, ORDER_MATRIX, OrderEvent.CANCEL_DECLINED, emits="OrderCancellationDeclined")


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCancellation:
    """The customer does not want this order delivered; version and state are those that the requester has seen."""

    order_id: UUID
    expected_version: int
    expected_status: str
    reason: str
    requested_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DecideCancellation:
    """What the rules decide; a person decides by AssessCancellation."""

    cancellation_id: UUID
    accept: bool
    reason: str
    decided_by: str = POLICY


@dataclass(frozen=True, slots=True, kw_only=True)
class AssessCancellation(DecideCancellation):
    """What a person decides, in which roles, on the version that the person has seen.

    From Tasklist it names the process instance that asked, and the form that was shown; over HTTP both are None.
    """

    expected_version: int
    roles: Sequence[str]
    process_instance_id: str | None = None
    shown_form_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancellationFacts:
    """What the policy and a person decide by. `order_value` is net, in the order's currency."""

    request: Row[Any]
    order: Row[Any]
    steps: Sequence[Row[Any]]
    ponr_reached: bool
    order_value: Decimal
    currency: str

    def as_evidence(self) -> dict[str, Any]:
        """The facts in full, as they are kept with the decision of a person."""
        return {
            "request": {name: getattr(self.request, name) for name in ("version", "status", "reason_code", "requested_by")},
            "order": {name: getattr(self.order, name) for name in ("version", "status", "order_number", "customer_id")},
            "order_value": self.order_value,
            "currency": self.currency,
            "ponr_reached": self.ponr_reached,
            "steps": [{name: getattr(step, name) for name in OF_STEP} for step in self.steps],
        }

    def count(self, *statuses: StepStatus) -> int:
        """How many steps are in one of these states."""
        return sum(step.status in statuses for step in self.steps)


def request(uow: UnitOfWork, command: RequestCancellation) -> Row[Any]:
    """Ask for the cancellation; returns the request. An order that is only CREATED is cancelled at once.

    Raises OrderVersionConflict, PonrReached, CancellationAlreadyOpen, OrderTerminal.
    """
    before = uow.read(SalesOrder, command.order_id, lock=True)
    is_untouched = before.status == OrderStatus.CREATED
    order = uow.apply(REQUEST_CANCEL, command, emits="OrderCancelled" if is_untouched else "OrderCancellationRequested")
    try:
        cancellation = uow.create(
            CancellationRequest,
            reason="REQUEST",
            status=CancellationStatus.ACKNOWLEDGED,
            order_id=order.id,
            expected_order_version=command.expected_version,
            requested_by=command.requested_by,
            reason_code=command.reason,
        )
    except AlreadyExists as error:
        raise CancellationAlreadyOpen.about(order) from error
    if is_untouched:
        uow.apply(cancellations.ACCEPT, cancellation_id=cancellation.id, decided_by=POLICY, decision_reason="NOTHING_WAS_BEGUN")
        return uow.apply(cancellations.FINISH, cancellation_id=cancellation.id)
    key = orders.business_key(uow.tenant_id, order.id)
    messages.ORDER_CANCELLATION_REQUESTED.correlate(uow, key, cancellation_id=cancellation.id)
    return cancellation


def last_request(uow: UnitOfWork, order_id: UUID) -> Row[Any]:
    """The newest request to cancel an order. Raises NotFound."""
    query = select(*REQUEST.c).filter_by(tenant_id=uow.tenant_id, order_id=order_id)
    return uow.one(query.order_by(REQUEST.c.created_at.desc()).limit(1), "A request to cancel the order")


def assess(uow: UnitOfWork, cancellation_id: UUID) -> CancellationFacts:
    """Collect what the policy decides by; the request is ASSESSING from then on. May be repeated."""
    cancellation = uow.read(CancellationRequest, cancellation_id, lock=True)
    if cancellation.status == CancellationStatus.ACKNOWLEDGED:
        cancellation = uow.apply(cancellations.ASSESS, cancellation_id=cancellation_id)
    return facts_of(uow, cancellation)


def facts_of(uow: UnitOfWork, cancellation: Row[Any]) -> CancellationFacts:
    """What the policy and a person decide by, as it stands now."""
    order = uow.read(SalesOrder, cancellation.order_id)
    price = uow.one(
        select(PRICE.c.net_total, PRICE.c.currency)
        .join(REVISION, and_(REVISION.c.tenant_id == PRICE.c.tenant_id, REVISION.c.price_result_id == PRICE.c.id))
        .where(REVISION.c.tenant_id == uow.tenant_id, REVISION.c.id == order.quote_revision_id),
        "The order's price",
    )
    rows = steps.of_order(uow, order.id)
    passed = any(step.is_ponr and step.status == StepStatus.COMPLETED for step in rows)
    return CancellationFacts(
        request=cancellation, order=order, steps=rows, ponr_reached=passed, order_value=price.net_total, currency=price.currency
    )


def decide_by_person(uow: UnitOfWork, command: AssessCancellation) -> Row[Any]:
    """Accept or decline as a person; returns the request. It is declined in any case once the order has passed its point of no return.

    A decision over HTTP completes the user task as well.

    Raises NotThisProcess, CancellationDecided, CancellationVersionConflict, OwnCancellation, CancellationNotYours, FormChanged.
    """
    order_id = uow.read(CancellationRequest, command.cancellation_id).order_id
    uow.read(SalesOrder, order_id, lock=True)
    steps.of_order(uow, order_id, lock=True)
    facts = facts_of(uow, uow.read(CancellationRequest, command.cancellation_id, lock=True))
    uow.require(cancellations.MAY_DECIDE, command, order_value=facts.order_value)
    form_id = forms.answer(uow, command.cancellation_id, facts.as_evidence(), command.shown_form_id)
    decided = decide(uow, command)
    uow.change(CancellationRequest, decided.id, shown_form_id=form_id)
    if command.process_instance_id is None:
        key = cancellations.business_key(uow.tenant_id, decided.id)
        told = {"cancellation_decision": "ACCEPT" if command.accept else "DECLINE", "assessment_reason": command.reason}
        uow.ask_engine(WorkflowCommandKind.COMPLETE_TASK, TASK, key, told)
    return decided


def decide(uow: UnitOfWork, command: DecideCancellation) -> Row[Any]:
    """Accept or decline; returns the request, which may have been decided before.

    It is declined in any case once the order has passed its point of no return.
    """
    order_id = uow.read(CancellationRequest, command.cancellation_id).order_id
    uow.read(SalesOrder, order_id, lock=True)
    locked = steps.of_order(uow, order_id, lock=True)
    cancellation = uow.read(CancellationRequest, command.cancellation_id, lock=True)
    if cancellation.status not in cancellations.UNDECIDED:
        return cancellation
    if not command.accept:
        return decline(uow, cancellation, command.decided_by, command.reason)
    try:
        uow.apply(CANCEL_ACCEPTED, order_id=order_id)
    except PonrReached as passed:
        return decline(uow, cancellation, command.decided_by, passed.code)
    cancel_steps(uow, locked)
    key = orders.business_key(uow.tenant_id, order_id)
    messages.ORDER_CANCELLATION_ACCEPTED.correlate(uow, key, accepted_cancellation_id=cancellation.id)
    return uow.apply(
        cancellations.ACCEPT, cancellation_id=cancellation.id, decided_by=command.decided_by, decision_reason=command.reason
    )


def decline(uow: UnitOfWork, cancellation: Row[Any], decided_by: str, reason: str) -> Row[Any]:
    """Let the order go on; its row must be locked."""
    uow.apply(CANCEL_DECLINED, order_id=cancellation.order_id)
    return uow.apply(cancellations.DECLINE, cancellation_id=cancellation.id, decided_by=decided_by, decision_reason=reason)


def open_request(uow: UnitOfWork, order_id: UUID) -> Row[Any] | None:
    """The order's open request, locked."""
    query = select(*REQUEST.c).filter_by(tenant_id=uow.tenant_id, order_id=order_id)
    query = query.where(is_one_of(REQUEST.c.status, *cancellations.OPEN)).with_for_update(key_share=True)
    return uow.connection.execute(query).one_or_none()


def tell_again(uow: UnitOfWork, cancellation: Row[Any]) -> None:
    """Tell a new process of an order how far its open cancellation has come."""
    key = orders.business_key(uow.tenant_id, cancellation.order_id)
    if cancellation.status in cancellations.UNDECIDED:
        messages.ORDER_CANCELLATION_REQUESTED.correlate(uow, key, cancellation_id=cancellation.id)
    else:
        messages.ORDER_CANCELLATION_ACCEPTED.correlate(uow, key, accepted_cancellation_id=cancellation.id)


def cancel_steps(uow: UnitOfWork, locked_steps: Iterable[Row[Any]]) -> None:
    """Cancel the steps of kind FULFILL that are not final: at once without a live attempt, otherwise by asking the provider."""
    for step in locked_steps:
        if step.kind == StepKind.FULFILL and StepStatus(step.status) not in steps.FINAL | {StepStatus.CANCEL_REQUESTED}:
            _cancel(uow, step)


def withdraw_steps(uow: UnitOfWork, locked_steps: Iterable[Row[Any]], reasons: Mapping[UUID, str]) -> None:
    """Cancel steps that are not in flight and that nothing will start. `reasons` says for each step why it is cancelled."""
    idle = {StepStatus.PENDING, StepStatus.RETRYABLE, StepStatus.HELD}
    for step in locked_steps:
        if step.status in idle and not attempts.has_live(uow, step.id):
            _cancel(uow, step, reasons[step.id])


def _cancel(uow: UnitOfWork, step: Row[Any], reason: str = ORDER_CANCELLED) -> None:
    attempts.reopen_repeated(uow, step.id)
    is_under_way = attempts.has_live(uow, step.id)
    if step.status == StepStatus.HELD:
        troubles.cancel_cases(uow, step.id)
        if not is_under_way:
            resolve = DECISIONS[StepEvent.RESOLVE_CANCEL]
            uow.apply(resolve, step_id=step.id, expected_version=step.version, reason=reason, emits="StepCancelled")
            return
    event = StepEvent.CANCEL_RELEASED if step.status == StepStatus.RETRYABLE and is_under_way else StepEvent.CANCEL
    target = STEP_MATRIX.targets(event)[StepStatus(step.status)]
    uow.apply(CANCELLATIONS[event], step_id=step.id, reason=reason, emits=EMITS[target])
