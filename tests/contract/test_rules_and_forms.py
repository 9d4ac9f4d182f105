"""The rules exclude each other and have descriptions, the forms offer every decision, and every model has a picture."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from lxml import etree

from domain.offers.approvals import Decision
from domain.texts import on_one_line
from tests.support.rendering import MODELS, ModelToolsError, canvas, draw_form, models, skip_without
from workers import tasks
from workers.tasks.markdown import plain

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


def forms() -> Iterator[Mapping[str, Any]]:
    for file in (MODELS / "forms").glob("*.form"):
        yield json.loads(file.read_text(encoding="utf-8"))


def fields(*types: str) -> set[str]:
    """The variables that people type into any form."""
    return {part["key"] for form in forms() for part in form["components"] if part["type"] in types}


def test_no_form_shows_what_a_person_typed_unless_it_was_escaped() -> None:
    """`workers.tasks.markdown.plain` makes `customerText` of `customerId`: only such a variable may stand in a text of a form."""
    shown = {
        name
        for form in forms()
        for part in form["components"]
        for name in re.findall(r"{{\s*(\w+)\s*}}", part.get("text", "") + part.get("label", ""))
    }

    assert shown & (fields("textfield", "textarea") | {"customerId", "ownerUserId", "region", "cancellationReason"}) == set()


def test_no_handler_takes_the_text_of_a_form_as_it_comes() -> None:
    """`workers.tasks.persons.Person` cleans prose, and refuses what is too long or no identifier."""
    code = "".join(file.read_text(encoding="utf-8") for file in Path(tasks.__path__[0]).glob("*.py"))

    assert [
        name
        for name in fields("textfield", "textarea")
        if re.search(rf"""(variables\.get|\.text)\("{name}"|variables\["{name}""", code)
    ] == []


WORDS = (
    *(
        "**bold**",
        "_it_",
        "`code`",
        "~~gone~~",
        "# head",
        "- item",
        "+ item",
        "1. one",
        "1) one",
        "> quote",
        "---",
        "===",
        "| a | b |",
        "|---|---|",
    ),
    *(
        "[a](https://evil.example)",
        "![a](https://evil.example/a.png)",
        "<b>bold</b>",
        "<img src=x onerror='window.broken=1'>",
        "<!-- a",
    ),
    *(
        "https://evil.example",
        "http://evil.example",
        "ftp://evil.example",
        "www.evil.example",
        "a@evil.example",
        "mailto:a@evil.example",
    ),
    *(
        "<https://evil.example>",
        "[a]: https://evil.example",
        "&lt;b&gt;",
        "&#x202e;",
        "{{netTotal}}",
        "\\",
        "\\*",
        "\\|",
        "*",
        "`",
        "```",
        "    code",
    ),
    *(
        "=netTotal",
        "$& $1",
        "\u200b    code",
        "left\u202eright",
        "a\n\n# head\n\n| a |\n|---|\n| b |",
        "\\\n",
        "x^2^",
        "term\n: text",
        "[^1]: note",
    ),
)
"""What Markdown, HTML or a template may take for more than text."""
FRAMES = ("{{value}}", "## Quote\n{{value}}", "Customer **{{value}}** · Region", "| A | B |\n|---|---|\n| {{value}} | b |")
"""The places where our forms show a text of a person."""


def test_a_text_of_a_person_reads_as_it_was_typed_wherever_a_form_shows_it(tmp_path: Path) -> None:
    texts = [*WORDS, *(f"{word} *_`|\\<b>" for word in WORDS)]
    parts = [
        {"type": "text", "id": f"text{number}_{place}", "text": frame.replace("value", f"value{number}")}
        for number, _ in enumerate(texts)
        for place, frame in enumerate(FRAMES)
    ]
    form = tmp_path / "texts.form"
    form.write_text(json.dumps({"type": "default", "id": "texts", "schemaVersion": 16, "components": parts}), encoding="utf-8")
    facts: dict[str, object] = {f"value{number}": plain(text) for number, text in enumerate(texts)}

    try:
        with canvas() as page:
            assert draw_form(page, form, {**facts, "netTotal": "0"}) == []
            drawn = page.evaluate(READ_TEXTS)
            assert page.evaluate("window.broken") is None
    except ModelToolsError as error:
        skip_without(error)

    for text, (alone, headed, bold, cell) in zip(texts, batched(drawn), strict=True):
        read = on_one_line(text)
        assert alone == ["P", read]
        assert headed == ["H2 P", f"Quote\n{read}"]
        assert bold == ["P STRONG", f"Customer {read} · Region"]
        assert cell == ["TABLE THEAD TR TH TH TBODY TR TD TD", f"A\tB\n{read}\tb"]


READ_TEXTS = """() => [...document.querySelectorAll('.fjs-form-field-text')].map(field => [
  [...field.querySelectorAll('*')].map(element => element.nodeName).filter(name => name !== 'DIV').join(' '),
  field.innerText.split('\\n').map(line => line.trim()).filter(line => line).join('\\n'),
])"""


def batched(drawn: Sequence[Any]) -> Iterator[Sequence[Any]]:
    """What was drawn, by text: as many as there are frames."""
    for start in range(0, len(drawn), len(FRAMES)):
        yield drawn[start : start + len(FRAMES)]


def test_every_model_has_a_picture() -> None:
    pictures = {picture.stem for picture in (MODELS.parent / "docs" / "models").glob("*.png")}
    assert pictures == {file.stem for file in models()}
