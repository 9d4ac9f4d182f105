"""The page `docs/first-quote.md` works: its blocks are pasted into bash, one after the other, beside a running suite."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.support.suite import EVERYTHING, prepared, working
from workers.local.stack import LocalStack
from workers.runtime.settings import TENANT

# One fixture starts the services, the suite and some forty programs: a busy machine may need longer for it than for any one test.
pytestmark = [pytest.mark.stack, pytest.mark.timeout(360)]

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"^```bash\n(.*?)^```$", re.DOTALL | re.MULTILINE)
MACHINE = ("HOME", "LANG")
# Printed after each block, so that the test can separate the answers.
END_OF_STEP = "echo '--- end of step'"
# A quiet machine needs some 20 s; after this time the test fails, before the time-out of the run.
PATIENCE_SECONDS = 240
BEFORE_THE_STEPS = 2


@pytest.fixture(scope="module")
def answers(stack: LocalStack) -> Iterator[list[str]]:
    """The output of each step of the page. The page does not name the tenant; `q2o token` finds it."""
    tenant_id = uuid4()
    with prepared(stack, **{TENANT: str(tenant_id)}) as local, working(local.settings, *EVERYTHING):
        local.add_tenant(tenant_id)
        yield followed(stack.data_dir, local.api_url)


def followed(data_dir: Path, api_url: str) -> list[str]:
    blocks = BLOCK.findall((ROOT / "docs" / "first-quote.md").read_text())
    script = "\n".join(["set -euo pipefail", *(f"{block}\n{END_OF_STEP}" for block in blocks)])
    own = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "Q2O_DATA_DIR": str(data_dir), "Q2O_API": api_url}
    environment = {name: os.environ[name] for name in MACHINE if name in os.environ} | own
    ended = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout.split(END_OF_STEP.removeprefix("echo '").removesuffix("'"))[BEFORE_THE_STEPS:-1]


def test_ten_steps_lead_from_a_token_to_a_fulfilled_order(answers: list[str]) -> None:
    assert len(answers) == 10
    assert '"status": "DRAFT"' in answers[1]
    assert answers[4].split() == ["APPROVED"]
    assert answers[8].split() == ["FULFILLED"]


def test_the_change_of_an_accepted_quote_is_refused_with_advice(answers: list[str]) -> None:
    assert '"code": "' in answers[7]
    assert '"safeUserAction": "' in answers[7]


def test_the_timeline_ends_with_the_fulfilled_order(answers: list[str]) -> None:
    assert answers[9].strip().splitlines()[-1].endswith("order TRANSITION FULFILLED")
