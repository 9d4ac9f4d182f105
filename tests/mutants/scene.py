"""What the commercial side looks like in the middle of its work: the rows that statements typed by hand are measured against."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Table, text
from sqlalchemy.exc import DBAPIError

from domain.errors import NotFound
from domain.store import Answer, once, remember
from domain.store.isolation import name_tenant
from tests.mutants.trial import Trial


class Scene(Trial):
    """A draft, an accepted quote, and one in approval of whose two signatures the first was given; and a neighbour with the same."""

    def __init__(self, connection: Connection, neighbour: Scene | None = None) -> None:
        super().__init__(connection)
        self.neighbour = neighbour
        self.draft = self.draft_quote()
        self.accepted = self.accepted_quote()
        self.asked, self.signed, self.unsigned = self.two_levels()
        self.decide(self.asked, self.signed)
        with self.uow() as uow:
            once(uow, "a key", {})
            remember(uow, "a key", Answer(status=200, body={}))
            uow.flag_conflict(NotFound())

    @property
    def next_door(self) -> Scene:
        """The neighbour, who has one."""
        assert self.neighbour is not None
        return self.neighbour

    @property
    def revision_asked_for(self) -> dict[str, UUID]:
        """The revision in approval."""
        return {"quote_revision_id": self.asked.revision_id}

    @property
    def asked_for(self) -> dict[str, UUID]:
        """The offer in approval, as its request and the decisions on it name it."""
        return {"quote_id": self.asked.quote_id, "price_result_id": self.asked.price_result_id, **self.revision_asked_for}

    def copy(self, table: Table, changes: Mapping[str, Any]) -> int:
        """Insert a row like one that the product wrote, but for `changes`."""
        names = ", ".join(column.name for column in table.columns if column.identity is None)
        return self.by_hand(
            f"INSERT INTO {table.name} ({names}) SELECT {names} FROM jsonb_populate_record(NULL::{table.name}, "
            f"(SELECT to_jsonb(r) FROM {table.name} r WHERE tenant_id = :tenant LIMIT 1) || CAST(:changes AS jsonb))",
            changes=json.dumps(changes, default=str),
        )

    def id_in(self, table: str, of: Scene | None = None) -> UUID:
        """The id of a row that this tenant (or another) has."""
        tenant_id = (of or self).tenant_id
        name_tenant(self.connection, tenant_id)
        query = text(f"SELECT id FROM {table} WHERE tenant_id = :tenant LIMIT 1")
        return UUID(str(self.connection.execute(query, {"tenant": tenant_id}).scalar_one()))

    def change(self, statement: str, **values: Any) -> None:
        """Type a statement that has something to do."""
        assert self.by_hand(statement, **values) > 0, f"nothing to do for {statement}"

    def each_refused(self, *attempts: Callable[[], object]) -> None:
        """Try what is to be refused, each for itself; raises what the first was told. All or none pass."""
        told = [self._told(attempt) for attempt in attempts]
        errors = [error for error in told if error is not None]
        assert len(errors) in {0, len(told)}, [attempt for attempt, error in zip(attempts, told, strict=True) if error is None]
        if errors:
            raise errors[0]

    def _told(self, attempt: Callable[[], object]) -> DBAPIError | None:
        savepoint = self.connection.begin_nested()
        try:
            attempt()
        except DBAPIError as error:
            return error
        finally:
            savepoint.rollback()
        return None
