"""People's side of fallout: one owner at a time, on a lease; a resolution names the case and the step as they were seen (the lesson, section 4).

A person never overrules a fact: a completion that was committed first makes the resolution fail, and the case is gone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Row, Text, exists, func, or_, select, text, update

from domain.delivery import compensating, fulfilling
from domain.delivery.attempts import LIVE, AttemptStatus
from domain.delivery.orders import SalesOrder
from domain.delivery.step_moves import ATTEMPT, DECISIONS, EMITS, ResolutionNotAllowed
from domain.delivery.steps import FINAL, STEP_MATRIX, FulfillmentStep, StepEvent, StepStatus, StepVersionConflict
from domain.errors import Conflict, Forbidden, Invalid, SafeAction
from domain.fallout import triaging
from domain.fallout.cases import FalloutCase, FalloutEvent, FalloutNote, FalloutType, NoteKind
from domain.fallout.casework import EXPECTED_VERSION, IN_MY_QUEUE, MINE, CaseCommand, case_move
from domain.fallout.triaging import CASE, DISOWNED
from domain.store import Guard, UnitOfWork, param, table_of

NOTE = table_of(FalloutNote)


class ResolutionNeedsAuthority(Forbidden):
    """This resolution is not yours to choose: a higher level must do it."""


class SecondPersonMissing(Conflict):
    """A second person must confirm the provider's reference first."""

    safe_action = SafeAction.ASK_SOMEONE_WITH_AUTHORITY


class EvidenceMissing(Invalid):
    """This resolution needs evidence: what was seen, where, and by whom."""


class Resolution(StrEnum):
    """What a person may do about a case."""

    RETRY = "RETRY"
    REPAIR_AND_RETRY = "REPAIR_AND_RETRY"
    MARK_COMPLETED = "MARK_COMPLETED"
    SKIP = "SKIP"
    CANCEL_STEP = "CANCEL_STEP"
    FAIL_STEP = "FAIL_STEP"
    COMPENSATE = "COMPENSATE"
    KEEP_AS_IS = "KEEP_AS_IS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What a resolution does to a held step (None: nothing), from which level up it may be chosen, and what it must bring."""

    event: StepEvent | None = None
    level: int = 0
    needs_evidence: bool = True
    needs_reference: bool = False


R = Resolution
RULES: Mapping[Resolution, Rule] = {
    R.RETRY: Rule(event=StepEvent.RESOLVE_RETRY, needs_evidence=False),
    R.REPAIR_AND_RETRY: Rule(event=StepEvent.RESOLVE_REPAIRED),
    R.MARK_COMPLETED: Rule(event=StepEvent.RESOLVE_COMPLETED, needs_reference=True),
    R.SKIP: Rule(event=StepEvent.RESOLVE_SKIP, level=1),
    R.CANCEL_STEP: Rule(event=StepEvent.RESOLVE_CANCEL),
    R.FAIL_STEP: Rule(event=StepEvent.RESOLVE_FAIL),
    R.COMPENSATE: Rule(level=1),
    R.KEEP_AS_IS: Rule(),
}
SENT_AGAIN = frozenset({StepEvent.RESOLVE_RETRY, StepEvent.RESOLVE_REPAIRED})
ATTEMPT_AFTER = {
    (StepEvent.RESOLVE_COMPLETED, "EXECUTE"): AttemptStatus.SUCCEEDED,
    (StepEvent.RESOLVE_CANCEL, "CANCEL"): AttemptStatus.SUCCEEDED,
}

CONFIRMED = exists(
    select(NOTE.c.id).where(
        NOTE.c.tenant_id == CASE.c.tenant_id,
        NOTE.c.case_id == CASE.c.id,
        NOTE.c.kind == NoteKind.CONFIRMATION,
        NOTE.c.external_ref == param("external_ref", Text()),
        NOTE.c.author != param("person"),
    )
)
RESOLVE = case_move(
    FalloutEvent.RESOLVE,
    IN_MY_QUEUE,
    EXPECTED_VERSION,
    MINE,
    Guard(SecondPersonMissing, or_(param("is_alone_enough"), CONFIRMED)),
    sets={
        **DISOWNED,
        FalloutCase.resolution: param("resolution"),
        FalloutCase.resolved_by: param("person"),
        FalloutCase.external_ref: param("external_ref", Text()),
        FalloutCase.resolution_evidence: param("evidence", Text()),
    },
    emits="FalloutResolved",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveCase(CaseCommand):
    """`expected_step_version` is the step's as it was seen; None for a case without one."""

    resolution: Resolution
    expected_step_version: int | None = None
    external_ref: str | None = None
    evidence: str | None = None

    @property
    def is_alone_enough(self) -> bool:
        """Whether no second person has to confirm."""
        return not RULES[self.resolution].needs_reference


def resolve(uow: UnitOfWork, command: ResolveCase) -> Row[Any]:
    """Carry out what its owner decided on a case; returns the case. A case that leaves nothing to be proven is closed with it.

    Raises EvidenceMissing, ResolutionNeedsAuthority, QueueNotYours, FalloutCaseConflict, SecondPersonMissing, StepVersionConflict,
    ResolutionNotAllowed.
    """
    _must_be_complete(command)
    known = uow.read(FalloutCase, command.case_id)
    order = uow.read(SalesOrder, known.order_id, lock=True) if known.order_id else None
    step = uow.read(FulfillmentStep, known.step_id, lock=True) if known.step_id else None
    _must_fit(command, order, step)
    case = uow.apply(RESOLVE, command)
    step = _act_on(uow, command, case, step)
    triaging.notify_case(uow, case)
    is_proven = step is None or step.status in FINAL
    return triaging.verify(uow, case) if is_proven and case.type != FalloutType.DECOMPOSITION_FAILED else case


def _must_be_complete(command: ResolveCase) -> None:
    rule = RULES[command.resolution]
    if command.level < rule.level:
        raise ResolutionNeedsAuthority
    if rule.needs_evidence and not (command.evidence or "").strip():
        raise EvidenceMissing
    if rule.needs_reference and not (command.external_ref or "").strip():
        raise EvidenceMissing("Name the provider's reference of what it has done.")


def _must_fit(command: ResolveCase, order: Row[Any] | None, step: Row[Any] | None) -> None:
    if step is not None and RULES[command.resolution].event in SENT_AGAIN and not _is_wanted(order, step):
        raise ResolutionNotAllowed(
            "The order is being cancelled: find out whether the step was done (mark it completed) or not (cancel it).",
            aggregate_type="fulfillment_step",
            aggregate_id=step.id,
            current_status=step.status,
        )


def _is_wanted(order: Row[Any] | None, step: Row[Any]) -> bool:
    """What is not wanted any more is sent to nobody again: let be tried, it would be cancelled although its effect may be there."""
    return order is None or step.kind != "FULFILL" or order.status not in compensating.UNWANTED


def _act_on(uow: UnitOfWork, command: ResolveCase, case: Row[Any], step: Row[Any] | None) -> Row[Any] | None:
    if step is None:
        if RULES[command.resolution].event not in {None, *SENT_AGAIN}:
            raise ResolutionNotAllowed("The case is about no step.", aggregate_type="fallout_case", aggregate_id=case.id)
        return None
    if command.expected_step_version != step.version:
        raise StepVersionConflict(
            aggregate_type="fulfillment_step",
            aggregate_id=step.id,
            expected_version=command.expected_step_version,
            current_version=step.version,
            current_status=step.status,
        )
    event = RULES[command.resolution].event
    if event is not None:
        return decide_step(uow, step, event, reason=_reason(command), external_ref=command.external_ref)
    if command.resolution is Resolution.COMPENSATE:
        return _undo(uow, step)
    if step.status == StepStatus.HELD:
        raise ResolutionNotAllowed("A held step cannot stay as it is.", aggregate_type="fulfillment_step", aggregate_id=step.id)
    return step


def _reason(command: ResolveCase) -> str:
    return f"{command.resolution} by {command.person}"


def _undo(uow: UnitOfWork, step: Row[Any]) -> Row[Any]:
    if step.status not in FINAL or not step.compensable or compensating.undo_late(uow, step) is None:
        raise ResolutionNotAllowed(aggregate_type="fulfillment_step", aggregate_id=step.id, current_status=step.status)
    return step


def decide_step(uow: UnitOfWork, step: Row[Any], event: StepEvent, *, reason: str, external_ref: str | None = None) -> Row[Any]:
    """Carry out a decision on a held step: whatever was still open about its attempts is settled by it. The step's row must be held.

    Raises ResolutionNotAllowed.
    """
    emits = EMITS[STEP_MATRIX.targets(event)[StepStatus.HELD]]
    after = uow.apply(
        DECISIONS[event], step_id=step.id, expected_version=step.version, reason=reason, external_ref=external_ref, emits=emits
    )
    for command in ("EXECUTE", "CANCEL"):
        live = update(ATTEMPT).filter_by(tenant_id=uow.tenant_id, step_id=step.id, command=command).where(text(LIVE))
        settled = {
            "status": ATTEMPT_AFTER.get((event, command), AttemptStatus.FAILED),
            "outcome_source": fulfilling.OutcomeSource.HUMAN,
            "reason": reason,
            "settled_at": func.clock_timestamp(),
        }
        uow.connection.execute(live.values(**settled))
    fulfilling.tell_step(uow, after)
    return after


def resolutions_for(step: Row[Any] | None, order: Row[Any] | None) -> list[Resolution]:
    """What may be done about a step of an order as they stand: a decision for a held one, a repair or nothing for one that is through."""
    if step is None:
        return [Resolution.RETRY, Resolution.KEEP_AS_IS]
    if step.status == StepStatus.HELD:
        unfit = frozenset() if _is_wanted(order, step) else SENT_AGAIN
        return [resolution for resolution, rule in RULES.items() if rule.event is not None and rule.event not in unfit]
    return [Resolution.COMPENSATE, Resolution.KEEP_AS_IS] if step.compensable else [Resolution.KEEP_AS_IS]
