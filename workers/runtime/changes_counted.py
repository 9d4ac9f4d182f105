"""Counts the races that end in a change of state and not in a refusal, by the changes that a command has committed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from domain.delivery.steps import StepEvent, StepStatus
from workers.runtime import metrics

CONTRADICTION = "ContradictionRecorded"
BOTH_SAID = frozenset({(StepEvent.COMPLETE, StepStatus.CANCELLED), (StepEvent.CONFIRM_CANCEL, StepStatus.COMPLETED)})


def count_changes(transitions: Iterable[Mapping[str, Any]]) -> None:
    """Count what the transitions of one committed command tell of."""
    for each in transitions:
        if each["aggregate_type"] == "fulfillment_step":
            _count_step(
                said=each["reason"], known=each["transition_from"], then=each["transition_to"], event=each.get("emitted_event_type")
            )


def _count_step(*, said: str, known: str | None, then: str, event: str | None) -> None:
    if event == CONTRADICTION:
        metrics.CONTRADICTIONS.labels(said, known).inc()
        if (said, known) in BOTH_SAID:
            metrics.CANCEL_COMPLETE_RACES.labels("contradicted").inc()
    elif (said, known, then) == (StepEvent.COMPLETE, StepStatus.CANCEL_REQUESTED, StepStatus.COMPLETED):
        metrics.CANCEL_COMPLETE_RACES.labels("completed").inc()
