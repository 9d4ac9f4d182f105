"""Queries to providers have a budget: a slow provider does not delay other sweeps, one that is away not the other providers."""

from __future__ import annotations

from itertools import count
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from reconciliation.questions import BUDGET, NEVER_SEEN, NO_REPLY, Questions, key_of_attempt
from tests.support.reconciling import Scripted, unavailable


def rows(*providers: str, has_lookup: bool = True) -> list[Any]:
    return [
        SimpleNamespace(question_id=uuid4(), provider_name=name, has_lookup=has_lookup, idempotency_key=f"{name} {number}")
        for number, name in enumerate(providers)
    ]


def test_questions_beyond_the_budget_are_left_to_the_next_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Scripted(lambda: None)
    each_takes = count(0, BUDGET.total_seconds() * 0.6)
    # The module's own name for the clock. The clock itself also drives the event loop of an edge that runs beside, which would hang.
    monkeypatch.setattr("reconciliation.questions.time", SimpleNamespace(monotonic=lambda: next(each_takes)))

    outcomes = list(Questions({"slow": slow}, key_of_attempt).put(rows("slow", "slow", "slow")))

    assert (len(outcomes), slow.asked) == (1, ["slow 0"])


def test_a_provider_that_is_away_is_asked_once_and_the_others_are_asked_as_usual() -> None:
    away, here = Scripted(unavailable), Scripted(lambda: None)
    asking = Questions({"away": away, "here": here}, key_of_attempt)

    outcomes = [outcome for _, outcome in asking.put(rows("away", "away", "here", "nobody"))]

    assert outcomes == [NO_REPLY, NO_REPLY, NEVER_SEEN, NO_REPLY]
    assert (away.asked, here.asked) == (["away 0"], ["here 2"])


def test_a_provider_without_lookup_is_not_asked() -> None:
    provider = Scripted(lambda: None)

    assert [outcome for _, outcome in Questions({"p": provider}, key_of_attempt).put(rows("p", has_lookup=False))] == [NO_REPLY]
    assert provider.asked == []
