"""Writes the page docs/topics.md from the declarations of the topics, and from the retry policies in the models."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from lxml import etree

from workers.deployment import models_root
from workers.pod.retry_policy import PROPERTY
from workers.tasks.topics import CONTRACTS

PAGE = Path(__file__).parents[2] / "docs" / "topics.md"
HEAD = """# Topics

Every topic that a model may use: the variables that its worker reads and sets, the fields of a form that a person has filled in before it
(answers: the worker reads them from the engine's history of that completion, never from variables), the BPMN errors that it may raise,
which a boundary event must catch, the retry policy that the models give it, and whether the worker waits for a provider: such tasks never
get all places of a pod. What the variables mean is explained in
[bpmn/README.md](../bpmn/README.md#variables-of-the-topics). `q2o check` compares the models with the same declarations.

Written by `make topics`; do not edit.

| topic | reads | answers | sets | BPMN errors | retries | asks a provider |
|---|---|---|---|---|---|---|
"""
NAMESPACES = {"bpmn": "http://www.omg.org/spec/BPMN/20100524/MODEL", "camunda": "http://camunda.org/schema/1.0/bpmn"}


def page() -> str:
    rows = [
        f"| `{contract.name}` | {_names(contract.variables)} | {_names(contract.answers)} | {_names(contract.sets)} "
        f"| {_names(contract.errors)} | {', '.join(sorted(set(_retries(contract.name))))} | {'yes' if contract.asks_provider else ''} |"
        for contract in sorted(CONTRACTS.values(), key=lambda contract: contract.name)
    ]
    return HEAD + "\n".join(rows) + "\n"


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _retries(topic: str) -> Iterator[str]:
    """The retry policies of the tasks with this topic, in all models."""
    for file in models_root().glob("*.bpmn"):
        policies = etree.parse(file).xpath(
            "//*[@camunda:topic=$topic]/bpmn:extensionElements/camunda:properties/camunda:property[@name=$name]/@value",
            namespaces=NAMESPACES,
            topic=topic,
            name=PROPERTY,
        )
        yield from (str(policy) for policy in policies)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
