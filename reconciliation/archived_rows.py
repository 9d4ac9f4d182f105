"""Lets the audit see archived rows beside those in the tables: its transaction gets views with the names of the tables, for itself alone.

A row that stands in an archive and still in its table is taken from the table, and of two archived copies the later one.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, TextClause, text

from domain import archives
from domain.auditing import CheckResult
from domain.retaining.dossiers import PARTS, PERSONAL
from domain.schema import METADATA
from domain.store.isolation import EVERY_TENANT
from domain.store.transactions import transaction
from reconciliation.archive_files import BrokenArchiveError, as_written, entries, restored
from workers.runtime.counting import counted

TITLE = "the archive is as it was written"
AT_ONCE = 8_000_000  # characters in one statement: PostgreSQL takes some hundred million, and an archive has more


class Filling:
    """Writes archived rows to the temporary tables in batches, because an archive may not fit into memory."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._rows: dict[str, dict[str, str]] = defaultdict(dict)
        self.size = 0

    def add(self, table: str, row: Mapping[str, Any]) -> None:
        """Take a row, in place of an earlier copy of it."""
        written = json.dumps(row)
        self._rows[table][json.dumps([row[name] for name in _key(table)])] = written
        self.size += len(written)
        if self.size >= AT_ONCE:
            self.flush()

    def flush(self) -> None:
        """Write what was taken."""
        for table, rows in self._rows.items():
            self._connection.execute(_filling(table), {"rows": f"[{','.join(rows.values())}]"})
        self._rows.clear()
        self.size = 0


@contextmanager
def seeing_archives(database: Engine, directory: Path | None) -> Iterator[Connection]:
    """A transaction at one moment that sees archived rows too, once `load` has read them. It is never committed, so nothing of it stays.

    Without a directory it only reads, so a standby is good enough.
    """
    # Rows that mix two tenants are visible only to all tenants.
    with transaction(database, EVERY_TENANT, "ISOLATION LEVEL REPEATABLE READ") as connection:
        for table in PARTS if directory is not None else ():
            connection.execute(text(f"CREATE TEMPORARY TABLE archived_{table} AS TABLE public.{table} WITH NO DATA"))
            connection.execute(text(f"ALTER TABLE archived_{table} ADD PRIMARY KEY ({', '.join(_key(table))})"))
            connection.execute(text(_view(table)))
        connection.execute(text("SET TRANSACTION READ ONLY"))  # which lets temporary tables be written
        yield connection


def load(connection: Connection, tenant_id: UUID, directory: Path | None) -> CheckResult:
    """Read a tenant's archive into the transaction, and check it (I32). What follows the first fault of a file is not read.

    The transaction has taken its snapshot before: then whatever it misses in the tables stands in a file.
    """
    filling, read = Filling(connection), {"files": 0, "lines": 0}
    files = archives.files_of(connection, tenant_id)
    faults = []
    if files and directory is None:
        faults.append(f"This tenant has {counted(len(files), 'archive file')}, and no directory of archives is named.")
    keys = archives.keys_of(connection, tenant_id)
    try:
        for file in as_written(tenant_id, files, archives.beginning(tenant_id)) if directory is not None else ():
            read["files"] += 1
            faults += _read(file, directory, keys, filling, read)
    except BrokenArchiveError as error:
        faults.append(f"The archive is broken: {error}.")
    filling.flush()
    return CheckResult(code="I32", title=TITLE, counted=read, violations=tuple(faults))


def _read(file: Any, directory: Any, keys: Mapping[str, bytes], filling: Filling, read: dict[str, int]) -> list[str]:
    """Read one file; returns its first fault. A file is read although the one before it is broken: each begins with a known hash."""
    try:
        for line in entries(directory, file):
            table = line["table"]
            filling.add(table, restored(line, PERSONAL.get(table, ()), keys))
            read["lines"] += 1
    except BrokenArchiveError as error:
        return [f"The archive is broken: {error}."]
    return []


def _key(table: str) -> list[str]:
    return [column.name for column in METADATA.tables[table].primary_key.columns]


@cache
def _filling(table: str) -> TextClause:
    source = f"jsonb_populate_recordset(NULL::public.{table}, CAST(:rows AS jsonb))"
    later = ", ".join(f"{column.name} = excluded.{column.name}" for column in METADATA.tables[table].columns)
    conflict = f"ON CONFLICT ({', '.join(_key(table))}) DO UPDATE SET {later}"
    return text(f"INSERT INTO archived_{table} SELECT * FROM {source} {conflict}")  # noqa: S608 - names of the models


def _view(table: str) -> str:
    same = " AND ".join(f"p.{name} = a.{name}" for name in _key(table))
    return (
        f"CREATE TEMPORARY VIEW {table} AS SELECT * FROM public.{table} UNION ALL "  # noqa: S608 - names of the models
        f"SELECT * FROM archived_{table} a WHERE NOT EXISTS (SELECT FROM public.{table} p WHERE {same})"
    )
