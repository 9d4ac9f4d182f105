"""Retention: deletes what is old enough, kind by kind, and archives finished business. A kind that fails never stops the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from io import StringIO
from math import nan
from pathlib import Path
from threading import Event
from typing import Any

import structlog
from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine as Database

from domain.retaining import dossiers, kinds
from domain.retaining.kinds import KINDS, Kind
from domain.store.unit_of_work import housekeeping
from domain.texts import reason_of
from reconciliation import archiving
from reconciliation.archiving import Archiving
from workers.runtime.metrics import RETENTION_DELETED, RETENTION_FAILURES, RETENTION_OLDEST
from workers.runtime.outages import is_away
from workers.runtime.retries import repeat

INTERVAL = timedelta(minutes=5)  # a table grows by less than a thousandth of its size in this time
BATCH = 500  # some milliseconds: nobody notices a transaction of that length
TABLE_WIDTH = 132
AT_MOST = 100_000  # dossiers that a dry run counts
ARCHIVE, OF_ARCHIVE = "archive", "rows of finished business, once they are archived"

_log = structlog.get_logger()


@dataclass(slots=True)
class Progress:
    """How far the work on one kind has come. It is kept when the work fails, because what was deleted before the failure is gone."""

    rows: int = 0
    at_least: bool = False
    oldest: datetime | None = None
    failed: str = ""


Work = Callable[[timedelta, Progress], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of one kind: how many rows were deleted (in a dry run: would be), and since when the oldest one is kept.

    `at_least`: a dry run has stopped counting, and there may be more.
    """

    kind: str
    what: str
    age: timedelta
    rows: int = 0
    at_least: bool = False
    oldest: datetime | None = None
    failed: str = ""

    def as_json(self) -> dict[str, Any]:
        """The same for other programs."""
        oldest = self.oldest.isoformat() if self.oldest else None
        return {
            "kind": self.kind,
            "days": self.age / timedelta(days=1),
            "rows": self.rows,
            "atLeast": self.at_least,
            "oldest": oldest,
            "failed": self.failed or None,
        }


class Retainer:
    """Deletes old data. With `dry_run` it counts what it would delete. Without an `archive`, finished business stays in the tables."""

    def __init__(
        self,
        database: Database,
        ages: Mapping[str, timedelta],
        archive: Path | None,
        *,
        dry_run: bool = False,
        wait: timedelta = timedelta(),
    ) -> None:
        self._database = database
        self._ages = ages
        self._archiving = Archiving(database, archive, wait=wait) if archive is not None else None
        self._dry_run = dry_run

    def run(self, stop: Event) -> None:
        """Delete old data every five minutes until `stop` is set; outages are waited out."""
        repeat(self._round, stop, service="database of retention", idle=INTERVAL)

    def run_once(self) -> list[Done]:
        """Delete everything that is old now. Raises the errors of a database that cannot be reached."""
        done = [self._guarded(kind.name, kind.what, self._sweep(kind)) for kind in KINDS]
        if self._archiving is not None:
            done.append(self._guarded(ARCHIVE, OF_ARCHIVE, self._archive))
        return done

    def _round(self) -> int:
        self.run_once()
        return 0  # what is left needs time: the next round comes after the interval

    def _guarded(self, name: str, what: str, work: Work) -> Done:
        age, progress = self._ages[name], Progress()
        try:
            work(age, progress)
        except Exception as error:
            if is_away(error):
                raise
            _log.exception("retention_failed", kind=name)
            progress.failed = reason_of(error)
        if progress.failed:
            RETENTION_FAILURES.labels(name).inc()
        RETENTION_OLDEST.labels(name).set(progress.oldest.timestamp() if progress.oldest else nan)
        return Done(kind=name, what=what, age=age, **asdict(progress))

    def _sweep(self, kind: Kind) -> Work:
        def sweep(age: timedelta, progress: Progress) -> None:
            if self._dry_run:
                progress.rows = self._count(kind, age)
            else:
                self._delete(kind, age, progress)
            with housekeeping(self._database) as connection:
                progress.oldest = kinds.oldest(connection, kind)

        return sweep

    def _count(self, kind: Kind, age: timedelta) -> int:
        with housekeeping(self._database) as connection:
            return kinds.count(connection, kind, age)

    def _delete(self, kind: Kind, age: timedelta, progress: Progress) -> None:
        more = BATCH
        while more == BATCH:
            with housekeeping(self._database) as connection:
                more = kinds.delete(connection, kind, age, BATCH)
            RETENTION_DELETED.labels(kind.name).inc(more)
            progress.rows += more

    def _archive(self, age: timedelta, progress: Progress) -> None:
        if self._dry_run:
            self._count_finished(age, progress)
        else:
            self._move(age, progress)
        with housekeeping(self._database) as connection:
            progress.oldest = dossiers.oldest(connection)

    def _move(self, age: timedelta, progress: Progress) -> None:
        assert self._archiving is not None  # noqa: S101 - called with an archive alone
        try:
            _, failed = self._archiving.run(age)
        finally:
            progress.rows = self._archiving.deleted
            RETENTION_DELETED.labels(ARCHIVE).inc(progress.rows)
        progress.failed = f"{failed} dossiers or tenants failed: see the log" if failed else ""

    def _count_finished(self, age: timedelta, progress: Progress) -> None:
        """Count the rows of what is finished, each group in a transaction of its own: together they take longer than one may last."""
        counted = 0
        for tenant_id, group in archiving.groups(self._database, age, set(), AT_MOST):
            with housekeeping(self._database) as connection:
                progress.rows += dossiers.count(connection, tenant_id, group)
            counted += len(group)
        progress.at_least = counted == AT_MOST


def as_text(done: Sequence[Done], *, dry_run: bool, as_json: bool) -> str:
    """The result for people, as a table, or for other programs."""
    if as_json:
        return json.dumps({"dryRun": dry_run, "kinds": [each.as_json() for each in done]}, indent=2) + "\n"
    console = Console(width=TABLE_WIDTH, file=StringIO(), record=True)
    console.print(_as_table(done, dry_run=dry_run))
    return console.export_text()


def _as_table(done: Sequence[Done], *, dry_run: bool) -> Table:
    table = Table(title="What would be deleted" if dry_run else "What was deleted", title_justify="left")
    for name in ("kind", "what", "days kept", "rows", "oldest kept", "failed"):
        table.add_column(name, justify="right" if name in {"days kept", "rows"} else "left")
    for each in done:
        oldest = each.oldest.strftime("%Y-%m-%d %H:%M") if each.oldest else ""
        rows = f"at least {each.rows}" if each.at_least else str(each.rows)
        table.add_row(each.kind, each.what, f"{each.age / timedelta(days=1):g}", rows, oldest, each.failed)
    return table
