"""The rules exclude each other and have descriptions, the forms offer every decision, and every model has a picture."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import product

from lxml import etree

from domain.offers.approvals import Decision
from tests.support.rendering import MODELS, ModelToolsError, canvas, draw_form, models, skip_without

RULE = "{https://www.omg.org/spec/DMN/20191111/MODEL/}rule"


def _entries(rule: etree._Element, kind: str) -> list[str]:
    return [str(entry.findtext("{*}text") or "") for entry in rule.iterchildren(f"{{*}}{kind}Entry")]


def test_rules_of_one_requirement_and_level_exclude_each_other() -> None:
    """Requirements are UNIQUE by request, type and level, so two such rules must not fire for the same facts."""
    rules = list(etree.parse(MODELS / "approval-requirements.dmn").iter(RULE))
    written = [(tuple(_entries(rule, "output")[:2]), tuple(_entries(rule, "input"))) for rule in rules]
    same = [(first, second) for first, second in product(written, written) if first is not second and first[0] == second[0]]
    assert {(first[1][0], second[1][0]) for first, second in same} == {("]10..25]", "> 25"), ("> 25", "]10..25]")}


def test_every_rule_has_its_reason_as_an_annotation() -> None:
    rules = [rule for file in MODELS.glob("*.dmn") for rule in etree.parse(file).iter(RULE)]
    assert rules
    assert all(rule.findtext("{*}description") for rule in rules)


def test_the_form_offers_every_decision_and_to_escalate() -> None:
    form = json.loads((MODELS / "forms" / "approve-quote.form").read_text(encoding="utf-8"))
    (options,) = [part["values"] for part in form["components"] if part.get("key") == "decision"]
    assert [option["value"] for option in options] == [*Decision, "ESCALATE"]


def test_the_form_sends_only_the_decision() -> None:
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
