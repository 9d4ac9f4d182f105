"""The commands that meet while an order is delivered: of workers, providers, customers, case workers and reconciliation.

Each command uses the versions of its scene; an evaluation is a command of its own, as in the product.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from sqlalchemy import select

from domain.delivery import cancelling, compensating, decomposing, evaluating, fulfilling, holding, jeopardy, starting, troubles
from domain.delivery.attempts import AttemptCommand, AttemptStatus, ProviderAttempt
from domain.delivery.fulfilling import Infer, OutcomeSource, RecordFact
from domain.delivery.jeopardy import JeopardyLevel
from domain.delivery.starting import StartStep
from domain.delivery.steps import StepEvent, StepStatus
from domain.fallout import triaging
from domain.store import UnitOfWork, table_of
from tests.races.explorer.delivery_scenes import FIRST_STEP, Delivery
from tests.races.explorer.registry import COMMANDS, OK, Command
from tests.support.fulfilment import ROLES
from tests.support.offers import CUSTOMER, FELIX

ORDER = frozenset({"order"})
PROVIDER, WORKER, SWEEP, ENGINE = "provider:sandbox", "worker-1", "reconciliation", "order-fulfillment"
Work = Callable[[Delivery, UnitOfWork, int], str]


def delivery(
    name: str, *scenes: str, actor: str = WORKER, has_key: bool = False, checks: tuple[str, ...] = ()
) -> Callable[[Work], Work]:
    """Register a command for the scenes in which it can succeed."""

    def register(work: Work) -> Work:
        COMMANDS[name] = Command(
            name=name,
            work=work,
            states=frozenset(scenes),
            touches=ORDER,
            actor=actor,
            has_key=has_key,
            checks=frozenset(checks),
        )
        return work

    return register


class Word(NamedTuple):
    """A fact that a provider can report, and the scenes in which it can."""

    event: StepEvent
    scenes: tuple[str, ...]
    ref: str | None = None
    step: str = FIRST_STEP


def say(word: Word, scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    """A provider reports a fact about a step."""
    fact = RecordFact(step_id=scene.steps[word.step].id, event=word.event, source=OutcomeSource.CALLBACK, external_ref=word.ref)
    effect, _ = fulfilling.record_fact(uow, fact)
    return f"{OK} {effect}"


WORDS: dict[str, Word] = {
    "accepted": Word(StepEvent.ACKNOWLEDGE, ("step unknown", "step retryable", "order planned")),
    "completed": Word(
        StepEvent.COMPLETE,
        (
            *("order planned", "step under way", "last steps", "step unknown", "step retryable", "cancellation asked"),
            *("step being cancelled", "step held", "case claimed", "case proposed", "case resolved"),
            *("cancellation of what is held", "cancellation of what is sent again", "step to be cancelled"),
        ),
        ref="r-1",
    ),
    "completed otherwise": Word(StepEvent.COMPLETE, ("step contradicted",), ref="r-2"),
    "B completed": Word(StepEvent.COMPLETE, ("last steps",), ref="r-b", step="B"),
    "undo completed": Word(StepEvent.COMPLETE, ("step being undone",), step="undo A"),
    "undo rejected": Word(StepEvent.FAIL_FINALLY, ("step being undone",), step="undo A"),
    "rejected": Word(
        StepEvent.FAIL_FINALLY,
        ("step under way", "last steps", "step unknown", "cancellation asked", "step being cancelled"),
    ),
    "not sent": Word(StepEvent.FAIL_WITHOUT_EFFECT, ("step under way",)),
    "cancelled": Word(
        StepEvent.CONFIRM_CANCEL, ("step under way", "step to be cancelled", "step being cancelled", "step to be undone")
    ),
    "cancellation refused": Word(StepEvent.REFUSE_CANCEL, ("step to be cancelled", "step being cancelled")),
}
for name, word in WORDS.items():
    delivery(name, *word.scenes, actor=PROVIDER)(partial(say, word))


def conclude(event: StepEvent, scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    step = scene.steps[FIRST_STEP]
    fulfilling.infer(uow, Infer(step_id=step.id, expected_version=step.version, event=event, source=OutcomeSource.RECONCILIATION))
    return OK


for name, event, scenes in (
    ("time out", StepEvent.TIME_OUT, ("step under way",)),
    ("find absent", StepEvent.FIND_ABSENT, ("step unknown", "step being cancelled")),
    ("find unclear", StepEvent.FIND_UNCLEAR, ("step unknown", "step being cancelled")),
):
    delivery(name, *scenes, actor=SWEEP)(partial(conclude, event))


@delivery("decompose", "order accepted", "order of what is not sold any more", actor=ENGINE)
def decompose(scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    result = decomposing.decompose(uow, scene.order.id)
    return f"{OK} {'rejected' if result.rejection else len(result.steps)}"


@delivery(
    "evaluate",
    *(
        "step under way",
        "last steps",
        "all done",
        "all failed",
        "some failed",
        "cancellation asked",
        "step to be cancelled",
        "step being cancelled",
    ),
    *("step contradicted", "step to be undone", "step being undone", "step undone", "undo failed", "step held", "order blocked"),
    *("order unblocked", "case claimed", "case resolved", "case proven right"),
    actor="evaluation",
)
def evaluate(scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    return f"{OK} {evaluating.evaluate(uow, scene.order.id)}"


def starting_of(step: str, scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    row = scene.steps[step]
    command = StartStep(step_id=row.id, expected_version=row.version, worker_id=f"worker-{rank + 1}", external_task_id=None)
    starting.start_step(uow, command)
    return OK


delivery("start", "order planned", "step retryable", "case resolved", checks=("sales_order.running",))(
    partial(starting_of, FIRST_STEP)
)
delivery("start B", "step under way", "cancellation asked", "step held", checks=("sales_order.running",))(partial(starting_of, "B"))


@delivery("give up trying", "step retryable", "step unknown")
def give_up_trying(scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    return f"{OK} {holding.hold(uow, scene.steps[FIRST_STEP].id, 'ATTEMPTS_EXHAUSTED').status}"


@delivery(
    "ask to cancel",
    *("order accepted", "order planned", "step under way", "last steps", "all done", "step unknown", "step retryable"),
    *("cancellation asked", "step held", "order blocked", "case claimed"),
    actor=CUSTOMER,
    has_key=True,
)
def ask_to_cancel(scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    order = scene.order
    command = cancelling.RequestCancellation(
        order_id=order.id,
        expected_version=order.version,
        expected_status=order.status,
        reason=("CHANGED_MIND", "TOO_LATE")[rank],
        requested_by=CUSTOMER,
    )
    cancelling.request(uow, command)
    return OK


def decide_cancellation(scene: Delivery, uow: UnitOfWork, rank: int, *, accept: bool) -> str:
    assert scene.request is not None
    command = cancelling.DecideCancellation(
        cancellation_id=scene.request.id, accept=accept, reason="POLICY", decided_by=("policy", "mona")[rank]
    )
    return f"{OK} {cancelling.decide(uow, command).status}"


delivery(
    "accept the cancellation",
    *("cancellation asked", "cancellation of what is held", "cancellation of what is sent again"),
    actor="policy",
)(partial(decide_cancellation, accept=True))
delivery("decline the cancellation", "cancellation asked", actor="policy")(partial(decide_cancellation, accept=False))


@delivery("assess the cancellation", "cancellation asked", actor="policy")
def assess_cancellation(scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    assert scene.request is not None
    return f"{OK} {cancelling.assess(uow, scene.request.id).request.status}"


@delivery("decide on the cancellation", "cancellation asked", actor=FELIX, checks=("cancellation_request.decide",))
def decide_as_person(scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    assert scene.request is not None
    command = cancelling.AssessCancellation(
        cancellation_id=scene.request.id,
        expected_version=scene.request.version,
        accept=rank == 0,
        reason="AFTER_A_CALL",
        decided_by=FELIX,
        roles=ROLES[FELIX],
    )
    return f"{OK} {cancelling.decide_by_person(uow, command).status}"


@delivery("send the cancellation", "step to be cancelled", checks=("fulfillment_step.cancellable",))
def send_cancellation(scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    row = scene.steps[FIRST_STEP]
    command = StartStep(step_id=row.id, expected_version=row.version, worker_id=f"worker-{rank + 1}", external_task_id=None)
    starting.start_cancellation(uow, command)
    return OK


@delivery("the cancellation never arrived", "step being cancelled", actor=SWEEP)
def cancellation_absent(scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    attempt = table_of(ProviderAttempt)
    sent = uow.connection.execute(
        select(attempt.c.id).filter_by(command=AttemptCommand.CANCEL, step_id=scene.steps[FIRST_STEP].id)
    ).scalar_one()
    return f"{OK} {starting.record_cancellation_status(uow, sent, AttemptStatus.ABSENT)}"


def settle(scene: Delivery, uow: UnitOfWork, rank: int, *, in_effect: bool) -> str:
    assert scene.contradiction is not None
    return f"{OK} {compensating.settle_contradiction(uow, scene.contradiction.id, in_effect=in_effect)}"


delivery("the effect is there", "step contradicted", actor=SWEEP)(partial(settle, in_effect=True))
delivery("the effect is gone", "step contradicted", actor=SWEEP)(partial(settle, in_effect=False))


@delivery("leave it to a person", "step contradicted", actor=SWEEP)
def leave_to_a_person(scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    assert scene.contradiction is not None
    return f"{OK} {compensating.leave_to_a_person(uow, scene.contradiction.id)}"


@delivery("open a case", "step held", "case claimed", "case resolved")
def open_case(scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    step = holding.hold(uow, scene.steps[FIRST_STEP].id, "ATTEMPTS_EXHAUSTED")
    return (
        f"{OK} {triaging.open_case(uow, troubles.of_held_step(step)).status}"
        if step.status == StepStatus.HELD
        else f"{OK} {step.status}"
    )


@delivery("warn", "step under way", actor=ENGINE)
def warn(scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    return OK if jeopardy.raise_alert(uow, scene.order.id, JeopardyLevel.HAZARD) else f"{OK} warned"
