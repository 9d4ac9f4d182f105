"""The parts of camunda-external-task-client-python3 that `Engine` uses, private names included: an upgrade that changes them fails here."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from importlib.metadata import version
from typing import Any

import pytest

from tests.support.answering import Reply, Request, answering
from workers.runtime.engine import Engine, TopicRequest
from workers.runtime.variables import encode


def requests_of(calls: Callable[[Engine], object]) -> list[tuple[str, Any]]:
    """The paths and bodies of the requests that the calls send."""
    sent: list[tuple[str, Any]] = []

    def note(request: Request) -> Reply:
        sent.append((request.path, json.loads(request.body)))
        return Reply(body=b"[]") if request.path.endswith("fetchAndLock") else Reply(status=204)

    with (
        answering(note) as address,
        closing(Engine(f"{address}/engine-rest", "worker", "very secret", "q2o-host-0123abcd")) as engine,
    ):
        calls(engine)
    return sent


def test_the_version_is_the_one_that_was_read() -> None:
    assert version("camunda-external-task-client-python3") == "4.5.0"


def test_a_fetch_asks_for_each_topic_as_it_was_declared() -> None:
    topics = [
        TopicRequest(name="a", lock_duration=timedelta(seconds=20), variables=("x", "y")),
        TopicRequest(name="b", lock_duration=timedelta(seconds=60), variables=()),
    ]

    ((path, body),) = requests_of(lambda engine: engine.fetch_and_lock(topics, max_tasks=7, poll=timedelta(seconds=2)))

    assert path == "/engine-rest/external-task/fetchAndLock"
    common = {"processVariables": {}, "includeExtensionProperties": True, "deserializeValues": False}
    assert body == {
        "workerId": "q2o-host-0123abcd",
        "maxTasks": 7,
        "usePriority": True,
        "sorting": [{"sortBy": "createTime", "sortOrder": "asc"}],
        "asyncResponseTimeout": 2000,
        "topics": [
            {"topicName": "a", "lockDuration": 20000, "variables": ["x", "y"], **common},
            {"topicName": "b", "lockDuration": 60000, "variables": [], **common},
        ],
    }


def test_reports_name_the_worker_and_send_every_variable_with_its_type() -> None:
    def report(engine: Engine) -> None:
        engine.complete("1", encode({"price": {"value": 10, "currency": "EUR"}}))
        engine.failure("2", message="m" * 1000, details="d", retries=3, retry_after=timedelta(seconds=1.5))
        engine.bpmn_error("3", code="STALE_PRICE", message="old", variables=encode({"n": 1}))

    worker = {"workerId": "q2o-host-0123abcd"}
    price = {"type": "Json", "value": '{"value":10,"currency":"EUR"}'}
    assert requests_of(report) == [
        ("/engine-rest/external-task/1/complete", {**worker, "variables": {"price": price}, "localVariables": {}}),
        (
            "/engine-rest/external-task/2/failure",
            {**worker, "errorMessage": "m" * 666, "errorDetails": "d", "retries": 3, "retryTimeout": 1500},
        ),
        (
            "/engine-rest/external-task/3/bpmnError",
            {**worker, "errorCode": "STALE_PRICE", "errorMessage": "old", "variables": {"n": {"type": "Integer", "value": 1}}},
        ),
    ]


def test_the_library_logs_neither_credentials_nor_variables(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    requests_of(lambda engine: engine.complete("1", encode({"price": "1234.56"})))

    assert caplog.messages == []
