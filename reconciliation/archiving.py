"""Archives finished business, and deletes from the tables what the archive has.

The steps: write a file, read it back, register it, read it again, delete each dossier in a transaction of its own, settle the file. A crash
between two steps loses nothing, because rows are deleted only while their registered file is found whole, and repeats nothing, because a
dossier of an unsettled file is not archived again. Of two writers, one gets the next place in a tenant's chain.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from uuid import UUID

import structlog
from sqlalchemy import Connection, Row
from sqlalchemy import Engine as Database

from domain import archives
from domain.retaining import dossiers, walks
from domain.retaining.dossiers import Dossier, Line
from domain.retaining.walks import Place
from domain.store.unit_of_work import housekeeping
from domain.texts import reason_of
from reconciliation.archive_files import (
    REMEDY,
    BrokenArchiveError,
    Entry,
    Written,
    as_written,
    entries,
    require_last,
    require_readable,
    seal,
    tenants_in,
    write,
)
from workers.runtime.metrics import RETENTION_ARCHIVED
from workers.runtime.outages import is_away

PAGE = 500  # rows that one statement of a walk reads
DOSSIERS_PER_FILE = 100  # some megabytes: written and read back within a second

_log = structlog.get_logger()


class _ChangedError(Exception):
    """A dossier is not as it was archived: its deletion is rolled back."""


class Archiving:
    """The archive in one directory. `wait`: the least time between two files of a tenant that are not full.

    `deleted`: how many rows the last run has deleted, also one that failed.
    """

    def __init__(self, database: Database, directory: Path, *, wait: timedelta = timedelta()) -> None:
        self._database = database
        self._directory = directory
        self._wait = wait
        self._age = timedelta()
        self._failed = 0
        self.deleted = 0

    def run(self, age: timedelta) -> tuple[int, int]:
        """Archive and delete what has been finished for `age`; returns how many rows were deleted, and how many dossiers or tenants failed.

        Nothing that stands in a broken archive is deleted.
        """
        self._failed = self.deleted = 0
        self._age = age
        with housekeeping(self._database) as connection:
            left = archives.unsettled(connection)
        tried, broken = set[UUID](), set[UUID]()
        for file in left:
            self._guarded(file.tenant_id, broken, partial(self._settle, file, tried))
        for tenant_id, group in groups(self._database, age, tried):
            self._guarded(tenant_id, broken, partial(self._move, tenant_id, group, tried))
        return self.deleted, self._failed

    def _guarded(self, tenant_id: UUID, broken: set[UUID], work: Callable[[], None]) -> None:
        """Work on the archive of one tenant. When that fails, for example on a broken file, the tenant is left out until the next run."""
        if tenant_id in broken:
            return
        try:
            work()
        except Exception as error:
            if is_away(error):
                raise
            _log.exception("archive_failed", tenantId=str(tenant_id), reason=reason_of(error))
            broken.add(tenant_id)
            self._failed += 1

    def _move(self, tenant_id: UUID, group: Sequence[Dossier], tried: set[UUID]) -> None:
        file = self._archive(tenant_id, group)
        if file is not None:
            self._settle(file, tried)

    def _archive(self, tenant_id: UUID, group: Sequence[Dossier]) -> Row[Any] | None:
        """Write, read back and register a file. None: another writer was first, or the file would not be full and the last one is young."""
        with housekeeping(self._database) as connection:
            last = archives.last_file(connection, tenant_id)
            if last is not None and len(group) < DOSSIERS_PER_FILE and datetime.now(UTC) - last.created_at < self._wait:
                return None
            keys = self._keys(connection, tenant_id, group)
        self._require_home(last)
        rows = [entry for dossier in group for entry in self._read(dossier, keys)]
        return self._write(tenant_id, last, rows) if rows else None

    def _require_home(self, last: Row[Any] | None) -> None:
        """Demand that the directory is the one of the archive. Raises BrokenArchiveError, or OSError when it cannot be read.

        A volume that is not mounted leaves an empty directory. What is written there is hidden or lost, and its rows would be deleted.
        """
        if last is not None:
            require_last(self._directory, self._expected(last))
            return
        with housekeeping(self._database) as connection:
            # The folders are read last: a tenant has its folder before its first file is registered.
            if archives.has_files(connection) and not archives.has_files(connection, tenants_in(self._directory)):
                raise BrokenArchiveError(f"{self._directory} has no folder of any tenant that has an archive: {REMEDY}")

    def _write(self, tenant_id: UUID, last: Row[Any] | None, rows: Sequence[Entry]) -> Row[Any] | None:
        """Write a file after the last one. None: another writer was first."""
        sequence, before = (last.sequence + 1, last.last_hash) if last is not None else (1, archives.beginning(tenant_id))
        written = write(self._directory, tenant_id, sequence, before, rows)
        for _ in entries(self._directory, written):
            pass  # reading it verifies it
        described = {name: getattr(written, name) for name in ("name", "lines", "first_hash", "last_hash")}
        with housekeeping(self._database) as connection:
            if not archives.register(connection, tenant_id, sequence, **described):
                return None
            RETENTION_ARCHIVED.inc(written.lines)
            return archives.last_file(connection, tenant_id)

    def _keys(self, connection: Connection, tenant_id: UUID, group: Sequence[Dossier]) -> dict[UUID, Row[Any]]:
        """Dossier -> the key of its customer; dossiers without a customer have that of nobody."""
        owners = dossiers.customers(connection, tenant_id, group)
        whose = {dossier.root_id: owners.get(dossier.root_id, "") for dossier in group}
        keys = archives.keys_for(connection, tenant_id, set(whose.values()))
        return {root_id: keys[customer] for root_id, customer in whose.items()}

    def _read(self, dossier: Dossier, keys: Mapping[UUID, Row[Any]]) -> list[Entry]:
        """Read one dossier. Returns nothing when it cannot be read, now or later, or was taken up again: it stays in its tables."""
        try:
            with housekeeping(self._database) as connection:
                dossiers.name_file(connection)
                lines = list(dossiers.read(connection, dossier))
                # Asked after the rows are read: what is finished now was finished when they were read.
                if not walks.is_finished(connection, dossier, self._age):
                    return []
            for line in lines:
                require_readable(line.row)
                require_readable(line.personal or "null")
            return [_entry_of(line, dossier, keys[dossier.root_id]) for line in lines]
        except Exception as error:
            if is_away(error):
                raise
            _log.exception("dossier_not_read", tenantId=str(dossier.tenant_id), dossier=str(dossier.root_id))
            self._failed += 1
            return []

    def _settle(self, file: Row[Any], tried: set[UUID]) -> None:
        """Delete each dossier that still matches its registered file."""
        archived: dict[UUID, list[Any]] = defaultdict(list)
        for line in entries(self._directory, self._expected(file)):
            archived[UUID(line["dossier"])].append(_comparable(line))
        tried.update(archived)
        is_settled = True
        for root_id, lines in archived.items():
            rows = self._delete(file, Dossier(file.tenant_id, root_id), lines)
            is_settled = is_settled and rows is not None
            self.deleted += rows or 0
        if is_settled:
            with housekeeping(self._database) as connection:
                archives.settle(connection, file)

    def _expected(self, file: Row[Any]) -> Written:
        """A file with the hash before it, which the database knows."""
        with housekeeping(self._database) as connection:
            known = archives.files_of(connection, file.tenant_id)
        return next(
            each for each in as_written(file.tenant_id, known, archives.beginning(file.tenant_id)) if each.sequence == file.sequence
        )

    def _delete(self, file: Row[Any], dossier: Dossier, archived: list[Any]) -> int | None:
        """Delete one dossier. None: somebody works on it, or it failed, so it is tried again later. 0: it has changed or is gone, and stays."""
        try:
            with housekeeping(self._database) as connection:
                dossiers.name_file(connection, file.id)
                if not dossiers.lock(connection, dossier):
                    return None
                if not walks.is_finished(connection, dossier, self._age):
                    return 0  # taken up again, or gone: then nobody knows whose it was, and a key for nobody would be made
                key = self._keys(connection, file.tenant_id, [dossier])[dossier.root_id]
                lines = dossiers.delete(connection, dossier)
                _require_same([_comparable(_as_line(_entry_of(line, dossier, key))) for line in lines], archived)
                return len(archived)
        except _ChangedError:
            return 0
        except Exception as error:
            if is_away(error):
                raise
            _log.exception("dossier_not_deleted", tenantId=str(dossier.tenant_id), dossier=str(dossier.root_id), file=file.name)
            self._failed += 1
            return None


def groups(
    database: Database, age: timedelta, tried: set[UUID], at_most: int | None = None
) -> Iterator[tuple[UUID, list[Dossier]]]:
    """What has been finished for `age`, without what was tried: the dossiers of a tenant that fill a file, or are left at the end."""
    return _files_of(islice(_once(finished(database, age), tried), at_most))


def finished(database: Database, age: timedelta) -> Iterator[Dossier]:
    """Walk page by page through what has been finished for `age`, the oldest of each kind first."""
    for walk in walks.WALKS:
        place: Place | None = walks.START
        while place is not None:
            with housekeeping(database) as connection:
                page = walks.finished(connection, walk, age, PAGE, place)
            yield from page.finished
            place = page.last


def _once(found: Iterable[Dossier], tried: set[UUID]) -> Iterator[Dossier]:
    for dossier in found:
        if dossier.root_id not in tried:
            tried.add(dossier.root_id)
            yield dossier


def _files_of(found: Iterable[Dossier]) -> Iterator[tuple[UUID, list[Dossier]]]:
    """Group dossiers by tenant: each group as soon as it fills a file, the rest of every tenant at the end."""
    groups: dict[UUID, list[Dossier]] = defaultdict(list)
    for dossier in found:
        groups[dossier.tenant_id].append(dossier)
        if len(groups[dossier.tenant_id]) == DOSSIERS_PER_FILE:
            yield dossier.tenant_id, groups.pop(dossier.tenant_id)
    yield from groups.items()


def _require_same(deleted: Sequence[Any], archived: Sequence[Any]) -> None:
    if sorted(deleted) != sorted(archived):
        raise _ChangedError


def _entry_of(line: Line, dossier: Dossier, key: Row[Any]) -> Entry:
    if line.personal is None:
        return Entry(line.table, dossier.root_id, line.row)
    return Entry(line.table, dossier.root_id, line.row, str(key.id), seal(bytes(key.key), line.personal, line.table))


def _as_line(entry: Entry) -> dict[str, Any]:
    sealed = {"sealed": entry.sealed} if entry.sealed else {}
    return {"table": entry.table, "row": json.loads(entry.row), **sealed}


def _comparable(line: Mapping[str, Any]) -> tuple[str, str, str]:
    return line["table"], json.dumps(line["row"], sort_keys=True), line.get("sealed", "")
