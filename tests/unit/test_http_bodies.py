"""Bodies become commands: each member that a client sends reaches the command, under its own name.

mypy refuses a member that a command lacks or needs. It cannot see an optional one that is forgotten, or two of the same type that are swapped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from inspect import isfunction, signature
from typing import Any, get_type_hints
from uuid import UUID

import pytest
from pydantic import BaseModel

from domain.fallout.casework import CaseCommand
from workers.http.document.examples import EXAMPLES
from workers.http.shapes import approval_bodies, bodies, order_bodies, quote_bodies

PARTS: dict[type[BaseModel], Any] = {
    quote_bodies.NewLine: EXAMPLES[quote_bodies.CreateQuoteBody]["lines"][0],
    quote_bodies.ChangedLine: EXAMPLES[quote_bodies.EditQuoteBody]["lines"][0],
    order_bodies.RepairBody: {"field": "quantity", "old": 2, "new": 1},
}
# Text and reference of a case are arguments of plain functions; the entries of a price book are a part of its publication.
WITHOUT_COMMAND = {
    bodies.EmptyBody,
    order_bodies.QuestionBody,
    order_bodies.InformationBody,
    order_bodies.HoldBody,
    quote_bodies.NewEntry,
}
CASE = CaseCommand(case_id=UUID(int=1), expected_version=1, person="anna")

Build = Callable[..., Any]


class Recorded:
    """A body that records which of its members were read."""

    def __init__(self, body: BaseModel) -> None:
        self.body = body
        self.members: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.members.add(name)
        return getattr(self.body, name)


def builders(body: type[BaseModel]) -> Iterator[Build]:
    """The methods of a body that return a command or a part of one."""
    for function in vars(body).values():
        if isfunction(function) and is_dataclass(get_type_hints(function).get("return")):
            yield function


def all_bodies() -> Iterator[type[BaseModel]]:
    modules = (bodies, quote_bodies, approval_bodies, order_bodies)
    found = {each for module in modules for each in vars(module).values() if isinstance(each, type) and issubclass(each, BaseModel)}
    yield from sorted(found - {BaseModel, bodies.Body}, key=lambda body: body.__name__)


BUILDERS = [(body, build) for body in all_bodies() for build in builders(body)]


def command_of(body: type[BaseModel], build: Build) -> tuple[Recorded, Any]:
    recorded = Recorded(body.model_validate({**EXAMPLES, **PARTS}[body]))
    rest = {name: CASE if name == "case" else None for name in signature(build).parameters if name != "self"}
    return recorded, build(recorded, **rest)


def test_every_body_builds_its_command() -> None:
    assert {body for body in all_bodies() if not list(builders(body))} == WITHOUT_COMMAND


@pytest.mark.parametrize(("body", "build"), BUILDERS, ids=lambda value: value.__name__)
def test_every_member_of_a_body_reaches_its_command(body: type[BaseModel], build: Build) -> None:
    recorded, _ = command_of(body, build)

    # The route reads the tenant and the step from `stepRef`.
    assert recorded.members | ({"step_ref"} if body is order_bodies.CallbackBody else set()) == set(body.model_fields)


@pytest.mark.parametrize(("body", "build"), BUILDERS, ids=lambda value: value.__name__)
def test_a_member_keeps_its_value_under_its_name(body: type[BaseModel], build: Build) -> None:
    recorded, command = command_of(body, build)

    for name in {field.name for field in fields(command)} & set(body.model_fields):
        sent, carried = getattr(recorded.body, name), getattr(command, name)
        assert len(carried) == len(sent) if isinstance(sent, list) else carried == sent
