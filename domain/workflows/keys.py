"""Business keys: the engine's names for what a process acts for, such as `order:{tenant}:{order}`.

A started instance keeps its key for ever, because no request of the engine changes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Kind(StrEnum):
    """What a process acts for; the first word of its key."""

    QUOTE_REVISION = "quote"
    APPROVAL_REQUIREMENT = "approval"
    ORDER = "order"
    CANCELLATION = "cancellation"
    STEP = "step"
    UNDO_STEP = "undo"
    FALLOUT_CASE = "fallout"
    RESOLUTION = "resolution"
    CONFIRMATION = "confirmation"


OF_CASES = frozenset({Kind.FALLOUT_CASE, Kind.RESOLUTION, Kind.CONFIRMATION})
"""The processes that ask people about cases."""


PROCESSES = (
    "quote-approval",
    "approve-requirement",
    "order-fulfillment",
    "fulfillment-step",
    "cancel-step",
    "cancellation-assessment",
    "fallout-case",
    "resolve-case",
    "confirm-case",
    "late-compensation",
)
"""The processes of ours, by their names in the engine."""
STARTED = ("quote-approval", "order-fulfillment", "fallout-case", "late-compensation")
"""The processes that the domain starts; the others are called by them."""


@dataclass(frozen=True, slots=True)
class BusinessKey:
    """What a process acts for: its kind, its tenant, and its id, which the id of its parent may precede."""

    kind: Kind
    tenant_id: UUID
    ids: tuple[UUID, ...]

    @property
    def id(self) -> UUID:
        return self.ids[-1]

    def __str__(self) -> str:
        return ":".join(map(str, (self.kind, self.tenant_id, *self.ids)))


def key_of(kind: Kind, tenant_id: UUID, *ids: UUID) -> str:
    """The business key of a process that acts for this."""
    return str(BusinessKey(kind, tenant_id, ids))


def parse(text: str) -> BusinessKey:
    """Read a business key. Raises ValueError for any other text."""
    kind, tenant_id, *ids = text.split(":")
    if len(ids) != (2 if kind == Kind.QUOTE_REVISION else 1):
        raise ValueError(f"{text!r} is not a business key")
    return BusinessKey(Kind(kind), UUID(tenant_id), tuple(map(UUID, ids)))


def key_in(text: str) -> BusinessKey | None:
    """The business key that a text is, or None."""
    try:
        return parse(text)
    except ValueError:
        return None
