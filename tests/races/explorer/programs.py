"""Programs: commands as the edges call them, but without retries, so that a busy database shows as an outcome."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy import Engine as Database

from domain.errors import DomainError, Refusal
from domain.store import Answer, Cause, once, remember, unit_of_work
from tests.races.explorer.actors import Actor, Program
from tests.races.explorer.delivery_scenes import Delivery
from tests.races.explorer.registry import Command
from tests.races.explorer.scenes import AFTER_THE_END, Scene
from tests.races.explorer.stage import Stage

REPLAYED = "replayed"


def command_id(number: int) -> UUID:
    """The id of the number-th actor's command in logs and events."""
    return UUID(int=number + 1)


def program(scene: Scene | Delivery, command: Command, number: int, *, rank: int = 0, key: str | None = None) -> Program:
    """Make one unit of work for the number-th actor."""
    return lambda actor: carry_out(actor.engine, scene, command, number, rank=rank, key=key)


def carry_out(
    database: Database, scene: Scene | Delivery, command: Command, number: int, *, rank: int = 0, key: str | None = None
) -> str:
    """Run a command in one unit of work; returns its word, or the code of its refusal.

    With a key it claims the key, runs the command and stores the answer, as `workers.http.execution` does.
    """
    cause = Cause(
        tenant_id=scene.offers.tenant_id,
        actor=command.actor,
        command=command.name.replace(" ", "-"),
        command_id=command_id(number),
        idempotency_key=key,
    )
    try:
        with unit_of_work(database, cause) as uow:
            if key is None:
                return command.work(scene, uow, rank)
            if once(uow, key, {"rank": rank}) is not None:
                return REPLAYED
            word = command.work(scene, uow, rank)
            remember(uow, key, Answer(status=200, body={"word": word}))
            return word
    except DomainError as error:
        return error.code


def end_of_the_offer(stage: Stage) -> Program:
    """Make a program that only lets time pass, between two statements or while one waits."""

    def carry_out(actor: Actor) -> str:
        actor.gate("the end of the offer passes")
        stage.set_clock(AFTER_THE_END)
        return "passed"

    return carry_out


def refusal_codes() -> frozenset[str]:
    """Every code of a refusal."""

    def codes(kind: type[Refusal]) -> set[str]:
        return {kind.code}.union(*(codes(narrower) for narrower in kind.__subclasses__()))

    return frozenset(codes(Refusal))
