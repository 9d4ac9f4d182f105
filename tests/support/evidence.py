"""Figures that a run measured: name, value, unit, spread, commit, in `build/evidence.json`. `python -m tests.support.evidence` prints them."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

FILE = Path(__file__).parents[2] / "build" / "evidence.json"
COLUMNS = ("name", "value", "unit", "spread", "commit")


def record(name: str, value: float, unit: str, spread: str = "") -> None:
    """Keep a figure; a later one of the same name replaces it. Runs at the same time keep each other's figures."""
    FILE.parent.mkdir(exist_ok=True)
    with (FILE.parent / "evidence.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        figures = {figure["name"]: figure for figure in figures_so_far()}
        figures[name] = {"name": name, "value": value, "unit": unit, "spread": spread, "commit": commit()}
        new = FILE.with_suffix(".new")
        new.write_text(json.dumps(sorted(figures.values(), key=lambda figure: figure["name"]), indent=2) + "\n")
        new.replace(FILE)


def figures_so_far() -> list[dict[str, Any]]:
    """Every figure kept so far."""
    return list(json.loads(FILE.read_text())) if FILE.exists() else []


def commit() -> str:
    """The commit that was measured; a tree without git has none."""
    if shutil.which("git") is None:
        return "unknown"
    answer = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=FILE.parents[1], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or "unknown"


def main() -> None:
    """Print the figures as a table."""
    table = Table(*COLUMNS, title="Evidence", title_justify="left")
    for figure in figures_so_far():
        table.add_row(*(f"{figure[column]:,.6g}" if column == "value" else str(figure[column]) for column in COLUMNS))
    Console().print(table if table.row_count else "no figures yet: run `make test` or `make bench`")


if __name__ == "__main__":
    main()
