"""The register of races and the page of metrics are complete, and everything that they name exists."""

from __future__ import annotations

import re

import pytest
import yaml  # type: ignore[import-untyped]  # it comes with other development tools
from prometheus_client import REGISTRY

from tests.support import metrics_page
from tests.support.register.links import ROOT, is_there, text_of
from tests.support.register.metrics import KNOWN, of_the_product

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


def test_the_lesson_s_percentile_of_lock_waits_is_a_rule() -> None:
    assert "record: q2o:db_lock_wait_seconds:p95_5m" in RULES.read_text(encoding="utf-8")
