"""Casework: what people do with fallout cases. A case has one owner at a time, on a lease that runs out when the owner is gone.

Each command names the version of the case that the person has seen (docs/domain.md#fallout): of two who claim at once, the second is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    Boolean,
    ColumnElement,
    Connection,
    Row,
    SQLColumnExpression,
    Text,
    and_,
    any_,
    case,
    exists,
    func,
    literal,
    or_,
    select,
)
from sqlalchemy.dialects.postgresql import array

from domain import messages
from domain.authority import AuthorityGrant, granted_roles, is_granted
from domain.errors import Conflict, Forbidden
from domain.fallout import cases, triaging
from domain.fallout.cases import (
    CLAIM_LEASE,
    FALLOUT_MATRIX,
    LADDER,
    TIME_TO_RESOLVE,
    FalloutCase,
    FalloutEvent,
    FalloutNote,
    FalloutStatus,
    NoteKind,
    Queue,
    Severity,
)
from domain.fallout.triaging import CASE, DISOWNED, deadlines, next_queue
from domain.store import Guard, Move, UnitOfWork, is_one_of, param
from domain.store.claims import NOW, Groups, fairly
from domain.store.facts import WorkflowCommandKind, WorkflowCommandStatus
from domain.store.leases import is_free
from domain.workflows.instances import INSTANCE, NotThisProcess, acts_for
from domain.workflows.requests import COMMAND
from domain.workflows.timers import NotDue, is_due


class FalloutCaseConflict(Conflict):
    """The case has changed, or somebody else owns it."""

    aggregate = "fallout_case"

    @classmethod
    def about(cls, row: Any, detail: str | None = None, **more: Any) -> Self:
        """As for every refusal; of a case that nobody has claimed it says so."""
        is_unclaimed = row.status == FalloutStatus.OPEN and row.version == more.get("expected_version")
        return super().about(row, detail or ("Nobody has claimed the case: claim it first." if is_unclaimed else None), **more)


class QueueNotYours(Forbidden):
    """The case is in a queue that you do not work on: that needs its role, and an authority grant for it."""


class ResolutionNeedsAuthority(Forbidden):
    """This resolution belongs to a higher level: escalate the case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseCommand:
    """What a person does with a case that they have seen at this version; `roles` are the person's.

    From Tasklist it names the process instance that asked the person; over HTTP that is None.
    """

    case_id: UUID
    expected_version: int
    person: str
    roles: Collection[str] = ()
    process_instance_id: str | None = None


def level_of(queue: SQLColumnExpression[str] | ColumnElement[str]) -> ColumnElement[int]:
    """How high a queue, or a role of its name, stands; NULL for another role."""
    return func.array_position(array([literal(str(each)) for each in LADDER]), queue)


def works_at(level: ColumnElement[int]) -> ColumnElement[bool]:
    """For guards: the person has a role, and a grant for it, that stands at least so high. Who works on a level may work on those below."""
    role = AuthorityGrant.role
    has_role = role == any_(param("roles", ARRAY(Text())))
    return is_granted(FalloutCase.tenant_id, param("person", Text()), has_role, level_of(role) >= level)


def queues_of(uow: UnitOfWork, person: str, roles: Collection[str]) -> Sequence[Queue]:
    """The queues that a person may work on now, by their roles and grants."""
    mine = granted_roles(uow, person, roles)
    return LADDER[: max((level for level, queue in enumerate(LADDER, start=1) if queue in mine), default=0)]


OF_THIS_PROCESS = Guard(NotThisProcess, acts_for(FalloutCase.id))
IN_MY_QUEUE = Guard(QueueNotYours, works_at(level_of(FalloutCase.queue)))
HIGH_ENOUGH = Guard(ResolutionNeedsAuthority, works_at(level_of(param("needed_role", Text()))))
"""The person may choose this resolution, in whatever queue the case is."""
EXPECTED_VERSION = Guard(FalloutCaseConflict, FalloutCase.version == param("expected_version"))
MINE = Guard(FalloutCaseConflict, FalloutCase.owner_user_id == param("person"))
NOT_ANOTHERS = Guard(FalloutCaseConflict, or_(FalloutCase.owner_user_id.is_(None), FalloutCase.owner_user_id == param("person")))
LEASE = {FalloutCase.claim_expires_at: func.clock_timestamp() + CLAIM_LEASE}
TAKEN = dict.fromkeys(FalloutStatus, FalloutCaseConflict)


def case_move(event: FalloutEvent, *guards: Guard, sets: Mapping[Any, Any] | None = None, emits: str | None = None) -> Move:
    """A move by a person. In a state that does not allow it, somebody was faster."""
    return Move(FalloutCase, FALLOUT_MATRIX, event, *guards, sets=sets, emits=emits, illegal=TAKEN)


CLAIM = case_move(
    FalloutEvent.CLAIM,
    OF_THIS_PROCESS,
    IN_MY_QUEUE,
    EXPECTED_VERSION,
    NOT_ANOTHERS,
    sets={**LEASE, FalloutCase.owner_user_id: param("person")},
    emits="FalloutClaimed",
)
EXPIRE_CLAIM = case_move(
    FalloutEvent.EXPIRE_CLAIM,
    EXPECTED_VERSION,
    Guard(FalloutCaseConflict, FalloutCase.claim_expires_at <= func.clock_timestamp()),
    sets=DISOWNED,
    emits="FalloutReleased",
)
RELEASE = case_move(FalloutEvent.RELEASE, EXPECTED_VERSION, MINE, sets=DISOWNED, emits="FalloutReleased")
REQUEST_INFORMATION = case_move(
    FalloutEvent.REQUEST_INFORMATION,
    EXPECTED_VERSION,
    MINE,
    sets={FalloutCase.claim_expires_at: None},
    emits="FalloutInformationRequested",
)
RECEIVE_INFORMATION = case_move(FalloutEvent.RECEIVE_INFORMATION, EXPECTED_VERSION, sets=LEASE, emits="FalloutInformationReceived")
HOLD = case_move(FalloutEvent.HOLD, EXPECTED_VERSION, MINE, sets={FalloutCase.claim_expires_at: None}, emits="FalloutHeld")
RESUME = case_move(FalloutEvent.RESUME, EXPECTED_VERSION, MINE, sets=LEASE, emits="FalloutResumed")
NEXT_LEVEL: Mapping[Any, Any] = {
    **DISOWNED,
    FalloutCase.queue: param("next_queue"),
    FalloutCase.escalation_level: FalloutCase.escalation_level + 1,
    FalloutCase.claim_due_at: param("claim_due_at", CASE.c.claim_due_at.type),
    FalloutCase.due_at: param("due_at", CASE.c.due_at.type),
}
LATE = case((param("is_unclaimed", Boolean()), is_due(FalloutCase.claim_due_at)), else_=is_due(FalloutCase.due_at))
ESCALATE = case_move(
    FalloutEvent.ESCALATE, OF_THIS_PROCESS, EXPECTED_VERSION, Guard(NotDue, LATE), sets=NEXT_LEVEL, emits="FalloutEscalated"
)
HAND_ON = case_move(
    FalloutEvent.HAND_ON, OF_THIS_PROCESS, IN_MY_QUEUE, EXPECTED_VERSION, NOT_ANOTHERS, sets=NEXT_LEVEL, emits="FalloutEscalated"
)


def claim(uow: UnitOfWork, command: CaseCommand, *, has_task: bool = False) -> Row[Any]:
    """Claim a case, or prolong one's own lease. A case whose lease has run out may be claimed by anybody.

    `has_task`: the user task is assigned to the person already. Raises QueueNotYours, FalloutCaseConflict.
    """
    case = uow.read(FalloutCase, command.case_id)
    version = command.expected_version
    if case.status == FalloutStatus.IN_PROGRESS and case.owner_user_id != command.person:
        version = _take_over(uow, command, case)
    claimed = uow.apply(CLAIM, command, expected_version=version)
    if not has_task:
        assign(uow, claimed)
    return claimed


def _take_over(uow: UnitOfWork, command: CaseCommand, case: Row[Any]) -> int:
    try:
        return int(uow.apply(EXPIRE_CLAIM, command).version)
    except FalloutCaseConflict as conflict:
        raise FalloutCaseConflict.about(
            case,
            f"{case.owner_user_id} is working on the case.",
            expected_version=command.expected_version,
            current_version=conflict.current_version,
        ) from conflict


def release(uow: UnitOfWork, command: CaseCommand) -> Row[Any]:
    """Return a case to its queue. Raises FalloutCaseConflict."""
    return _unassign(uow, uow.apply(RELEASE, command))


def expire_claim(uow: UnitOfWork, case_id: UUID, expected_version: int) -> Row[Any]:
    """Return a case to its queue after its owner's lease has run out. Raises FalloutCaseConflict."""
    return _unassign(uow, uow.apply(EXPIRE_CLAIM, case_id=case_id, expected_version=expected_version))


def request_information(uow: UnitOfWork, command: CaseCommand, question: str) -> Row[Any]:
    """Ask for information; the case keeps its owner, without a lease. Raises FalloutCaseConflict."""
    return _add_note(uow, uow.apply(REQUEST_INFORMATION, command), command, NoteKind.INFORMATION_REQUEST, question)


def receive_information(uow: UnitOfWork, command: CaseCommand, information: str) -> Row[Any]:
    """Add the information; the owner's lease begins anew. Raises FalloutCaseConflict."""
    return _add_note(uow, uow.apply(RECEIVE_INFORMATION, command), command, NoteKind.INFORMATION, information)


def hold(uow: UnitOfWork, command: CaseCommand, reason: str) -> Row[Any]:
    """Put a case on hold, for a reason. Raises FalloutCaseConflict."""
    return _add_note(uow, uow.apply(HOLD, command), command, NoteKind.HOLD, reason)


def resume(uow: UnitOfWork, command: CaseCommand) -> Row[Any]:
    """Go on with a case that is on hold. Raises FalloutCaseConflict."""
    return uow.apply(RESUME, command)


def escalate(uow: UnitOfWork, command: CaseCommand, *, is_unclaimed: bool = False) -> Row[Any]:
    """Pass a late case one level up, with new deadlines; on the highest level it gets more time.

    It is late when nobody has resolved it in time; `is_unclaimed`: when nobody has claimed it in time. Raises NotDue, FalloutCaseConflict.
    """
    return _pass_up(uow, ESCALATE, command, is_unclaimed=is_unclaimed)


def hand_on(uow: UnitOfWork, command: CaseCommand) -> Row[Any]:
    """Pass a case one level up, because a person of its queue wants it. Raises QueueNotYours, FalloutCaseConflict."""
    return _pass_up(uow, HAND_ON, command)


def _pass_up(uow: UnitOfWork, move: Move, command: CaseCommand, **more: Any) -> Row[Any]:
    case = uow.read(FalloutCase, command.case_id)
    times = deadlines(uow, TIME_TO_RESOLVE[Severity(case.severity)])
    escalated = uow.apply(move, command, next_queue=next_queue(case.queue), **times, **more)
    triaging.notify_case(uow, escalated)
    return escalated


def _add_note(uow: UnitOfWork, case: Row[Any], command: CaseCommand, kind: NoteKind, text: str) -> Row[Any]:
    uow.add(FalloutNote, {"case_id": case.id, "kind": kind, "author": command.person, "text": text})
    return case


def _unassign(uow: UnitOfWork, case: Row[Any]) -> Row[Any]:
    assign(uow, case)
    return case


def assign(uow: UnitOfWork, case: Row[Any]) -> None:
    """Assign the user task of a case to the owner of the case."""
    key = cases.resolution_key(uow.tenant_id, case.id)
    owner = {"assignee": case.owner_user_id or ""}
    uow.ask_engine(WorkflowCommandKind.ASSIGN_TASK, cases.USER_TASK, key, owner, messages.CHANGE_MATTERS)


def expired_claims(connection: Connection, limit: int) -> list[Row[Any]]:
    """Cases whose owner's lease has run out, and that no reconciler has leased: in turns between tenants, the longest first."""
    query = select(*CASE.c).where(CASE.c.claim_expires_at <= NOW, is_free("case", CASE))
    groups = Groups(by=(CASE.c.tenant_id,), among="status = 'IN_PROGRESS'")
    return list(connection.execute(select(fairly(query, groups, CASE.c.claim_expires_at, limit))))


def cases_of_processes(connection: Connection, process_instance_ids: Collection[str]) -> list[Row[Any]]:
    """The unresolved cases of these processes that no reconciler has leased and whose assignment is not on its way to the engine."""
    is_on_its_way = exists(
        select(COMMAND.c.id).where(
            COMMAND.c.tenant_id == INSTANCE.c.tenant_id,
            COMMAND.c.business_key == INSTANCE.c.business_key,
            COMMAND.c.kind == WorkflowCommandKind.ASSIGN_TASK,
            COMMAND.c.status == WorkflowCommandStatus.PENDING,
        )
    )
    query = (
        select(*CASE.c, INSTANCE.c.process_instance_id)
        .join(INSTANCE, and_(INSTANCE.c.tenant_id == CASE.c.tenant_id, INSTANCE.c.subject_id == CASE.c.id))
        .where(INSTANCE.c.process_instance_id.in_(list(process_instance_ids)), ~is_on_its_way)
        .where(is_one_of(CASE.c.status, *cases.UNRESOLVED), is_free("assignee", CASE))
    )
    return list(connection.execute(query))
