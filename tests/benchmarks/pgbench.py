"""The bound: the statements of one real acceptance, carried out by pgbench, which does nothing else.

The script is made from what SQLAlchemy sent, so it cannot fall behind the command. Every value that differs from one acceptance to the
next stands ready in a table; the look that fetches them is timed by pgbench and taken out of the result.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import Engine, make_url, text

from domain.store.sending import to_json
from tests.benchmarks.approved import Approved
from tests.support.statements import Sent
from workers.local import postgres

PROGRAM = postgres._binary("pgbench")  # beside the server that the local stack runs
PROGRAM_THREADS = 2  # of one client each, or a few: it waits for the server almost all the time


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """A transaction for pgbench; `constants` are the values that are the same every time."""

    name: str
    file: Path
    constants: Mapping[str, str]

    def per_second(self, engine: Engine, numbers: range, clients: int) -> float:
        """Carry it out for these numbers; transactions a second, without the looks that fetched the values."""
        url, share = make_url(engine.url), len(numbers) // clients
        given = {**self.constants, "first": str(numbers.start), "share": str(share), "done": "0"}
        done = subprocess.run(
            [
                *(PROGRAM, "--no-vacuum", "--protocol=prepared", "--report-per-command", f"--file={self.file}"),
                *(f"--client={clients}", f"--jobs={min(clients, PROGRAM_THREADS)}", f"--transactions={share}"),
                *(f"--define={name}={value}" for name, value in given.items()),
                *(f"--host={url.host}", f"--port={url.port}", f"--username={url.username}", str(url.database)),
            ],
            env=os.environ | {"PGPASSWORD": str(url.password)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert f"actually processed: {share * clients}/{share * clients}\n" in done.stdout, done.stdout
        whole = _milliseconds(done.stdout, "latency average =", 3)
        return clients / (whole - _milliseconds(done.stdout, " SELECT value_", 0)) * 1000


def _milliseconds(report: str, label: str, position: int) -> float:
    return next(float(line.split()[position]) for line in report.splitlines() if label in line)


def script(name: str, approved: Approved, sent: list[Sent], numbers: range, directory: Path) -> Script:
    """Write the script, and the values of these numbers into a table of its own."""
    constants: dict[str, str] = {}
    varying: dict[str, str] = {}
    lines = []
    for place, (statement, parameters) in enumerate(sent):
        line = statement
        for parameter, value in parameters.items():
            known, variable = as_text(value), f"value_{place}_{parameter}"
            if known is not None:
                differs = approved.copies.renamed(known, 0) != known  # no copy has this number
                (varying if differs else constants)[variable] = known
            line = line.replace(f"%({parameter})s", "NULL" if known is None else f":{variable}")
        lines.append(" ".join(line.replace("%%", "%").split()) + ";")
    _store(approved, f"bench_{name}", varying, numbers)
    file = directory / f"{name}.sql"
    fetch = f"SELECT {', '.join(varying)} FROM bench_{name} WHERE number = :number \\gset"
    count = ["\\set number :first + :client_id * :share + :done", "\\set done :done + 1"]
    file.write_text("\n".join([*count, fetch, *lines, "COMMIT;"]) + "\n", encoding="utf-8")  # the first statement begins
    return Script(name=name, file=file, constants=constants)


def _store(approved: Approved, table: str, varying: Mapping[str, str], numbers: range) -> None:
    columns = ", ".join(f"{name} text" for name in varying)
    with approved.engine.begin() as connection:
        connection.execute(text(f"DROP TABLE IF EXISTS {table}"))
        connection.execute(text(f"CREATE TABLE {table} (number integer PRIMARY KEY, {columns})"))
        driver: Any = connection.connection.driver_connection
        with driver.cursor().copy(f"COPY {table} FROM STDIN") as copy:
            for number in numbers:
                copy.write_row([number, *(approved.copies.renamed(value, number) for value in varying.values())])
    approved.settle()


def as_text(value: Any) -> str | None:
    """A parameter as pgbench sends it: as text; None stays what it is."""
    if isinstance(value, Jsonb):
        return json.dumps(value.obj)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime):
        return value.isoformat()
    return None if value is None else str(value)


@contextmanager
def one_by_one() -> Iterator[None]:
    """Send every row and every write as a statement of its own, the way it would be written without the unit of work's collecting."""
    writes: Any = import_module("domain.store.sending").Writes
    kept = writes.insert, writes.run

    def insert(self: Any, table: Any, rows: Any) -> None:
        for row in rows:
            documents = {name: json.loads(to_json(value)) for name, value in row.items() if isinstance(value, Mapping)}
            self._connection.execute(table.insert(), {**row, **documents})

    def run(self: Any, statement: Any, values: Any) -> None:
        self._connection.execute(statement, values)

    writes.insert, writes.run = insert, run
    try:
        yield
    finally:
        writes.insert, writes.run = kept


Contender = Callable[[range, int], float]
"""Does the numbers with so many clients; how many a second."""
