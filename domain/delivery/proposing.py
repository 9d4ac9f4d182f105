"""Resolutions that two people answer for: the first proposes, the second confirms exactly that, and it is carried out in the first one's name.

A proposal is kept as it was made, and holds while its case stays as it was (docs/domain.md#fallout).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Row, Text, Uuid, exists, func, literal, select

from domain.delivery import resolving
from domain.delivery.repairing import RepairNotFitting
from domain.delivery.resolving import NOTE, PROPOSAL, Resolution, ResolveCase
from domain.errors import Conflict, Forbidden
from domain.fallout import triaging
from domain.fallout.cases import LADDER, FalloutCase, FalloutNote, NoteKind, Queue, ResolutionProposal
from domain.fallout.casework import (
    EXPECTED_VERSION,
    HIGH_ENOUGH,
    IN_MY_QUEUE,
    MINE,
    OF_THIS_PROCESS,
    CaseCommand,
    QueueNotYours,
    ResolutionNeedsAuthority,
    level_of,
    works_at,
)
from domain.store import Check, Guard, UnitOfWork, param


class StaleProposal(Conflict):
    """This was proposed about another state of the case, or was declined, or its proposer may not decide it any more."""

    aggregate = "fallout_case"


class ConfirmationNotYours(Forbidden):
    """A second person works on the second level at least, and in the queue of the case: that needs its role, and an authority grant for it."""


class OwnProposal(Forbidden):
    """A second person must confirm it: you have proposed it yourself."""


# What a second person has declined stays declined.
DECLINED = exists(
    select(FalloutNote.id).where(
        FalloutNote.tenant_id == FalloutCase.tenant_id,
        FalloutNote.proposal_id == param("proposal_id", Uuid()),
        FalloutNote.kind == NoteKind.DECLINED,
    )
)
# Whoever confirms stands on the second level at least, and on that of the case's queue.
SECOND_LEVEL = func.greatest(level_of(FalloutCase.queue), level_of(literal(str(Queue.SECOND_LEVEL))))
PROPOSE = Check(FalloutCase, "propose", OF_THIS_PROCESS, IN_MY_QUEUE, HIGH_ENOUGH, EXPECTED_VERSION, MINE)
CONFIRM = Check(
    FalloutCase,
    "confirm",
    OF_THIS_PROCESS,
    Guard(ConfirmationNotYours, works_at(SECOND_LEVEL)),
    EXPECTED_VERSION,
    Guard(StaleProposal, FalloutCase.id == param("proposed_case_id", Uuid())),
    Guard(StaleProposal, FalloutCase.version == param("case_version", BigInteger())),
    Guard(StaleProposal, ~DECLINED),
    Guard(OwnProposal, param("person", Text()) != param("proposed_by", Text())),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerProposal(CaseCommand):
    """What a second person says about a proposal, having seen its case at this version."""

    proposal_id: UUID
    text: str


def propose(uow: UnitOfWork, command: ResolveCase) -> UUID:
    """Keep a resolution for a second person to confirm; returns the id of the proposal. The case stays as it is.

    Over HTTP the case's process is told, so that it asks a second person; from Tasklist the process goes on by itself.

    Raises EvidenceMissing, ResolutionNeedsAuthority, QueueNotYours, FalloutCaseConflict.
    """
    resolving.must_be_complete(command)
    if command.changes:
        raise RepairNotFitting("A repair needs no second person: resolve the case with it.")
    case = uow.require(PROPOSE, command)
    [proposal_id] = uow.add(
        ResolutionProposal,
        {
            "case_id": case.id,
            "case_version": case.version,
            "step_version": command.expected_step_version,
            "resolution": command.resolution,
            "external_ref": command.external_ref,
            "evidence": command.evidence,
            "proposed_by": command.person,
            "roles": list(command.roles),
            "shown_form_id": command.shown_form_id,
        },
    )
    _tell(uow, case, command)
    return proposal_id


def confirmers(case: Row[Any]) -> tuple[Queue, ...]:
    """Who may confirm a proposal about a case, by their role: see `CONFIRM`."""
    return LADDER[max(LADDER.index(Queue(case.queue)), LADDER.index(Queue.SECOND_LEVEL)) :]


def last_proposal(uow: UnitOfWork, case: Row[Any]) -> Row[Any] | None:
    """The newest proposal that still holds for a case; None when there is none."""
    declined = exists().where(
        NOTE.c.tenant_id == PROPOSAL.c.tenant_id, NOTE.c.proposal_id == PROPOSAL.c.id, NOTE.c.kind == NoteKind.DECLINED
    )
    query = select(*PROPOSAL.c).filter_by(tenant_id=uow.tenant_id, case_id=case.id, case_version=case.version).where(~declined)
    return uow.connection.execute(query.order_by(PROPOSAL.c.created_at.desc()).limit(1)).one_or_none()


def confirm(uow: UnitOfWork, command: AnswerProposal) -> Row[Any]:
    """Confirm a proposal as the second person, and carry it out in the name of the first; returns the case.

    Raises ConfirmationNotYours, FalloutCaseConflict, StaleProposal, OwnProposal, and the refusals of `resolving.resolve`.
    """
    resolving.lock_delivery(uow, uow.read(FalloutCase, command.case_id))
    proposal = uow.read(ResolutionProposal, command.proposal_id)
    _answer(uow, command, proposal, NoteKind.CONFIRMATION, external_ref=proposal.external_ref)
    of_the_first = ResolveCase(
        case_id=proposal.case_id,
        expected_version=proposal.case_version,
        person=proposal.proposed_by,
        roles=proposal.roles,
        resolution=Resolution(proposal.resolution),
        expected_step_version=proposal.step_version,
        external_ref=proposal.external_ref,
        evidence=proposal.evidence,
        shown_form_id=proposal.shown_form_id,
    )
    try:
        return resolving.resolve(uow, of_the_first)
    except (QueueNotYours, ResolutionNeedsAuthority) as refusal:
        raise StaleProposal(f"{proposal.proposed_by} may not decide this any more: propose it again.") from refusal


def decline(uow: UnitOfWork, command: AnswerProposal) -> None:
    """Do not confirm a proposal; the case keeps the reason. Raises ConfirmationNotYours, FalloutCaseConflict, StaleProposal, OwnProposal."""
    _answer(uow, command, uow.read(ResolutionProposal, command.proposal_id), NoteKind.DECLINED)
    _tell(uow, uow.read(FalloutCase, command.case_id), command)


def _answer(uow: UnitOfWork, command: AnswerProposal, proposal: Row[Any], kind: NoteKind, **more: Any) -> None:
    of_proposal = {name: getattr(proposal, name) for name in ("case_version", "proposed_by")}
    uow.require(CONFIRM, command, proposed_case_id=proposal.case_id, **of_proposal)
    note = {"case_id": proposal.case_id, "kind": kind, "author": command.person, "text": command.text, "proposal_id": proposal.id}
    uow.add(FalloutNote, {**note, **more})


def _tell(uow: UnitOfWork, case: Row[Any], command: CaseCommand) -> None:
    if command.process_instance_id is None:
        triaging.notify_case(uow, case)
