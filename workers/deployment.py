"""Deploys what the suite needs in the engine: the models of each tenant, and the groups, permissions and Tasklist filters of all.

The rule it keeps: a model belongs to one tenant, so the engine shows its work to the members of that tenant alone. Groups hold in every
tenant of a person; whose signature counts for which tenant, the domain decides by its authority grants.

All of it may be repeated at any time: the engine keeps a deployment whose files did not change, and `ensure_…` changes only what differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import bpmn
from domain.workflows.keys import PROCESSES
from workers.runtime.engine import Engine, Resource
from workers.runtime.environment import SettingError

DECISIONS = (
    "approval-requirements",
    "reapproval-reuse",
    "approval-escalation",
    "fallout-policy",
    "cancellation-policy",
    "jeopardy-level",
)
MODEL_FILES = ("*.bpmn", "*.dmn", "forms/*.form")
DEPLOYMENT = "quote-to-order"
OUR_MODELS, OWN_MODELS = "q2o", "own models"
OPERATORS = "operators"
WORKERS = "workers"
"""The group of the suite's own users; it is a member of every tenant."""


OF_FALLOUT = ("fallout-case", "resolve-case", "confirm-case")
OF_QUOTES: Mapping[str, str] = {"customerId": "Customer", "netTotal": "Net", "requirementType": "Because of"}
OF_CASES: Mapping[str, str] = {"orderNumber": "Order", "stepCode": "Step", "caseType": "Case", "caseSeverity": "Severity"}
OF_ORDERS: Mapping[str, str] = {"customerId": "Customer", "orderValueText": "Value", "cancellationReason": "Reason"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group of people, with the applications that they use, the processes that they work in, and the columns of their task list."""

    id: str
    name: str
    applications: Sequence[str] = ("tasklist",)
    processes: Sequence[str] = ("quote-approval", "approve-requirement")
    # The model alone: whoever may read instances or history reads all of them, not only those whose tasks they are asked to do.
    sees: Sequence[str] = ("READ",)
    columns: Mapping[str, str] = field(default_factory=lambda: OF_QUOTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A person with a login to Tasklist or Cockpit."""

    id: str
    first_name: str
    last_name: str
    groups: Sequence[str]


GROUPS = (
    Group(id="approverRsm", name="Regional sales managers"),
    Group(id="approverDirector", name="Sales directors"),
    Group(id="dealDesk", name="Deal desk"),
    Group(id="approverFinance", name="Finance approvers"),
    Group(id="approverLegal", name="Legal approvers"),
    Group(id="falloutL1", name="Fallout, first level", processes=OF_FALLOUT, columns=OF_CASES),
    Group(id="falloutL2", name="Fallout, second level", processes=OF_FALLOUT, columns=OF_CASES),
    Group(id="falloutManagers", name="Fallout managers", processes=OF_FALLOUT, columns=OF_CASES),
    Group(
        id="fulfillmentManagers",
        name="Fulfilment managers",
        processes=("order-fulfillment", "cancellation-assessment"),
        columns=OF_ORDERS,
    ),
    Group(
        id=OPERATORS,
        name="Operators",
        applications=("cockpit",),
        processes=PROCESSES,
        # A failed external task can be retried only with the right to change instances. A task whose assignee is away can be given to
        # others only with TASK_ASSIGN, which no assignee has.
        sees=("READ", "READ_INSTANCE", "READ_HISTORY", "RETRY_JOB", "UPDATE_INSTANCE", "TASK_ASSIGN"),
    ),
)


def models_root() -> Path:
    """The folder of the models that process owners edit, as it was installed with the suite."""
    return Path(next(iter(bpmn.__path__)))


def model_files(folder: Path | None = None) -> list[Path]:
    """Every file in a folder of models that the engine deploys; by default in that of the suite."""
    return sorted(path for pattern in MODEL_FILES for path in (folder or models_root()).glob(pattern))


def missing_models(folder: Path) -> list[str]:
    """The files of the suite's models that a folder lacks, as paths inside it. A process that the suite starts would not be found."""
    wanted = [file.relative_to(models_root()) for file in model_files()]
    return [str(name) for name in wanted if not (folder / name).is_file()]


def set_up(engine: Engine) -> None:
    """Bring the engine what all tenants share: groups, their permissions, their Tasklist filters."""
    for group in GROUPS:
        _set_up(engine, group)


def deploy(engine: Engine, tenant_id: UUID, name: str = "", folder: Path | None = None) -> bool:
    """Give a tenant the models of a folder, by default those of the suite; returns whether it did not have them yet.

    The tenant is created unless the engine has it. The workers become members before its first process can start.
    """
    engine.ensure_group(WORKERS, "Service processes", kind="SYSTEM")
    engine.ensure_tenant(tenant_id, name)
    engine.ensure_group_in_tenant(tenant_id, WORKERS)
    before, source = engine.deployment_in_force(tenant_id, DEPLOYMENT), OWN_MODELS if folder else OUR_MODELS
    comes_back = before is not None and before.source != source
    engine.deploy(tenant_id, DEPLOYMENT, model_files(folder), source, anew=comes_back)
    return engine.deployment_in_force(tenant_id, DEPLOYMENT) != before


def choose_tenants(engine: Engine, named: Sequence[UUID], *, may_replace: bool) -> tuple[list[UUID], list[UUID]]:
    """The tenants that get models, and those that keep models of their own; when none is `named`, all that have models.

    `may_replace`: somebody has said that own models may be replaced. Raises SettingError when a named tenant has own models and nobody has
    said so, and when there is no tenant.
    """
    known = list(named) or [each for each in engine.tenants() if _source_of(engine, each) in {OUR_MODELS, OWN_MODELS}]
    if not known:
        raise SettingError("the engine has no tenant with models yet: add one by q2o deploy --tenant and its id, a UUID")
    with_own = [] if may_replace else [each for each in known if _source_of(engine, each) == OWN_MODELS]
    if named and with_own:
        raise SettingError(
            f"tenant {with_own[0]} has models of its own: name their folder by --models, or give them up by --suite-models"
        )
    return [each for each in known if each not in with_own], with_own


def _source_of(engine: Engine, tenant_id: UUID) -> str | None:
    in_force = engine.deployment_in_force(tenant_id, DEPLOYMENT)
    return in_force.source if in_force else None


def add_people(engine: Engine, people: Sequence[Person], password: str) -> None:
    """Give people a login; all get the same first password."""
    for person in people:
        address = f"{person.id}@example.org"
        engine.ensure_user(person.id, first_name=person.first_name, last_name=person.last_name, email=address, password=password)
        for group_id in person.groups:
            engine.ensure_membership(group_id, person.id)


def _set_up(engine: Engine, group: Group) -> None:
    engine.ensure_group(group.id, group.name)
    for application in group.applications:
        engine.ensure_authorization(Resource.APPLICATION, application, ["ACCESS"], group_id=group.id)
    for process in group.processes:
        engine.ensure_authorization(Resource.PROCESS_DEFINITION, process, group.sees, group_id=group.id)
    if group.id == OPERATORS:
        _let_explain(engine, group)
    else:
        _make_filter(engine, group)


def _let_explain(engine: Engine, group: Group) -> None:
    """Let operators see in Cockpit whom an instance waits for, and which rules asked; Cockpit queries all tasks, so they may read all."""
    engine.ensure_authorization(Resource.TASK, "*", ["READ"], group_id=group.id)
    for decision in DECISIONS:
        engine.ensure_authorization(Resource.DECISION_DEFINITION, decision, ["READ", "READ_HISTORY"], group_id=group.id)


def _make_filter(engine: Engine, group: Group) -> None:
    """Show a group its open tasks in Tasklist. The task's name has the number of the quote, case or order: a card hides its variables."""
    # Without includeAssignedTasks a claimed task disappears from the list of the person who claimed it.
    query = {"candidateGroup": group.id, "includeAssignedTasks": True}
    shown = [{"name": name, "label": label} for name, label in group.columns.items()]
    filter_id = engine.ensure_filter(group.name, query, {"priority": -10, "refresh": True, "variables": shown})
    engine.ensure_authorization(Resource.FILTER, filter_id, ["READ"], group_id=group.id)
