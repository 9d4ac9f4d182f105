"""Local stacks of a test's own: their processes, a stack that another process runs, and a stack that refuses to start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy.engine import make_url

from workers.local.errors import StackError
from workers.local.stack import LocalStack

ROOT = Path(__file__).resolve().parents[2]


# A process that starts parts, prints their process ids, and stays until it is killed.
HOLDER = """
import json, signal, sys, threading
from pathlib import Path
from workers.local.stack import LocalStack
# Tests in the background of a shell, or under nohup, have these ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
parts = sys.argv[2].split(",")
with LocalStack(Path(sys.argv[1]), parts, {}) as stack:
    print(json.dumps({part: getattr(stack, part).pid for part in parts}), flush=True)
    threading.Event().wait()
"""


def plain(database_url: str) -> str:
    """Write the address as PostgreSQL's own client takes it."""
    return make_url(database_url).set(drivername="postgresql").render_as_string(hide_password=False)


def processes_of(directory: Path) -> list[list[str]]:
    found = []
    for process in psutil.process_iter():
        try:
            command = process.cmdline()
        except psutil.Error:
            continue
        if command and Path(command[0]).name in {"java", "postgres", "initdb"} and any(str(directory) in each for each in command):
            found.append(command)
    return found


@contextmanager
def holder(directory: Path, parts: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, psutil.Process]]]:
    """A process that holds the parts of a stack, and the process of each part. A later process with the same id is not mistaken for it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", HOLDER, str(directory), parts]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        try:
            assert process.stdout is not None
            yield process, {part: psutil.Process(pid) for part, pid in json.loads(process.stdout.readline()).items()}
        finally:
            process.kill()


def refused(stack: LocalStack) -> str:
    """Start the stack, expect an error of one line, and check that no process is left."""
    with pytest.raises(StackError) as caught, stack:
        pass
    message = str(caught.value)
    assert "\n" not in message
    assert processes_of(stack.data_dir) == []
    return message
