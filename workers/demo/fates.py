"""What happens to each sample quote: a short story with an expected end."""

from __future__ import annotations

from collections.abc import Callable

from workers.demo.people import DIRECTING, MANAGER
from workers.demo.teller import Story, Teller


def approved_automatically(teller: Teller, story: Story) -> str:
    """A small discount needs nobody."""
    teller.offer(story)
    return teller.sell(story)


def approved_by_manager(teller: Teller, story: Story) -> str:
    """A manager signs over HTTP."""
    teller.offer(story)
    teller.decide(story, MANAGER, "APPROVE")
    return teller.sell(story)


def approved_in_tasklist(teller: Teller, story: Story) -> str:
    """A manager signs in Tasklist."""
    teller.offer(story)
    teller.decide_in_tasklist(story, MANAGER, "APPROVE")
    return teller.sell(story)


def approved_by_two(teller: Teller, story: Story) -> str:
    """A large discount needs the manager and then the director."""
    teller.offer(story)
    teller.decide(story, MANAGER, "APPROVE")
    teller.decide(story, DIRECTING, "APPROVE")
    return teller.sell(story)


def rejected(teller: Teller, story: Story) -> str:
    """A manager says no."""
    teller.offer(story)
    teller.decide(story, MANAGER, "REJECT")
    return teller.wait_for(story, "REJECTED")


def edited_after_approval(teller: Teller, story: Story) -> str:
    """Approved, then edited, then accepted with the old approval: refused, with the reason."""
    teller.offer(story)
    teller.decide(story, MANAGER, "APPROVE")
    teller.document(story)
    old_offer = teller.acceptance(story)
    teller.edit(story)
    refused = teller.accept_with(story, old_offer)
    return f"{refused.status} {refused.body.get('code')}, quote {teller.look(story)}"


def recalled(teller: Teller, story: Story) -> str:
    """Sales takes it back while a manager has it on the desk."""
    teller.offer(story)
    teller.task_for(story, MANAGER)
    teller.look(story)
    teller.withdraw(story, "recalls")
    return teller.look(story)


def declined(teller: Teller, story: Story) -> str:
    """Approved, and the customer does not want it."""
    teller.offer(story)
    teller.document(story)
    teller.withdraw(story, "declines")
    return teller.look(story)


def improved_after_approval(teller: Teller, story: Story) -> str:
    """Approved, then with less discount: the policy lets the manager's signature carry over."""
    teller.offer(story)
    teller.decide(story, MANAGER, "APPROVE")
    teller.document(story)
    teller.edit(story, discountPercent="12")
    teller.submit_again(story)
    return teller.sell(story)


def cancelled_on_its_way(teller: Teller, story: Story) -> str:
    """Accepted, and not wanted any more when its steps have begun: what was done is undone."""
    teller.offer(story)
    teller.document(story)
    order_id = teller.accept(story)
    teller.cancel(story, order_id)
    return teller.deliver(story, order_id)


def waiting(teller: Teller, story: Story) -> str:
    """Left for whoever opens Tasklist."""
    teller.offer(story)
    teller.task_for(story, MANAGER)
    return teller.look(story)


# (fate, how many of 26, expected end, discount in percent, the story)
FATES: tuple[tuple[str, int, str, str, Callable[[Teller, Story], str]], ...] = (
    ("approved automatically", 7, "FULFILLED", "5", approved_automatically),
    ("approved by a manager", 4, "FULFILLED", "20", approved_by_manager),
    ("approved in Tasklist", 2, "FULFILLED", "18", approved_in_tasklist),
    ("approved by manager and director", 2, "FULFILLED", "30", approved_by_two),
    ("rejected by a manager", 2, "REJECTED", "22", rejected),
    ("edited after approval", 2, "409 STALE_APPROVAL, quote DRAFT", "15", edited_after_approval),
    ("improved, signature reused", 2, "FULFILLED", "20", improved_after_approval),
    ("recalled by sales", 1, "DRAFT", "21", recalled),
    ("declined by the customer", 1, "DECLINED", "5", declined),
    ("cancelled on its way", 1, "CANCELLED", "5", cancelled_on_its_way),
    ("waits for a manager in Tasklist", 2, "APPROVAL_IN_PROGRESS", "24", waiting),
)


def stories(quotes: int) -> list[Story]:
    """`quotes` sample quotes, in the mix above; the kinds take turns."""
    mix = [fate for fate in FATES for _ in range(fate[1])]
    # A stride that shares no factor with the mix visits every kind early.
    chosen = [mix[(number * 9) % len(mix)] for number in range(quotes)]
    return [
        Story(number=number, fate=fate, expected=expected, discount=discount, tell=tell, quote={}, order={})
        for number, (fate, _, expected, discount, tell) in enumerate(chosen, 1)
    ]
