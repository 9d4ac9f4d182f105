"""The fields by which a line of the log is found again: one name each, whoever writes the line.

The rule it keeps: a field that is not known is left out, and a client's key is told by its hash only, because a client may put anything
into it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from domain.store import Cause
from domain.store.base import camel

OF_A_CAUSE = ("command", "actor", "tenant_id", "command_id", "event_id", "external_event_id", "process_instance_id", "business_key")
FIELDS = (
    "tenantId",
    "aggregateType",
    "aggregateId",
    "expectedVersion",
    "actualVersion",
    "commandId",
    "idempotencyKey",
    "eventId",
    "processInstanceId",
    "businessKey",
    "externalRequestId",
    "externalEventId",
    "transitionFrom",
    "transitionTo",
    "conflictCode",
)
"""The names of a race: what a line about a command has of them wherever it is known."""


def fields_of(cause: Cause | None, facts: Mapping[str, Any]) -> dict[str, Any]:
    """A cause, and facts named as columns, as fields of a line; where both know a field, the cause's counts."""
    known = {**facts, **({name: value for name in OF_A_CAUSE if (value := getattr(cause, name)) is not None} if cause else {})}
    if cause:
        known["idempotency_key"] = fingerprint(cause.idempotency_key)
    return {camel(name): _plain(value) for name, value in known.items() if value is not None}


def fingerprint(idempotency_key: str | None) -> str | None:
    """The hash of a key, as the log shows it."""
    return idempotency_key and hashlib.sha256(idempotency_key.encode()).hexdigest()[:16]


def _plain(value: Any) -> int | str:
    return value if isinstance(value, int) else str(value)
