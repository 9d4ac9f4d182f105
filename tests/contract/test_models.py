"""The models agree with the workers, and the check finds one planted fault of each kind."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import etree

from domain.workflows.keys import PROCESSES
from tests.support.models import Plant, change
from tests.support.rendering import MODELS
from workers.bpmn_contract import MESSAGES, problems
from workers.tasks.contracts import Contract
from workers.tasks.topics import CONTRACTS


def test_models_and_workers_agree() -> None:
    assert problems(MODELS, CONTRACTS) == []


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (
            change("quote-approval.bpmn", "quote.apply-outcome", "quote.apply-outcom"),
            "quote-approval.bpmn: Apply outcome (apply-outcome): no worker has the topic 'quote.apply-outcom'",
        ),
        (
            change("late-compensation.bpmn", 'camunda:topic="order.evaluate"', 'camunda:topic="order.decompose"'),
            "late-compensation.bpmn: Evaluate order (evaluate-order): order.decompose does not act for business keys undo:",
        ),
        (
            change("order-fulfillment.bpmn", '<camunda:in businessKey="step:', '<camunda:in businessKey="order:'),
            "fulfillment-step.bpmn: Check readiness (check-readiness): fulfillment.check-readiness does not act for business keys order:",
        ),
        (
            change("order-fulfillment.bpmn", 'errorCode="ORDER_INVALID"', 'errorCode="ORDER_INVALDI"'),
            "order-fulfillment.bpmn: Decompose order (decompose-order): order.decompose throws ORDER_INVALID",
        ),
        (
            change("order-fulfillment.bpmn", 'errorCode="ORDER_INVALID"', 'errorCode="ORDER_INVALDI"'),
            "order-fulfillment.bpmn: Order invalid (order-invalid): nothing throws ORDER_INVALDI here",
        ),
        (
            change("fulfillment-step.bpmn", ' camunda:historyTimeToLive="P180D"', ""),
            "fulfillment-step.bpmn: Fulfilment step (fulfillment-step): has no historyTimeToLive",
        ),
        (
            change("approval-requirements.dmn", ' camunda:historyTimeToLive="P180D"', ""),
            "approval-requirements.dmn: Approval requirements (approval-requirements): has no historyTimeToLive",
        ),
        (
            change("fulfillment-step.bpmn", ' camunda:versionTag="2.1.0"', ""),
            "fulfillment-step.bpmn: Fulfilment step (fulfillment-step): has no versionTag",
        ),
        (
            change("fulfillment-step.bpmn", 'name="retryPolicy" value="R5/PT10S"', 'name="other" value="1"'),
            "fulfillment-step.bpmn: Check readiness (check-readiness): has no retryPolicy",
        ),
        (
            change("fulfillment-step.bpmn", 'value="R5/PT10S"', 'value="five times"'),
            "fulfillment-step.bpmn: Check readiness (check-readiness): 'five times' is not a retry policy",
        ),
        (
            change("fulfillment-step.bpmn", 'id="check-readiness"', 'id="check-readiness" camunda:class="org.example.Check"'),
            "fulfillment-step.bpmn: Check readiness (check-readiness): has a script or names a Java class",
        ),
        (
            change(
                "fulfillment-step.bpmn",
                "<camunda:properties>",
                '<camunda:taskListener event="create"><camunda:script scriptFormat="groovy">1</camunda:script></camunda:taskListener>'
                "<camunda:properties>",
            ),
            "fulfillment-step.bpmn: Check readiness (check-readiness): has a script or names a Java class",
        ),
        (
            change("fulfillment-step.bpmn", "<bpmn:conditionExpression ", '<bpmn:conditionExpression language="groovy" '),
            "yes (flow-predecessors-done-to-start-attempt): has a script or names a Java class",
        ),
        (
            change("quote-approval.bpmn", 'name="QuoteExpired"', 'name="QuoteExpried"'),
            "quote-approval.bpmn: QuoteExpried (Message_QuoteExpired): nothing sends the message 'QuoteExpried'",
        ),
        (
            change("quote-approval.bpmn", '<bpmndi:BPMNShape id="open-requirements_di".*?</bpmndi:BPMNShape>', ""),
            "quote-approval.bpmn: Open requirements (open-requirements): is not drawn",
        ),
        (
            change("quote-approval.bpmn", '<bpmndi:BPMNEdge id="flow-level-opened[^>]*>.*?</bpmndi:BPMNEdge>', ""),
            "quote-approval.bpmn: sequenceFlow (flow-level-opened-to-approve-requirement): is not drawn",
        ),
        (
            change("approve-requirement.bpmn", 'formRef="approve-quote"', 'formRef="aprove-quote"'),
            "approve-requirement.bpmn: Approve quote (approve-quote): there is no form 'aprove-quote'",
        ),
        (
            change("quote-approval.bpmn", 'decisionRef="approval-requirements"', 'decisionRef="approvals"'),
            "(determine-approval-requirements): there is no decision 'approvals'",
        ),
        (
            change("order-fulfillment.bpmn", 'calledElement="fulfillment-step"', 'calledElement="step"'),
            "order-fulfillment.bpmn: Fulfil steps (fulfil-steps): there is no process 'step'",
        ),
        (
            change("approve-requirement.bpmn", 'formRefBinding="deployment"', 'formRefBinding="latest"'),
            "approve-requirement.bpmn: Approve quote (approve-quote): binds its form to the latest version",
        ),
        (change("fulfillment-step.bpmn", "</bpmn:definitions>", ""), "fulfillment-step.bpmn: is not readable XML"),
        (
            change("forms/approve-quote.form", '"id": "approve-quote"', '"ident": "x"'),
            "approve-quote.form: is not a form with an id",
        ),
        (
            change("cancel-step.bpmn", "fulfillment.cancel-step", "cancellation.record-decision"),
            "cancellation.record-decision reads 'cancellationDecision', which nothing sets in cancel-step",
        ),
        (
            change("approve-requirement.bpmn", 'name="slaDuration" value="PT24H"', 'name="sla-duration" value="PT24H"'),
            "approve-requirement.bpmn: Extend deadline (extend-deadline): has no slaDuration: add the extension property",
        ),
        (
            change("approve-requirement.bpmn", r"\$\{remindAt\}", "${remindBy}"),
            "approve-requirement.bpmn: Reminder due (reminder-due): ${remindBy} reads 'remindBy'",
        ),
        (
            change("order-fulfillment.bpmn", r"step\.prop\('ready'\)", "step.prop('readi')"),
            "order-fulfillment.bpmn: Fulfil steps (fulfil-steps): step has no 'readi'",
        ),
        (
            change("approve-requirement.bpmn", r"getEntry\('nextApproverGroup'\)", "getEntry('nextGroup')"),
            "(determine-escalation): decision approval-escalation has no output 'nextGroup'",
        ),
        (
            change("quote-approval.bpmn", 'decisionRef="reapproval-reuse"', 'decisionRef="approval-escalation"'),
            "(determine-reuse): takes one value, and decision approval-escalation has 2 outputs",
        ),
        (
            change("reapproval-reuse.dmn", "<text>basisAgeDays</text>", "<text>basisAge</text>"),
            "(determine-reuse): decision reapproval-reuse reads 'basisAge', which nothing sets in quote-approval",
        ),
        (
            change("approval-requirements.dmn", 'name="because" typeRef', 'name="why" typeRef'),
            "decision approval-requirements: has no output 'because', which a worker reads",
        ),
        (
            change(
                "approval-escalation.dmn", '"dealDesk"</text>\n        </outputEntry>', '"dealdesk"</text>\n        </outputEntry>'
            ),
            "approval-escalation.dmn: rule director-to-deal-desk asks 'dealdesk', a group that does not exist",
        ),
        (
            change("forms/approve-quote.form", "{{rulesText}}", "{{ruleText}}"),
            "(approve-quote): form approve-quote reads 'ruleText', which nothing sets in approve-requirement",
        ),
        (
            change("forms/approve-quote.form", "=reminderNotice = null", "=reminder = null"),
            "(approve-quote): form approve-quote reads 'reminder', which nothing sets in approve-requirement",
        ),
        (
            change("forms/approve-quote.form", '"key": "reasonCode"', '"key": "reason"'),
            "(approve-quote): form approve-quote asks for 'reason', which nothing reads",
        ),
    ],
)
def test_the_check_names_the_element_of_a_planted_fault(tmp_path: Path, plant: Plant, expected: str) -> None:
    folder = tmp_path / "models"
    shutil.copytree(MODELS, folder)
    plant(folder)
    assert [found for found in problems(folder, CONTRACTS) if expected in found]


def test_operators_see_the_instances_of_every_model() -> None:
    models = {
        process.get("id")
        for file in MODELS.glob("*.bpmn")
        for process in etree.parse(file).iter("{http://www.omg.org/spec/BPMN/20100524/MODEL}process")
    }
    assert set(PROCESSES) == models


def test_a_topic_that_no_model_uses_is_a_problem() -> None:
    known = {**CONTRACTS, "order.forget": Contract(name="order.forget", acts_for=(), variables=())}
    assert problems(MODELS, known) == ["no model uses the topic 'order.forget': remove it from the workers, or draw its task"]


def test_a_model_must_catch_every_error_that_a_topic_may_raise() -> None:
    known = {
        **CONTRACTS,
        "order.record-jeopardy": replace(CONTRACTS["order.record-jeopardy"], errors=("ORDER_LOST",)),
    }
    assert problems(MODELS, known) == [
        "order-fulfillment.bpmn: Record jeopardy (record-jeopardy): order.record-jeopardy throws ORDER_LOST, and no boundary event catches it: draw one"
    ]


def test_a_folder_without_models_is_a_problem(tmp_path: Path) -> None:
    assert problems(tmp_path, CONTRACTS) == [f"{tmp_path} has no BPMN files: name the folder with the models"]


def test_a_model_waits_for_every_message_that_is_sent() -> None:
    waited_for = {
        message.get("name")
        for file in MODELS.glob("*.bpmn")
        for message in etree.parse(file).iter("{http://www.omg.org/spec/BPMN/20100524/MODEL}message")
    }
    assert waited_for == MESSAGES
