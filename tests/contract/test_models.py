"""The models against the workers, and the check itself against one planted fault of each kind."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import NoReturn

import pytest
from lxml import etree

from domain.offers.approvals import Decision
from tests.support.rendering import MODELS, SUPPORT, ModelToolsError, canvas, draw_form, model_tools, models
from workers.bpmn_contract import MESSAGES, problems
from workers.tasks.contracts import Contract
from workers.tasks.escalation import BY_HAND
from workers.tasks.topics import CONTRACTS

Plant = Callable[[Path], object]


def test_models_and_workers_agree() -> None:
    assert problems(MODELS, CONTRACTS) == []


def change(file: str, pattern: str, replacement: str) -> Plant:
    """Plant a fault: change the first place of a file that the pattern matches."""

    def plant(folder: Path) -> None:
        path = folder / file
        changed, count = re.subn(pattern, replacement, path.read_text(encoding="utf-8"), count=1, flags=re.DOTALL)
        assert count == 1, "the place of the planted fault is gone"
        path.write_text(changed, encoding="utf-8")

    return plant


@pytest.mark.parametrize(
    ("plant", "expected"),
    [
        (
            change("quote-approval.bpmn", "quote.apply-outcome", "quote.apply-outcom"),
            "quote-approval.bpmn: Apply outcome (apply-outcome): no worker has the topic 'quote.apply-outcom'",
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
            change("fulfillment-step.bpmn", ' camunda:versionTag="2.0.0"', ""),
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
            change("quote-approval.bpmn", 'formRef="approve-quote"', 'formRef="aprove-quote"'),
            "quote-approval.bpmn: Approve quote (approve-quote): there is no form 'aprove-quote'",
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
            change("quote-approval.bpmn", 'formRefBinding="deployment"', 'formRefBinding="latest"'),
            "quote-approval.bpmn: Approve quote (approve-quote): binds its form to the latest version",
        ),
        (change("fulfillment-step.bpmn", "</bpmn:definitions>", ""), "fulfillment-step.bpmn: is not readable XML"),
        (
            change("forms/approve-quote.form", '"id": "approve-quote"', '"ident": "x"'),
            "approve-quote.form: is not a form with an id",
        ),
        (
            change(
                "quote-approval.bpmn",
                '<camunda:inputParameter name="requirementId">',
                '<camunda:inputParameter name="requirement">',
            ),
            "quote-approval.bpmn: Remind approver (remind-approver): approval.remind-approver reads 'requirementId'",
        ),
        (
            change("quote-approval.bpmn", 'resultVariable="reuse"', 'resultVariable="reused"'),
            "(open-requirements): quote.open-requirements reads 'reuse', which nothing sets in quote-approval",
        ),
        (
            change("quote-approval.bpmn", r"\$\{remindAt\}", "${remindBy}"),
            "quote-approval.bpmn: Reminder due (reminder-due): ${remindBy} reads 'remindBy'",
        ),
        (
            change("quote-approval.bpmn", r"requirement\.prop\('remindAt'\)", "requirement.prop('remindBy')"),
            "quote-approval.bpmn: Approve requirement (approve-requirement): requirement has no 'remindBy'",
        ),
        (
            change("quote-approval.bpmn", r"getEntry\('nextApproverGroup'\)", "getEntry('nextGroup')"),
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
            "(approve-quote): form approve-quote reads 'ruleText', which nothing sets in quote-approval",
        ),
        (
            change("forms/approve-quote.form", "=reminderNotice = null", "=reminder = null"),
            "(approve-quote): form approve-quote reads 'reminder', which nothing sets in quote-approval",
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


def test_a_topic_that_no_model_uses_is_a_problem() -> None:
    known = {**CONTRACTS, "order.forget": Contract(name="order.forget", variables=())}
    assert problems(MODELS, known) == ["no model uses the topic 'order.forget': remove it from the workers, or draw its task"]


def test_an_error_that_a_topic_newly_throws_must_be_caught() -> None:
    known = {
        **CONTRACTS,
        "order.record-jeopardy": replace(CONTRACTS["order.record-jeopardy"], errors=("ORDER_LOST",)),
    }
    assert problems(MODELS, known) == [
        "order-fulfillment.bpmn: Record jeopardy (record-jeopardy): order.record-jeopardy throws ORDER_LOST, and no boundary event catches it: draw one"
    ]


def test_a_folder_without_models_is_a_problem(tmp_path: Path) -> None:
    assert problems(tmp_path, CONTRACTS) == [f"{tmp_path} has no BPMN files: name the folder with the models"]


def test_every_message_that_is_sent_is_waited_for() -> None:
    waited_for = {
        message.get("name")
        for file in MODELS.glob("*.bpmn")
        for message in etree.parse(file).iter("{http://www.omg.org/spec/BPMN/20100524/MODEL}message")
    }
    assert waited_for == MESSAGES


def skip_without(error: ModelToolsError) -> NoReturn:
    if os.environ.get("CI") == "true":
        raise error
    pytest.skip(str(error))


@pytest.fixture(scope="module")
def tools() -> Path:
    try:
        return model_tools()
    except ModelToolsError as error:
        skip_without(error)


def lint(files: Sequence[Path], tools: Path) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [
        "node",
        tools / "bpmnlint" / "bin" / "bpmnlint.js",
        "--max-warnings=0",
        "--config",
        SUPPORT / ".bpmnlintrc",
        *files,
    ]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=SUPPORT, timeout=120)


def test_modeler_shows_no_lint_finding(tools: Path) -> None:
    result = lint(sorted(MODELS.glob("*.bpmn")), tools)
    assert result.returncode == 0, result.stdout


def test_the_linter_finds_a_planted_fault(tools: Path, tmp_path: Path) -> None:
    shutil.copytree(MODELS, tmp_path / "models")
    change("quote-approval.bpmn", ' name="Register workflow"', "")(tmp_path / "models")
    assert lint([tmp_path / "models" / "quote-approval.bpmn"], tools).returncode != 0


RULE = "{https://www.omg.org/spec/DMN/20191111/MODEL/}rule"


def _entries(rule: etree._Element, kind: str) -> list[str]:
    return [str(entry.findtext("{*}text") or "") for entry in rule.iterchildren(f"{{*}}{kind}Entry")]


def test_rules_of_one_requirement_and_level_exclude_each_other() -> None:
    """UNIQUE(request, type, level): no two such rules may fire for the same facts."""
    rules = list(etree.parse(MODELS / "approval-requirements.dmn").iter(RULE))
    written = [(tuple(_entries(rule, "output")[:2]), tuple(_entries(rule, "input"))) for rule in rules]
    same = [(first, second) for first, second in product(written, written) if first is not second and first[0] == second[0]]
    assert {(first[1][0], second[1][0]) for first, second in same} == {("]10..25]", "> 25"), ("> 25", "]10..25]")}


def test_every_rule_says_why_it_stands_there() -> None:
    rules = [rule for file in MODELS.glob("*.dmn") for rule in etree.parse(file).iter(RULE)]
    assert rules
    assert all(rule.findtext("{*}description") for rule in rules)


def test_the_form_offers_every_decision_and_to_escalate() -> None:
    form = json.loads((MODELS / "forms" / "approve-quote.form").read_text(encoding="utf-8"))
    (options,) = [part["values"] for part in form["components"] if part.get("key") == "decision"]
    assert [option["value"] for option in options] == [*Decision, BY_HAND]


def test_the_form_sends_back_nothing_but_the_decision() -> None:
    form = json.loads((MODELS / "forms" / "approve-quote.form").read_text(encoding="utf-8"))
    assert {field["key"] for field in form["components"] if "key" in field} == {"decision", "reasonCode", "comment"}
    assert not [field["id"] for field in form["components"] if field.get("readonly")]


def test_the_form_shows_text_of_a_customer_as_text() -> None:
    facts: Mapping[str, object] = {
        "quoteNumber": "Q-1",
        "customerId": "<img src=x onerror='window.broken=1'>",
        "linesText": "<script>window.broken=1</script>",
    }
    try:
        with canvas() as page:
            assert draw_form(page, MODELS / "forms" / "approve-quote.form", facts) == []
            assert page.evaluate("window.broken") is None
            assert "The last decision was not accepted" not in page.inner_text("#picture")
    except ModelToolsError as error:
        skip_without(error)


def test_every_model_has_a_picture() -> None:
    pictures = {picture.stem for picture in (MODELS.parent / "docs" / "models").glob("*.png")}
    assert pictures == {file.stem for file in models()}
