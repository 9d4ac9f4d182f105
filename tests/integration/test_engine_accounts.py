"""The accounts of the processes in the engine: their rights and passwords are those of the declaration, whatever stood there before."""

from __future__ import annotations

from contextlib import closing
from threading import Event

import pytest

from tests.support.engine_site import LOCK, Site
from tests.support.engines import Deployer, Doors, running
from tests.support.handlers import Calls, topics
from tests.support.models import TENANT, one_task
from tests.support.waiting import PATIENCE, eventually
from workers import suite
from workers.accounts import ACCOUNTS, set_up_accounts
from workers.pod.pod import Pod
from workers.runtime.engine import Engine, EngineLockedOutError, Resource
from workers.runtime.settings import SettingError

pytestmark = pytest.mark.stack


def test_what_is_not_declared_is_taken_away(site: Site) -> None:
    account = ACCOUNTS["reconcile"]
    site.administrator.ensure_authorization(
        Resource.PROCESS_DEFINITION, "confirm-case", ["DELETE_INSTANCE"], user_id=account.user_id
    )
    site.administrator.ensure_authorization(Resource.PROCESS_DEFINITION, "resolve-case", ["ALL"], user_id=account.user_id)

    set_up_accounts(site.administrator, site.settings)

    rows = site.administrator.rows("/authorization", userIdIn=account.user_id)
    held = {(row["resourceType"], row["resourceId"]): frozenset(row["permissions"]) for row in rows}
    assert held == account.grants


def test_an_account_gets_the_password_of_the_settings(site: Site) -> None:
    changed = site.settings.having(reconcile_engine_password="Changed-2026-twice")

    set_up_accounts(site.administrator, changed)

    with closing(suite.engine_of(changed.of("reconcile"))) as engine:
        assert not engine.may_deploy()
    set_up_accounts(site.administrator, site.settings)
    with site.account("reconcile") as engine:
        assert not engine.may_deploy()


def test_a_weak_password_is_named_before_anything_is_changed(site: Site) -> None:
    weak = site.settings.having(tasks_engine_password="Changed-2026-twice", reconcile_engine_password="short")

    with pytest.raises(SettingError) as refused:
        set_up_accounts(site.administrator, weak)

    assert str(refused.value) == (
        "Q2O_RECONCILE_ENGINE_PASSWORD is too weak for the engine: "
        "give a digit, a special character, an upper-case letter, at least 10 characters"
    )
    with site.account("tasks") as engine:
        assert not engine.may_deploy()


def test_a_password_with_the_name_of_its_process_is_named_too(site: Site) -> None:
    with pytest.raises(
        SettingError, match=r"^Q2O_TASKS_ENGINE_PASSWORD is too weak for the engine: give no name of the user in it$"
    ):
        set_up_accounts(site.administrator, site.settings.having(tasks_engine_password="Eng-tasks-9wPq27Zr!"))


def test_results_are_reported_when_the_lock_by_somebody_elses_wrong_password_ends(
    site: Site, deploy: Deployer, doors: Doors
) -> None:
    process, account, release = deploy(one_task), ACCOUNTS["tasks"], Event()
    calls = Calls(lambda _: {"released": release.wait(PATIENCE)})
    site.administrator.ensure_authorization(
        Resource.PROCESS_DEFINITION, process.key, ["READ_INSTANCE", "UPDATE_INSTANCE"], user_id=account.user_id
    )
    site.administrator.ensure_tenant(TENANT, "Small models")
    site.administrator.ensure_user_in_tenant(TENANT, account.user_id)
    instances = [process.start() for _ in range(4)]

    with site.account("tasks") as engine, running(Pod(engine, topics(process, calls), lock_duration=LOCK)):
        eventually(lambda: len(calls.tasks) == len(instances), "every task is in work")
        with closing(Engine(site.settings.engine_url, account.user_id, "a guess")) as guessing:
            for _ in range(3):
                with pytest.raises(EngineLockedOutError):
                    guessing.may_deploy()
        with pytest.raises(EngineLockedOutError):
            engine.may_deploy()
        release.set()
        for instance in instances:
            process.reaches(instance, "done")
        process.reaches(process.start(), "done")

    assert len(calls.tasks) == len(instances) + 1
