"""The engine's web applications in a real browser, on the running suite. Without Chromium the tests are skipped; in CI they fail."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import closing

import pytest
from playwright.sync_api import expect, sync_playwright

from tests.browser.web_apps import WebApps
from tests.support.waiting import eventually
from workers import suite
from workers.demo.local_suite import LocalSuite
from workers.runtime.engine import Engine, EngineRefusedError

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# The default of five seconds is less than a page may need on a busy machine; only a failing test waits as long as a locator does.
expect.set_options(timeout=30_000)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Find the machine's Chromium."""
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is not None:
        return path
    reason = "Chromium is not installed: install it (Debian: apt-get install chromium) to test Tasklist and Cockpit"
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="module")
def web_apps(chromium: str, running_suite: LocalSuite) -> Iterator[WebApps]:
    """Start the browser. Once for each module: Playwright occupies the thread's event loop while it runs."""
    _end_what_others_left(running_suite)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        try:
            yield WebApps(browser=browser, address=running_suite.settings.engine_url.removesuffix("/engine-rest") + "/camunda/app")
        finally:
            browser.close()


@pytest.fixture
def web(web_apps: WebApps) -> Iterator[WebApps]:
    """Open Tasklist and Cockpit as one of the demo's people."""
    yield web_apps
    web_apps.rest()


def _end_what_others_left(running_suite: LocalSuite) -> None:
    """End the instances of earlier tests: Tasklist shows a group its tasks of every tenant."""
    with closing(suite.engine_of(running_suite.settings)) as engine:
        eventually(lambda: _is_empty(engine), "the engine lets go of all instances")


def _is_empty(engine: Engine) -> bool:
    for instance in engine.rows("/process-instance"):
        try:
            engine.delete_instance(instance["id"], "its test is over")
        except EngineRefusedError as refusal:
            # Pods still work on the instance: it can be deleted when they have reported.
            if "OptimisticLockingException" not in str(refusal):
                raise
    return not engine.rows("/process-instance")
