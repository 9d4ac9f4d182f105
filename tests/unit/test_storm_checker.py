"""The checker of the storm: histories that are right, and one planted lie for each rule."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from tests.faults.storm.checker import Change, Truth, violations
from tests.faults.storm.history import Operation, read

ORDER = "sales_order:1"


def write(
    number: int,
    key: str,
    invoked: float,
    answered: float | None,
    code: int | None = 200,
    *,
    request: str = "POST",
    order: str | None = None,
) -> Operation:
    return Operation(
        number=number,
        client="a",
        request=request,
        key=key,
        invoked=invoked,
        answered=answered,
        code=code,
        body="b",
        order=order,
    )


def accepted(number: int, key: str, order: str) -> Operation:
    return write(number, key, 6, 7, 201, request="POST /quotes/1/acceptances", order=order)


def shown(number: int, version: int, invoked: float, answered: float, status: str | None = None) -> Operation:
    return Operation(
        number=number,
        client="b",
        request="GET",
        invoked=invoked,
        answered=answered,
        code=200,
        aggregate=ORDER,
        version=version,
        status=status,
    )


def change(version: int, key: str | None, status: str = "IN_PROGRESS", reason: str = "start") -> Change:
    return Change(aggregate=ORDER, version=version, status=status, reason=reason, key=key)


TRUTH = Truth(
    changes=[change(1, "k1", "CREATED", "create"), change(2, "k2"), change(3, None, "FULFILLED", "complete")],
    answers={"k1": 201, "k2": 200},
)
RIGHT = [
    write(1, "k1", 0, 1),
    shown(2, 1, 1.5, 4, "CREATED"),
    write(3, "k2", 2, 3),
    shown(4, 2, 3.5, 5, "IN_PROGRESS"),
    shown(5, 3, 3.6, 4, "FULFILLED"),
]


def test_operations_at_the_same_time_may_have_any_order() -> None:
    assert violations(RIGHT, TRUTH) == []


def test_a_command_that_is_sent_twice_under_one_key_is_one_command() -> None:
    assert violations([*RIGHT, write(6, "k2", 6, 7)], TRUTH) == []


def test_acceptances_that_are_answered_with_one_order_are_right() -> None:
    truth = replace(TRUTH, answers={**TRUTH.answers, "k8": 201, "k9": 200})

    assert violations([*RIGHT, accepted(6, "k8", "1"), accepted(7, "k9", "1")], truth) == []


@pytest.mark.parametrize(("order", "told"), [("2", "was answered with 2 orders"), ("2", "order 2, which is not true")])
def test_another_order_in_an_answer_to_an_acceptance_is_found(order: str, told: str) -> None:
    truth = replace(TRUTH, answers={**TRUTH.answers, "k8": 201, "k9": 200})

    found = violations([*RIGHT, accepted(6, "k8", "1"), accepted(7, "k9", order)], truth)

    assert any(told in sentence for sentence in found)


def test_a_refused_command_that_left_nothing_is_right() -> None:
    assert violations([*RIGHT, write(6, "k9", 6, 7, 409)], TRUTH) == []


@pytest.mark.parametrize(
    ("lie", "told"),
    [
        pytest.param(shown(6, 1, 4, 5, "CREATED"), "showed version 1, after", id="a read goes back"),
        pytest.param(shown(6, 1, 3.1, 3.2, "CREATED"), "showed version 1, after", id="a writer does not read its own write"),
        pytest.param(shown(6, 3, 6, 7, "CANCELLED"), "as CANCELLED, which was FULFILLED", id="a read shows another state"),
        pytest.param(shown(6, 9, 6, 7, "FULFILLED"), "which was None", id="a read shows what never was"),
        pytest.param(write(6, "k7", 6, 7), "the truth has no answer under its key", id="an answered write is lost"),
        pytest.param(write(6, "k8", 6, None, None), "never got an answer", id="an unknown command stays unknown"),
        pytest.param(write(6, "k6", 6, 7, 500), "was answered 500", id="an error nobody should see"),
        pytest.param(replace(write(6, "k2", 6, 7), body="c"), "2 different answers", id="one key, two answers"),
    ],
)
def test_a_planted_lie_of_a_client_is_found(lie: Operation, told: str) -> None:
    assert any(told in sentence for sentence in violations([*RIGHT, lie], TRUTH))


@pytest.mark.parametrize(
    ("operation", "changes", "told"),
    [
        pytest.param(write(6, "k9", 6, 7, 409), [change(4, "k9")], "was refused", id="a refused command takes effect"),
        pytest.param(write(6, "k9", 6, 7), [change(4, "k9"), change(5, "k9")], "2 times", id="a command takes effect twice"),
        pytest.param(
            write(6, "k9", 0.1, 0.2), [change(4, "k9")], "wrote version 2, after", id="a later write gets a lower version"
        ),
    ],
)
def test_a_planted_lie_of_the_truth_is_found(operation: Operation, changes: list[Change], told: str) -> None:
    truth = Truth(changes=[*TRUTH.changes, *changes], answers={**TRUTH.answers, "k9": 200})

    assert any(told in sentence for sentence in violations([*RIGHT, operation], truth))


def test_a_history_is_read_as_it_was_written() -> None:
    lines = [
        {"at": 1, "event": "invoked", "op": 1, "client": "a", "request": "POST /orders", "key": "k"},
        {"at": 2, "event": "fault", "kind": "kill relay"},
        {"at": 3, "event": "unknown", "op": 1, "why": "ReadTimeout"},
        {"at": 4, "event": "answered", "op": 1, "code": 201, "body": "b"},
    ]

    found = read(json.dumps(line) for line in lines)

    [operation] = found.operations
    assert (operation.key, operation.unknown, operation.answered, operation.code) == ("k", 1, 4, 201)
    assert [fault["kind"] for fault in found.faults] == ["kill relay"]
