"""The commands that meet at a fallout case: of case workers, of its process, and of the sweep that ends leases."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from domain.delivery import proposing, resolving
from domain.delivery.proposing import AnswerProposal
from domain.delivery.resolving import Resolution, ResolveCase
from domain.fallout import casework
from domain.fallout.casework import CaseCommand
from domain.store import UnitOfWork
from tests.races.explorer.delivery_commands import ENGINE, SWEEP, delivery
from tests.races.explorer.delivery_scenes import FIRST_STEP, Delivery
from tests.races.explorer.registry import OK
from tests.support.fulfilment import REPAIR, ROLES
from tests.support.offers import ANNA, BERT, MONA


def on_case(scene: Delivery, person: str) -> CaseCommand:
    """A command that names the case in the version that the scene shows."""
    assert scene.case is not None
    return CaseCommand(case_id=scene.case.id, expected_version=scene.case.version, person=person, roles=ROLES[person])


@delivery("claim", "step held", "case claimed", "case left", actor=ANNA)
def claim(scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    casework.claim(uow, on_case(scene, (BERT, ANNA)[rank]))
    return OK


@delivery("the lease runs out", "case left", actor=SWEEP)
def expire_claim(scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    assert scene.case is not None
    casework.expire_claim(uow, scene.case.id, scene.case.version)
    return OK


@delivery("escalate the case", "step held", "case claimed", "case waiting", "case on hold", actor=ENGINE)
def escalate_case(scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    casework.escalate(uow, on_case(scene, BERT))
    return OK


CASEWORK: dict[str, tuple[Callable[..., Any], tuple[str, ...], tuple[str, ...]]] = {
    "give the case back": (casework.release, ("case claimed", "case left"), ()),
    "ask for information": (casework.request_information, ("case claimed",), ("Which?",)),
    "answer the question": (casework.receive_information, ("case waiting",), ("This.",)),
    "put the case aside": (casework.hold, ("case claimed",), ("later",)),
    "take the case up again": (casework.resume, ("case on hold",), ()),
}


def do(act: Callable[..., Any], arguments: tuple[str, ...], scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    act(uow, on_case(scene, ANNA), *arguments)
    return OK


for name, (act, where, arguments) in CASEWORK.items():
    delivery(name, *where, actor=ANNA)(partial(do, act, arguments))


@delivery("hand the case on", "step held", "case claimed", actor=ANNA)
def hand_on(scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    casework.hand_on(uow, on_case(scene, ANNA))
    return OK


@delivery("propose that it is done", "case claimed", actor=ANNA, checks=("fallout_case.propose",))
def propose(scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    proposing.propose(uow, decided(scene, Resolution.MARK_COMPLETED))
    return OK


@delivery("confirm that it is done", "case proposed", actor=BERT, checks=("fallout_case.confirm",))
def confirm(scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    assert scene.proposal is not None
    seen = on_case(scene, (BERT, MONA)[rank])
    answer = AnswerProposal(
        case_id=seen.case_id,
        expected_version=seen.expected_version,
        person=seen.person,
        roles=seen.roles,
        proposal_id=scene.proposal.id,
        text="seen",
    )
    proposing.confirm(uow, answer)
    return OK


def decided(scene: Delivery, resolution: Resolution) -> ResolveCase:
    """What Anna decides, on what the scene shows."""
    assert scene.case is not None
    step = scene.steps[FIRST_STEP]
    return ResolveCase(
        case_id=scene.case.id,
        expected_version=scene.case.version,
        person=ANNA,
        roles=(*ROLES[ANNA], *ROLES[BERT]),  # some resolutions are for the second level
        resolution=resolution,
        expected_step_version=step.version,
        evidence="seen",
        external_ref="r-1",
        changes=REPAIR if resolution is Resolution.REPAIR_AND_RETRY else (),
    )


def resolve(resolution: Resolution, scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    resolving.resolve(uow, decided(scene, resolution))
    return OK


for name, resolution, scenes in (
    ("let it be tried again", Resolution.RETRY, ("case claimed", "case left")),
    ("repair it", Resolution.REPAIR_AND_RETRY, ("case claimed",)),
    ("cancel the step", Resolution.CANCEL_STEP, ("case claimed",)),
    ("fail the step", Resolution.FAIL_STEP, ("case claimed",)),
    ("skip the step", Resolution.SKIP, ("case claimed",)),
):
    delivery(name, *scenes, actor=ANNA)(partial(resolve, resolution))
