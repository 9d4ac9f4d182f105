"""Times that process owners write into models and rules, in ISO 8601: PT24H, P3D."""

from __future__ import annotations

import re
from datetime import timedelta

from pydantic import TypeAdapter, ValidationError

from workers.pod.contract import GiveUp, Task

DURATION = TypeAdapter(timedelta)
_WRITTEN = re.compile("P[0-9A-Z.]{1,40}")


def duration(task: Task, name: str) -> timedelta:
    """The duration in an extension property of a task. Raises GiveUp when it holds no duration."""
    text = task.configured(name)
    try:
        # Pydantic also takes a number of seconds, and blanks.
        return DURATION.validate_python(text if _WRITTEN.fullmatch(text) else "")
    except ValidationError:
        raise GiveUp(f"{name} must be an ISO duration such as PT24H, it is {text!r}: correct it in the model") from None
