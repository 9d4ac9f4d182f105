"""Requests as schemathesis makes them up from the OpenAPI document, the same ones in every run."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation import GenerationMode
from schemathesis.generation.case import Case
from schemathesis.schemas import APIOperation

BATCH = 20


class MadeUp:
    """Gives one request after the other, made a batch at a time."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, GenerationMode], list[Case[Any]]] = {}
        self._batches = 0

    def one(self, operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode) -> Case[Any]:
        kept = self._kept.setdefault((operation.label, mode), [])
        if not kept:
            kept.extend(self._make(operation, mode))
        return kept.pop()

    def _make(self, operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode) -> list[Case[Any]]:
        made: list[Case[Any]] = []
        self._batches += 1

        @seed(self._batches)
        @settings(
            max_examples=BATCH,
            database=None,
            derandomize=False,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode))
        def keep(case: Case[Any]) -> None:
            made.append(case)

        try:
            keep()
        except Unsatisfiable:  # a request without any part cannot be spoilt
            return [operation.Case()] * BATCH
        return made


def same_again(case: Case[Any]) -> Case[Any]:
    """The same request, without its history."""
    parts = {"path_parameters": case.path_parameters, "headers": case.headers, "query": case.query}
    given = {name: dict(part) for name, part in parts.items() if part}
    same: Case[Any] = case.operation.Case(body=case.body, media_type=case.media_type, **given)
    return same


def is_spoilt(case: Case[Any]) -> bool:
    """Whether the body was made invalid."""
    part = case.meta.components.get(ParameterLocation.BODY) if case.meta else None
    return part is not None and part.mode is GenerationMode.NEGATIVE
