"""How a handler declares its topic: what it reads and sets, and which BPMN errors it may raise.

The rule it keeps: a topic is declared once, by `@topic` on its handler. `q2o check` and docs/topics.md read the declarations from the
classes, without a database or an engine; the pod runs the same declarations on objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

from domain.retry_rules import EXTERNAL_TASK, PROVIDER_NOT_SENT
from domain.workflows.keys import BusinessKey, Kind
from workers.pod.contract import RetryLater, Task, Topic
from workers.runtime.variables import Variable
from workers.tasks.subjects import Subjects

_ATTRIBUTE = "contract"

HeartbeatMethod: TypeAlias = Callable[[Any, Task, BusinessKey], None]
_Result = TypeVar("_Result")
_Method = TypeVar("_Method", bound=Callable[[Any, Task, BusinessKey], Mapping[str, Variable]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What a model may rely on: the variables that a topic reads and sets, and the BPMN errors that it may raise.

    `answers` are the fields of a form that a person has filled in: the handler reads them from the engine's history, not from variables.
    `acts_for` is what the processes that use the topic act for; no process variable says it. `configured` are the extension properties that
    a task of the topic must have. `asks_provider`: the handler waits for a provider. `heartbeat` is the method that writes a sign of life while the topic's handler runs.
    """

    name: str
    acts_for: Sequence[Kind]
    variables: Sequence[str]
    answers: Sequence[str] = ()
    sets: Sequence[str] = ()
    errors: Sequence[str] = ()
    configured: Sequence[str] = ()
    asks_provider: bool = False
    heartbeat: HeartbeatMethod | None = None


def topic(
    name: str,
    *acts_for: Kind,
    reads: Sequence[str] = (),
    answers: Sequence[str] = (),
    sets: Sequence[str] = (),
    errors: Sequence[str] = (),
    configured: Sequence[str] = (),
    asks_provider: bool = False,
    heartbeat: HeartbeatMethod | None = None,
) -> Callable[[_Method], _Method]:
    """Declare a method as the handler of a topic."""
    contract = Contract(
        name=name,
        acts_for=acts_for,
        variables=tuple(reads),
        answers=tuple(answers),
        sets=tuple(sets),
        errors=tuple(errors),
        configured=tuple(configured),
        asks_provider=asks_provider,
        heartbeat=heartbeat,
    )

    def declare(method: _Method) -> _Method:
        setattr(method, _ATTRIBUTE, contract)
        return method

    return declare


def contracts_of(*classes: type) -> dict[str, Contract]:
    """Every contract that these classes declare, by topic. Raises ValueError when two handlers declare the same topic."""
    contracts: dict[str, Contract] = {}
    for contract, _ in (declared for each in classes for declared in _declared(each)):
        if contract.name in contracts:
            raise ValueError(f"two handlers declare the topic {contract.name!r}: remove one of them")
        contracts[contract.name] = contract
    return contracts


def topics_of(handlers: Iterable[object], subjects: Subjects) -> dict[str, Topic]:
    """Every topic that these objects handle, ready to run."""
    return {topic.name: topic for each in handlers for topic in _topics(each, subjects)}


def _topics(handlers: object, subjects: Subjects) -> Iterator[Topic]:
    for contract, method in _declared(type(handlers)):
        beat = partial(contract.heartbeat, handlers) if contract.heartbeat else None
        yield Topic(
            name=contract.name,
            handler=_knowing_its_subject(getattr(handlers, method), subjects, contract.acts_for),
            variables=contract.variables,
            errors=contract.errors,
            asks_provider=contract.asks_provider,
            retries=PROVIDER_NOT_SENT if contract.asks_provider else EXTERNAL_TASK,
            heartbeat=_knowing_its_subject(beat, subjects, contract.acts_for) if beat else None,
        )


def _knowing_its_subject(
    handle: Callable[[Task, BusinessKey], _Result], subjects: Subjects, kinds: Sequence[Kind]
) -> Callable[[Task], _Result]:
    def run(task: Task) -> _Result:
        key = subjects.of(task, kinds)
        try:
            return handle(task, key)
        except RetryLater as later:
            subjects.end_in_time(task, key, later)
            raise

    return run


def _declared(handlers: type) -> Iterator[tuple[Contract, str]]:
    for name, method in vars(handlers).items():
        contract: Contract | None = getattr(method, _ATTRIBUTE, None)
        if contract is not None:
            yield contract, name
