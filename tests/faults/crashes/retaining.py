"""Crashes retention at its gates, lets another process go on, and compares what is left with an undisturbed run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch
from uuid import UUID

from sqlalchemy import Engine, text

from reconciliation.retention import ARCHIVE, Retainer
from tests.faults.crashes.mortal import Crash, Mortal
from tests.faults.crashes.sweeps import COUNTS, Swept, crashes_at, sample, until_it_dies
from tests.races.explorer.stage import Stage
from tests.support.database import acting, new_database
from tests.support.offers import offers_of_new_tenant
from tests.support.old_rows import fill
from tests.support.retaining import key_of, lines_of
from workers.local.logins import address_of
from workers.runtime.ages import DAYS
from workers.runtime.database import connect

AGES: Mapping[str, timedelta] = {**{name: timedelta(days=days) for name, days in DAYS.items()}, ARCHIVE: timedelta()}
RETENTION = "retain"
QUOTES, PER_FILE = 3, 2
"""Finished quotes, and how many of them a file takes: so there are two files."""
REFUSALS = "SELECT 'conflict_log', count(*) FROM conflict_log"


@contextmanager
def retained_world(database_url: str, name: str) -> Iterator[Retaining]:
    """Make a database with finished business and with old rows of every kind. The server must be `open_to_tests`."""
    with new_database(database_url, name) as engine:
        fill(engine)
        offers = offers_of_new_tenant(engine)
        for _ in range(QUOTES):
            offers.draft_quote()
        with engine.begin() as connection:
            connection.execute(
                text("UPDATE quote SET status = 'CANCELLED' WHERE tenant_id = :tenant"), {"tenant": offers.tenant_id}
            )
        stage = Stage(engine.url.render_as_string(hide_password=False))
        try:
            stage.keep()
            yield Retaining(engine, stage, offers.tenant_id)
        finally:
            stage.close()


class Retaining:
    """Crashes retention in one world, which is restored each time."""

    def __init__(self, engine: Engine, stage: Stage, archived: UUID) -> None:
        """`archived`: the tenant whose business is finished."""
        self._engine, self._stage, self._archived = engine, stage, archived

    def crash(self, most: int | None = None) -> Swept:
        """Crash retention at each of its gates, in every way. `most` limits the crashes to so many, spread evenly."""
        changed, calm, gates = self._play()
        crashes = list(sample(list(crashes_at(gates)), most))
        wrong = [objection for crash in crashes for objection in self._objections(crash, calm)]
        return Swept(kind=RETENTION, gates=len(gates), crashes=len(crashes), changed=changed, wrong=tuple(wrong))

    def _objections(self, crash: Crash, calm: dict[str, int]) -> Iterator[str]:
        _, left, _ = self._play(crash)
        for what in sorted({*calm, *left}):
            if left.get(what, 0) != calm.get(what, 0):
                yield f"retain, {crash.death} gate {crash.gate}: {left.get(what, 0)} {what}, and undisturbed {calm.get(what, 0)}"

    def _play(self, crash: Crash | None = None) -> tuple[int, dict[str, int], list[str]]:
        """Retain once with this crash, then by another process; returns the deleted rows, what is left, and the gates."""
        self._stage.restore()
        with TemporaryDirectory() as name, patch("reconciliation.archiving.DOSSIERS_PER_FILE", PER_FILE):
            directory = Path(name)
            deleted, gates = self._once(directory, crash)
            deleted += _deleted(Retainer(acting(self._engine, "retain"), AGES, directory))
            return deleted, self._left(directory), gates

    def _once(self, directory: Path, crash: Crash | None) -> tuple[int, list[str]]:
        mortal = Mortal(connect(address_of("retain", self._stage.database_url), "retain"), crash)
        deleted = until_it_dies(mortal, lambda database: _deleted(Retainer(database, AGES, directory)))
        return deleted, mortal.gates

    def _left(self, directory: Path) -> dict[str, int]:
        """Rows by table and status, and the lines of the archive: each row of the finished business is in one place, once."""
        lines = [key_of(line) for line in lines_of(self._engine, directory, self._archived)]
        counts = {str(what): int(number) for what, number in self._stage.look(f"{COUNTS} UNION ALL {REFUSALS}", {})}
        return counts | {"lines of the archive": len(lines), "archived rows": len(set(lines))}


def _deleted(retainer: Retainer) -> int:
    return sum(each.rows for each in retainer.run_once())
