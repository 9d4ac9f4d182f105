"""Processes of `q2o` that need not import the product: each is a copy of one process that has imported it and does nothing else.

A copy has its own environment, arguments, streams and exit code, as `python -m workers` has.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
# It has no thread and no connection, so that a copy of it is whole. A copy leaves the loop by the exit of its command, and then need not
# collect what is frozen.
ORIGINAL = """
import gc, json, os, sys
import workers.bpmn_contract, workers.cli, workers.demo.command, workers.http.app, workers.suite
gc.freeze()
for line in sys.stdin:
    order = json.loads(line)
    copy = os.fork()
    if copy == 0:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(order["stdout"], os.O_WRONLY | os.O_CREAT), 1)
        os.dup2(os.open(order["stderr"], os.O_WRONLY | os.O_CREAT), 2)
        os.environ.clear()
        os.environ.update(order["environment"])
        sys.argv[1:] = order["arguments"]
        workers.cli.main()
    print(os.waitstatus_to_exitcode(os.waitpid(copy, 0)[1]), flush=True)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Commands:
    """The process that is copied, and where its copies write."""

    directory: Path
    orders: IO[str]
    answers: IO[str]

    def run(self, *arguments: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        files = {stream: self.directory / stream for stream in ("stdout", "stderr")}
        for file in files.values():
            file.unlink(missing_ok=True)
        order = {"arguments": arguments, "environment": dict(environment)} | {name: str(file) for name, file in files.items()}
        self.orders.write(json.dumps(order) + "\n")
        self.orders.flush()
        code = int(self.answers.readline())
        return subprocess.CompletedProcess(arguments, code, files["stdout"].read_text(), files["stderr"].read_text())


@contextmanager
def commands(directory: Path) -> Iterator[Commands]:
    """Import the product once, for the commands of the block."""
    original = subprocess.Popen(
        [sys.executable, "-c", ORIGINAL],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # whatever a failed test leaves is ended together
    )
    with original:
        assert original.stdin is not None
        assert original.stdout is not None
        try:
            yield Commands(directory=directory, orders=original.stdin, answers=original.stdout)
        finally:
            os.killpg(original.pid, signal.SIGKILL)
