"""Statements by which commands keep a rule. Each can be left out for the length of a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest.mock import patch
from uuid import UUID

from sqlalchemy import select

from domain.authority import AuthorityGrant
from domain.offers import deciding, quotes
from domain.offers.quoting import EDIT
from domain.store import Check, UnitOfWork, param, table_of

LOOK_AT_GRANT = "the look at the grant"
SUPERSEDING = "superseding the former revision"
STAYING = "a draft's edit stays in its revision"
GOING_ON = "a submitted offer's edit makes the next revision"
COUNTING = "counting the version"


@contextmanager
def _any_grant() -> Iterator[None]:
    """Record any grant of the tenant with a signature, whether it reaches far enough or not."""

    def any_grant(uow: UnitOfWork, *_: object) -> Any:
        grant = table_of(AuthorityGrant)
        return uow.connection.execute(select(*grant.c).filter_by(tenant_id=uow.tenant_id).limit(1)).one()

    with patch.object(deciding, "_lock_grant", any_grant):
        yield


@contextmanager
def _former_revision_kept() -> Iterator[None]:
    change = quotes.change_revision

    def change_otherwise(uow: UnitOfWork, revision_id: UUID, **values: Any) -> None:
        if values.get("status") is not quotes.RevisionStatus.SUPERSEDED:
            change(uow, revision_id, **values)

    with patch.object(quotes, "change_revision", change_otherwise):
        yield


@contextmanager
def _edit_that_sets(**current_revision: Any) -> Iterator[None]:
    kept = EDIT.sets
    EDIT.sets = {name: value for name, value in kept.items() if name != "current_revision_id"} | current_revision
    EDIT.protect(EDIT.guards)
    try:
        yield
    finally:
        EDIT.sets = kept
        EDIT.protect(EDIT.guards)


@contextmanager
def without_tenant(check: Check, id_field: str) -> Iterator[None]:
    """Run the block with a check that finds its row by the id alone, without the tenant."""
    kept = check.identity
    check.identity = check.table.c.id == param(id_field)  # type: ignore[assignment]  # a condition as well
    check.protect(check.guards)
    try:
        yield
    finally:
        check.identity = kept
        check.protect(check.guards)


@contextmanager
def _version_not_counted() -> Iterator[None]:
    kept = EDIT.write
    EDIT.write = kept.values(version=EDIT.table.c.version)
    try:
        yield
    finally:
        EDIT.write = kept


STATEMENTS: dict[str, Callable[[], AbstractContextManager[None]]] = {
    LOOK_AT_GRANT: _any_grant,
    SUPERSEDING: _former_revision_kept,
    STAYING: lambda: _edit_that_sets(current_revision_id=param("next_revision_id")),
    GOING_ON: _edit_that_sets,
    COUNTING: _version_not_counted,
}
