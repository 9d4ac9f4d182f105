"""A topic is declared once: the check, the page and the pod follow from its handler."""

from __future__ import annotations

import json
from typing import Any, cast
from uuid import uuid4

import pytest

from domain.workflows.keys import BusinessKey, Kind, parse
from tests.support.external_tasks import task_of
from tests.support.rendering import MODELS
from tests.support.topics_page import PAGE, page
from workers.pod.contract import Task
from workers.tasks.contracts import contracts_of, topic, topics_of
from workers.tasks.subjects import Subjects
from workers.tasks.topics import CONTRACTS, topics


class Twice:
    @topic("order.decompose", Kind.ORDER)
    def first(self, _: Task, __: BusinessKey) -> dict[str, Any]:
        return {}

    @topic("order.decompose", Kind.ORDER)
    def second(self, _: Task, __: BusinessKey) -> dict[str, Any]:
        return {}


class Beating:
    def __init__(self) -> None:
        self.signs: list[BusinessKey] = []

    def heartbeat(self, _: Task, key: BusinessKey) -> None:
        self.signs.append(key)

    @topic("order.decompose", Kind.ORDER, reads=("priority",), errors=("ORDER_INVALID",), heartbeat=heartbeat)
    def decompose(self, _: Task, key: BusinessKey) -> dict[str, Any]:
        return {"steps": [str(key.id)]}


class Known:
    """Every instance is known, whatever it acts for."""

    def of(self, task: Task, _: object) -> BusinessKey:
        return parse(task.business_key)


ORDER_ID = uuid4()
KEY = BusinessKey(Kind.ORDER, uuid4(), (ORDER_ID,))


def a_task() -> Task:
    return task_of(KEY, "order.decompose")


def test_the_pod_runs_every_topic_that_the_check_compares() -> None:
    unused: Any = None

    class Settings:
        attempt_stale_after = None

    running = topics(unused, unused, {}, Settings())  # type: ignore[arg-type]  # the one setting that the handlers keep

    assert {name: (each.variables, each.errors) for name, each in running.items()} == {
        name: (contract.variables, contract.errors) for name, contract in CONTRACTS.items()
    }


def test_a_handler_is_run_with_the_heartbeat_that_it_declares() -> None:
    handlers = Beating()
    declared = topics_of([handlers], cast("Subjects", Known()))["order.decompose"]

    assert declared.heartbeat is not None
    declared.heartbeat(a_task())

    assert declared.handler(a_task()) == {"steps": [str(ORDER_ID)]}
    assert (declared.variables, declared.errors) == (("priority",), ("ORDER_INVALID",))
    assert handlers.signs == [KEY]


FORMS = {
    "approval.record-decision": "approve-quote",
    "approval.escalate-requirement": "approve-quote",
    "approval.extend-deadline": "approve-quote",
    "cancellation.record-decision": "assess-cancellation",
    "fallout.apply-resolution": "resolve-fallout",
    "fallout.confirm-resolution": "confirm-resolution",
}
"""The form that a person has filled in, by the handler of what they decided."""
HINTS = {
    ("workflow.register", "startToken"): "the domain compares it with the token of its own start, and refuses any other",
}
"""Why a handler may read a variable, although whoever completes a user task can write it."""


def asked(form: str) -> set[str]:
    """What a form asks a person for."""
    fields = json.loads((MODELS / "forms" / f"{form}.form").read_text(encoding="utf-8"))["components"]
    return {each["key"] for each in fields if "key" in each}


def test_a_handler_reads_no_variable_without_a_reason() -> None:
    read = {(name, variable) for name, contract in CONTRACTS.items() for variable in contract.variables}

    assert read == set(HINTS)


def test_what_a_handler_asks_the_history_for_is_what_its_form_asks_a_person_for() -> None:
    answers = {name: set(contract.answers) for name, contract in CONTRACTS.items() if contract.answers}

    assert answers == {name: asked(form) for name, form in FORMS.items()}


def test_two_handlers_of_one_topic_are_refused() -> None:
    with pytest.raises(ValueError, match=r"two handlers declare the topic 'order\.decompose'"):
        contracts_of(Twice)


def test_the_page_of_topics_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make topics`"
