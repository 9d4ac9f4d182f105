"""How often a failed task is tried and how long it waits in between, by the process owner's setting in the model.

The rule it keeps: the extension property `retryPolicy` of the activity decides, for example `R5/PT10S`: five attempts in all, the
first wait 10 s, each further wait twice the one before, none longer than an hour. (The engine's own setting of that form is for jobs
and does not apply to external tasks.)
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import structlog

from domain.retry_rules import EXTERNAL_TASK, RetryRule

PROPERTY = "retryPolicy"
FACTOR = 2

_log = structlog.get_logger()
_FORM = re.compile(
    r"R(?P<attempts>[1-9]\d{0,2})/P(?:(?P<days>\d+)D)?(?:T(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+(?:\.\d+)?)S)?)?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """Attempts in all, the wait after the first of them, and the longest wait."""

    attempts: int
    wait: timedelta
    longest: timedelta = EXTERNAL_TASK.longest_wait

    @classmethod
    def parse(cls, text: str) -> RetryPolicy:
        """Read `R<attempts>/<ISO duration>`. Raises ValueError with the expected form."""
        match = _FORM.fullmatch(text.strip())
        if match is None or text.strip().endswith(("P", "T")):
            raise ValueError(f"{text!r} is not a retry policy: write R<attempts>/<ISO duration>, for example R5/PT10S")
        parts = {unit: float(value) for unit, value in match.groupdict().items() if value and unit != "attempts"}
        return cls(attempts=int(match["attempts"]), wait=timedelta(**parts))

    @classmethod
    def of(cls, properties: Mapping[str, str], rule: RetryRule = EXTERNAL_TASK) -> RetryPolicy:
        """Take the policy of an activity, or that of the rule when it has none or one that cannot be read."""
        by_rule = cls(attempts=rule.attempts, wait=rule.first_wait, longest=rule.longest_wait)
        text = properties.get(PROPERTY)
        if text is None:
            return by_rule
        try:
            return cls.parse(text)
        except ValueError as error:
            _log.warning("retry_policy_invalid", reason=str(error))
            return by_rule

    def left_after_failure(self, retries: int | None) -> int:
        """Count the attempts left after one failed; `retries` None means that it was the first."""
        return max(0, (self.attempts if retries is None else retries) - 1)

    def wait_before_next(self, left: int) -> timedelta:
        """Give the wait after the failure that leaves `left` attempts."""
        failures = max(1, self.attempts - left)
        # The exponent is bounded because an operator may set any number of retries.
        return min(self.wait * float(FACTOR ** min(failures - 1, 20)), self.longest)
