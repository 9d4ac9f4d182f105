"""The faults of a link: their kinds, and the order of one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from threading import Event


class Kind(StrEnum):
    """A fault that a link can cause in one exchange."""

    DROP_ANSWER = "drop answer"
    DROP_REQUEST = "drop request"
    DUPLICATE = "duplicate"
    HOLD = "hold"
    DELAY = "delay"
    RESET = "reset"
    HALF_OPEN = "half-open"
    CUT_AFTER_COMMIT = "cut after COMMIT"


@dataclass(slots=True, eq=False)
class Rule:
    """The order of a fault: it strikes `times` more exchanges; `struck` counts those that it has struck."""

    kind: Kind
    matches: Callable[[bytes], bool]
    times: int
    released: Event = field(default_factory=Event)
    struck: int = 0
