"""The tenants of the engine: a model, its instances and its messages belong to one, and a worker outside of it is named."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs
from typer.testing import CliRunner, Result

from domain.workflows.keys import PROCESSES
from tests.support.engines import Doors
from tests.support.models import new_name, one_task, waiting_for_message
from workers import suite
from workers.cli import app
from workers.deployment import DEPLOYMENT, OWN_MODELS, WORKERS, deploy, models_root, set_up
from workers.runtime.engine import Engine, EngineRefusedError, Resource, TopicRequest
from workers.runtime.settings import Settings

pytestmark = pytest.mark.stack

PASSWORD = "Demo-2026-q2o"
WORKER_NEEDS = ["READ", "READ_INSTANCE", "UPDATE_INSTANCE"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """One small model, deployed for two tenants."""

    engine: Engine
    key: str
    topic: str
    mine: UUID
    others: UUID


@pytest.fixture
def engine(doors: Doors) -> Engine:
    return doors.direct()


@pytest.fixture
def deployed(engine: Engine, tmp_path: Path) -> Deployed:
    key, topic, tenants = new_name("process"), new_name("topic"), (uuid4(), uuid4())
    file = tmp_path / f"{key}.bpmn"
    file.write_text(one_task(key, topic), encoding="utf-8")
    for tenant in tenants:
        engine.ensure_tenant(tenant, "A tenant")
        engine.deploy(tenant, key, [file])
    return Deployed(engine=engine, key=key, topic=topic, mine=tenants[0], others=tenants[1])


@pytest.fixture
def worker(engine: Engine, doors: Doors) -> Iterator[Engine]:
    """A user with the rights of a worker, who is in no tenant yet."""
    name = new_name("worker").replace("-", "")
    engine.ensure_user(name, first_name="A", last_name="Worker", email=f"{name}@example.org", password=PASSWORD)
    engine.ensure_authorization(Resource.PROCESS_DEFINITION, "*", WORKER_NEEDS, user_id=name)
    engine.ensure_authorization(Resource.TENANT, "*", ["READ"], user_id=name)
    door = Engine(doors.environment["Q2O_ENGINE_URL"], name, PASSWORD)
    yield door
    door.close()
    engine.call("DELETE", f"/user/{name}")


def fetched(worker: Engine, topic: str) -> set[str]:
    """The tenants of the tasks that a worker is given."""
    request = TopicRequest(name=topic, lock_duration=timedelta(seconds=1), variables=())
    return {task.tenant_id for task in worker.fetch_and_lock([request], max_tasks=10, poll=timedelta(0))}


def test_a_worker_is_given_the_tasks_of_its_tenants_and_no_others(deployed: Deployed, worker: Engine) -> None:
    for tenant in (deployed.mine, deployed.others):
        deployed.engine.start_process(tenant, deployed.key, new_name("business"), {})
    assert fetched(worker, deployed.topic) == set()

    deployed.engine.ensure_user_in_tenant(deployed.mine, worker.user)

    assert fetched(worker, deployed.topic) == {str(deployed.mine)}


def test_a_process_that_starts_names_the_tenants_that_it_does_not_serve(deployed: Deployed, worker: Engine, doors: Doors) -> None:
    deployed.engine.ensure_user_in_tenant(deployed.mine, worker.user)
    settings = Settings({**doors.environment, "Q2O_ENGINE_USER": worker.user, "Q2O_ENGINE_PASSWORD": PASSWORD})

    with capture_logs() as logs:
        suite.trusted_engine_of(settings).close()

    [said] = [log for log in logs if log["event"] == "engine_tenants_not_served"]
    assert str(deployed.others) in said["tenants"]
    assert str(deployed.mine) not in said["tenants"]
    assert said["engineUser"] == worker.user


def test_a_tenant_that_is_served_through_a_group_is_not_named(deployed: Deployed, worker: Engine) -> None:
    deployed.engine.ensure_group(WORKERS, "Workers")
    deployed.engine.ensure_membership(WORKERS, worker.user)
    deployed.engine.ensure_group_in_tenant(deployed.mine, WORKERS)

    assert deployed.mine not in worker.unserved_tenants()
    assert deployed.others in worker.unserved_tenants()


def test_a_message_reaches_the_instance_of_its_tenant_alone(engine: Engine, tmp_path: Path) -> None:
    key, message, business_key, tenants = new_name("process"), new_name("message"), new_name("order"), (uuid4(), uuid4())
    file = tmp_path / "model.bpmn"
    file.write_text(waiting_for_message(key, message), encoding="utf-8")
    for tenant in tenants:
        engine.deploy(tenant, key, [file])
        engine.start_process(tenant, key, business_key, {})

    assert engine.correlate(tenants[0], message, business_key)
    assert not engine.correlate(tenants[0], message, business_key)
    assert engine.correlate(tenants[1], message, business_key)


def test_a_process_is_not_started_for_a_tenant_without_its_model(deployed: Deployed) -> None:
    with pytest.raises(EngineRefusedError, match="tenant-id") as refused:
        deployed.engine.start_process(uuid4(), deployed.key, new_name("order"), {})
    assert refused.value.is_not_found


def run_deploy(doors: Doors, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["deploy", *arguments], env=doors.environment)


def deployments(engine: Engine, tenant: UUID) -> int:
    return int(engine.get("/deployment/count", tenantIdIn=str(tenant))["count"])


def test_one_command_adds_a_tenant_that_the_workers_serve(engine: Engine, doors: Doors) -> None:
    tenant = uuid4()

    assert run_deploy(doors, "--tenant", str(tenant), "--name", "Acme").exit_code == 0

    assert engine.get(f"/tenant/{tenant}")["name"] == "Acme"
    assert engine.get("/tenant/count", id=str(tenant), groupMember=WORKERS) == {"count": 1}
    assert engine.get("/process-definition/count", tenantIdIn=str(tenant)) == {"count": len(PROCESSES)}


def with_threshold(folder: Path, percent: int) -> Path:
    """The models of the suite with another text in one of them."""
    shutil.copytree(models_root(), folder, dirs_exist_ok=True)
    model = folder / "approval-requirements.dmn"
    model.write_text(f"{model.read_text(encoding='utf-8')}<!-- {percent} -->", encoding="utf-8")
    return folder


def test_models_of_a_tenant_are_replaced_only_by_who_says_so_and_come_back(engine: Engine, doors: Doors, tmp_path: Path) -> None:
    own, id_of_own = with_threshold(tmp_path / "own", 5), str(uuid4())
    given = ("--tenant", id_of_own, "--models", str(own))
    assert "deployed" in run_deploy(doors, *given).output
    assert "unchanged" in run_deploy(doors, *given).output

    forgotten = run_deploy(doors, "--tenant", id_of_own)
    assert (forgotten.exit_code, deployments(engine, UUID(id_of_own))) == (2, 1)
    assert "has models of its own" in forgotten.output

    assert "deployed" in run_deploy(doors, "--tenant", id_of_own, "--suite-models").output
    assert "deployed" in run_deploy(doors, *given).output
    latest = engine.deployment_in_force(UUID(id_of_own), DEPLOYMENT)
    assert latest is not None
    assert latest.source == OWN_MODELS
    assert deployments(engine, UUID(id_of_own)) == 3


def test_a_new_release_goes_to_every_tenant_but_those_with_models_of_their_own(
    engine: Engine, doors: Doors, tmp_path: Path
) -> None:
    ours, own = uuid4(), uuid4()
    set_up(engine)
    deploy(engine, ours)
    deploy(engine, own, folder=with_threshold(tmp_path / "own", 5))

    ended = run_deploy(doors)

    assert (ended.exit_code, deployments(engine, ours), deployments(engine, own)) == (0, 1, 1)
    assert f"tenant {ours} ({ours}): unchanged" in ended.output
    assert f"tenant {own} ({own}): left alone" in ended.output


def test_a_tenant_is_renamed_and_two_tenants_get_no_common_name(engine: Engine, doors: Doors) -> None:
    tenant = str(uuid4())
    run_deploy(doors, "--tenant", tenant, "--name", "Acme")

    assert run_deploy(doors, "--tenant", tenant, "--name", "Acme Ltd").exit_code == 0
    assert engine.name_of_tenant(UUID(tenant)) == "Acme Ltd"
    assert run_deploy(doors, "--tenant", tenant, "--tenant", str(uuid4()), "--name", "Both").exit_code == 2


def test_accounts_are_set_without_a_deployment(engine: Engine, doors: Doors) -> None:
    before = engine.get("/deployment/count")

    assert run_deploy(doors, "--accounts-only").exit_code == 0

    assert engine.get("/deployment/count") == before


def test_models_that_the_workers_do_not_carry_out_are_not_deployed(engine: Engine, doors: Doors, tmp_path: Path) -> None:
    tenant = uuid4()
    shutil.copytree(models_root(), tmp_path / "own", ignore=shutil.ignore_patterns("late-compensation.bpmn"))
    model = tmp_path / "own" / "fallout-case.bpmn"
    model.write_text(model.read_text(encoding="utf-8").replace('camunda:topic="workflow.register"', 'camunda:topic="nobody"'))

    ended = run_deploy(doors, "--tenant", str(tenant), "--models", str(tmp_path / "own"))

    assert ended.exit_code == 2
    assert "late-compensation.bpmn is missing" in ended.output
    assert "nobody" in ended.output
    assert engine.find(f"/tenant/{tenant}") is None


def test_models_of_its_own_need_a_tenant(doors: Doors, tmp_path: Path) -> None:
    ended = run_deploy(doors, "--models", str(tmp_path))

    assert ended.exit_code == 2
    assert "name it by --tenant" in ended.output
