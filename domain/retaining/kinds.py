"""Technical rows that are deleted by their age alone. Each batch is one statement of a short transaction.

Rows that somebody has locked are skipped, so nobody waits for a deletion and a deletion waits for nobody. The newest rows of a table are
never touched: each kind has an index by age, and begins with its oldest row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, TextClause, text


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Rows of one table, their key, the column that says how old they are, and which of them may go.

    `sets`: what is emptied, for rows that stay. `is_evidence`: nobody updates or locks such rows, and nobody has the right to.
    """

    name: str
    what: str
    table: str
    key: Sequence[str]
    since: str
    where: str = "true"
    sets: str = ""
    is_evidence: bool = False

    @property
    def deletion(self) -> TextClause:
        """Deletes one batch."""
        columns, lock = ", ".join(self.key), "" if self.is_evidence else "FOR UPDATE SKIP LOCKED"
        old = f"""WITH old AS MATERIALIZED (
            SELECT {columns} FROM {self.table} WHERE {self._old} ORDER BY {self.since} LIMIT :batch {lock})"""  # noqa: S608 - written below
        same = " AND ".join(f"t.{name} = old.{name}" for name in self.key)
        if self.sets:
            return text(f"{old} UPDATE {self.table} t SET {self.sets} FROM old WHERE {same}")  # noqa: S608 - written below
        return text(f"{old} DELETE FROM {self.table} t USING old WHERE {same}")  # noqa: S608 - written below

    @property
    def count(self) -> TextClause:
        """Counts what a deletion would delete."""
        return text(f"SELECT count(*) FROM {self.table} WHERE {self._old}")  # noqa: S608 - written below

    @property
    def oldest(self) -> TextClause:
        """Tells the age of the oldest row that is left."""
        return text(f"SELECT min({self.since}) FROM {self.table} WHERE {self.where}")  # noqa: S608 - written below

    @property
    def _old(self) -> str:
        # The time of the transaction, because the index cannot be searched by a clock that goes on.
        return f"{self.where} AND {self.since} < now() - CAST(:age AS interval)"


_OPEN_CASE = """SELECT FROM fallout_case f WHERE f.tenant_id = workflow_command.tenant_id
    AND f.dedupe_key = 'process:' || workflow_command.business_key AND f.status NOT IN ('CLOSED', 'CANCELLED')"""
_OPEN_CASE_OF_CALLBACK = """SELECT FROM fallout_case f WHERE f.tenant_id = external_callback_record.tenant_id
    AND f.dedupe_key IN ('UNSOLICITED_CALLBACK:' || provider_name || ':' || external_event_id,
        'PROVIDER_CONFLICT:' || provider_name || ':' || external_event_id)
    AND f.status NOT IN ('CLOSED', 'CANCELLED')"""
KINDS = (
    Kind(
        name="events",
        what="events that a relay of the release before has published",
        table="outbox_event",
        key=("tenant_id", "id"),
        since="published_at",
        where="status = 'PUBLISHED'",
    ),
    Kind(
        name="inbox",
        what="events that a consumer has processed",
        table="consumer_inbox",
        key=("consumer_name", "event_id"),
        since="processed_at",
    ),
    Kind(
        name="answers",
        what="stored answers whose idempotency key has expired",
        table="idempotency_record",
        key=("tenant_id", "command_name", "idempotency_key"),
        since="expires_at",
    ),
    Kind(
        name="workflow_commands",
        what="workflow commands that are done, have expired, or were given up and have no open case",
        table="workflow_command",
        key=("tenant_id", "id"),
        since="updated_at",
        where=f"status <> 'PENDING' AND NOT (status = 'GIVEN_UP' AND EXISTS ({_OPEN_CASE}))",
    ),
    Kind(
        name="refusals",
        what="refused commands in the conflict log",
        table="conflict_log",
        key=("tenant_id", "id"),
        since="created_at",
        is_evidence=True,
    ),
    Kind(
        name="findings",
        what="findings of reconciliation about which nothing is left to do",
        table="reconciliation_finding",
        key=("tenant_id", "id"),
        since="created_at",
        where="status = 'REPAIRED'",
        is_evidence=True,
    ),
    Kind(
        name="payloads",
        what="payloads of callbacks that are settled; id and hash stay",
        table="external_callback_record",
        key=("tenant_id", "provider_name", "external_event_id"),
        since="received_at",
        where="payload IS NOT NULL AND processed_status <> 'UNMATCHED'",
        sets="payload = NULL",
    ),
    # The whole row goes. A settled callback keeps its id for the life of its order, so that a repeat does nothing; this one never did anything,
    # and a provider that repeats it after months gets the same answer and a new case.
    Kind(
        name="unmatched",
        what="callbacks that have matched no step and have no open case",
        table="external_callback_record",
        key=("tenant_id", "provider_name", "external_event_id"),
        since="received_at",
        where=f"processed_status = 'UNMATCHED' AND NOT EXISTS ({_OPEN_CASE_OF_CALLBACK})",
    ),
)
_DELETIONS: Mapping[str, TextClause] = {kind.name: kind.deletion for kind in KINDS}


def delete(connection: Connection, kind: Kind, age: timedelta, batch: int) -> int:
    """Delete the oldest rows of a kind that are older than `age`, at most `batch`; returns how many."""
    return int(connection.execute(_DELETIONS[kind.name], {"age": age, "batch": batch}).rowcount)


def count(connection: Connection, kind: Kind, age: timedelta) -> int:
    """Count the rows of a kind that are older than `age`."""
    return int(connection.scalar(kind.count, {"age": age}) or 0)


def oldest(connection: Connection, kind: Kind) -> datetime | None:
    """The time of the oldest row of a kind."""
    found: Any = connection.scalar(kind.oldest)
    return found if isinstance(found, datetime) else None
