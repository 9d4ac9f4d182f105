"""The lines that each race leaves in the log, and the fields that each of them has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

COMMITTED, REFUSED = "command_committed", "command_refused"
OF_EACH = ("tenantId", "commandId")
OF_A_ROW = ("aggregateType", "aggregateId")
CHANGED = (*OF_EACH, *OF_A_ROW, "actualVersion", "transitionFrom", "transitionTo")
REFUSED_ON_A_VERSION = (*OF_EACH, *OF_A_ROW, "expectedVersion", "actualVersion", "transitionFrom", "conflictCode")
BY_KEY = ("idempotencyKey",)
BY_PROCESS = ("processInstanceId", "businessKey")
BY_CALLBACK = ("businessKey", "externalRequestId", "externalEventId")


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line: its event, what it says, and the fields that it has whatever they say."""

    event: str
    fields: Sequence[str]
    says: Mapping[str, str] = field(default_factory=dict)


LINES: Mapping[str, Sequence[Line]] = {
    "M1": (
        Line(event=COMMITTED, says={"outcome": "executed"}, fields=(*CHANGED, *BY_KEY, "expectedVersion", "eventId")),
        Line(event=REFUSED, says={"conflictCode": "QUOTE_VERSION_CONFLICT"}, fields=(*REFUSED_ON_A_VERSION, *BY_KEY)),
    ),
    "M2": (Line(event=REFUSED, says={"conflictCode": "STALE_PRICE"}, fields=(*REFUSED_ON_A_VERSION, *BY_KEY)),),
    "M3": (Line(event=REFUSED, says={"conflictCode": "STALE_APPROVAL"}, fields=(*REFUSED_ON_A_VERSION, *BY_KEY)),),
    "M4": (
        Line(event=COMMITTED, says={"outcome": "executed"}, fields=(*CHANGED, *BY_KEY, "businessKey", "eventId")),
        Line(event=COMMITTED, says={"outcome": "replayed"}, fields=(*OF_EACH, *BY_KEY)),
        # Under another key: the order that there is.
        Line(event=COMMITTED, says={"outcome": "replayed"}, fields=(*OF_EACH, *OF_A_ROW, *BY_KEY, "actualVersion")),
        Line(event=REFUSED, says={"conflictCode": "IDEMPOTENCY_KEY_REUSED"}, fields=(*OF_EACH, *BY_KEY, "conflictCode")),
    ),
    "M5": (
        Line(event=COMMITTED, says={"outcome": "executed"}, fields=(*CHANGED, *BY_CALLBACK, "eventId")),
        Line(event=COMMITTED, says={"outcome": "replayed"}, fields=(*OF_EACH, *OF_A_ROW, *BY_CALLBACK)),
        Line(
            event=REFUSED,
            says={"conflictCode": "PROVIDER_CONFLICT"},
            fields=(*OF_EACH, *OF_A_ROW, *BY_CALLBACK, "conflictCode"),
        ),
    ),
    "M6": (Line(event=COMMITTED, says={"outcome": "replayed"}, fields=(*OF_EACH, *OF_A_ROW, "expectedVersion", "eventId")),),
    "M7": (
        Line(
            event=COMMITTED,
            says={"outcome": "skipped"},
            fields=(*OF_EACH, *OF_A_ROW, "expectedVersion", "actualVersion", "eventId"),
        ),
    ),
    "M8": (
        Line(event=COMMITTED, says={"outcome": "replayed"}, fields=(*OF_EACH, *OF_A_ROW, *BY_PROCESS, "actualVersion")),
        Line(event=REFUSED, says={"conflictCode": "STEP_VERSION_CONFLICT"}, fields=(*REFUSED_ON_A_VERSION, *BY_PROCESS)),
    ),
    "M9": (Line(event=COMMITTED, says={"transitionTo": "START_UNKNOWN"}, fields=(*CHANGED, "businessKey")),),
    "M10": (
        Line(event=COMMITTED, says={"outcome": "replayed"}, fields=(*OF_EACH, *BY_KEY)),
        Line(event=REFUSED, says={"conflictCode": "STEP_VERSION_CONFLICT"}, fields=(*REFUSED_ON_A_VERSION, *BY_PROCESS)),
    ),
    "M11": (
        Line(event=COMMITTED, says={"outcome": "executed"}, fields=(*CHANGED, *BY_KEY, "expectedVersion", "eventId")),
        Line(event=REFUSED, says={"conflictCode": "FALLOUT_CASE_CONFLICT"}, fields=(*REFUSED_ON_A_VERSION, *BY_KEY)),
    ),
    "M12": (
        Line(
            event=COMMITTED,
            says={"transitionFrom": "CANCEL_REQUESTED", "transitionTo": "COMPLETED"},
            fields=(*CHANGED, *BY_CALLBACK, "eventId"),
        ),
    ),
}
