"""How long Kafka, the engine and the tables keep something fits together."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from domain.auditing.outside import ENGINE_HISTORY
from domain.store.outbox import INBOX_IS_WHOLE_FOR
from workers.runtime.ages import DAYS

ROOT = Path(__file__).parents[2]
MODELS = sorted(path for ending in ("*.bpmn", "*.dmn") for path in (ROOT / "bpmn").glob(ending))


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.name)
def test_the_history_of_a_model_lives_as_long_as_the_audit_expects(model: Path) -> None:
    assert set(re.findall(r'historyTimeToLive="([^"]*)"', model.read_text(encoding="utf-8"))) == {f"P{ENGINE_HISTORY.days}D"}


def test_the_engine_keeps_history_as_long_as_the_models_say() -> None:
    settings = (ROOT / "docker/engine/application.yaml").read_text(encoding="utf-8")

    assert re.findall(r"^    history-time-to-live: (.*)$", settings, re.MULTILINE) == [f"P{ENGINE_HISTORY.days}D"]
    assert len(re.findall(r"^    history-cleanup-batch-window-(?:start|end)-time: ", settings, re.MULTILINE)) == 2


def test_the_engine_forgets_after_the_workflow_commands_and_before_the_archive() -> None:
    """A command can be compared with its instance as long as it is kept; personal data leave the engine before the tables."""
    assert DAYS["workflow_commands"] <= DAYS["payloads"] <= ENGINE_HISTORY.days < DAYS["archive"]


def test_an_inbox_remembers_longer_than_kafka_delivers() -> None:
    properties = (ROOT / "docker/kafka/server.properties").read_text(encoding="utf-8")
    [hours] = re.findall(r"^log\.retention\.hours=(\d+)$", properties, re.MULTILINE)

    assert int(hours) <= INBOX_IS_WHOLE_FOR.days * 24
    assert DAYS["inbox"] >= 2 * INBOX_IS_WHOLE_FOR.days
