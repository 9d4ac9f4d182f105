"""Follows the variables through the models: something must set each variable that a topic, an expression, a decision or a form reads.

The engine reports a misspelt name only in the instance that needs it; in a form or a decision it takes a missing variable for an empty one,
and reports nothing. So every name is looked up here, before a deployment. Names are looked up per process, not per path through it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from lxml import etree

_BPMN = "{http://www.omg.org/spec/BPMN/20100524/MODEL}"
_CAMUNDA = "{http://camunda.org/schema/1.0/bpmn}"
_EXPRESSION = re.compile(r"[$#]\{(.+?)\}", re.DOTALL)
_TEXT_LITERAL = re.compile(r"'[^']*'|\"[^\"]*\"")
# A name that is neither a property of another name nor a function.
_NAME = re.compile(r"(?<![\w.])[A-Za-z_]\w*(?!\w|\s*\()")
_PROPERTY_OF_JSON = re.compile(r"(\w+)\.prop\('(\w+)'\)")
_COLUMN = re.compile(r"getEntry\('(\w+)'\)")
_IN_FORM = re.compile(r"\{\{#?(?:if|loop)?\s*(.+?)\}\}")
# Words of the expression languages, and the names that the engine itself adds to the variables.
_WORDS = frozenset(
    {
        *("and", "or", "not", "empty", "null", "true", "false", "eq", "ne", "lt", "gt", "le", "ge", "div", "mod"),
        *("decisionResult", "task", "execution"),
    }
)


class TopicContract(Protocol):
    """What a worker declares about its topic."""

    @property
    def variables(self) -> Sequence[str]: ...
    @property
    def answers(self) -> Sequence[str]: ...
    @property
    def sets(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Promises:
    """The variables that the workers and the domain give to the models.

    `starts`: process -> variables given at its start. `sent`: message -> variables that come with it. `elements`: loop variable -> fields
    of each element. `columns`: decision -> outputs that a worker reads. `groups`: the groups that exist.
    """

    topics: Mapping[str, TopicContract]
    starts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sent: Mapping[str, Sequence[str]] = field(default_factory=dict)
    elements: Mapping[str, Sequence[str]] = field(default_factory=dict)
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)
    groups: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """The files of one deployment: BPMN and DMN as trees, forms as JSON, each by its file's name."""

    processes: Mapping[str, etree._Element]
    decisions: Mapping[str, etree._Element]
    forms: Mapping[str, Mapping[str, Any]]

    def decision(self, key: str | None) -> etree._Element | None:
        """The decision of this key."""
        found = (decision for root in self.decisions.values() for decision in root.iter("{*}decision"))
        return next((decision for decision in found if decision.get("id") == key), None)

    def form(self, key: str | None) -> Mapping[str, Any] | None:
        """The form of this key."""
        return next((form for form in self.forms.values() if key and form.get("id") == key), None)


def read_forms(files: Iterable[Path]) -> dict[str, Mapping[str, Any]]:
    """The forms that can be read; `bpmn_contract` reports the others."""
    forms: dict[str, Mapping[str, Any]] = {}
    for file in files:
        try:
            form = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            continue
        forms[file.name] = form if isinstance(form, dict) else {}
    return forms


def problems(models: Models, promises: Promises) -> list[str]:
    """Find every name that is read and that nothing sets; empty when there is none."""
    found: list[str] = []
    for file, root in models.processes.items():
        for process in root.iter(f"{_BPMN}process"):
            found += _process_problems(file, process, models, promises)
        found += _element_problems(file, root, promises)
        found += _mapping_problems(file, root, models)
    return [*found, *_column_problems(models, promises), *_group_problems(models, promises)]


def _process_problems(file: str, process: etree._Element, models: Models, promises: Promises) -> Iterator[str]:
    known = frozenset(_set_in(process, models, promises))
    read = list(_read_in(file, process, models, promises))
    for reader, name in read:
        if name not in known:
            yield f"{reader} reads {name!r}, which nothing sets in {process.get('id')}: correct its name, or set it"
    names = {name for _, name in read}
    for task in process.iter(f"{_BPMN}userTask"):
        form = models.form(task.get(f"{_CAMUNDA}formRef"))
        for key in _asked(form) if form else ():
            if key not in names:
                yield f"{_named(file, task)}: form {task.get(f'{_CAMUNDA}formRef')} asks for {key!r}, which nothing reads: correct its key"


def _set_in(process: etree._Element, models: Models, promises: Promises) -> Iterator[str]:
    yield from promises.starts.get(str(process.get("id")), ())
    for root in models.processes.values():
        for call in root.iter(f"{_BPMN}callActivity"):
            if call.get("calledElement") == process.get("id"):
                yield from (str(passed.get("target")) for passed in call.iter(f"{_CAMUNDA}in") if passed.get("target"))
    messages = {str(message.get("id")): str(message.get("name")) for message in process.getroottree().iter(f"{_BPMN}message")}
    for element in process.iter(etree.Element):
        yield from promises.sent.get(messages.get(str(element.get("messageRef")), ""), ())
        if element.tag in {f"{_CAMUNDA}inputParameter", f"{_CAMUNDA}outputParameter"}:
            yield str(element.get("name"))
        if element.tag == f"{_CAMUNDA}out":
            yield str(element.get("target"))
        yield from (
            str(element.get(f"{_CAMUNDA}{at}")) for at in ("resultVariable", "elementVariable") if element.get(f"{_CAMUNDA}{at}")
        )
        topic = promises.topics.get(str(element.get(f"{_CAMUNDA}topic")))
        yield from topic.sets if topic else ()
        form = models.form(element.get(f"{_CAMUNDA}formRef"))
        yield from _asked(form) if form else ()


def _read_in(file: str, process: etree._Element, models: Models, promises: Promises) -> Iterator[tuple[str, str]]:
    for element in process.iter(etree.Element):
        reader = _named(file, element)
        topic_name = str(element.get(f"{_CAMUNDA}topic"))
        topic = promises.topics.get(topic_name)
        yield from ((f"{reader}: {topic_name}", name) for name in ((*topic.variables, *topic.answers) if topic else ()))
        for text in (element.text or "", *map(str, element.attrib.values())):
            for expression in _EXPRESSION.findall(text):
                yield from ((f"{reader}: ${{{expression}}}", name) for name in _names(expression))
        decision = models.decision(element.get(f"{_CAMUNDA}decisionRef"))
        for tested in decision.iterfind(".//{*}inputExpression/{*}text") if decision is not None else ():
            yield from ((f"{reader}: decision {element.get(f'{_CAMUNDA}decisionRef')}", name) for name in _names(tested.text or ""))
        form = models.form(element.get(f"{_CAMUNDA}formRef"))
        yield from ((f"{reader}: form {form['id']}", name) for name in _shown(form)) if form else ()


def _asked(form: Mapping[str, Any]) -> Iterator[str]:
    yield from (str(part["key"]) for part in form.get("components", ()) if "key" in part)


def _shown(form: Mapping[str, Any]) -> Iterator[str]:
    for part in form.get("components", ()):
        for expression in _IN_FORM.findall(str(part.get("text", ""))):
            yield from _names(expression)
        yield from _names(str(part.get("conditional", {}).get("hide", "")).removeprefix("="))


def _names(expression: str) -> list[str]:
    return [name for name in dict.fromkeys(_NAME.findall(_TEXT_LITERAL.sub("", expression))) if name not in _WORDS]


def _element_problems(file: str, root: etree._Element, promises: Promises) -> Iterator[str]:
    for element in root.iter(etree.Element):
        for text in (element.text or "", *map(str, element.attrib.values())):
            for variable, field_name in _PROPERTY_OF_JSON.findall(text):
                if variable in promises.elements and field_name not in promises.elements[variable]:
                    yield f"{_named(file, element)}: {variable} has no {field_name!r}: correct the name, or let the worker deliver it"


def _mapping_problems(file: str, root: etree._Element, models: Models) -> Iterator[str]:
    for task in root.iter(f"{_BPMN}businessRuleTask"):
        decision = models.decision(task.get(f"{_CAMUNDA}decisionRef"))
        if decision is None:
            continue
        outputs = _outputs(decision)
        for column in _COLUMN.findall("".join(map(str, task.itertext()))):
            if column not in outputs:
                yield f"{_named(file, task)}: decision {decision.get('id')} has no output {column!r}: correct the name"
        if task.get(f"{_CAMUNDA}mapDecisionResult") == "singleEntry" and len(outputs) != 1:
            yield f"{_named(file, task)}: takes one value, and decision {decision.get('id')} has {len(outputs)} outputs: change its mapping"


def _column_problems(models: Models, promises: Promises) -> Iterator[str]:
    for key, columns in promises.columns.items():
        decision = models.decision(key)
        missing = sorted(set(columns) - set(_outputs(decision))) if decision is not None else []
        yield from (f"decision {key}: has no output {name!r}, which a worker reads: add the column" for name in missing)


def _group_problems(models: Models, promises: Promises) -> Iterator[str]:
    for file, root in models.decisions.items():
        for table in root.iter("{*}decisionTable"):
            asks = [str(output.get("name")).lower().endswith("group") for output in table.iterchildren("{*}output")]
            for rule in table.iterchildren("{*}rule"):
                entries = [str(entry.findtext("{*}text") or "").strip('" ') for entry in rule.iterchildren("{*}outputEntry")]
                for group in (entry for entry, is_group in zip(entries, asks, strict=True) if is_group):
                    if promises.groups and group not in promises.groups:
                        yield f"{file}: rule {rule.get('id')} asks {group!r}, a group that does not exist: correct it, or set the group up"


def _outputs(decision: etree._Element) -> list[str]:
    return [str(output.get("name")) for output in decision.iterfind(".//{*}decisionTable/{*}output")]


def _named(file: str, element: etree._Element) -> str:
    around = (element, *element.iterancestors())
    # An element that a reader of the diagram can find has a name; a flow, or a definition inside an event, has only an id.
    owner = next((owner for owner in around if owner.get("id") and (owner.get("name") or owner.get("sourceRef"))), element)
    return f"{file}: {owner.get('name') or etree.QName(owner).localname} ({owner.get('id')})"
