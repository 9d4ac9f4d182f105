"""Installs requirements with pip and shows the progress: a set-up that prints nothing for minutes looks as if it hangs.

The Makefile runs this file before anything is installed, so it needs only the standard library. The output of pip goes into a log, which is
printed when pip fails.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from time import monotonic

PIP = (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off", "--require-hashes", "-r")
# A person who sees nothing for ten seconds begins to wonder.
QUIET_SECONDS = 8.0
# Packages between two lines of progress, of about seventy in all.
EVERY = 10
# From this size on, a download takes long enough on a slow line to be announced.
LARGE_MB = 10.0
LARGE = re.compile(r"Downloading (?P<name>[^\s-]+)\S* \((?P<size>[\d.]+) MB\)")

Say = Callable[[str], object]


def follow(command: Sequence[str], total: int, log: Path, say: Say, quiet_seconds: float = QUIET_SECONDS) -> int:
    """Run the command, report its progress, and return its exit code."""
    began, lines = monotonic(), Queue[str | None]()
    pip = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)  # noqa: S603 - the command is ours
    with pip as process, log.open("a") as kept:
        Thread(target=_read, args=(process, lines), daemon=True).start()
        count = 0
        for line in _lines(lines, quiet_seconds):
            if line is None:
                say(f"  still working after {monotonic() - began:.0f} s")
                continue
            kept.write(line)
            count += line.startswith("Collecting ")
            if progress := _progress(line, count, total):
                say(progress)
        return process.wait()


def _read(process: subprocess.Popen[str], lines: Queue[str | None]) -> None:
    for line in process.stdout or ():
        lines.put(line)
    lines.put(None)


def _lines(lines: Queue[str | None], quiet_seconds: float) -> Iterator[str | None]:
    """Yield each line, and None whenever no line came for `quiet_seconds`."""
    while True:
        try:
            line = lines.get(timeout=quiet_seconds)
        except Empty:
            yield None
            continue
        if line is None:
            return
        yield line


def _progress(line: str, count: int, total: int) -> str | None:
    if line.startswith("Collecting ") and count % EVERY == 0:
        return f"  {count} of {total} packages"
    if (large := LARGE.search(line)) and float(large["size"]) >= LARGE_MB:
        return f"  downloading {large['name']} ({large['size']} MB)"
    return "  unpacking" if line.startswith("Installing collected packages") else None


def main(requirements: Path, log: Path) -> int:
    """Install the pinned requirements of the file. When that fails, print the log."""

    def say(text: str) -> None:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()

    total = sum("==" in line for line in requirements.read_text().splitlines())
    say(f"installing {requirements}: {total} packages (log: {log})")
    code = follow([*PIP, str(requirements)], total, log, say)
    if code:
        say(log.read_text())
    return code


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
