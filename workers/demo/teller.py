"""Whoever tells the demo's stories: creates, signs, accepts and cancels through the API, like a user would."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

from domain.offers import quotes
from workers.demo.api import Api, Reply, UnexpectedAnswerError
from workers.demo.people import Actor

# How often a person (or this demo) looks whether something has moved, seconds.
LOOK = 0.3
SETTLED = frozenset({"FULFILLED", "PARTIALLY_FULFILLED", "FAILED", "CANCELLED", "REJECTED"})


class GaveUpError(Exception):
    """The demo was stopped while a story was still going on."""


@dataclass(slots=True, kw_only=True)
class Story:
    """One sample quote on its way. `fate` says what is meant to happen, `end` what did; `quote` and `order` are as last seen,
    `fulfilled_at` on the monotonic clock.
    """

    number: int
    fate: str
    expected: str
    tell: Callable[[Teller, Story], str]
    discount: str
    quote: dict[str, Any]
    order: dict[str, Any]
    end: str = ""
    fulfilled_at: float | None = None

    @property
    def as_expected(self) -> bool:
        return self.end == self.expected


class Teller:
    """Carries stories out. `sign_in_tasklist` completes a requirement's user task as a person would in Tasklist."""

    def __init__(self, api: Api, stop: Event, sign_in_tasklist: Callable[[Mapping[str, Any], str, str], bool]) -> None:
        self._api = api
        self._stop = stop
        self._sign_in_tasklist = sign_in_tasklist
        # Two of a kind at once are what the suite is for; the pool only keeps a laptop usable.
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="click")

    def close(self) -> None:
        """Let the last clicks end."""
        self._pool.shutdown()

    def tell(self, story: Story) -> None:
        """Play one story to its end; whatever the suite answers that the story has no place for is its end."""
        try:
            story.end = story.tell(self, story)
        except (UnexpectedAnswerError, GaveUpError) as error:
            story.end = f"{type(error).__name__}: {error}"

    def offer(self, story: Story) -> None:
        """Create, price and submit the quote."""
        story.quote = self._api.create(f"C-{1000 + story.number}", story.discount)
        quote_id = story.quote["quoteId"]
        self._api.price(quote_id)
        self._api.submit(quote_id)
        self.look(story)

    def look(self, story: Story) -> str:
        """The quote's status now."""
        story.quote = self._api.quote(story.quote["quoteId"])
        return str(story.quote["status"])

    def wait_for(self, story: Story, *statuses: str) -> str:
        """Until the quote has one of these."""
        while self.look(story) not in statuses:
            self._pause()
        return str(story.quote["status"])

    def task_for(self, story: Story, actor: Actor) -> dict[str, Any]:
        """The signature that this actor is asked for, once the process has opened it."""
        while True:
            tasks = self._api.get("/approval-tasks", actor, status="open")["items"]
            for task in tasks:
                if task["quoteId"] == story.quote["quoteId"]:
                    return dict(task)
            self._pause()

    def decide(self, story: Story, actor: Actor, decision: str) -> None:
        """Sign through the API; clicked twice, of which the second finds it decided."""
        task = self.task_for(story, actor)
        first, second = self._twice(lambda: self._api.decide(task, actor, decision))
        codes = sorted((first.status, second.status))
        if codes[0] not in {200, 201} or codes[1] not in {200, 201, 409}:
            raise UnexpectedAnswerError(f"two decisions were answered {codes}")

    def decide_in_tasklist(self, story: Story, actor: Actor, decision: str) -> None:
        """Sign in Tasklist: the engine's user task, completed by the person."""
        task = self.task_for(story, actor)
        key = quotes.business_key(self._api.tenant_id, UUID(task["quoteId"]), UUID(task["quoteRevisionId"]))
        # The domain knows of the signature a moment before the engine has made the task.
        while not self._sign_in_tasklist(task, decision, key):
            self._pause()

    def edit(self, story: Story, **change: Any) -> None:
        """Change the first line after approval (default: a second one of it): this makes the next revision."""
        quote = story.quote
        body = {
            "expectedRevisionId": quote["revisionId"],
            "reasonCode": "CUSTOMER_REQUEST",
            "lines": [{"lineNo": 1, **(change or {"quantity": 2})}],
        }
        self._api.send(f"/quotes/{quote['quoteId']}", body, version=quote["version"], method="PATCH").expect(200)

    def withdraw(self, story: Story, how: str) -> None:
        """Take the offer back, or turn it down."""
        self._api.withdraw(story.quote, how)

    def submit_again(self, story: Story) -> None:
        """Price the next revision and ask for its approval."""
        self._api.price(story.quote["quoteId"])
        self._api.submit(story.quote["quoteId"])

    def document(self, story: Story) -> None:
        """Once the offer is approved, write it down and see it."""
        self.wait_for(story, "APPROVED")
        self._api.issue_document(story.quote["quoteId"])
        self.look(story)

    def accept(self, story: Story) -> str:
        """Accept twice at once with one key, then from a partner with another: one order."""
        quote, key = story.quote, str(uuid4())
        body = self._api.acceptance(quote)
        replies = self._twice(lambda: self._api.accept(quote, body, key))
        replies += (self._api.accept(quote, self._api.acceptance(quote, "PARTNER"), str(uuid4())),)
        orders = {reply.expect(200, 201)["orderId"] for reply in replies}
        if len(orders) != 1:
            raise UnexpectedAnswerError(f"three acceptances gave {len(orders)} orders")
        return str(orders.pop())

    def accept_with(self, story: Story, body: Mapping[str, Any]) -> Reply:
        """Accept with the ids of an older offer, at the quote's newest version."""
        self.look(story)
        return self._api.accept(story.quote, body, str(uuid4()))

    def acceptance(self, story: Story) -> dict[str, Any]:
        """What the customer would send now."""
        return self._api.acceptance(story.quote)

    def sell(self, story: Story) -> str:
        """From the approved offer to its settled order."""
        self.document(story)
        return self.deliver(story, self.accept(story))

    def deliver(self, story: Story, order_id: str) -> str:
        """Until the order is settled."""
        while True:
            story.order = self._api.get(f"/orders/{order_id}")
            if story.order["status"] in SETTLED:
                story.fulfilled_at = monotonic() if story.order["status"] == "FULFILLED" else None
                self.look(story)
                return str(story.order["status"])
            self._pause()

    def cancel(self, story: Story, order_id: str) -> None:
        """Ask for the cancellation once the order is on its way; again when it has moved on since it was looked at."""
        while True:
            story.order = self._api.get(f"/orders/{order_id}")
            if story.order["steps"]:
                reply = self._api.cancel_order(story.order)
                if reply.body.get("code") != "ORDER_VERSION_CONFLICT":
                    reply.expect(201, 202)
                    return
            self._pause()

    def _twice(self, send: Callable[[], Reply]) -> tuple[Reply, ...]:
        clicks = [self._pool.submit(send) for _ in range(2)]
        return tuple(click.result() for click in clicks)

    def _pause(self) -> None:
        if self._stop.wait(LOOK):
            raise GaveUpError("the demo was stopped")
