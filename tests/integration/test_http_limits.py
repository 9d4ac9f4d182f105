"""Limits for the size and the time of a body, and for the requests of a tenant (OWASP API4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import timedelta
from threading import Thread
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from starlette.types import Message, Scope

from tests.support.http import completed, is_problem, new_quote, serving
from tests.support.offers import OWNER, Offers
from tests.support.raw import connected, head, rest, trickle
from workers.http.auth import Principal, Role
from workers.http.limits import Limits, RateLimit, Rates
from workers.http.problems import TooManyRequestsError
from workers.http.routes.callbacks import LARGEST_CALLBACK_BYTES


class TestSlowBodies:
    """A body that is announced and does not arrive, or arrives byte by byte, is answered by 408, and the connection is closed."""

    HASTY = Limits(body_time=timedelta(milliseconds=200))

    def test_a_body_that_does_not_arrive_is_given_up(self, offers: Offers) -> None:
        with serving(offers.engine, offers.tenant_id, self.HASTY) as api, connected(api) as connection:
            connection.sendall(head(api, "Content-Length: 100") + b'{"customerId"')

            answer = rest(connection)

        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"connection: close" in answer.lower()
        assert b'"code":"BODY_TOO_SLOW"' in answer

    def test_a_body_that_arrives_byte_by_byte_is_given_up(self, offers: Offers) -> None:
        with serving(offers.engine, offers.tenant_id, self.HASTY) as api, connected(api) as connection:
            connection.sendall(head(api, "Content-Length: 1000000"))
            answer = trickle(connection, b" ", 10**6)

        assert answer.startswith(b"HTTP/1.1 408 ")

    def test_a_command_may_take_longer_than_its_body(self, offers: Offers) -> None:
        hasty = Limits(body_time=timedelta(seconds=0.5))
        with serving(offers.engine, offers.tenant_id, hasty) as api:
            assert api.sales.post("/quotes", new_quote()).status_code == 201


class TestRates:
    def test_a_tenant_over_its_rate_gets_retry_after_and_others_are_not_limited(self, offers: Offers) -> None:
        with serving(offers.engine, offers.tenant_id, Limits(rate=0.1, burst=2)) as api:
            answers = [api.caller(OWNER, Role.SALES_AGENT).get("/quotes"), api.approver.get("/quotes"), api.sales.get("/quotes")]
            other = api.caller(OWNER, Role.SALES_AGENT, tenant_id=uuid4()).get("/quotes")

        assert [answer.status_code for answer in answers] == [200, 200, 429]
        assert is_problem(answers[2], 429, "TOO_MANY_REQUESTS")["safeUserAction"] == "RETRY_WITH_SAME_KEY"
        assert 1 <= int(answers[2].headers["Retry-After"]) <= 10
        assert other.status_code == 200

    def test_a_command_that_was_refused_for_its_rate_leaves_no_rows(self, offers: Offers) -> None:
        with serving(offers.engine, offers.tenant_id, Limits(rate=0.001, burst=1)) as api:
            api.sales.get("/quotes")
            is_problem(api.sales.post("/quotes", new_quote(), key="create-1"), 429, "TOO_MANY_REQUESTS")

        with serving(offers.engine, offers.tenant_id) as api:
            assert api.sales.get("/quotes").json()["items"] == []
            assert "Idempotent-Replayed" not in api.sales.post("/quotes", new_quote(), key="create-1").headers

    def test_strangers_who_send_callbacks_are_counted_together_and_take_nothing_from_a_provider(self, offers: Offers) -> None:
        offers.running_order()
        event = completed(offers.tenant_id, uuid4())
        with serving(offers.engine, offers.tenant_id, Limits(rate=0.1, burst=3)) as api:
            too_large = {**event, "more": "x" * LARGEST_CALLBACK_BYTES}

            def by_strangers() -> list[httpx.Response]:
                unsigned = [api.call_back(each, signature="v1,AAAA") for each in (event, too_large)]
                return [*unsigned, api.call_back(event, provider="nobody")]

            first, second = by_strangers(), by_strangers()
            signed = [api.call_back(event, id="x"), *(api.call_back(event) for _ in range(3))]
            tenant = api.sales.get("/quotes")

        assert [answer.status_code for answer in first] == [401, 413, 404]
        for answer in second:
            is_problem(answer, 429, "TOO_MANY_REQUESTS")
        assert [answer.status_code for answer in signed] == [422, 200, 200, 429]
        assert int(signed[-1].headers["Retry-After"]) >= 1
        assert tenant.status_code == 200

    def test_unused_requests_come_back_with_time_up_to_the_burst(self) -> None:
        clock = Clock()
        limit = RateLimit(answer_ok, Rates(Limits(rate=2, burst=3), clock))
        tenant = uuid4()

        def let_in(requests: int) -> list[int]:
            return [asyncio.run(status_for(limit, tenant)) for _ in range(requests)]

        assert let_in(4) == [200, 200, 200, 429]
        clock.now += 0.5
        assert let_in(2) == [200, 429]
        clock.now += 3600
        assert let_in(4) == [200, 200, 200, 429]

    @pytest.mark.parametrize(("missing", "wait"), [(0.0, "1"), (0.9, "1")])
    def test_retry_after_is_in_whole_seconds(self, missing: float, wait: str) -> None:
        clock = Clock()
        limit = RateLimit(answer_ok, Rates(Limits(rate=1, burst=1), clock))
        tenant = uuid4()
        asyncio.run(status_for(limit, tenant))
        clock.now += missing

        sent = asyncio.run(answered(limit, tenant))

        assert dict(sent["headers"])[b"retry-after"] == wait.encode()

    def test_of_two_threads_that_ask_for_the_last_token_one_gets_it(self) -> None:
        """Kills: buckets without a lock."""
        rates = Rates(Limits(rate=1, burst=1), Clock())
        refused: list[str] = []

        def count(who: str, sender: Hashable) -> None:
            try:
                rates.count(sender)
            except TooManyRequestsError:
                refused.append(who)

        rival = Thread(target=count, args=("rival", "acme"))
        count("first", Interrupted("acme", lambda: run_unless_it_has_to_wait(rival)))
        rival.join()

        assert refused == ["rival"]


@dataclass(eq=False)
class Interrupted:
    """A sender for whom something happens between the look at the bucket and its change: each looks the bucket up by the hash."""

    name: str
    happens: Callable[[], None]
    lookups: int = 0

    def __eq__(self, other: object) -> bool:
        return self.name == other

    def __hash__(self) -> int:
        self.lookups += 1
        if self.lookups == 2:
            self.happens()
        return hash(self.name)


def run_unless_it_has_to_wait(rival: Thread) -> None:
    """Start a thread, and let it end if it can: the caller holds the lock that it may wait for, so there is nothing to wait on."""
    rival.start()
    rival.join(0.2)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


async def answer_ok(_: Scope, __: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


async def answered(limit: RateLimit, tenant_id: UUID) -> Message:
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        sent.append(message)

    principal = Principal(subject="eve", tenant_id=tenant_id, roles=(), region="")
    await limit({"type": "http", "state": {"principal": principal}}, receive, send)
    return sent[0]


async def status_for(limit: RateLimit, tenant_id: UUID) -> int:
    return int((await answered(limit, tenant_id))["status"])
