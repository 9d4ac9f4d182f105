"""Swagger UI at `/docs` in a real browser: every operation is there, and nothing comes from anywhere else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Page, expect, sync_playwright

from tests.browser.conftest import FLAGS
from tests.support import asking
from workers.http.edge import HttpEdge

METHODS = frozenset({"get", "post", "put", "patch", "delete"})
ADDRESS = re.compile(r"(?:https?:)?//[a-z0-9.-]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """The page as it was opened without a token, and what the browser asked for and complained about."""

    page: Page
    hosts: set[str] = field(default_factory=set)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def visit(chromium: str, edge: HttpEdge) -> Iterator[Visit]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        visit = Visit(page=browser.new_page())
        visit.page.on("request", lambda request: visit.hosts.add(urlsplit(request.url).netloc))
        visit.page.on("console", lambda message: visit.complaints.append(message.text) if message.type == "error" else None)
        visit.page.goto(f"{edge.address}/docs")
        try:
            yield visit
        finally:
            browser.close()


def test_every_operation_of_the_document_is_shown(visit: Visit, edge: HttpEdge) -> None:
    paths = asking.get(f"{edge.address}/openapi.json").json()["paths"]
    operations = sum(len(METHODS & set(path)) for path in paths.values())

    expect(visit.page.locator(".opblock")).to_have_count(operations)


def test_an_operation_opens_with_its_example_and_can_be_tried(visit: Visit) -> None:
    create = visit.page.locator("#operations-quotes-createQuote")
    create.locator(".opblock-summary").click()

    expect(create.get_by_text("FIBRE_1000").first).to_be_visible()
    expect(create.get_by_role("button", name="Try it out")).to_be_visible()


def test_the_browser_asks_nobody_but_the_edge_and_has_nothing_to_complain_about(visit: Visit, edge: HttpEdge) -> None:
    expect(visit.page.locator(".opblock").first).to_be_visible()

    assert visit.hosts - {""} == {urlsplit(edge.address).netloc}  # a data: address has no host
    assert visit.complaints == []


@pytest.mark.parametrize("path", ["/docs", "/docs/start.js"])
def test_our_part_of_the_page_names_no_other_host(edge: HttpEdge, path: str) -> None:
    assert ADDRESS.findall(asking.get(f"{edge.address}{path}").text) == []


def test_the_page_may_load_from_its_own_host_alone(edge: HttpEdge) -> None:
    policy = asking.get(f"{edge.address}/docs").headers["Content-Security-Policy"]

    assert "default-src 'none'" in policy
    assert set(re.findall(r"[^\s;]*:[^\s;]*|'self'", policy)) == {"'self'", "data:"}
