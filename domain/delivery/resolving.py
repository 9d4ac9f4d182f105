"""Resolving cases: carries out what the owner of a case decides about its step, in the versions that the owner has seen.

A person never overrules a fact: a completion that was committed first closes the case, and the resolution is refused
(docs/domain.md#fallout).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Text, Uuid, and_, exists, or_, select

from domain.delivery import attempts, compensating, fulfilling, incidents, repairing, restarting, troubles
from domain.delivery.attempts import AttemptCommand, AttemptStatus
from domain.delivery.orders import SalesOrder
from domain.delivery.repairing import Change, RepairMissing, RepairNotFitting
from domain.delivery.step_moves import DECISIONS, EMITS, ResolutionNotAllowed
from domain.delivery.steps import FINAL, STEP_MATRIX, FulfillmentStep, StepEvent, StepKind, StepStatus, StepVersionConflict
from domain.errors import Conflict, Invalid, SafeAction
from domain.fallout import triaging
from domain.fallout.cases import (
    UNRESOLVED,
    FalloutCase,
    FalloutEvent,
    FalloutNote,
    FalloutType,
    NoteKind,
    Queue,
    ResolutionProposal,
)
from domain.fallout.casework import EXPECTED_VERSION, HIGH_ENOUGH, IN_MY_QUEUE, MINE, OF_THIS_PROCESS, CaseCommand, case_move
from domain.fallout.triaging import CASE, DISOWNED
from domain.store import Guard, UnitOfWork, outbox, param, table_of

NOTE, PROPOSAL = table_of(FalloutNote), table_of(ResolutionProposal)


class SecondPersonMissing(Conflict):
    """A second person must confirm the provider's reference first."""

    safe_action = SafeAction.ASK_SOMEONE_WITH_AUTHORITY


class EvidenceMissing(Invalid):
    """This resolution needs evidence: what was seen, where, and by whom."""


class Resolution(StrEnum):
    """What a person may decide on a case."""

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
    """What a resolution does to a held step (None: nothing), from which role up it may be chosen, and what it needs."""

    event: StepEvent | None = None
    role: Queue = Queue.FIRST_LEVEL
    needs_evidence: bool = True
    needs_reference: bool = False
    needs_changes: bool = False


RULES: Mapping[Resolution, Rule] = {
    Resolution.RETRY: Rule(event=StepEvent.RESOLVE_RETRY, needs_evidence=False),
    Resolution.REPAIR_AND_RETRY: Rule(event=StepEvent.RESOLVE_REPAIRED, needs_changes=True),
    Resolution.MARK_COMPLETED: Rule(event=StepEvent.RESOLVE_COMPLETED, needs_reference=True),
    Resolution.SKIP: Rule(event=StepEvent.RESOLVE_SKIP, role=Queue.SECOND_LEVEL),
    Resolution.CANCEL_STEP: Rule(event=StepEvent.RESOLVE_CANCEL),
    Resolution.FAIL_STEP: Rule(event=StepEvent.RESOLVE_FAIL),
    Resolution.COMPENSATE: Rule(role=Queue.SECOND_LEVEL),
    Resolution.KEEP_AS_IS: Rule(),
}
SENT_AGAIN = frozenset({StepEvent.RESOLVE_RETRY, StepEvent.RESOLVE_REPAIRED})
ATTEMPT_AFTER = {
    (StepEvent.RESOLVE_RETRY, AttemptCommand.EXECUTE): AttemptStatus.REPEATED,
    (StepEvent.RESOLVE_COMPLETED, AttemptCommand.EXECUTE): AttemptStatus.SUCCEEDED,
    (StepEvent.RESOLVE_CANCEL, AttemptCommand.CANCEL): AttemptStatus.SUCCEEDED,
}

# A second person has confirmed what stands in the command, exactly as its owner has proposed it: one version of a case has one owner.
CONFIRMED = exists(
    select(NOTE.c.id)
    .join(PROPOSAL, and_(PROPOSAL.c.tenant_id == NOTE.c.tenant_id, PROPOSAL.c.id == NOTE.c.proposal_id))
    .where(
        NOTE.c.tenant_id == CASE.c.tenant_id,
        NOTE.c.case_id == CASE.c.id,
        NOTE.c.kind == NoteKind.CONFIRMATION,
        NOTE.c.author != param("person"),
        PROPOSAL.c.case_version == param("expected_version"),
        PROPOSAL.c.resolution == param("resolution"),
        PROPOSAL.c.external_ref == param("external_ref", Text()),
        PROPOSAL.c.evidence == param("evidence", Text()),
    )
)
RESOLVE = case_move(
    FalloutEvent.RESOLVE,
    OF_THIS_PROCESS,
    IN_MY_QUEUE,
    HIGH_ENOUGH,
    EXPECTED_VERSION,
    MINE,
    Guard(SecondPersonMissing, or_(param("is_alone_enough"), CONFIRMED)),
    sets={
        **DISOWNED,
        FalloutCase.resolution: param("resolution"),
        FalloutCase.resolved_by: param("person"),
        FalloutCase.external_ref: param("external_ref", Text()),
        FalloutCase.resolution_evidence: param("evidence", Text()),
        FalloutCase.shown_form_id: param("shown_form_id", Uuid()),
    },
    emits="FalloutResolved",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ResolveCase(CaseCommand):
    """`expected_step_version` is the version of the step that was seen; None for a case without a step. `changes` repair its request.

    From Tasklist it names the form that was shown. Over HTTP there is none: the command names the versions of case and step that the person
    has read, and what they were then stands in the transition log.
    """

    resolution: Resolution
    expected_step_version: int | None = None
    external_ref: str | None = None
    evidence: str | None = None
    shown_form_id: UUID | None = None
    changes: Sequence[Change] = ()

    @property
    def needed_role(self) -> str:
        """The lowest role that may choose this resolution."""
        return RULES[self.resolution].role

    @property
    def is_alone_enough(self) -> bool:
        """Whether it needs no confirmation by a second person."""
        return not RULES[self.resolution].needs_reference


def resolve(uow: UnitOfWork, command: ResolveCase) -> Row[Any]:
    """Carry out the owner's decision on a case; returns the case. It is closed at once if its step is final, or it has none.

    Raises EvidenceMissing, RepairMissing, RepairNotFitting, ResolutionNeedsAuthority, QueueNotYours, FalloutCaseConflict,
    SecondPersonMissing, StepVersionConflict, ResolutionNotAllowed.
    """
    must_be_complete(command)
    seen = uow.read(FalloutCase, command.case_id)
    order, step = lock_delivery(uow, seen)
    _must_fit(command, seen, order, step)
    case = uow.apply(RESOLVE, command)
    step = _act_on(uow, command, case, step)
    triaging.notify_case(uow, case)
    is_proven = step.status in FINAL if step is not None else not _is_proven_later(case)
    return triaging.verify(uow, case) if is_proven else case


def _is_proven_later(case: Row[Any]) -> bool:
    """Whether a case without a step is closed when its trouble has proven to be over."""
    return case.type == FalloutType.DECOMPOSITION_FAILED or incidents.is_about_trouble(case)


def lock_delivery(uow: UnitOfWork, case: Row[Any]) -> tuple[Row[Any] | None, Row[Any] | None]:
    """Lock the order and the step of a case: both come before the case, so that two transactions cannot wait for each other."""
    order = uow.read(SalesOrder, case.order_id, lock=True) if case.order_id else None
    step = uow.read(FulfillmentStep, case.step_id, lock=True) if case.step_id else None
    return order, step


def must_be_complete(command: ResolveCase) -> None:
    """Refuse a resolution that lacks what its rule needs. Raises EvidenceMissing, RepairMissing, RepairNotFitting."""
    rule = RULES[command.resolution]
    if rule.needs_evidence and not (command.evidence or "").strip():
        raise EvidenceMissing
    if rule.needs_reference and not (command.external_ref or "").strip():
        raise EvidenceMissing("Name the provider's reference of what it has done.")
    if rule.needs_changes and not command.changes:
        raise RepairMissing
    if command.changes and not rule.needs_changes:
        raise RepairNotFitting(f"{command.resolution} repairs nothing: choose REPAIR_AND_RETRY, or leave the repairs out.")


def _must_fit(command: ResolveCase, case: Row[Any], order: Row[Any] | None, step: Row[Any] | None) -> None:
    if step is None and command.resolution not in (allowed := _without_step(case)):
        raise ResolutionNotAllowed.about(
            case, f"It is about no step: choose {' or '.join(allowed)}.", aggregate_type="fallout_case"
        )
    if step is not None and RULES[command.resolution].event in SENT_AGAIN and not _is_wanted(order, step):
        raise ResolutionNotAllowed.about(
            step, "The order is being cancelled: find out whether the step was done (mark it completed) or not (cancel it)."
        )


def _is_wanted(order: Row[Any] | None, step: Row[Any]) -> bool:
    # Never resend a step of an order that is being cancelled: the retry would be cancelled although the first request may have taken effect.
    return order is None or step.kind != StepKind.FULFILL or order.status not in compensating.UNWANTED


def _act_on(uow: UnitOfWork, command: ResolveCase, case: Row[Any], step: Row[Any] | None) -> Row[Any] | None:
    if step is None:
        if command.resolution is Resolution.RETRY:
            _ask_again(uow, case)
        return None
    if command.expected_step_version != step.version:
        raise StepVersionConflict.about(step, expected_version=command.expected_step_version)
    event = RULES[command.resolution].event
    if event is StepEvent.RESOLVE_REPAIRED:
        return _repair(uow, command, step)
    if event is not None:
        return decide_step(uow, step, event, reason=_reason(command), external_ref=command.external_ref)
    if command.resolution is Resolution.COMPENSATE:
        return _undo(uow, step)
    if step.status == StepStatus.HELD:
        raise ResolutionNotAllowed.about(step, "A held step cannot stay as it is.")
    return step


def _without_step(case: Row[Any]) -> list[Resolution]:
    is_given_up = case.business_key is not None or troubles.aggregate_of(case.dedupe_key) is not None
    return [Resolution.RETRY, Resolution.KEEP_AS_IS] if is_given_up or _is_proven_later(case) else [Resolution.KEEP_AS_IS]


def _ask_again(uow: UnitOfWork, case: Row[Any]) -> None:
    if incidents.is_about_trouble(case):
        incidents.retry(uow, case)
    elif case.business_key is not None:
        restarting.ask_again(uow, case.business_key)
    elif (aggregate_id := troubles.aggregate_of(case.dedupe_key)) is not None:
        outbox.send_again(uow.connection, uow.tenant_id, aggregate_id)


def _repair(uow: UnitOfWork, command: ResolveCase, step: Row[Any]) -> Row[Any]:
    changed = repairing.repaired(uow, step, command.changes)
    after = decide_step(uow, step, StepEvent.RESOLVE_REPAIRED, reason=_reason(command), request_changes=changed)
    repairing.keep(uow, command.case_id, after, command.changes, command.person)
    return after


def _reason(command: ResolveCase) -> str:
    return f"{command.resolution} by {command.person}"


def _undo(uow: UnitOfWork, step: Row[Any]) -> Row[Any]:
    if step.status not in FINAL or not step.compensable or compensating.undo_late(uow, step) is None:
        raise ResolutionNotAllowed.about(step)
    return step


def decide_step(
    uow: UnitOfWork,
    step: Row[Any],
    event: StepEvent,
    *,
    reason: str,
    external_ref: str | None = None,
    request_changes: Mapping[str, Any] | None = None,
) -> Row[Any]:
    """Carry out a decision on a held step, and settle its attempts; its row must be locked. Raises ResolutionNotAllowed.

    `request_changes` are the repaired fields of its request, for RESOLVE_REPAIRED.
    """
    decided = {"expected_version": step.version, "reason": reason, "external_ref": external_ref, "request_changes": request_changes}
    after = uow.apply(DECISIONS[event], step_id=step.id, emits=EMITS[STEP_MATRIX.targets(event)[StepStatus.HELD]], **decided)
    known = {"outcome_source": fulfilling.OutcomeSource.HUMAN, "reason": reason}
    for command in AttemptCommand:
        status = ATTEMPT_AFTER.get((event, command), AttemptStatus.FAILED)
        attempts.settle(uow, {"step_id": step.id, "command": command}, status, **known)
    if event not in SENT_AGAIN:
        attempts.settle_repeated(uow, step.id, ATTEMPT_AFTER.get((event, AttemptCommand.EXECUTE), AttemptStatus.FAILED), **known)
    fulfilling.notify_step(uow, after)
    return after


def resolutions_for(case: Row[Any], step: Row[Any] | None, order: Row[Any] | None) -> list[Resolution]:
    """What a person may decide on a case, with its step and order as they stand: a decision for a held step, an undo or nothing for a final one.

    On a case about no step: to ask again for what was given up, if anything was, or nothing. On a case that is over: nothing more.
    """
    if case.status not in UNRESOLVED:
        return []
    if step is None:
        return _without_step(case)
    if step.status == StepStatus.HELD:
        unfit = frozenset() if _is_wanted(order, step) else SENT_AGAIN
        return [resolution for resolution, rule in RULES.items() if rule.event is not None and rule.event not in unfit]
    return [Resolution.COMPENSATE, Resolution.KEEP_AS_IS] if step.compensable else [Resolution.KEEP_AS_IS]
