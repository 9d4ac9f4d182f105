"""The page docs/topics.md, written from the declarations of the topics."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from workers.tasks.topics import CONTRACTS

PAGE = Path(__file__).parents[2] / "docs" / "topics.md"
HEAD = """# Topics

Every topic that a model may use: the variables that its worker reads and sets, and the BPMN errors that it may raise, which a boundary event
must catch. `q2o check` compares the models with it. Written by `make topics`; do not edit.

| Topic | Reads | Sets | BPMN errors |
|---|---|---|---|
"""


def page() -> str:
    rows = [
        f"| `{contract.name}` | {_names(contract.variables)} | {_names(contract.sets)} | {_names(contract.errors)} |"
        for contract in sorted(CONTRACTS.values(), key=lambda contract: contract.name)
    ]
    return HEAD + "\n".join(rows) + "\n"


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
