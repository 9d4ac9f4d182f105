"""The demo's client repeats a command whose answer is lost, under the same key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest
from tenacity import wait_none

from tests.support.edge_answers import SECRET, URL, answer_with
from workers.demo import api as module
from workers.demo.api import Api, UnexpectedAnswerError

LOST = httpx.ReadError("Connection reset by peer")


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Repeat without a wait."""
    monkeypatch.setattr(module, "UNTIL_ANSWERED", module.UNTIL_ANSWERED.copy(wait=wait_none()))


def client(http: httpx.Client) -> Api:
    api = Api(URL, SECRET, uuid4())
    api.close()
    api._http = http
    return api


def test_a_command_without_an_answer_is_sent_again_under_its_key() -> None:
    requests, http = answer_with(LOST, httpx.Response(201, json={"quoteId": "q"}))

    assert client(http).create("C-1", "0") == {"quoteId": "q"}

    first, second = (request.headers["Idempotency-Key"] for request in requests)
    assert first == second


@pytest.mark.parametrize("ask", [lambda api: api.get("/quotes"), lambda api: api.create("C-1", "0")], ids=["a read", "a command"])
def test_an_edge_that_never_answers_is_an_unexpected_answer(ask: Callable[[Api], Any]) -> None:
    requests, http = answer_with(LOST)

    with pytest.raises(UnexpectedAnswerError, match=r"no answer to .* /quotes: Connection reset by peer"):
        ask(client(http))

    assert len(requests) == 3


def test_a_read_that_is_refused_is_an_unexpected_answer() -> None:
    _, http = answer_with(httpx.Response(503, text="busy"))

    with pytest.raises(UnexpectedAnswerError, match="503 to GET /quotes: busy"):
        client(http).get("/quotes")
