"""Draws the pictures of docs/models from the files of bpmn/, with the libraries that Modeler and Tasklist draw with.

`python -m tests.support.rendering` makes them all again. A model that its library warns about is not drawn: a picture
must never hide a fault of its model. Drawing needs Node (for the libraries) and Chromium; one line says which of them is missing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from playwright.sync_api import Page, sync_playwright

SUPPORT = Path(__file__).resolve().parent
SOURCE = SUPPORT.parents[1]
MODULES = SUPPORT / "node_modules"
MODELS = SOURCE / "bpmn"
PICTURES = SOURCE / "docs" / "models"
_INSTALL = ("npm", "install", "--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(SUPPORT))
_INSTALL_SECONDS = 300
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
_PIXELS_PER_POINT = 2

_DRAW_PROCESS = """async xml => {
  const viewer = new BpmnJS({container: '#canvas'});
  const {warnings} = await viewer.importXML(xml);
  const {svg} = await viewer.saveSVG();
  document.body.innerHTML = '<div id="picture" style="display: inline-block; padding: 16px">' + svg + '</div>';
  return warnings.map(warning => warning.message);
}"""
_DRAW_DECISION = """async xml => {
  const viewer = new DmnJS({container: '#canvas'});
  const {warnings} = await viewer.importXML(xml);
  await viewer.open(viewer.getViews().find(view => view.type === 'decisionTable'));
  const style = document.createElement('style');
  style.textContent = '.view-drd {display: none !important} .tjs-table {table-layout: auto !important; width: 100% !important}'
    + '.tjs-table th, .tjs-table td {min-width: 100px !important; width: auto !important; overflow-wrap: normal !important}'
    + '.tjs-table .annotation {min-width: 420px !important} .tjs-table .index-column, .tjs-table .rule-index {min-width: 40px !important}';
  document.head.append(style);
  const canvas = document.querySelector('#canvas');
  canvas.id = 'picture';
  const table = document.querySelector('.tjs-table').getBoundingClientRect();
  canvas.style.width = table.right + 'px';
  canvas.style.height = table.bottom + 48 + 'px';  // with room for the logo
  return warnings.map(warning => warning.message);
}"""
_DRAW_FORM = """async ([schema, data]) => {
  document.querySelector('#canvas').id = 'picture';
  const form = new FormViewer.Form({container: document.querySelector('#picture')});
  const {warnings} = await form.importSchema(JSON.parse(schema), data);
  await new Promise(done => setTimeout(done, 500));  // the library draws after it has answered
  return warnings.map(warning => String(warning));
}"""

# What `quote.collect-approval-facts` and the process deliver to the form, for a quote of the sample catalogue.
SAMPLE_FACTS: Mapping[str, Any] = {
    "quoteNumber": "Q-2026-000117",
    "revisionNo": 3,
    "customerId": "ACME-1001",
    "customerText": "ACME\\-1001",
    "regionText": "DE\\-NORTH",
    "cancellationReasonText": "CHANGED\\_MIND",
    "referenceText": "PROV\\-4711",
    "evidenceText": "Seen in the provider's portal",
    "region": "DE-NORTH",
    "ownerText": "sally",
    "currency": "EUR",
    "requirementType": "DISCOUNT",
    "because": "A discount of 18.0 % is more than sales may give alone (10 %).",
    "rulesText": (
        "- DISCOUNT, level 1 (approverRsm): A discount of 18.0 % is more than sales may give alone (10 %).\n"
        "- STALE_PRICE, level 1 (dealDesk): The price list changed after this quote was priced; "
        "the old price may stand only if you agree."
    ),
    "approverGroup": "approverDirector",
    "dueAt": "2026-12-01T16:00:00Z",
    "listTotal": "2880.00",
    "netTotal": "2361.60",
    "maxDiscountPercent": 18,
    "marginPercent": 39.02,
    "paymentTermDays": 30,
    "priceStale": True,
    "priceValidUntil": "2026-12-15 23:59 UTC",
    "comparedText": (
        "Compared with revision 2, the last one approved: discount +3.00 points, margin -2.23 points, net +316.80 EUR."
    ),
    "linesText": (
        "| # | Offering | Quantity | Months | List | Discount | Net | Change |\n"
        "|---:|---|---:|---:|---:|---:|---:|---|\n"
        "| 1 | Fibre line 1000 | 1 | 24 | 1920.00 | 18.00 % | 1574.40 | **discount was 15.00 %** |\n"
        "| 2 | Router Pro | 2 | 24 | 576.00 | 18.00 % | 472.32 | **quantity was 1, discount was 15.00 %** |\n"
        "| 3 | Support Plus | 1 | 24 | 360.00 | 18.00 % | 295.20 | **new** |\n"
        "| 4 | Support Plus | 1 | 12 | | | | **removed** |"
    ),
    "decisionsText": (
        "| When | Revision | Asked for | Decision | By | Reason | Comment |\n|---|---:|---|---|---|---|---|\n"
        "| 2026-11-20 09:12 UTC | 2 | DISCOUNT, level 1 | REUSED | rina | STRATEGIC\\_DEAL | |\n"
        "| 2026-11-18 14:40 UTC | 1 | DISCOUNT, level 1 | APPROVE | rina | STRATEGIC\\_DEAL | Reference customer |"
    ),
    "reminderNotice": "Half of the time is gone. Please decide by 2026-12-01 16:00 UTC.",
    "escalationNotice": "rina (approverRsm) escalated the task: ABOVE\\_MY\\_AUTHORITY – Not without you",
    "caseNumber": "F-1042",
    "caseType": "OUTCOME_UNKNOWN",
    "caseSeverity": "HIGH",
    "orderNumber": "O-2026-000311",
    "stepCode": "PROVISION\\_SERVICE",
    "stepStatus": "HELD",
    "whatHappened": "PROVISION\\_SERVICE is held (UNCLEAR): the provider cannot tell what became of it.",
    "attemptsText": (
        "| Sent | Command | No. | Key | Status | Known by |\n|---|---|---:|---|---|---|\n"
        "| 2026-11-28 09:12:04 UTC | EXECUTE | 1 | `fulfillment:7f3a:EXECUTE` | UNKNOWN | RECONCILIATION |"
    ),
    "allowedText": (
        "| Resolution | Needs | From |\n|---|---|---|\n"
        "| RETRY | | falloutL1 |\n"
        "| MARK\\_COMPLETED | the provider's reference and a second person, evidence | falloutL1 |\n"
        "| SKIP | evidence | falloutL2 |\n"
        "| CANCEL\\_STEP | evidence | falloutL1 |"
    ),
    "timelineText": (
        "| Our clock (UTC) | Provider's clock | What | Step | Who |\n|---|---|---|---|---|\n"
        "| 11-28 10:12:09 | | UNKNOWN → HELD (FIND\\_UNCLEAR) | PROVISION\\_SERVICE | reconciliation |\n"
        "| 11-28 09:12:24 | | IN\\_PROGRESS → UNKNOWN (TIME\\_OUT) | PROVISION\\_SERVICE | worker-1 |\n"
        "| 11-28 09:12:04 | | EXECUTE sent, attempt 1 | PROVISION\\_SERVICE | worker-1 |"
    ),
    "resolutionRefused": "anna: A second person must confirm the provider's reference first.",
    "confirmationText": "Somebody wants to mark **PROVISION\\_SERVICE** of case F-1042 as completed. Confirm only when you have seen it yourself.",
    "externalReference": "PROV-4711",
    "evidence": "Seen in the provider's portal",
    "orderValueText": "2361.60 EUR",
    "requestedBy": "carla",
    "cancellationReason": "CHANGED\\_MIND",
    "decisionReason": "HIGH\\_VALUE",
    "stepsCompleted": 2,
    "undoableSteps": 2,
    "stepsInFlight": 1,
    "stepsOpen": 4,
    "stepsText": (
        "| Step | Status | Point of no return | Can be undone |\n|---|---|---|---|\n"
        "| RESERVE\\_INVENTORY | COMPLETED | | yes |\n| CHECK\\_SERVICEABILITY | COMPLETED | | yes |\n"
        "| PROVISION\\_SERVICE | IN\\_PROGRESS | yes | no |"
    ),
    "decisionRefused": "dewi: Your authority does not reach as far as this requirement asks.",
}


class ModelToolsError(Exception):
    """A tool that draws or lints models is missing; the message says which, and what to do."""


def skip_without(error: ModelToolsError) -> NoReturn:
    """Skip a test whose tools this machine lacks; in CI it fails."""
    if os.environ.get("CI") == "true":
        raise error
    pytest.skip(str(error))


class UnfaithfulDrawingError(Exception):
    """The library could not draw everything that the model holds."""


def model_tools() -> Path:
    """Return the folder of the npm tools, installed at the first call. Raises ModelToolsError."""
    if shutil.which("npm") is None:
        raise ModelToolsError("Node with npm is not installed: install Node 20 or newer to draw and lint the models")
    if not (MODULES / ".package-lock.json").is_file():
        answer = subprocess.run(_INSTALL, capture_output=True, text=True, check=False, timeout=_INSTALL_SECONDS)
        if answer.returncode != 0:
            raise ModelToolsError(f"npm could not install the model tools: {answer.stderr.strip()[-300:]}")
    return MODULES


def draw_process(page: Page, file: Path) -> list[str]:
    """Draw a BPMN file as element #picture and return the library's warnings."""
    _load(
        page,
        "bpmn-js/dist",
        ["assets/diagram-js.css", "assets/bpmn-js.css"],
        "bpmn-viewer.production.min.js",
        width="1600px",
        height="900px",
    )
    return list(page.evaluate(_DRAW_PROCESS, file.read_text(encoding="utf-8")))


def draw_decision(page: Page, file: Path) -> list[str]:
    """Draw the decision table of a DMN file as element #picture and return the library's warnings."""
    sheets = ["diagram-js", "dmn-js-shared", "dmn-js-drd", "dmn-js-decision-table"]
    _load(
        page,
        "dmn-js/dist",
        [f"assets/{sheet}.css" for sheet in sheets],
        "dmn-viewer.production.min.js",
        width="1772px",
        height="900px",
    )
    return list(page.evaluate(_DRAW_DECISION, file.read_text(encoding="utf-8")))


def draw_form(page: Page, file: Path, data: Mapping[str, Any] = SAMPLE_FACTS) -> list[str]:
    """Draw a form with `data` as element #picture and return the library's warnings."""
    _load(page, "@bpmn-io/form-js/dist", ["assets/form-js.css"], "form-viewer.umd.js", width="900px", height="auto")
    return list(page.evaluate(_DRAW_FORM, [file.read_text(encoding="utf-8"), dict(data)]))


_DRAWERS: Mapping[str, Callable[[Page, Path], list[str]]] = {".bpmn": draw_process, ".dmn": draw_decision, ".form": draw_form}


@contextmanager
def canvas() -> Iterator[Page]:
    """Open an empty page of a headless Chromium. Raises ModelToolsError when the machine has none."""
    browser_path = next(filter(None, map(shutil.which, _CHROMIUM)), None)
    if browser_path is None:
        raise ModelToolsError("Chromium is not installed: install it (Debian: apt-get install chromium) to draw the models")
    model_tools()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=list(_FLAGS))
        try:
            yield browser.new_page(viewport={"width": 2600, "height": 1300}, device_scale_factor=_PIXELS_PER_POINT)
        finally:
            browser.close()


def render(page: Page, file: Path, folder: Path) -> Path:
    """Write the picture of one model. Raises UnfaithfulDrawingError when the library warns."""
    warnings = _DRAWERS[file.suffix](page, file)
    if warnings:
        raise UnfaithfulDrawingError(f"{file.name}: {'; '.join(warnings)}")
    picture = folder / f"{file.stem}.png"
    page.locator("#picture").screenshot(path=picture)
    return picture


def models(folder: Path = MODELS) -> list[Path]:
    """Find every file of the folder that can be drawn."""
    return sorted(file for file in folder.rglob("*") if file.suffix in _DRAWERS)


def _load(page: Page, package: str, sheets: list[str], script: str, *, width: str, height: str) -> None:
    page.set_content(
        f"<!doctype html><body style='background: #fff; margin: 0'><div id='canvas' style='width: {width}; height: {height}'></div>"
    )
    for sheet in sheets:
        page.add_style_tag(path=MODULES / package / sheet)
    page.add_script_tag(path=MODULES / package / script)


def main() -> int:
    """Draw every model into docs/models."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    try:
        with canvas() as page:
            for file in models():
                sys.stdout.write(f"{render(page, file, PICTURES).relative_to(SOURCE)}\n")
    except (ModelToolsError, UnfaithfulDrawingError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
