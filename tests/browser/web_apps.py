"""Tasklist and Cockpit, as people use them: open, read, click. Every step waits for its result."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect
from playwright.sync_api import TimeoutError as BrowserTimeoutError

from workers.demo.local_suite import PEOPLE_PASSWORD

# A form scrolls in a column of its own: in a window of this height all of it is visible.
WINDOW = {"width": 1500, "height": 1800}
# Screenshots, for people who review a run.
PICTURES = Path(__file__).parents[2] / "build" / "pictures"
# How long an application may stay blank before its user loads it again, in milliseconds.
BLANK = 10_000
LOADS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class WebApps:
    """The engine's applications; each login has a browser profile of its own.

    A person's window is kept for later tests: a new profile would fetch and compile some megabytes of scripts again.
    """

    browser: Browser
    address: str
    windows: dict[tuple[str, str], Page] = field(default_factory=dict)

    def tasklist(self, user: str) -> Tasklist:
        """Load a person's list again."""
        return Tasklist(page=self.window("tasklist", user, ".task-filter"))

    def cockpit(self, user: str) -> Cockpit:
        """Load an operator's overview again."""
        page = self.window("cockpit", user, "text=Running Process Instances")
        return Cockpit(page=page, address=self.start_of("cockpit"))

    def start_of(self, application: str) -> str:
        return f"{self.address}/{application}/default/"

    def window(self, application: str, user: str, sign: str) -> Page:
        """Load an application in the window of a person, who logs in when it is their first."""
        page = self.windows.get((application, user))
        if page is None:
            page = self.windows[application, user] = self.enter(application, user, sign)
        else:
            load_until(page.locator(sign).first, lambda: page.goto(self.start_of(application)))
        return page

    def rest(self) -> None:
        """Empty the windows that are kept and close all others: an open application draws and asks for as long as it is open."""
        kept = [page.context for page in self.windows.values()]
        for page in self.windows.values():
            page.goto("about:blank")
        for context in self.browser.contexts:
            if context not in kept:
                context.close()

    def enter(self, application: str, user: str, sign: str) -> Page:
        """Log in until a sign of the application is seen, as a person would: a request that is lost at its start is not sent again."""
        for _ in range(LOADS):
            page = self.log_in(application, user)
            with suppress(BrowserTimeoutError):
                page.locator(sign).first.wait_for(timeout=BLANK)
                return page
            page.context.close()
        raise TimeoutError(f"{user} logged in to {application} {LOADS} times and never saw {sign!r}")

    def log_in(self, application: str, user: str) -> Page:
        """Fill in the login form; the caller checks whether the login succeeds."""
        page = self.open_window()
        name = page.locator("input[ng-model=username]")
        # What is typed before the application has bound its form is lost.
        load_until(name, lambda: page.goto(self.start_of(application), wait_until="networkidle"))
        name.fill(user)
        page.fill("input[ng-model=password]", PEOPLE_PASSWORD)
        page.click("button[type=submit]")
        return page

    def open_window(self) -> Page:
        """Open the first window of a new browser profile."""
        context = self.browser.new_context(viewport=WINDOW, locale="en-GB", timezone_id="Europe/Berlin")  # type: ignore[arg-type]  # a TypedDict
        return context.new_page()


def load_until(sign: Locator, load: Callable[[], object]) -> None:
    """Load an application until a sign of it is seen, as a person would: one lost script leaves it blank for ever.

    Raises TimeoutError with what the browser's console said.
    """
    said: list[str] = []

    def listen(message: ConsoleMessage) -> None:
        said.append(message.text)

    sign.page.on("console", listen)
    try:
        for _ in range(LOADS):
            with suppress(BrowserTimeoutError):  # a script that hangs makes the load itself time out
                load()
                return sign.wait_for(timeout=BLANK)
    finally:
        sign.page.remove_listener("console", listen)
    raise TimeoutError(f"blank after {LOADS} loads: {said}")


@dataclass(slots=True, kw_only=True)
class Tasklist:
    """An approver's list of tasks, which has just been loaded."""

    page: Page
    was_used: bool = False

    @property
    def filters(self) -> list[str]:
        """Names of the filters that this person sees, without the number of tasks."""
        return [re.sub(r"\s*\(?\d*\)?\s*$", "", text) for text in self.page.locator(".task-filter").all_inner_texts()]

    @property
    def names(self) -> list[str]:
        """Names of the tasks in the list, from the top."""
        return [text.splitlines()[0] for text in self.page.locator("li.task .names").all_inner_texts()]

    def card(self, quote_number: str) -> Locator:
        """The card of the task that asks about a quote, escalated or not."""
        name = re.compile(rf"[Aa]pprove quote {re.escape(quote_number)}\b")
        return self.page.locator("li.task").filter(has=self.page.get_by_text(name))

    def open_case(self, case_number: str) -> CaseForm:
        """Open the task of a fallout case in a list that is new."""
        self._look()
        self.page.locator("li.task").filter(has=self.page.get_by_text(re.compile(rf"{re.escape(case_number)}\b"))).first.click()
        form = self.page.locator(".fjs-form")
        form.get_by_text(f"Case {case_number}", exact=True).wait_for()
        return CaseForm(page=self.page, element=form)

    def wait_for_answer(self) -> None:
        """Wait until the list is filled, or known to be empty."""
        self.page.locator("li.task").or_(self.page.get_by_text("No task matching filters found")).first.wait_for()

    def picture(self, name: str) -> None:
        """Keep what is on the screen now."""
        self.page.mouse.move(0, 0)
        self.page.screenshot(path=PICTURES / f"{name}.png")

    def _look(self) -> None:
        """Load the list again if somebody has used it since it was loaded."""
        if self.was_used:
            self.reload()
        self.was_used = True

    def reload(self) -> None:
        """Load the list anew."""
        load_until(self.page.locator(".task-filter").first, self.page.reload)

    def open(self, quote_number: str) -> Form:
        """Open the task in a list that is new."""
        self._look()
        self.card(quote_number).first.click()
        form = self.page.locator(".fjs-form")
        form.get_by_text(f"Quote {quote_number}", exact=True).wait_for()
        return Form(page=self.page, element=form)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenTask:
    """The form of one open task."""

    page: Page
    element: Locator

    @property
    def text(self) -> str:
        return self.element.inner_text()

    def picture(self, name: str) -> None:
        """Keep what is on the screen now."""
        self.page.mouse.move(0, 0)
        self.page.screenshot(path=PICTURES / f"{name}.png")

    def claim(self) -> None:
        """Claim the task, and wait until the form is enabled."""
        self.page.click("button.claim")
        self.page.locator(".disabled-form").wait_for(state="detached")

    def complete(self) -> None:
        """Complete, and see the task go."""
        self.page.get_by_role("button", name="Complete").click()
        self.element.wait_for(state="detached")


@dataclass(frozen=True, slots=True, kw_only=True)
class Form(OpenTask):
    """The form of an approval."""

    def row(self, text: str) -> list[str]:
        """The cells of the one table row that holds a text."""
        return self.element.locator("tbody tr", has_text=text).locator("td").all_inner_texts()

    @property
    def filled_in(self) -> list[str]:
        """What somebody has chosen or written already."""
        radios = self.element.locator("input[type=radio]:checked").evaluate_all("radios => radios.map(radio => radio.value)")
        reason = self.element.locator(".fjs-select-display:not(.fjs-select-placeholder)").all_inner_texts()
        return [*radios, *reason, *filter(None, [self.element.get_by_label("Comment").input_value()])]

    def decide(self, decision: str, reason: str, comment: str) -> None:
        """Claim, fill in, complete, and see the task go."""
        self.fill_in(decision, reason, comment)
        self.complete()

    def fill_in(self, decision: str, reason: str, comment: str) -> None:
        """Claim and fill in; whoever does so may still wait before completing."""
        self.claim()
        self.element.get_by_label(decision, exact=True).check()
        self.element.locator(".fjs-form-field-select .fjs-input-group").click()
        self.element.locator(".fjs-dropdownlist-item", has_text=reason).click()
        field = self.element.get_by_label("Comment")
        field.fill(comment)
        expect(field).to_have_value(comment)


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseForm(OpenTask):
    """The form of a fallout case, or of its confirmation."""

    def choose(self, resolution: str) -> None:
        """Pick a resolution from the list."""
        self.element.locator(".fjs-form-field-select .fjs-input-group").click()
        self.element.locator(".fjs-dropdownlist-item", has_text=resolution).click()

    def write(self, label: str, text: str) -> None:
        """Fill in a field."""
        field = self.element.get_by_label(label)
        field.fill(text)
        expect(field).to_have_value(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cockpit:
    """An operator's view of what runs."""

    page: Page
    address: str

    @property
    def rows(self) -> Locator:
        """Lines of the table under the diagram."""
        return self.page.locator(".ctn-tabbed-content tbody tr")

    def find(self, definition_id: str, business_key: str) -> None:
        """Search a definition's instances for a business key, and open the one that is found."""
        criteria = json.dumps([{"type": "businessKey", "operator": "eq", "value": business_key, "name": ""}])
        self.page.goto(f"{self.address}#/process-definition/{definition_id}/runtime?searchQuery={quote(criteria)}")
        self.rows.filter(has_text=business_key).locator("a").first.click()
        self.page.wait_for_url("**/process-instance/**")

    def open_finished(self, definition_id: str) -> None:
        """Open the list of a definition's finished instances: our own tab, which the vendor's edition lacks."""
        self.page.goto(f"{self.address}#/process-definition/{definition_id}/runtime")
        self.tab("Finished")

    def tab(self, name: str) -> None:
        """Open one of the tables about the instance."""
        self.page.locator(".nav-tabs a", has_text=name).click()

    def retry(self, incident_message: str) -> None:
        """Give the failed task of an incident another attempt, as the incident's button does."""
        self.tab("Incidents")
        self.rows.filter(has_text=incident_message).locator(".action-button:visible").click()
        self.page.locator(".modal-footer .btn-primary").first.click()
        self.page.locator(".modal-dialog", has_text="finished successfully").wait_for()
        self.page.locator(".modal-footer button:visible").last.click()
