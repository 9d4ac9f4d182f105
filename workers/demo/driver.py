"""Takes sample quotes through their courses: creates, signs, accepts and cancels through the API, as users would."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from time import monotonic
from typing import Any
from uuid import UUID, uuid4

from domain.offers import approvals
from workers.demo.api import Answer, Api, UnexpectedAnswerError
from workers.demo.people import Actor

# Seconds between two looks at a quote or an order.
POLL_SECONDS = 0.3
ENDS = frozenset({"FULFILLED", "PARTIALLY_FULFILLED", "FAILED", "CANCELLED", "REJECTED"})
DECLINED = "FULFILLED, cancellation DECLINED"
RIGHT_TOO = {"CANCELLED": frozenset({"PARTIALLY_FULFILLED", DECLINED})}
"""Expected end -> the others that are right. On a slow machine a cancellation comes when a step has begun that cannot be undone, or is done."""


class GaveUpError(Exception):
    """The demo was stopped before the sample quote reached its end."""


@dataclass(slots=True, kw_only=True)
class SampleQuote:
    """A quote of the demo. `course` names what is to happen to it, and `script` does it; `expected` and `end` are the end that it should
    reach and the one that it did. `quote` and `order` are as last seen; `fulfilled_at` is on the monotonic clock.
    """

    number: int
    course: str
    expected: str
    script: Callable[[Driver, SampleQuote], str]
    discount: str
    quote: dict[str, Any]
    order: dict[str, Any]
    end: str = ""
    fulfilled_at: float | None = None

    @property
    def as_expected(self) -> bool:
        return self.end == self.expected or self.end in RIGHT_TOO.get(self.expected, ())


class Driver:
    """Acts for all users of the demo. `sign_in_tasklist` completes the user task of a requirement, as a person does in Tasklist."""

    def __init__(self, api: Api, stop: Event, sign_in_tasklist: Callable[[str, str], bool]) -> None:
        self._api = api
        self._stop = stop
        self._sign_in_tasklist = sign_in_tasklist
        # For requests that are sent twice at the same time, as by a double click.
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="click")

    def close(self) -> None:
        """Wait for the last clicks."""
        self._pool.shutdown()

    def drive(self, sample: SampleQuote) -> None:
        """Take one sample quote to its end. An unexpected answer is an end, too."""
        try:
            sample.end = sample.script(self, sample)
        except (UnexpectedAnswerError, GaveUpError) as error:
            sample.end = f"{type(error).__name__}: {error}"

    def offer(self, sample: SampleQuote) -> None:
        """Create, price and submit the quote."""
        sample.quote = self._api.create(f"C-{1000 + sample.number}", sample.discount)
        quote_id = sample.quote["quoteId"]
        self._api.price(quote_id)
        self._api.submit(quote_id)
        self.refresh(sample)

    def refresh(self, sample: SampleQuote) -> str:
        """Read the quote again, and return its status."""
        sample.quote = self._api.quote(sample.quote["quoteId"])
        return str(sample.quote["status"])

    def wait_for(self, sample: SampleQuote, *statuses: str) -> str:
        """Wait until the quote has one of these statuses."""
        while self.refresh(sample) not in statuses:
            self._pause()
        return str(sample.quote["status"])

    def task_for(self, sample: SampleQuote, actor: Actor) -> dict[str, Any]:
        """Wait until this actor has to sign the quote, and return the approval task."""
        while (task := self._open_task(sample, actor)) is None:
            self._pause()
        return task

    def _open_task(self, sample: SampleQuote, actor: Actor) -> dict[str, Any] | None:
        place: dict[str, Any] = {}
        while True:
            page = self._api.get("/approval-tasks", actor, status="open", **place)
            mine = next((dict(task) for task in page["items"] if task["quoteId"] == sample.quote["quoteId"]), None)
            if mine is not None or page["next"] is None:
                return mine
            place = {"after": page["next"]}

    def decide(self, sample: SampleQuote, actor: Actor, decision: str) -> None:
        """Decide through the API with a double click: the second request finds the requirement decided."""
        task = self.task_for(sample, actor)
        first, second = self._twice(lambda: self._api.decide(task, actor, decision))
        codes = sorted((first.status, second.status))
        if codes[0] not in {200, 201} or codes[1] not in {200, 201, 409}:
            raise UnexpectedAnswerError(f"the answers to two decisions were {codes}")

    def decide_in_tasklist(self, sample: SampleQuote, actor: Actor, decision: str) -> None:
        """Decide in Tasklist until the decision is recorded: an answer may be lost, and a task is offered again when its process was deleted."""
        open_task: dict[str, Any] | None = self.task_for(sample, actor)
        while open_task is not None:
            self._sign_in_tasklist(decision, self._key_of(open_task))
            self._pause()
            open_task = self._open_task(sample, actor)

    def complete_in_tasklist(self, sample: SampleQuote, actor: Actor, decision: str) -> None:
        """Complete the user task of the engine, once."""
        key = self._key_of(self.task_for(sample, actor))
        # The requirement is in the database a moment before the engine has created the user task.
        while not self._sign_in_tasklist(decision, key):
            self._pause()

    def _key_of(self, task: Mapping[str, Any]) -> str:
        return approvals.business_key(self._api.tenant_id, UUID(task["requirementId"]))

    def edit(self, sample: SampleQuote, **change: Any) -> None:
        """Change the first line of the approved quote (unless given: to a quantity of 2). This begins the next revision."""
        quote = sample.quote
        body = {
            "expectedRevisionId": quote["revisionId"],
            "reasonCode": "CUSTOMER_REQUEST",
            "lines": [{"lineNo": 1, **(change or {"quantity": 2})}],
        }
        self._api.send(f"/quotes/{quote['quoteId']}", body, version=quote["version"], method="PATCH").expect(200)

    def withdraw(self, sample: SampleQuote, how: str) -> None:
        """Withdraw the offer, or turn it down; `how` is the last part of the path."""
        self._api.withdraw(sample.quote, how)

    def submit_again(self, sample: SampleQuote) -> None:
        """Price the next revision, and submit it for approval."""
        self._api.price(sample.quote["quoteId"])
        self._api.submit(sample.quote["quoteId"])

    def document(self, sample: SampleQuote) -> None:
        """Wait for the approval, and issue the document of the offer."""
        self.wait_for(sample, "APPROVED")
        self._api.issue_document(sample.quote["quoteId"])
        self.refresh(sample)

    def accept(self, sample: SampleQuote) -> str:
        """Accept with a double click, then through a partner under another key: all get the same order."""
        order_id = self.accept_by_double_click(sample)
        self.accept_by_partner(sample, order_id)
        return order_id

    def accept_by_double_click(self, sample: SampleQuote) -> str:
        """Accept twice at the same time under one key: both answers name the same order."""
        quote, key = sample.quote, str(uuid4())
        body = self._api.acceptance(quote)
        first, second = self._twice(lambda: self._api.accept(quote, body, key))
        return _one_order(first.expect(200, 201)["orderId"], second)

    def accept_by_partner(self, sample: SampleQuote, order_id: str) -> None:
        """Accept once more under another key: the answer names the order that the quote has already."""
        _one_order(order_id, self._api.accept(sample.quote, self._api.acceptance(sample.quote, "PARTNER"), str(uuid4())))

    def accept_with(self, sample: SampleQuote, body: Mapping[str, Any]) -> Answer:
        """Accept with the ids of an older offer, and the current version of the quote."""
        self.refresh(sample)
        return self._api.accept(sample.quote, body, str(uuid4()))

    def acceptance(self, sample: SampleQuote) -> dict[str, Any]:
        """The body with which the customer would accept the quote as last seen."""
        return self._api.acceptance(sample.quote)

    def sell(self, sample: SampleQuote) -> str:
        """Take an approved offer to the end of its order. Returns the status of the order."""
        self.document(sample)
        return self.deliver(sample, self.accept(sample))

    def deliver(self, sample: SampleQuote, order_id: str) -> str:
        """Wait until the order has ended, and return its status."""
        while True:
            sample.order = self._api.get(f"/orders/{order_id}")
            if sample.order["status"] in ENDS:
                sample.fulfilled_at = monotonic() if sample.order["status"] == "FULFILLED" else None
                self.refresh(sample)
                return str(sample.order["status"])
            self._pause()

    def cancel(self, sample: SampleQuote, order_id: str) -> None:
        """Request the cancellation when the order has steps; request it again when the order has changed since it was read."""
        while True:
            sample.order = self._api.get(f"/orders/{order_id}")
            if sample.order["steps"]:
                answer = self._api.cancel_order(sample.order)
                if answer.body.get("code") != "ORDER_VERSION_CONFLICT":
                    answer.expect(201, 202)
                    return
            self._pause()

    def decision_on_cancelling(self, order_id: str) -> str:
        """What came of the request to cancel an order."""
        [request] = self._api.get(f"/orders/{order_id}/cancellations")["items"]
        return str(request["status"])

    def _twice(self, send: Callable[[], Answer]) -> tuple[Answer, ...]:
        clicks = [self._pool.submit(send) for _ in range(2)]
        return tuple(click.result() for click in clicks)

    def _pause(self) -> None:
        if self._stop.wait(POLL_SECONDS):
            raise GaveUpError("the demo was stopped")


def _one_order(order_id: str, answer: Answer) -> str:
    """Return `order_id` if this answer names the same order. Raises UnexpectedAnswerError."""
    other = answer.expect(200, 201)["orderId"]
    if other != order_id:
        raise UnexpectedAnswerError(f"one acceptance was answered with order {order_id}, the next one with {other}")
    return order_id
