"""The sweep asks about unknown steps while a real provider calls back through the real HTTP edge (race 16)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from domain.delivery.starting import StartedStep
from domain.delivery.steps import StepObsolete
from tests.faults.test_unknown_steps import sweeping
from tests.support.http import CALLBACK_SECRET, PROVIDER, Api
from tests.support.offers import Offers
from tests.support.reconciling import OnlyAsked, all_are_due, cases, history, request_of, status, time_out
from tests.support.waiting import eventually
from workers.providers.http_provider import HttpProvider
from workers.providers.port import ProviderReply
from workers.sandbox.provider import SandboxProvider

RESERVE = "RESERVE_INVENTORY"
BEFORE, AFTER = "before the question", "after the answer"


@pytest.fixture
def sandbox(api: Api, tmp_path: Path) -> Iterator[SandboxProvider]:
    """A provider that answers this step at once, and calls the edge back when a test asks for it."""
    address = f"{str(api.client.base_url).rstrip('/')}/callbacks/{PROVIDER}"
    with SandboxProvider(tmp_path, address, CALLBACK_SECRET, callback_latency=timedelta(0)) as sandbox:
        yield sandbox


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Steps of unknown outcome, and their provider: the requests of some have arrived there, those of the others are on their way."""

    sandbox: SandboxProvider
    provider: HttpProvider
    started: dict[str, StartedStep]

    def entry(self, key: str) -> dict[str, Any]:
        return next((dict(entry) for entry in self.sandbox.ledger.entries() if entry["idempotencyKey"] == key), {})

    def complete(self, key: str) -> None:
        """The request arrives, if it has not, and the provider's callback is received."""
        if not self.entry(key):
            self.provider.execute(request_of(self.started[key]))
        self.sandbox.ledger.say(key, "step.completed")
        eventually(lambda: self.entry(key)["callbacks"] == 1, f"the callback about {key} is received")


@pytest.fixture
def world(offers: Offers, sandbox: SandboxProvider) -> Iterator[World]:
    with HttpProvider(sandbox.url, "token") as provider:
        started = [offers.start_step(offers.running_order().steps[RESERVE]) for _ in range(4)]
        for number, one in enumerate(started):
            if number % 2:
                provider.execute(request_of(one))
            time_out(offers, one)
        yield World(sandbox=sandbox, provider=provider, started={one.idempotency_key: one for one in started})


@dataclass(frozen=True, slots=True)
class Meeting(OnlyAsked):
    """The provider as the sweep asks it. `calls_back`: when it completes what it is asked about."""

    world: World
    calls_back: str
    answered: set[str] = field(default_factory=set)

    def query(self, key: str) -> ProviderReply | None:
        if self.calls_back == BEFORE:
            self.world.complete(key)
        reply = self.world.provider.query(key)
        if self.calls_back == AFTER:
            self.world.complete(key)
        self.answered.add(key)
        return reply


@pytest.mark.parametrize("moment", [BEFORE, AFTER, "after the conclusion"])
def test_unknown_steps_are_settled_while_callbacks_arrive_and_each_has_one_effect(
    offers: Offers, world: World, moment: str
) -> None:
    """Kills: a conclusion "the provider never saw it" that overwrites a completion, or has the step sent again."""
    meeting = Meeting(world, moment)
    steps = sweeping(offers, meeting)
    all_are_due(offers.engine)

    def all_settled() -> bool:
        steps.sweep()
        known = {status(offers, one.step.id) for one in world.started.values()}
        return meeting.answered == world.started.keys() and known <= {"COMPLETED", "RETRYABLE"}

    eventually(all_settled, "the sweep has settled every step")
    steps.sweep()  # acts on an answer that came when its patience was over
    if moment == "after the conclusion":
        for key in world.started:
            world.complete(key)

    for key, one in world.started.items():
        assert history(offers, one.step.id)[-1] == "COMPLETED"
        assert {name: world.entry(key)[name] for name in ("effects", "requests", "callbacks")} == {
            "effects": 1,
            "requests": 1,
            "callbacks": 1,
        }
        with pytest.raises(StepObsolete):
            offers.start_step(one.step.id)
    all_are_due(offers.engine)
    assert (steps.sweep(), cases(offers)) == (0, [])
