"""What cannot be stored is refused at every door by one rule: records of Kafka, variables, answers of providers and of the engine, tokens.

The doors over HTTP stand in `tests/integration/test_http_doors.py`.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from contextlib import closing
from threading import Event
from time import time
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from reconciliation.audit_sources import _record
from tests.support.answering import Reply, answering
from tests.support.unfit import UNFIT, nested
from tests.unit.test_outcomes import fetched
from tests.unit.test_wire import message
from workers.http.problems import UnauthenticatedError
from workers.http.tokens import local_tokens
from workers.kafka.wire import UnreadableMessageError, decode
from workers.pod.contract import Topic
from workers.pod.outcomes import Failed, run_handler
from workers.providers.http_provider import HttpProvider
from workers.providers.port import CancelRequest, ProviderContractError, ProviderError, ProviderOutcomeUnknownError
from workers.runtime.engine import Engine, EngineError, EngineOutcomeUnknownError
from workers.runtime.retries import OutageLog
from workers.tasks.persons import AnswerNotUnderstood, Person

SECRET = "s" * 32
unfit = pytest.mark.parametrize("document", UNFIT.values(), ids=UNFIT)


@unfit
def test_a_record_of_kafka_is_unreadable(document: str) -> None:
    record = message(data={"customerId": "?"}).replace(b'"?"', document.encode())

    with pytest.raises(UnreadableMessageError):
        decode(record)


@unfit
def test_a_record_is_no_event_to_the_audit(document: str) -> None:
    tenant = uuid4()
    value = message(tenantId=str(tenant), data="?").replace(b'"?"', document.encode())

    assert _record(SimpleNamespace(value=lambda: value), tenant) is None  # type: ignore[arg-type]  # all that it reads


@unfit
def test_a_process_variable_is_an_incident_that_names_it(document: str) -> None:
    task = fetched(variables={"facts": {"type": "Json", "value": document}})

    outcome = run_handler(Topic(name="order.decompose", handler=lambda _: {}), task, Event(), OutageLog("database"))

    assert isinstance(outcome, Failed)
    assert (outcome.retries, "'facts'" in outcome.message) == (0, True)


@pytest.mark.parametrize(
    "variable",
    [
        {"type": "String", "value": "a\0"},
        {"type": "String", "value": "\ud83d"},
        {"type": "Date", "value": "yesterday"},
        {"type": "Date", "value": 7},
        {"type": "Bytes", "value": "x"},
    ],
)
def test_a_variable_that_its_type_does_not_allow_is_an_incident_too(variable: dict[str, Any]) -> None:
    outcome = run_handler(
        Topic(name="order.decompose", handler=lambda _: {}), fetched(variables={"facts": variable}), Event(), OutageLog("database")
    )

    assert isinstance(outcome, Failed)
    assert outcome.retries == 0


@pytest.mark.parametrize("text", ["a\0", "\ud83d"])
@pytest.mark.parametrize("read", [Person.text, Person.identifier])
def test_what_a_person_typed_is_not_understood(text: str, read: Callable[[Person, str], str]) -> None:
    person = Person(user_id="rita", task_id="t", roles=(), typed={"reason": {"type": "String", "value": text}}, seen={})

    with pytest.raises(AnswerNotUnderstood, match="reason"):
        read(person, "reason")


def provider_saying(status: int, body: str, ask: Callable[[HttpProvider], object]) -> ProviderError:
    with (
        answering(lambda _: Reply(status=status, body=body.encode())) as address,
        closing(HttpProvider(address, "token")) as provider,
        pytest.raises(ProviderError) as raised,
    ):
        ask(provider)
    return raised.value


@unfit
def test_an_answer_of_a_provider_leaves_the_outcome_unknown(document: str) -> None:
    body = f'{{"status": "COMPLETED", "requestId": "r-1", "externalRef": {document}}}'

    error = provider_saying(200, body, lambda provider: provider.query("key"))

    assert isinstance(error, ProviderOutcomeUnknownError)


def test_the_reason_of_a_provider_for_its_refusal_is_one_line_that_can_be_stored() -> None:
    body = r'{"code": "A", "detail": "no\u0000 such\n thing"}'
    request = CancelRequest(idempotency_key="k", request_key="r", step_ref="s")

    error = provider_saying(400, body, lambda provider: provider.cancel(request))

    assert isinstance(error, ProviderContractError)
    assert "(no such thing)" in str(error)


def engine_saying(status: int, body: str) -> EngineError:
    with (
        answering(lambda _: Reply(status=status, body=body.encode())) as address,
        closing(Engine(f"{address}/engine-rest", "user", "password")) as engine,
        pytest.raises(EngineError) as raised,
    ):
        engine.may_deploy()
    return raised.value


def test_an_answer_of_the_engine_that_is_nested_without_end_is_no_answer() -> None:
    assert isinstance(engine_saying(200, nested(100_000)), EngineOutcomeUnknownError)
    assert isinstance(engine_saying(400, nested(100_000)), EngineOutcomeUnknownError)


def token(claims: str) -> str:
    """A token of the local suite with claims that no library would write."""
    signed = b".".join(_encoded(part) for part in ('{"alg": "HS256", "typ": "JWT"}', claims))
    return b".".join([signed, base64.urlsafe_b64encode(hmac.digest(SECRET.encode(), signed, hashlib.sha256)).rstrip(b"=")]).decode()


def _encoded(part: str) -> bytes:
    return base64.urlsafe_b64encode(part.encode()).rstrip(b"=")


@unfit
@pytest.mark.parametrize("claim", ["exp", "sub", "roles", "region"])
def test_a_token_is_refused(document: str, claim: str) -> None:
    claims = {
        "sub": "rina",
        "tenant": str(uuid4()),
        "roles": [],
        "region": "ID",
        "iat": int(time()),
        "exp": int(time()) + 60,
        claim: "?",
    }

    with pytest.raises(UnauthenticatedError):
        asyncio.run(local_tokens(SECRET)("Bearer " + token(json.dumps(claims).replace('"?"', document))))
