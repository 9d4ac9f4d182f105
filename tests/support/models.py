"""Small process models for tests, each with just enough BPMN for one behaviour; and faults for the product's own models."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from uuid import UUID, uuid4

_HEAD = """<?xml version="1.0" encoding="UTF-8"?>
<bpmn:definitions xmlns:bpmn="http://www.omg.org/spec/BPMN/20100524/MODEL" xmlns:camunda="http://camunda.org/schema/1.0/bpmn"
  xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" id="definitions" targetNamespace="test">"""


# The tenant of small models. All tests share one engine, and the names of their models are their own.
TENANT = UUID("00000000-0000-4000-8000-0000000000aa")


def new_name(kind: str) -> str:
    """Make a name that no other test uses: all tests share one engine."""
    return f"{kind}-{uuid4().hex[:12]}"


def model(key: str, *elements: str, root: str = "") -> str:
    body = "".join(elements)
    return f'{_HEAD}{root}<bpmn:process id="{key}" isExecutable="true" camunda:historyTimeToLive="P1D">{body}</bpmn:process></bpmn:definitions>'


def flow(source: str, target: str, condition: str = "") -> str:
    inner = (
        f'<bpmn:conditionExpression xsi:type="bpmn:tFormalExpression">{condition}</bpmn:conditionExpression>' if condition else ""
    )
    return f'<bpmn:sequenceFlow id="{source}-to-{target}" sourceRef="{source}" targetRef="{target}">{inner}</bpmn:sequenceFlow>'


def external_task(name: str, topic: str, retry_policy: str = "R3/PT0.2S") -> str:
    properties = f'<camunda:properties><camunda:property name="retryPolicy" value="{retry_policy}"/></camunda:properties>'
    return (
        f'<bpmn:serviceTask id="{name}" camunda:type="external" camunda:topic="{topic}">'
        f"<bpmn:extensionElements>{properties}</bpmn:extensionElements></bpmn:serviceTask>"
    )


def one_task(key: str, topic: str, retry_policy: str = "R3/PT0.2S") -> str:
    """start, external task `work`, end `done`; error code REFUSED leads to end `refused`."""
    return model(
        key,
        '<bpmn:startEvent id="start"/><bpmn:endEvent id="done"/><bpmn:endEvent id="refused"/>',
        external_task("work", topic, retry_policy),
        '<bpmn:boundaryEvent id="caught" attachedToRef="work"><bpmn:errorEventDefinition errorRef="error"/></bpmn:boundaryEvent>',
        flow("start", "work"),
        flow("work", "done"),
        flow("caught", "refused"),
        root='<bpmn:error id="error" name="Refused" errorCode="REFUSED"/>',
    )


def two_branches(key: str, topic: str) -> str:
    """start, fork, two external tasks at once, join, end `done`."""
    return model(
        key,
        '<bpmn:startEvent id="start"/><bpmn:parallelGateway id="fork"/><bpmn:parallelGateway id="join"/><bpmn:endEvent id="done"/>',
        external_task("left", topic, "R1/PT1S"),
        external_task("right", topic, "R1/PT1S"),
        *(
            flow(*ends)
            for ends in (
                ("start", "fork"),
                ("fork", "left"),
                ("fork", "right"),
                ("left", "join"),
                ("right", "join"),
                ("join", "done"),
            )
        ),
    )


def broken_after_task(key: str, topic: str) -> str:
    """External task `work` followed by a gateway whose condition cannot be evaluated."""
    return model(
        key,
        '<bpmn:startEvent id="start"/><bpmn:exclusiveGateway id="decide"/><bpmn:endEvent id="done"/><bpmn:endEvent id="other"/>',
        external_task("work", topic, "R1/PT1S"),
        flow("start", "work"),
        flow("work", "decide"),
        flow("decide", "done", "${nobodySetThis == 1}"),
        flow("decide", "other", "${nobodySetThis == 2}"),
    )


def waiting_for_message(key: str, message: str) -> str:
    return model(
        key,
        '<bpmn:startEvent id="start"/><bpmn:endEvent id="done"/><bpmn:receiveTask id="wait" messageRef="message"/>',
        flow("start", "wait"),
        flow("wait", "done"),
        root=f'<bpmn:message id="message" name="{message}"/>',
    )


def asking(key: str, _topic: str) -> str:
    """One user task `approve`."""
    return model(
        key,
        '<bpmn:startEvent id="start"/><bpmn:endEvent id="done"/><bpmn:userTask id="approve" name="Approve"/>',
        flow("start", "approve"),
        flow("approve", "done"),
    )


def approval_per_group(key: str, topic: str) -> str:
    """Per element of collection `groups`: user task `approve` for the group, then external task `record`."""
    inner = "".join(
        (
            '<bpmn:startEvent id="one"/><bpmn:endEvent id="recorded"/>',
            '<bpmn:userTask id="approve" name="Approve" camunda:candidateGroups="${group.stringValue()}"/>',
            external_task("record", topic),
            flow("one", "approve"),
            flow("approve", "record"),
            flow("record", "recorded"),
        )
    )
    loop = '<bpmn:multiInstanceLoopCharacteristics camunda:collection="${groups.elements()}" camunda:elementVariable="group"/>'
    return model(
        key,
        '<bpmn:startEvent id="start"/><bpmn:endEvent id="done"/>',
        f'<bpmn:subProcess id="each">{loop}{inner}</bpmn:subProcess>',
        flow("start", "each"),
        flow("each", "done"),
    )


def calling(key: str, called: str, business_key: str) -> str:
    """One call activity."""
    call = f'<bpmn:extensionElements><camunda:in businessKey="{business_key}"/></bpmn:extensionElements>'
    return model(
        key,
        '<bpmn:startEvent id="start"/><bpmn:endEvent id="done"/>',
        f'<bpmn:callActivity id="call" calledElement="{called}">{call}</bpmn:callActivity>',
        flow("start", "call"),
        flow("call", "done"),
    )


def decision(key: str) -> str:
    """Decision table: amount above 100 needs level 2, any needs level 1 (COLLECT)."""
    rows = "".join(
        f'<rule id="r{level}"><inputEntry id="i{level}"><text>{test}</text></inputEntry>'
        f'<outputEntry id="o{level}"><text>{level}</text></outputEntry></rule>'
        for level, test in ((1, ""), (2, "&gt; 100"))
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?><definitions xmlns="https://www.omg.org/spec/DMN/20191111/MODEL/" '
        'xmlns:camunda="http://camunda.org/schema/1.0/dmn" id="d" name="d" namespace="test">'
        f'<decision id="{key}" name="Levels" camunda:historyTimeToLive="P1D"><decisionTable id="t" hitPolicy="COLLECT">'
        '<input id="in" label="amount"><inputExpression id="ie" typeRef="double"><text>amount</text></inputExpression></input>'
        f'<output id="out" name="level" typeRef="integer"/>{rows}</decisionTable></decision></definitions>'
    )


Plant = Callable[[Path], object]
"""Puts a fault into a folder of models."""


def change(file: str, pattern: str, replacement: str) -> Plant:
    """Plant a fault: change the first place of a file that the pattern matches."""

    def plant(folder: Path) -> None:
        path = folder / file
        changed, count = re.subn(pattern, replacement, path.read_text(encoding="utf-8"), count=1, flags=re.DOTALL)
        assert count == 1, "the place of the planted fault is gone"
        path.write_text(changed, encoding="utf-8")

    return plant
