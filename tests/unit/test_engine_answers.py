"""Only the engine's own word is an answer: whatever else comes from in between leaves the outcome of a call unknown."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.support.answering import Reply, answering
from workers.runtime.engine import Engine, EngineOutcomeUnknownError, EngineRefusedError, Resource, TopicRequest

TENANT = UUID(int=7)
SECOND = timedelta(seconds=1)
TOPIC = TopicRequest(name="t", lock_duration=SECOND, variables=())
PAGE = b"<html><body>Bad request</body></html>"

# What needs an answer with content.
ASKING: dict[str, Callable[[Engine], Any]] = {
    "start_process": lambda engine: engine.start_process(TENANT, "p", "k", {}),
    "correlate": lambda engine: engine.correlate(TENANT, "m", "k"),
    "find_instances": lambda engine: engine.find_instances("k"),
    "has_variables": lambda engine: engine.has_variables("i", {"v": "1"}),
    "called_by": lambda engine: engine.called_by("i"),
    "count_unfinished": lambda engine: engine.count_unfinished("p", "%"),
    "evaluate": lambda engine: engine.evaluate(TENANT, "d", {}),
    "evaluate_version": lambda engine: engine.evaluate_version("d:1", {}),
    "decision_definition_id": lambda engine: engine.decision_definition_id("i", "d"),
    "deployment_in_force": lambda engine: engine.deployment_in_force(TENANT, "n"),
    "version": lambda engine: engine.version(),
    "user_tasks": lambda engine: engine.user_tasks("k"),
    "assigned_tasks": lambda engine: engine.assigned_tasks("d", 5),
    "who_completed": lambda engine: engine.who_completed("i", "a"),
    "who_assigned": lambda engine: engine.who_assigned("t"),
    "groups_of": lambda engine: engine.groups_of("u"),
    "ensure_membership": lambda engine: engine.ensure_membership("g", "u"),
    "ensure_authorization": lambda engine: engine.ensure_authorization(Resource.TASK, "*", ["READ"], user_id="u"),
    "ensure_filter": lambda engine: engine.ensure_filter("n", {}),
    "past_instances": lambda engine: engine.past_instances("%"),
    "past_variable": lambda engine: engine.past_variable("i", "v"),
    "work_of": lambda engine: engine.work_of("i"),
    "completions": lambda engine: engine.completions(),
    "incidents": lambda engine: engine.incidents(),
    "may_deploy": lambda engine: engine.may_deploy(),
    "unmet_rules": lambda engine: engine.unmet_rules({}, "p"),
    "grant_exactly": lambda engine: engine.grant_exactly("u", {}),
    "name_of_tenant": lambda engine: engine.name_of_tenant(TENANT),
    "tenants": lambda engine: engine.tenants(),
    "unserved_tenants": lambda engine: engine.unserved_tenants(),
    "ensure_user_in_tenant": lambda engine: engine.ensure_user_in_tenant(TENANT, "u"),
    "fetch_and_lock": lambda engine: engine.fetch_and_lock([TOPIC], max_tasks=1, poll=timedelta()),
    "external_task": lambda engine: engine.external_task("t"),
    "locked_tasks": lambda engine: engine.locked_tasks(),
    "open_tasks": lambda engine: engine.open_tasks("t", 0, 1),
    "running_roots": lambda engine: engine.running_roots(0, 1, started_before=datetime.now(UTC)),
    "ended_from_outside": lambda engine: engine.ended_from_outside(0, 1),
    "instances_by_id": lambda engine: engine.instances_by_id(["i"]),
    "incidents_from": lambda engine: engine.incidents_from(0, 1),
    "incidents_at": lambda engine: engine.incidents_at("i", "a"),
    "deploy": lambda engine: engine.deploy(TENANT, "n", [Path(__file__)]),
}
# What the engine answers with 204 and nothing else.
TELLING: dict[str, Callable[[Engine], Any]] = {
    "complete": lambda engine: engine.complete("t", {}),
    "failure": lambda engine: engine.failure("t", message="m", details="", retries=1, retry_after=SECOND),
    "bpmn_error": lambda engine: engine.bpmn_error("t", code="c", message="m", variables={}),
    "extend_lock": lambda engine: engine.extend_lock("t", SECOND, timeout=SECOND),
    "lock": lambda engine: engine.lock("t", SECOND),
    "unlock": lambda engine: engine.unlock("t"),
    "set_retries": lambda engine: engine.set_retries("t", 1),
    "set_password": lambda engine: engine.set_password("u", "p"),
    "complete_user_task": lambda engine: engine.complete_user_task("t"),
    "assign_user_task": lambda engine: engine.assign_user_task("t", "u"),
    "delete_instance": lambda engine: engine.delete_instance("i", "r"),
}
ERRORS_OF_GATEWAYS: dict[str, dict[str, Any]] = {
    "a problem (RFC 9457)": {"type": "about:blank", "title": "Bad Request", "status": 400},
    "a problem with a message": {"type": "https://gateway.example/no-route", "message": "no route", "code": 17, "status": 404},
    "Spring's": {"timestamp": "2026-01-01T00:00:00.000+00:00", "status": 404, "error": "Not Found", "path": "/engine-rest/message"},
    "WSO2's": {"code": "404", "type": "Status report", "message": "Runtime Error", "description": "no matching resource"},
    "a service of Java's": {"type": "BadRequestException", "message": "no", "status": 400},
    "a code in words": {"type": "ForbiddenException", "message": "no", "code": "E17"},
}
NOBODYS = {
    "a page for people, 400": Reply(status=400, body=PAGE, headers={"Content-Type": "text/html"}),
    "a page for people, 404": Reply(status=404, body=PAGE),
    "another JSON, 404": Reply(status=404, body=b'{"error": "no route"}', headers={"Content-Type": "application/json"}),
    **{
        f"{name}, {body.get('status', 403)}": Reply(status=body.get("status", 403), body=json.dumps(body).encode())
        for name, body in ERRORS_OF_GATEWAYS.items()
    },
    "a list, 400": Reply(status=400, body=b'["type", "message"]'),
    "nothing, 403": Reply(status=403),
    "a page for people, 500": Reply(status=500, body=PAGE),
    "a page for people, 200": Reply(body=PAGE),
    "nothing, 200": Reply(),
    "another JSON, 200": Reply(body=b'{"status": "ok"}'),
    "a word, 200": Reply(body=b'"ok"'),
}
OWN = {"type": "InvalidRequestException", "message": "no such thing", "code": None}


@contextmanager
def engine_that_answers(reply: Reply) -> Iterator[Engine]:
    with answering(lambda _: reply) as address, closing(Engine(f"{address}/engine-rest", "user", "password")) as engine:
        yield engine


@pytest.fixture(scope="module", params=sorted(NOBODYS))
def between(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """An engine behind something that answers by itself."""
    with engine_that_answers(NOBODYS[request.param]) as engine:
        yield engine


@pytest.mark.parametrize("call", sorted(ASKING | TELLING))
def test_what_is_not_the_engines_answer_leaves_the_outcome_unknown(between: Engine, call: str) -> None:
    with pytest.raises(EngineOutcomeUnknownError):
        (ASKING | TELLING)[call](between)


@pytest.mark.parametrize("answer", sorted(set(NOBODYS) - {"another JSON, 200"}))
def test_a_page_is_no_set_of_variables(answer: str) -> None:
    """Any JSON object may be one."""
    with engine_that_answers(NOBODYS[answer]) as engine, pytest.raises(EngineOutcomeUnknownError):
        engine.task_variables("t")


@pytest.mark.parametrize("call", sorted(ASKING))
def test_no_content_is_no_answer_to_a_question(call: str) -> None:
    with engine_that_answers(Reply(status=204)) as engine, pytest.raises(EngineOutcomeUnknownError):
        ASKING[call](engine)


def test_an_error_of_the_engine_without_a_message_is_its_own() -> None:
    own = json.dumps({**OWN, "type": "StackOverflowError", "message": None}).encode()

    with (
        engine_that_answers(Reply(status=500, body=own)) as engine,
        pytest.raises(EngineRefusedError, match="500 StackOverflowError"),
    ):
        engine.start_process(TENANT, "p", "k", {})


@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_the_engines_own_error_is_a_refusal(status: int) -> None:
    with (
        engine_that_answers(Reply(status=status, body=json.dumps(OWN).encode())) as engine,
        pytest.raises(EngineRefusedError) as raised,
    ):
        engine.start_process(TENANT, "p", "k", {})

    assert (raised.value.status, raised.value.kind, raised.value.message) == (status, OWN["type"], OWN["message"])


def test_a_question_that_gets_no_answer_had_no_effect() -> None:
    with answering(lambda _: None) as address, closing(Engine(f"{address}/engine-rest", "user", "password")) as engine:
        with pytest.raises(EngineOutcomeUnknownError, match="no response to GET ") as asked:
            engine.version()
        with pytest.raises(EngineOutcomeUnknownError, match="It may have taken effect: ask before sending it again"):
            engine.start_process(TENANT, "p", "k", {})

    assert "effect" not in str(asked.value)
