"""The models pass the linter of Camunda Modeler, and the linter finds a planted fault."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.models import change
from tests.support.rendering import MODELS, SUPPORT, ModelToolsError, model_tools, skip_without


@pytest.fixture(scope="module")
def tools() -> Path:
    try:
        return model_tools()
    except ModelToolsError as error:
        skip_without(error)


def lint(files: Sequence[Path], tools: Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [
        "node",
        tools / "bpmnlint" / "bin" / "bpmnlint.js",
        "--max-warnings=0",
        "--config",
        SUPPORT / ".bpmnlintrc",
        *files,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=SUPPORT, timeout=120)


def test_modeler_shows_no_lint_finding(tools: Path) -> None:
    result = lint(sorted(MODELS.glob("*.bpmn")), tools)
    assert result.returncode == 0, result.stdout


def test_the_linter_finds_a_planted_fault(tools: Path, tmp_path: Path) -> None:
    shutil.copytree(MODELS, tmp_path / "models")
    change("quote-approval.bpmn", ' name="Register workflow"', "")(tmp_path / "models")
    assert lint([tmp_path / "models" / "quote-approval.bpmn"], tools).returncode != 0
