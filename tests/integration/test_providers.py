"""The outcome of a call to the sandbox provider, over real sockets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.answering import Reply, Request, answering
from tests.support.providers import KEY, REQUEST, SHORT
from tests.support.waiting import eventually
from workers.providers.http_provider import HttpProvider
from workers.providers.port import (
    CancelRequest,
    ProviderContractError,
    ProviderOutcomeUnknownError,
    ReplyStatus,
)
from workers.providers.signatures import new_secret
from workers.sandbox.faults import FaultKind
from workers.sandbox.provider import SandboxProvider

CANCELLATION = CancelRequest(idempotency_key=f"{KEY}:CANCEL", request_key=KEY, step_ref=REQUEST.step_ref)


@pytest.fixture
def sandbox(tmp_path: Path) -> Iterator[SandboxProvider]:
    with SandboxProvider(tmp_path, "http://127.0.0.1:9/", new_secret(), callback_latency=timedelta(0)) as sandbox:
        yield sandbox


@pytest.fixture
def provider(sandbox: SandboxProvider) -> Iterator[HttpProvider]:
    with HttpProvider(sandbox.url, "token") as provider:
        yield provider


def test_a_synchronous_step_is_completed_by_the_reply(provider: HttpProvider) -> None:
    reply = provider.execute(REQUEST)

    assert reply.status is ReplyStatus.COMPLETED
    assert reply.request_id is not None
    assert reply.external_ref is not None
    assert provider.query(KEY) == reply


def test_an_asynchronous_step_is_accepted_and_later_found_completed(provider: HttpProvider) -> None:
    reply = provider.execute(replace(REQUEST, step_code="SHIP_ROUTER"))

    assert reply.status is ReplyStatus.ACCEPTED
    found = provider.query(KEY)
    assert found is not None
    assert (found.status, found.request_id) == (ReplyStatus.COMPLETED, reply.request_id)


@pytest.mark.parametrize(("instructions", "sent"), [("Ring twice", {"instructions": "Ring twice"}), (None, {})])
def test_a_request_carries_its_instructions_and_nothing_where_it_has_none(instructions: str | None, sent: dict[str, str]) -> None:
    bodies: list[dict[str, Any]] = []

    def answer(request: Request) -> Reply:
        bodies.append(json.loads(request.body))
        return Reply(status=202, body=b'{"status": "ACCEPTED", "requestId": "r-1"}')

    with answering(answer) as url, HttpProvider(url, "token") as provider:
        provider.execute(replace(REQUEST, instructions=instructions))

    [body] = bodies
    assert {name: value for name, value in body.items() if name == "instructions"} == sent


def test_a_rejection_is_a_reply_with_its_reason(provider: HttpProvider, sandbox: SandboxProvider) -> None:
    sandbox.faults.add(FaultKind.REJECT)

    reply = provider.execute(REQUEST)

    assert reply.status is ReplyStatus.REJECTED
    assert reply.reason
    assert provider.query(KEY) == reply


def test_a_key_that_the_provider_never_saw_is_absent(provider: HttpProvider) -> None:
    assert provider.query(KEY) is None


def test_the_effect_of_a_request_without_a_reply_is_found_by_a_query_and_not_doubled_by_a_repeat(
    provider: HttpProvider, sandbox: SandboxProvider
) -> None:
    sandbox.faults.add(FaultKind.LOSE_ANSWER)

    with pytest.raises(ProviderOutcomeUnknownError):
        provider.execute(REQUEST)

    found = provider.query(KEY)
    assert found is not None
    assert found.status is ReplyStatus.COMPLETED
    assert provider.execute(REQUEST) == found
    assert [(entry["effects"], entry["requests"]) for entry in sandbox.ledger.entries()] == [(1, 2)]


def test_a_reply_after_the_budget_leaves_the_outcome_unknown_and_the_effect_in_place(
    provider: HttpProvider, sandbox: SandboxProvider
) -> None:
    sandbox.faults.add(FaultKind.HOLD_ANSWER, duration=timedelta(hours=1))

    with HttpProvider(sandbox.url, "token", SHORT) as impatient, pytest.raises(ProviderOutcomeUnknownError):
        impatient.execute(REQUEST)

    # The budget may end before the provider has begun.
    found = eventually(lambda: provider.query(KEY), "the provider has acted")
    assert found is not None
    assert found.status is ReplyStatus.COMPLETED


def test_a_key_that_is_used_for_another_request_is_a_fault_of_the_product(provider: HttpProvider) -> None:
    provider.execute(REQUEST)

    with pytest.raises(ProviderContractError, match="409"):
        provider.execute(replace(REQUEST, quantity=2))


@pytest.mark.parametrize("status", [409, 423])
def test_a_conflict_may_be_with_a_copy_of_the_request_that_is_being_carried_out(status: int) -> None:
    """Kills: counting the request as refused, so that a repaired one can be sent beside it."""
    body = b'{"code": "REQUEST_IN_PROGRESS"}'
    with (
        answering(lambda _: Reply(status=status, body=body)) as address,
        HttpProvider(address, "token") as provider,
        pytest.raises(ProviderOutcomeUnknownError),
    ):
        provider.execute(REQUEST)


def test_a_wrong_path_at_the_provider_is_no_proof_of_absence(sandbox: SandboxProvider) -> None:
    with HttpProvider(f"{sandbox.url}/wrong", "token") as provider, pytest.raises(ProviderOutcomeUnknownError):
        provider.query(KEY)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 413])
@pytest.mark.parametrize(
    "body", [b"<html>Bad Request</html>", b"", b'{"message": "no route"}', b'["code"]'], ids=["page", "nothing", "JSON", "list"]
)
def test_a_refusal_that_is_not_in_the_providers_form_proves_nothing(status: int, body: bytes) -> None:
    with (
        answering(lambda _: Reply(status=status, body=body)) as address,
        HttpProvider(address, "token") as provider,
    ):
        with pytest.raises(ProviderOutcomeUnknownError):
            provider.execute(REQUEST)
        with pytest.raises(ProviderOutcomeUnknownError):
            provider.cancel(CANCELLATION)
        with pytest.raises(ProviderOutcomeUnknownError):
            provider.query(KEY)


@pytest.mark.parametrize("status", [200, 202, 204, 422])
@pytest.mark.parametrize(
    "body", [b"<html></html>", b"", b"{}", b'{"status": "DONE"}'], ids=["page", "nothing", "JSON", "another word"]
)
def test_a_success_that_does_not_say_what_was_done_proves_nothing(status: int, body: bytes) -> None:
    with (
        answering(lambda _: Reply(status=status, body=body)) as address,
        HttpProvider(address, "token") as provider,
        pytest.raises(ProviderOutcomeUnknownError),
    ):
        provider.execute(REQUEST)
