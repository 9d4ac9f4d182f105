"""The accounts of the processes fit the models, the settings and the page that tells of them."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from lxml import etree

from domain.workflows.keys import STARTED
from tests.support.engine_rights_page import PAGE, page
from workers.accounts import ACCOUNTS, RECEIVING, WITH_PEOPLE
from workers.deployment import GROUPS, models_root
from workers.http.actors import UnusableNameError, person
from workers.local.source import CONFIGURATION
from workers.runtime.engine_login import LONGEST_LOCK
from workers.runtime.secret_files import reveal
from workers.runtime.settings import SettingError, Settings
from workers.tasks.topics import STARTS

BPMN = {"bpmn": "http://www.omg.org/spec/BPMN/20100524/MODEL", "camunda": "http://camunda.org/schema/1.0/bpmn"}
WHOLE_SUITE = Settings(
    {
        "Q2O_ENGINE_USER": "admin",
        "Q2O_ENGINE_PASSWORD": "of the administrator",
        **{f"Q2O_{process.upper()}_ENGINE_USER": account.user_id for process, account in ACCOUNTS.items()},
        **{f"Q2O_{process.upper()}_ENGINE_PASSWORD": f"of {process}" for process in ACCOUNTS},
    }
)


def in_models(path: str, name: Callable[[etree._Element], str]) -> dict[str, set[str]]:
    """What each process has at a path of its model, by process; a process that has nothing there is left out."""
    found: dict[str, set[str]] = {}
    for file in models_root().glob("*.bpmn"):
        for process in etree.parse(file).iterfind(".//bpmn:process", BPMN):
            names = {name(element) for element in process.iterfind(path, BPMN)}
            found |= {str(process.get("id")): names} if names else {}
    return found


def test_the_page_of_rights_is_current() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run `make rights`"


def test_the_accounts_know_which_processes_are_started_wait_for_messages_and_ask_people() -> None:
    assert set(STARTED) == set(STARTS)
    assert set(RECEIVING) == set(in_models(".//bpmn:messageEventDefinition", lambda each: str(each.get("messageRef"))))
    assert {process: {task} for task, process in WITH_PEOPLE.items()} == in_models(
        ".//bpmn:userTask", lambda each: str(each.get("id"))
    )


def test_a_task_has_the_columns_of_the_list_of_every_group_that_is_asked() -> None:
    """Whoever may not read the instance sees in the list only what belongs to the task itself."""

    def columns(listener: etree._Element) -> str:
        return re.sub(r"^\$\{task\.setVariableLocal\('(\w+)', \1\)\}$", r"\1", str(listener.get("expression")))

    copied = in_models(".//bpmn:userTask//camunda:taskListener[@event='create']", columns)
    listed = {process: set(group.columns) for group in GROUPS for process in group.processes if "tasklist" in group.applications}

    assert {process: names & listed[process] for process, names in copied.items()} == {
        process: listed[process] for process in WITH_PEOPLE.values()
    }


@pytest.mark.parametrize("process", ACCOUNTS)
def test_a_process_of_a_whole_suite_logs_in_as_itself(process: str) -> None:
    own = WHOLE_SUITE.of(process)

    assert (own.engine_user, reveal(own.engine_password)) == (f"q2o-{process}", f"of {process}")


def test_an_account_without_a_password_is_named() -> None:
    with pytest.raises(SettingError, match=r"^Q2O_TASKS_ENGINE_PASSWORD is not set"):
        _ = WHOLE_SUITE.having(tasks_engine_password="").engine_passwords


@pytest.mark.parametrize("account", ACCOUNTS.values(), ids=lambda account: account.user_id)
def test_no_caller_of_the_api_can_have_the_name_of_an_account(account: object) -> None:
    with pytest.raises(UnusableNameError):
        person(account.user_id)  # type: ignore[attr-defined]  # of ACCOUNTS


def test_we_wait_as_long_as_the_engine_locks_a_user_and_it_locks_nobody_for_good() -> None:
    text = (CONFIGURATION / "engine" / "application.yaml").read_text(encoding="utf-8")
    numbers = {name: int(value) for name, value in re.findall(r"login-([a-z-]+): (\d+)", text)}

    assert numbers["delay-max-time"] == LONGEST_LOCK.total_seconds()
    assert numbers["max-attempts"] == 2**31 - 1
