"""The courses of the sample quotes: what people do with a quote, and the end that is expected."""

from __future__ import annotations

from collections.abc import Callable

from workers.demo.driver import Driver, SampleQuote
from workers.demo.people import DIRECTOR_AND_FINANCE, MANAGER


def approved_automatically(driver: Driver, sample: SampleQuote) -> str:
    """A small discount needs no signature."""
    driver.offer(sample)
    return driver.sell(sample)


def approved_by_manager(driver: Driver, sample: SampleQuote) -> str:
    """A manager signs over HTTP."""
    driver.offer(sample)
    driver.decide(sample, MANAGER, "APPROVE")
    return driver.sell(sample)


def approved_in_tasklist(driver: Driver, sample: SampleQuote) -> str:
    """A manager signs in Tasklist."""
    driver.offer(sample)
    driver.decide_in_tasklist(sample, MANAGER, "APPROVE")
    return driver.sell(sample)


def approved_by_two(driver: Driver, sample: SampleQuote) -> str:
    """A large discount needs the manager and then the director."""
    driver.offer(sample)
    driver.decide(sample, MANAGER, "APPROVE")
    driver.decide(sample, DIRECTOR_AND_FINANCE, "APPROVE")
    return driver.sell(sample)


def rejected(driver: Driver, sample: SampleQuote) -> str:
    """A manager rejects."""
    driver.offer(sample)
    driver.decide(sample, MANAGER, "REJECT")
    return driver.wait_for(sample, "REJECTED")


def edited_after_approval(driver: Driver, sample: SampleQuote) -> str:
    """The quote is approved, then edited, then accepted with the old approval: the acceptance is refused, with the reason."""
    driver.offer(sample)
    driver.decide(sample, MANAGER, "APPROVE")
    driver.document(sample)
    old_offer = driver.acceptance(sample)
    driver.edit(sample)
    refused = driver.accept_with(sample, old_offer)
    return f"{refused.status} {refused.body.get('code')}, quote {driver.refresh(sample)}"


def recalled(driver: Driver, sample: SampleQuote) -> str:
    """The seller recalls the quote while a manager has to decide it."""
    driver.offer(sample)
    driver.task_for(sample, MANAGER)
    driver.refresh(sample)
    driver.withdraw(sample, "recalls")
    return driver.refresh(sample)


def declined(driver: Driver, sample: SampleQuote) -> str:
    """The quote is approved, and the customer declines it."""
    driver.offer(sample)
    driver.document(sample)
    driver.withdraw(sample, "declines")
    return driver.refresh(sample)


def improved_after_approval(driver: Driver, sample: SampleQuote) -> str:
    """The quote is approved, then gets a smaller discount: the policy lets the manager's signature carry over."""
    driver.offer(sample)
    driver.decide(sample, MANAGER, "APPROVE")
    driver.document(sample)
    driver.edit(sample, discountPercent="12")
    driver.submit_again(sample)
    return driver.sell(sample)


def cancelled_during_delivery(driver: Driver, sample: SampleQuote) -> str:
    """The order is cancelled after its steps have begun: what was done is undone. A cancellation that comes too late is declined."""
    driver.offer(sample)
    driver.document(sample)
    order_id = driver.accept_by_double_click(sample)
    # The partner accepts only afterwards, so that the cancellation comes before the first step that cannot be undone.
    driver.cancel(sample, order_id)
    driver.accept_by_partner(sample, order_id)
    end = driver.deliver(sample, order_id)
    return end if end != "FULFILLED" else f"{end}, cancellation {driver.decision_on_cancelling(order_id)}"


def waiting(driver: Driver, sample: SampleQuote) -> str:
    """The approval is left open, for a person who opens Tasklist."""
    driver.offer(sample)
    driver.task_for(sample, MANAGER)
    return driver.refresh(sample)


# (course, how many of 26, expected end, discount in percent, script)
COURSES: tuple[tuple[str, int, str, str, Callable[[Driver, SampleQuote], str]], ...] = (
    ("approved automatically", 7, "FULFILLED", "5", approved_automatically),
    ("approved by a manager", 4, "FULFILLED", "20", approved_by_manager),
    ("approved in Tasklist", 2, "FULFILLED", "18", approved_in_tasklist),
    ("approved by manager and director", 2, "FULFILLED", "30", approved_by_two),
    ("rejected by a manager", 2, "REJECTED", "22", rejected),
    ("edited after approval", 2, "409 STALE_APPROVAL, quote DRAFT", "15", edited_after_approval),
    ("improved, signature reused", 2, "FULFILLED", "20", improved_after_approval),
    ("recalled by the seller", 1, "DRAFT", "21", recalled),
    ("declined by the customer", 1, "DECLINED", "5", declined),
    ("cancelled during delivery", 1, "CANCELLED", "5", cancelled_during_delivery),
    ("waits for a manager in Tasklist", 2, "APPROVAL_IN_PROGRESS", "24", waiting),
)


def sample_quotes(count: int) -> list[SampleQuote]:
    """Sample quotes in the mix above; the courses take turns."""
    mix = [course for course in COURSES for _ in range(course[1])]
    # 9 and the size of the mix have no common factor, so these steps reach every entry, and every course early.
    chosen = [mix[(number * 9) % len(mix)] for number in range(count)]
    return [
        SampleQuote(number=number, course=course, expected=expected, discount=discount, script=script, quote={}, order={})
        for number, (course, _, expected, discount, script) in enumerate(chosen, 1)
    ]
