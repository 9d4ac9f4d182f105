"""How a handler declares its topic: what it reads and sets, and which BPMN errors it may raise.

The rule it keeps: a topic is declared once, by `@topic` on its handler. `q2o check` and docs/topics.md read the declarations from the
classes, without a database or an engine; the pod runs the same declarations on objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar

from workers.pod.contract import Task, Topic
from workers.runtime.variables import Variable

QUOTE = ("tenantId", "quoteId", "quoteRevisionId", "priceResultId")
ORDER = ("tenantId", "orderId")
STEP = ("tenantId", "stepId")
CASE = ("tenantId", "caseId")

_ATTRIBUTE = "contract"

HeartbeatMethod: TypeAlias = Callable[[Any, Task], None]
_Method = TypeVar("_Method", bound=Callable[[Any, Task], Mapping[str, Variable]])


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What a model may rely on: the variables that a topic reads and sets, and the BPMN errors that it may raise.

    `heartbeat` is the method that writes a sign of life while the topic's handler runs.
    """

    name: str
    variables: Sequence[str]
    sets: Sequence[str] = ()
    errors: Sequence[str] = ()
    heartbeat: HeartbeatMethod | None = None


def topic(
    name: str,
    *,
    reads: Sequence[str],
    sets: Sequence[str] = (),
    errors: Sequence[str] = (),
    heartbeat: HeartbeatMethod | None = None,
) -> Callable[[_Method], _Method]:
    """Declare a method as the handler of a topic."""
    contract = Contract(name=name, variables=tuple(reads), sets=tuple(sets), errors=tuple(errors), heartbeat=heartbeat)

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


def topics_of(handlers: Iterable[object]) -> dict[str, Topic]:
    """Every topic that these objects handle, ready to run."""
    return {topic.name: topic for each in handlers for topic in _topics(each)}


def _topics(handlers: object) -> Iterator[Topic]:
    for contract, method in _declared(type(handlers)):
        yield Topic(
            name=contract.name,
            handler=getattr(handlers, method),
            variables=contract.variables,
            errors=contract.errors,
            heartbeat=partial(contract.heartbeat, handlers) if contract.heartbeat else None,
        )


def _declared(handlers: type) -> Iterator[tuple[Contract, str]]:
    for name, method in vars(handlers).items():
        contract: Contract | None = getattr(method, _ATTRIBUTE, None)
        if contract is not None:
            yield contract, name
