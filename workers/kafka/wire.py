"""The form of an event in Kafka: a JSON envelope, keyed by its aggregate, with id and type repeated as headers.

The rule it keeps: an event is read as it was written, and a message that cannot be an event of ours is refused as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from json.encoder import encode_basestring
from typing import Any
from uuid import UUID

from domain.store.outbox import PendingEvent
from domain.texts import UnfitJsonError, json_from
from domain.times import UnfitTimeError, in_utc

SCHEMA_VERSION = 1
LARGEST_VERSION = 2**63 - 1  # PostgreSQL's bigint
_AMOUNT = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,2})?")  # as PostgreSQL's NUMERIC(14, 2) has it


class UnreadableMessageError(Exception):
    """A message is not an event of this product. The text says what is wrong with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """An event as consumers see it. `data` is the full header of the aggregate at `aggregate_version`, keys in camelCase.

    `correlation_id` names the business case: its business key, or the aggregate where no process is involved.
    """

    event_id: UUID
    event_type: str
    event_time: datetime
    tenant_id: UUID
    aggregate_type: str
    aggregate_id: UUID
    aggregate_version: int
    correlation_id: str
    causation_id: UUID | None
    command_id: UUID
    business_key: str | None
    schema_version: int
    data: Mapping[str, Any]


def key_of(event: PendingEvent) -> bytes:
    """The key that keeps the events of one aggregate in one partition."""
    return event.aggregate_id.encode()


def headers_of(event: PendingEvent) -> list[tuple[str, str | bytes | None]]:
    """What a consumer may need before it parses the message."""
    return [("eventId", event.event_id.encode()), ("eventType", event.event_type.encode())]


def encode(event: PendingEvent) -> bytes:
    """Write an outbox event as a message."""
    business_key = _quoted(event.business_key)
    correlation = business_key if event.business_key else f'"{event.aggregate_type}:{event.aggregate_id}"'
    causation = f'"{event.causation_id}"' if event.causation_id else "null"
    return (
        f'{{"eventId":"{event.event_id}","eventType":{_quoted(event.event_type)},"eventTime":"{event.event_time}",'
        f'"tenantId":"{event.tenant_id}","aggregateType":"{event.aggregate_type}","aggregateId":"{event.aggregate_id}",'
        f'"aggregateVersion":{event.aggregate_version},"correlationId":{correlation},"causationId":{causation},'
        f'"commandId":"{event.command_id}","businessKey":{business_key},"schemaVersion":{SCHEMA_VERSION},"data":{event.payload}}}'
    ).encode()


def _quoted(value: str | None) -> str:
    return "null" if value is None else encode_basestring(value)


def decode(value: bytes | None) -> Envelope:
    """Read a message. Raises UnreadableMessageError unless it has every field, each with the right type."""
    fields = _Fields(_object(value))
    schema_version = fields.whole("schemaVersion", 2**31 - 1)
    if schema_version != SCHEMA_VERSION:
        raise UnreadableMessageError(f"schemaVersion {schema_version} is not one that this release reads ({SCHEMA_VERSION})")
    return Envelope(
        event_id=fields.uuid("eventId"),
        event_type=fields.text("eventType"),
        event_time=fields.time("eventTime"),
        tenant_id=fields.uuid("tenantId"),
        aggregate_type=fields.text("aggregateType"),
        aggregate_id=fields.uuid("aggregateId"),
        aggregate_version=fields.whole("aggregateVersion", LARGEST_VERSION),
        correlation_id=fields.text("correlationId"),
        causation_id=fields.uuid("causationId") if fields.given("causationId") else None,
        command_id=fields.uuid("commandId"),
        business_key=fields.text("businessKey") if fields.given("businessKey") else None,
        schema_version=schema_version,
        data=fields.object("data"),
    )


def read_member(data: Mapping[str, Any], name: str, kind: type) -> Any:
    """Read a member of an event's data as a text, UUID, datetime, int or Decimal. Raises UnreadableMessageError."""
    return _READERS[kind](_Fields(data), name)


class _Fields:
    """Typed access to a JSON object. Raises UnreadableMessageError with the name of the field."""

    def __init__(self, source: Mapping[str, Any]) -> None:
        self._source = source

    def given(self, name: str) -> bool:
        if name not in self._source:
            raise UnreadableMessageError(f"{name} is missing")
        return self._source[name] is not None

    def text(self, name: str) -> str:
        value = self._source.get(name)
        # An empty name or id is not valid.
        if not isinstance(value, str) or not value:
            raise UnreadableMessageError(f"{name} is not a text: {value!r:.100}")
        return value

    def text_or_empty(self, name: str) -> str:
        """A text of the business. It may be empty, as the region of a quote that a machine has made."""
        return "" if self._source.get(name) == "" else self.text(name)

    def uuid(self, name: str) -> UUID:
        try:
            return UUID(self.text(name))
        except ValueError as error:
            raise UnreadableMessageError(f"{name} is not a UUID: {self._source[name]!r:.100}") from error

    def time(self, name: str) -> datetime:
        try:
            return in_utc(datetime.fromisoformat(self.text(name)))
        except UnfitTimeError as error:
            raise UnreadableMessageError(f"{name} cannot be stored, {error}: {self._source[name]!r:.100}") from error
        except ValueError as error:
            raise UnreadableMessageError(f"{name} is not a time in ISO 8601: {self._source[name]!r:.100}") from error

    def whole(self, name: str, largest: int, smallest: int = 1) -> int:
        value = self._source.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not smallest <= value <= largest:
            raise UnreadableMessageError(f"{name} is not a whole number from {smallest} to {largest}: {value!r:.100}")
        return value

    def amount(self, name: str) -> Decimal:
        value = self.text(name)
        if not _AMOUNT.fullmatch(value):
            raise UnreadableMessageError(f"{name} is not an amount: {value!r:.100}")
        return Decimal(value)

    def object(self, name: str) -> Mapping[str, Any]:
        value = self._source.get(name)
        if not isinstance(value, dict):
            raise UnreadableMessageError(f"{name} is not a JSON object: {value!r:.100}")
        return value


_READERS: Mapping[type, Callable[[_Fields, str], Any]] = {
    str: _Fields.text_or_empty,
    UUID: _Fields.uuid,
    datetime: _Fields.time,
    Decimal: _Fields.amount,
    int: lambda fields, name: fields.whole(name, 2**31 - 1, 0),
}


def _object(value: bytes | None) -> Mapping[str, Any]:
    if value is None:
        raise UnreadableMessageError("the message has no value")
    try:
        parsed = json_from(value)
    except UnfitJsonError as error:
        raise UnreadableMessageError(f"the value cannot be read: {error}") from error
    if not isinstance(parsed, dict):
        raise UnreadableMessageError(f"the value is not a JSON object but {type(parsed).__name__}")
    return parsed
