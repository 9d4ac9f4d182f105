"""Commands that are only crashed. They meet no other, because no rival touches their rows, or because what they do meets others elsewhere.

A new quote is nobody else's. A callback claims its event id; two with one id meet in tests/races/test_repeated_callbacks.py, and the fact
that it reports meets every other command in `delivery_commands`.
"""

from __future__ import annotations

from functools import partial
from uuid import UUID

from domain.delivery import callbacks
from domain.delivery.callbacks import ReceiveCallback
from domain.offers import quoting
from domain.offers.quotes import QuoteStatus
from domain.store import UnitOfWork
from tests.races.explorer.commands import RENEWED
from tests.races.explorer.delivery_commands import PROVIDER, delivery
from tests.races.explorer.delivery_scenes import FIRST_STEP, Delivery
from tests.races.explorer.registry import OK, command
from tests.races.explorer.scenes import Scene
from tests.support.offers import new_quote

LONE = (
    (QuoteStatus.DRAFT, "create"),
    ("step under way", "callback"),
    ("step contradicted", "callback"),
    ("step under way", "stray callback"),
)
"""A scene, and the command that crashes there."""


@command()
def create(scene: Scene, uow: UnitOfWork, rank: int) -> str:
    return f"{OK} {quoting.create(uow, new_quote(valid_until=RENEWED)).status}"


def receive(step_id: UUID | None, scene: Delivery, uow: UnitOfWork, rank: int) -> str:
    event = ReceiveCallback(
        provider_name="sandbox",
        external_event_id="evt-1",
        event_type="step.completed",
        step_id=step_id or scene.steps[FIRST_STEP].id,
        external_ref="r-1",
        external_request_id="req-1",
        external_event_at=None,
        payload={"eventId": "evt-1"},
    )
    return f"{OK} {callbacks.receive(uow, event).processed_status}"


delivery("callback", actor=PROVIDER)(partial(receive, None))
delivery("stray callback", actor=PROVIDER)(partial(receive, UUID(int=1)))
