"""The register of races and the page of metrics are complete, and everything that they name exists."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
import yaml  # type: ignore[import-untyped]  # it comes with other development tools
from prometheus_client import REGISTRY

from domain.errors import DomainError
from domain.rights import PROCESSES
from domain.schema import METADATA
from tests.mutants.layers import GUARDS, MOVES
from tests.support import metrics_page, races_page
from tests.support.register import FURTHER, LINES, RACES, REQUIRED, Race
from tests.support.register.links import ROOT, is_there, text_of
from tests.support.register.metrics import KNOWN, of_the_product
from workers.runtime.log_fields import FIELDS
from workers.tasks.topics import HANDLERS

EVERY_RACE = (*RACES, *FURTHER)
NAMED_TESTS = sorted({test for each in (*EVERY_RACE, *REQUIRED) for test in each.tests})
MUST_BE_ZERO = (
    "q2o_audit_violations",
    "q2o_db_deadlocks_total",
    "q2o_inbox_dead_letters_total",
    "q2o_items_set_aside_total",
    "q2o_retention_failures_total",
)
RULES = ROOT / "docker" / "prometheus" / "rules.yaml"
A_METRIC = re.compile(r"\b(q2o_[a-z0-9_]+)")
PARTS = re.compile(r"_(?:bucket|count|sum)$")


def test_every_metric_has_a_test_and_a_remedy() -> None:
    assert set(KNOWN) == set(of_the_product())


@pytest.mark.parametrize("name", KNOWN)
def test_the_test_of_a_metric_reads_it(name: str) -> None:
    assert is_there(KNOWN[name].test), KNOWN[name].test
    assert name in text_of(KNOWN[name].test)


def test_the_page_of_metrics_is_as_the_metrics_are() -> None:
    assert metrics_page.PAGE.read_text(encoding="utf-8") == metrics_page.page()


def test_every_metric_of_the_process_is_documented() -> None:
    registered = {family.name for family in REGISTRY.collect() if family.name.startswith("q2o_")}

    assert registered == {name.removesuffix("_total") for name in of_the_product()}


def test_every_rule_for_prometheus_names_a_metric_of_the_product() -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
    named = {PARTS.sub("", name) for rule in rules for name in A_METRIC.findall(rule["expr"])}

    assert named
    assert named <= set(of_the_product())


@pytest.mark.parametrize("name", MUST_BE_ZERO)
def test_a_person_is_called_for_what_must_not_happen(name: str) -> None:
    rules = [rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]

    assert any("alert" in rule and name in rule["expr"] for rule in rules)


def test_the_percentile_of_lock_waits_is_a_rule() -> None:
    assert "record: q2o:db_lock_wait_seconds:p95_5m" in RULES.read_text(encoding="utf-8")


def test_the_register_has_the_twelve_races_of_the_matrix_and_the_fifteen_required_tests() -> None:
    assert [race.code for race in RACES] == [f"M{number}" for number in range(1, 13)]
    assert [each.code for each in REQUIRED] == [f"T{number}" for number in range(1, 16)]


@pytest.mark.parametrize("test", NAMED_TESTS)
def test_every_test_of_the_register_exists(test: str) -> None:
    assert is_there(test)


def test_a_test_that_is_gone_is_missed() -> None:
    assert not is_there("tests/races/test_editing.py::test_that_is_gone")
    assert not is_there("tests/races/test_gone.py::test_that_is_gone")


@pytest.mark.parametrize("race", EVERY_RACE, ids=lambda race: race.code)
def test_every_layer_and_metric_of_a_race_exists(race: Race) -> None:
    kept = {*GUARDS, *MOVES}
    for table in METADATA.tables.values():
        kept |= {str(getattr(each, "name", None)) for each in (*table.indexes, *table.constraints)}

    assert set(race.layers) <= kept
    assert set(race.metrics) <= set(of_the_product())
    assert race.layers
    assert race.metrics


def test_every_metric_of_a_required_test_exists_and_every_race_of_it() -> None:
    assert {name for each in REQUIRED for name in each.metrics} <= set(of_the_product())
    assert {code for each in REQUIRED for code in each.races} <= {race.code for race in EVERY_RACE}
    assert {race.code for race in RACES} == {code for each in REQUIRED for code in each.races}


def test_every_field_of_the_register_is_one_that_the_code_writes() -> None:
    assert {field for lines in LINES.values() for line in lines for field in line.fields} <= set(FIELDS)
    assert set(LINES) == {race.code for race in RACES}


def everything_below(kind: type[DomainError]) -> Iterator[type[DomainError]]:
    yield kind
    for each in kind.__subclasses__():
        yield from everything_below(each)


def test_every_conflict_code_of_the_register_is_that_of_a_refusal() -> None:
    named = {code for lines in LINES.values() for line in lines if (code := line.says.get("conflictCode"))}

    assert named
    assert named <= {refusal.code for refusal in everything_below(DomainError)}


REVIEW = (ROOT / "docs" / "review.md").read_text(encoding="utf-8")
CAPABILITIES = dict(part.split("\n", 1) for part in REVIEW.split("\n## ")[1:])


def parts_of_the_product() -> set[str]:
    """Everything that a change comes through: modules of routes and of handlers, and the processes that have neither."""
    routes = {file.stem for file in (ROOT / "workers/http/routes").glob("*.py") if "APIRouter(" in file.read_text(encoding="utf-8")}
    handlers = {handler.__module__.rpartition(".")[2] for handler in HANDLERS}
    return (
        {f"routes/{name}" for name in routes - {"documentation"}}
        | {f"tasks/{name}" for name in handlers}
        | {f"q2o {name}" for name in PROCESSES if name not in {"http", "tasks"}}
    )


def test_every_part_of_the_product_is_reviewed_in_one_capability() -> None:
    """Kills: a new route, handler or process whose capability has no table."""
    named = [part for text in CAPABILITIES.values() for part in re.findall(r"`([^`]+)`", text.partition("Code: ")[0])]

    assert sorted(named) == sorted(parts_of_the_product())


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_a_review_answers_all_fifteen_questions_and_names_code_and_tests(capability: str) -> None:
    text = CAPABILITIES[capability]

    assert re.findall(r"^\| (\d+) \| \S", text, re.MULTILINE) == [str(number) for number in range(1, 16)]
    assert text.strip().startswith("Parts: `")
    assert "Code: [" in text
    assert "Tests: [" in text


def test_everything_that_a_review_names_exists() -> None:
    races = {*(race.code for race in EVERY_RACE), *(each.code for each in REQUIRED)}
    kept = set(re.findall(r"`((?:uq|pk|ck)_\w+)`", REVIEW))

    assert set(re.findall(r"\b([MFT]\d{1,2})\b", REVIEW)) <= races
    assert set(A_METRIC.findall(REVIEW)) <= set(of_the_product())
    assert kept <= {str(index.name) for table in METADATA.tables.values() for index in table.indexes}
    assert codes_in(REVIEW) <= {refusal.code for refusal in everything_below(DomainError)} | STATES


def codes_in(text: str) -> set[str]:
    return set(re.findall(r"\b[A-Z]{3,}(?:_[A-Z]+)+\b", text))


STATES = {"START_UNKNOWN", "MARK_COMPLETED"}


def test_the_page_of_races_is_as_the_register_is() -> None:
    assert races_page.PAGE.read_text(encoding="utf-8") == races_page.page()
