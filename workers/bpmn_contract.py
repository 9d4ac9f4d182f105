"""Compares the models with the workers: a process owner may draw only what the workers carry out.

The engine accepts a model whose topic no worker has, or whose error code no event catches; the instance then stands still, or ends without
a trace. So every such gap is found here, before a deployment, and named with the file and the element that must be changed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lxml import etree

from workers import bpmn_variables
from workers.bpmn_variables import Models, Promises
from workers.deployment import GROUPS, missing_models
from workers.pod.retry_policy import PROPERTY, RetryPolicy
from workers.tasks.topics import ACTS_FOR, COLUMNS, ELEMENTS, SENT, STARTS

# A process that waits for any other message waits for ever.
MESSAGES = frozenset(SENT)

_BPMN = "{http://www.omg.org/spec/BPMN/20100524/MODEL}"
_BPMNDI = "{http://www.omg.org/spec/BPMN/20100524/DI}"
_CAMUNDA = "{http://camunda.org/schema/1.0/bpmn}"
_CAMUNDA_DMN = "{http://camunda.org/schema/1.0/dmn}"
_SCOPES = frozenset({f"{_BPMN}process", f"{_BPMN}subProcess"})
_CODE_ATTRIBUTES = frozenset({f"{_CAMUNDA}class", f"{_CAMUNDA}delegateExpression", f"{_CAMUNDA}resource", "scriptFormat"})
_CODE_ELEMENTS = frozenset(
    {f"{_BPMN}scriptTask", f"{_BPMN}script", f"{_CAMUNDA}script", f"{_CAMUNDA}connector", f"{_CAMUNDA}field"}
)
# Endings of the names of elements that have a shape or a line of their own.
_VISIBLE = ("Event", "Task", "task", "Gateway", "subProcess", "callActivity", "sequenceFlow")
# Attribute that names another model -> the kind of model, and the attribute that binds it.
_REFERENCES: Mapping[str, tuple[str, str]] = {
    f"{_CAMUNDA}formRef": ("form", f"{_CAMUNDA}formRefBinding"),
    f"{_CAMUNDA}decisionRef": ("decision", f"{_CAMUNDA}decisionRefBinding"),
    "calledElement": ("process", f"{_CAMUNDA}calledElementBinding"),
}


class TopicContract(bpmn_variables.TopicContract, Protocol):
    """What a worker declares about its topic."""

    @property
    def name(self) -> str: ...
    @property
    def acts_for(self) -> Sequence[str]: ...
    @property
    def errors(self) -> Sequence[str]: ...
    @property
    def configured(self) -> Sequence[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """One BPMN or DMN file, and the searches in it that are needed more than once."""

    file: Path
    root: etree._Element
    error_codes: Mapping[str, str] = field(default_factory=dict)

    def all(self, tag: str) -> Iterator[etree._Element]:
        yield from self.root.iter(f"{_BPMN}{tag}")

    def named(self, element: etree._Element) -> str:
        return f"{self.file.name}: {element.get('name') or etree.QName(element).localname} ({element.get('id')})"

    def external_tasks(self) -> Iterator[etree._Element]:
        yield from (element for element in self.root.iter() if element.get(f"{_CAMUNDA}type") == "external")

    def catchers(self) -> Iterator[etree._Element]:
        """Boundary and start events that catch an error."""
        events = self.root.iter(f"{_BPMN}boundaryEvent", f"{_BPMN}startEvent")
        yield from (event for event in events if event.find(f"{_BPMN}errorEventDefinition") is not None)

    def caught_by(self, event: etree._Element) -> str | None:
        """Error code that an event catches or throws; None catches every code."""
        definition = event.find(f"{_BPMN}errorEventDefinition")
        reference = None if definition is None else definition.get("errorRef")
        return None if reference is None else self.error_codes.get(reference, reference)

    def is_within(self, element: etree._Element, event: etree._Element) -> bool:
        """Whether an error of `element` can reach the event: it stands at the element or at a scope around it."""
        host = event.get("attachedToRef")
        around = [element.get("id"), *(scope.get("id") for scope in element.iterancestors(*_SCOPES))]
        if host is not None:
            return host in around
        event_subprocess = event.getparent()
        scope = None if event_subprocess is None else event_subprocess.getparent()
        return scope is not None and scope.get("id") in around


def unfit(folder: Path, topics: Mapping[str, TopicContract]) -> list[str]:
    """What keeps the models of a tenant's own folder from being deployed: files that it lacks, and the problems of those that it has."""
    lacks = [f"{name} is missing in {folder}: copy it from the models of the suite" for name in missing_models(folder)]
    return [*lacks, *problems(folder, topics)]


def problems(models_dir: Path, topics: Mapping[str, TopicContract], messages: Iterable[str] = MESSAGES) -> list[str]:
    """Find every disagreement between the models in a folder and the topics of the workers; empty when they agree."""
    broken: list[str] = []
    processes = _read(sorted(models_dir.rglob("*.bpmn")), broken)
    decisions = _read(sorted(models_dir.rglob("*.dmn")), broken)
    if not processes and not broken:
        return [f"{models_dir} has no BPMN files: name the folder with the models"]
    forms = sorted(models_dir.rglob("*.form"))
    targets = _targets(processes, decisions, forms, broken)
    known_messages = frozenset(messages)
    subjects = _subjects(processes)
    thrown = {name: topic.errors for name, topic in topics.items()} | _thrown_by_processes(processes)
    for model in processes:
        broken += _topic_problems(model, topics)
        broken += _subject_problems(model, topics, subjects)
        broken += _error_problems(model, thrown)
        broken += _property_problems(model, topics)
        broken += _code_problems(model)
        broken += _message_problems(model, known_messages)
        broken += _drawing_problems(model)
        broken += _reference_problems(model, targets)
    for model in decisions:
        broken += _version_problems(model, "decision", _CAMUNDA_DMN)
    named = {model.file.name: model.root for model in processes}, {model.file.name: model.root for model in decisions}
    models = Models(processes=named[0], decisions=named[1], forms=bpmn_variables.read_forms(forms))
    promises = Promises(
        topics=topics, starts=STARTS, sent=SENT, elements=ELEMENTS, columns=COLUMNS, groups=frozenset(group.id for group in GROUPS)
    )
    return broken + _unmodelled(processes, topics) + bpmn_variables.problems(models, promises)


def _read(files: Iterable[Path], broken: list[str]) -> list[_Model]:
    models = []
    for file in files:
        try:
            root = etree.parse(file, etree.XMLParser(resolve_entities=False, no_network=True)).getroot()
        except etree.XMLSyntaxError as error:
            broken.append(f"{file.name}: is not readable XML ({error.msg}): save it again in Modeler")
        else:
            codes = {str(error.get("id")): str(error.get("errorCode")) for error in root.iter(f"{_BPMN}error")}
            models.append(_Model(file=file, root=root, error_codes=codes))
    return models


def _targets(
    processes: Iterable[_Model], decisions: Iterable[_Model], forms: Iterable[Path], broken: list[str]
) -> set[tuple[str, str]]:
    found = {("process", str(process.get("id"))) for model in processes for process in model.all("process")}
    found |= {("decision", str(decision.get("id"))) for model in decisions for decision in model.root.iter("{*}decision")}
    for file in forms:
        try:
            found.add(("form", json.loads(file.read_text(encoding="utf-8"))["id"]))
        except (ValueError, KeyError, TypeError):
            broken.append(f"{file.name}: is not a form with an id: save it again in Modeler")
    return found


def _topic_problems(model: _Model, topics: Mapping[str, TopicContract]) -> Iterator[str]:
    for task in model.external_tasks():
        topic = task.get(f"{_CAMUNDA}topic")
        if topic not in topics:
            yield f"{model.named(task)}: no worker has the topic {topic!r}: correct it, or add it to the workers"


def _subjects(models: Iterable[_Model]) -> set[tuple[str, str]]:
    """Process and what it acts for: the first word of its business key, from the domain or from the call activity that calls it."""
    called = {
        (str(call.get("calledElement")), business_key.split(":")[0])
        for model in models
        for call in model.all("callActivity")
        for source in call.iter(f"{_CAMUNDA}in")
        if (business_key := source.get("businessKey")) is not None
    }
    return called | set(ACTS_FOR.items())


def _subject_problems(model: _Model, topics: Mapping[str, TopicContract], subjects: Iterable[tuple[str, str]]) -> Iterator[str]:
    for task in model.external_tasks():
        process = next(task.iterancestors(f"{_BPMN}process")).get("id")
        contract = topics.get(str(task.get(f"{_CAMUNDA}topic")))
        for kind in sorted(kind for name, kind in subjects if name == process):
            if contract is not None and contract.acts_for and kind not in contract.acts_for:
                yield f"{model.named(task)}: {contract.name} does not act for business keys {kind}:…: choose another topic"


def _thrown_by_processes(models: Iterable[_Model]) -> dict[str, Sequence[str]]:
    """The error codes of the end events of every process: its call activity throws them."""
    return {
        str(process.get("id")): [code for event in process.iter(f"{_BPMN}endEvent") if (code := model.caught_by(event)) is not None]
        for model in models
        for process in model.all("process")
    }


def _error_problems(model: _Model, thrown: Mapping[str, Sequence[str]]) -> Iterator[str]:
    names = {task: str(task.get(f"{_CAMUNDA}topic")) for task in model.external_tasks()}
    names |= {call: str(call.get("calledElement")) for call in model.all("callActivity")}
    catchers = [(event, model.caught_by(event)) for event in model.catchers()]
    for task, name in names.items():
        caught = {code for event, code in catchers if model.is_within(task, event)}
        for code in dict.fromkeys(thrown.get(name, ())):
            if code not in caught and None not in caught:
                yield f"{model.named(task)}: {name} throws {code}, and no boundary event catches it: draw one"
    for event, caught_code in catchers:
        thrown_here = {code for task, name in names.items() if model.is_within(task, event) for code in thrown.get(name, ())}
        if caught_code is not None and caught_code not in thrown_here:
            yield f"{model.named(event)}: nothing throws {caught_code} here: remove the event, or correct its error code"


def _property_problems(model: _Model, topics: Mapping[str, TopicContract]) -> Iterator[str]:
    yield from _version_problems(model, "process", _CAMUNDA)
    for task in model.external_tasks():
        found = _properties(task)
        if PROPERTY not in found:
            yield f"{model.named(task)}: has no {PROPERTY}: add the extension property, for example R5/PT10S"
        else:
            yield from _policy_problem(model.named(task), found[PROPERTY])
        contract = topics.get(str(task.get(f"{_CAMUNDA}topic")))
        for name in contract.configured if contract else ():
            if name not in found:
                yield f"{model.named(task)}: has no {name}: add the extension property"


def _properties(task: etree._Element) -> dict[str, str]:
    rows = task.iterfind(f"{_BPMN}extensionElements/{_CAMUNDA}properties/{_CAMUNDA}property")
    return {str(row.get("name")): str(row.get("value")) for row in rows}


def _policy_problem(name: str, policy: str) -> Iterator[str]:
    try:
        RetryPolicy.parse(policy)
    except ValueError as error:
        yield f"{name}: {error}"


def _version_problems(model: _Model, kind: str, namespace: str) -> Iterator[str]:
    for element in model.root.iter(f"{{*}}{kind}"):
        for attribute in ("historyTimeToLive", "versionTag"):
            if not element.get(f"{namespace}{attribute}"):
                yield f"{model.named(element)}: has no {attribute}: set it in the properties of the {kind}"


def _code_problems(model: _Model) -> Iterator[str]:
    for element in model.root.iter(etree.Element):
        carries_code = element.tag in _CODE_ELEMENTS or not _CODE_ATTRIBUTES.isdisjoint(map(str, element.attrib))
        is_scripted_condition = element.tag == f"{_BPMN}conditionExpression" and element.get("language")
        if carries_code or is_scripted_condition:
            yield f"{model.named(_owner(element))}: has a script or names a Java class: rules belong into workers and decisions"


def _owner(element: etree._Element) -> etree._Element:
    """Find the element with an id that a reader of the diagram can find."""
    return next((owner for owner in (element, *element.iterancestors()) if owner.get("id")), element)


def _message_problems(model: _Model, known: frozenset[str]) -> Iterator[str]:
    for message in model.all("message"):
        if message.get("name") not in known:
            yield f"{model.named(message)}: nothing sends the message {message.get('name')!r}: correct its name"


def _drawing_problems(model: _Model) -> Iterator[str]:
    drawn = {shape.get("bpmnElement") for tag in ("BPMNShape", "BPMNEdge") for shape in model.root.iter(f"{_BPMNDI}{tag}")}
    for scope in (*model.all("process"), *model.all("subProcess")):
        for element in scope.iterchildren(etree.Element):
            is_visible = etree.QName(element).localname.endswith(_VISIBLE)
            if is_visible and element.get("id") not in drawn:
                yield f"{model.named(element)}: is not drawn: open the diagram in Modeler and place it"


def _reference_problems(model: _Model, targets: set[tuple[str, str]]) -> Iterator[str]:
    for element in model.root.iter(etree.Element):
        for attribute, (kind, binding) in _REFERENCES.items():
            target = element.get(attribute)
            if target is not None and (kind, target) not in targets:
                yield f"{model.named(element)}: there is no {kind} {target!r} beside the models"
            if target is not None and element.get(binding) != "deployment":
                yield f"{model.named(element)}: binds its {kind} to the latest version: choose binding 'deployment'"


def _unmodelled(processes: Iterable[_Model], topics: Mapping[str, TopicContract]) -> list[str]:
    used = {task.get(f"{_CAMUNDA}topic") for model in processes for task in model.external_tasks()}
    return [
        f"no model uses the topic {name!r}: remove it from the workers, or draw its task" for name in sorted(topics.keys() - used)
    ]
