"""Retention: deletes what is old enough, kind by kind, and archives finished business. A kind that fails never stops the others."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import StringIO
from itertools import islice
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of one kind: how many rows were deleted (in a dry run: would be), and since when the oldest one is kept."""

    kind: str
    what: str
    age: timedelta
    rows: int = 0
    oldest: datetime | None = None
    failed: str = ""

    def as_json(self) -> dict[str, Any]:
        """The same for other programs."""
        oldest = self.oldest.isoformat() if self.oldest else None
        return {
            "kind": self.kind,
            "days": self.age / timedelta(days=1),
            "rows": self.rows,
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

    def _guarded(self, name: str, what: str, sweep: Callable[[timedelta], tuple[int, datetime | None, str]]) -> Done:
        age = self._ages[name]
        try:
            rows, oldest, failed = sweep(age)
        except Exception as error:
            if is_away(error):
                raise
            _log.exception("retention_failed", kind=name)
            rows, oldest, failed = 0, None, str(getattr(error, "orig", error)).strip().splitlines()[0]
        if failed:
            RETENTION_FAILURES.labels(name).inc()
        RETENTION_OLDEST.labels(name).set(oldest.timestamp() if oldest else nan)
        return Done(kind=name, what=what, age=age, rows=rows, oldest=oldest, failed=failed)

    def _sweep(self, kind: Kind) -> Callable[[timedelta], tuple[int, datetime | None, str]]:
        def sweep(age: timedelta) -> tuple[int, datetime | None, str]:
            rows = self._count(kind, age) if self._dry_run else self._delete(kind, age)
            with housekeeping(self._database) as connection:
                return rows, kinds.oldest(connection, kind), ""

        return sweep

    def _count(self, kind: Kind, age: timedelta) -> int:
        with housekeeping(self._database) as connection:
            return kinds.count(connection, kind, age)

    def _delete(self, kind: Kind, age: timedelta) -> int:
        rows, more = 0, BATCH
        while more == BATCH:
            with housekeeping(self._database) as connection:
                more = kinds.delete(connection, kind, age, BATCH)
            RETENTION_DELETED.labels(kind.name).inc(more)
            rows += more
        return rows

    def _archive(self, age: timedelta) -> tuple[int, datetime | None, str]:
        assert self._archiving is not None  # noqa: S101 - called with an archive alone
        rows, failed = (self._finished(age), 0) if self._dry_run else self._archiving.run(age)
        if not self._dry_run:
            RETENTION_DELETED.labels(ARCHIVE).inc(rows)
        with housekeeping(self._database) as connection:
            return rows, dossiers.oldest(connection), f"{failed} dossiers or tenants failed: see the log" if failed else ""

    def _finished(self, age: timedelta) -> int:
        """Count the rows of what is finished."""
        found = set(islice(archiving.finished(self._database, age), AT_MOST))
        with housekeeping(self._database) as connection:
            return sum(sum(1 for _ in dossiers.read(connection, each)) for each in found)


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
        table.add_row(each.kind, each.what, f"{each.age / timedelta(days=1):g}", str(each.rows), oldest, each.failed)
    return table
