"""The engine's users for service processes: which rights each has, and why. Whatever is not listed here, the engine refuses.

A missing right is mostly an empty answer and no error, so a call that is new in a process needs its right here first. `q2o deploy` makes
the accounts; nobody logs in with them, because they may use none of the engine's applications. docs/rights-engine.md is made from this.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from domain import accepting
from domain.delivery import cancelling
from domain.fallout import cases
from domain.offers import deciding, quoting
from domain.workflows.keys import PROCESSES, STARTED
from workers.deployment import DECISIONS, WORKERS
from workers.runtime.engine import Engine, Resource
from workers.runtime.environment import ENGINE_USERS, SettingError, variable
from workers.runtime.secret_files import reveal
from workers.runtime.settings import Settings

FIRST_NAME = "q2o"
RECEIVING = (quoting.WORKFLOW, accepting.WORKFLOW, "fulfillment-step", "cancel-step", "fallout-case")
"""The processes that wait for messages."""
WITH_PEOPLE = {
    deciding.TASK: "approve-requirement",
    cancelling.TASK: "cancellation-assessment",
    cases.USER_TASK: "resolve-case",
    "confirm-resolution": "confirm-case",
}
"""The processes that ask people, by the user task."""
WITHOUT_PEOPLE = tuple(process for process in PROCESSES if process not in WITH_PEOPLE.values())
COMPLETED_OVER_HTTP = (WITH_PEOPLE[deciding.TASK], WITH_PEOPLE[cancelling.TASK])


@dataclass(frozen=True, slots=True, kw_only=True)
class Right:
    """Permissions on some resources of one kind (`*`: on all of them), and what a process needs them for."""

    kind: Resource
    ids: Sequence[str]
    permissions: Sequence[str]
    needed_for: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The user of one process."""

    process: str
    rights: Sequence[Right]

    @property
    def user_id(self) -> str:
        return ENGINE_USERS[self.process]

    @property
    def email(self) -> str:
        """The engine wants one; nobody reads it."""
        return f"{self.user_id}@example.org"

    @property
    def grants(self) -> Mapping[tuple[Resource, str], frozenset[str]]:
        """All permissions, by kind and id of the resource."""
        added: dict[tuple[Resource, str], set[str]] = defaultdict(set)
        for right in self.rights:
            for resource_id in right.ids:
                added[right.kind, resource_id] |= set(right.permissions)
        return {key: frozenset(permissions) for key, permissions in added.items()}


def _process(ids: Sequence[str], *permissions: str, needed_for: str) -> Right:
    return Right(kind=Resource.PROCESS_DEFINITION, ids=ids, permissions=permissions, needed_for=needed_for)


_ROLES = Right(kind=Resource.GROUP, ids=("*",), permissions=("READ",), needed_for="read the roles of a person")
_TENANTS = Right(
    kind=Resource.TENANT, ids=("*",), permissions=("READ",), needed_for="name at its start the tenants that it does not serve"
)

ACCOUNTS: Mapping[str, Account] = {
    account.process: account
    for account in (
        Account(
            process="tasks",
            rights=(
                _process(
                    PROCESSES,
                    "READ_INSTANCE",
                    "UPDATE_INSTANCE",
                    needed_for="fetch, extend and report external tasks; find the instances that an instance has called",
                ),
                _process(tuple(WITH_PEOPLE.values()), "READ_HISTORY", needed_for="read who completed a user task"),
                Right(
                    kind=Resource.DECISION_DEFINITION,
                    ids=DECISIONS,
                    permissions=("READ", "CREATE_INSTANCE", "READ_HISTORY"),
                    needed_for="evaluate a decision in the version that the instance has evaluated",
                ),
                _ROLES,
                _TENANTS,
            ),
        ),
        Account(
            process="dispatch",
            rights=(
                _process(STARTED, "READ", "CREATE_INSTANCE", needed_for="start a process"),
                Right(kind=Resource.PROCESS_INSTANCE, ids=("*",), permissions=("CREATE",), needed_for="start a process"),
                _process(RECEIVING, "READ_INSTANCE", "UPDATE_INSTANCE", needed_for="deliver a message"),
                _process(PROCESSES, "READ_HISTORY", needed_for="see that no instance is left that could receive a message"),
                _process(PROCESSES, "READ_INSTANCE", "UPDATE_INSTANCE", needed_for="try a failed task or job again"),
                _process(
                    COMPLETED_OVER_HTTP, "READ_TASK", "TASK_WORK", needed_for="complete the task of what was decided over HTTP"
                ),
                _process(
                    (WITH_PEOPLE[cases.USER_TASK],), "READ_TASK", "TASK_ASSIGN", needed_for="assign the task of a case to its owner"
                ),
                _TENANTS,
            ),
        ),
        Account(
            process="reconcile",
            rights=(
                _process(PROCESSES, "READ_HISTORY", needed_for="see what has become of an instance, and which there are"),
                _process(PROCESSES, "READ_INSTANCE", needed_for="see which tasks and jobs have failed for good"),
                _process(
                    WITHOUT_PEOPLE,
                    "DELETE_INSTANCE",
                    needed_for="end an instance that nobody needs: one that was started twice or by hand, or whose business is done",
                ),
                _process(STARTED, "UPDATE_INSTANCE", needed_for="say why it is ended"),
                _process((WITH_PEOPLE[deciding.TASK],), "READ_TASK", needed_for="see the tasks that a decision has left behind"),
                _process(
                    (WITH_PEOPLE[cases.USER_TASK],), "READ_TASK", "READ_HISTORY", needed_for="see who has taken the task of a case"
                ),
                _ROLES,
                _TENANTS,
            ),
        ),
    )
}


def set_up_accounts(engine: Engine, settings: Settings) -> None:
    """Make the accounts with exactly their rights. Each gets its password of the settings, also an account that has another one.

    Raises SettingError, before anything is changed, for a password that is missing or that the engine's policy refuses.
    """
    passwords = {account: reveal(settings.engine_passwords[account.process]) for account in ACCOUNTS.values()}
    if faults := [fault for account, password in passwords.items() for fault in _faults(engine, account, password)]:
        raise SettingError("\n".join(faults))
    engine.ensure_group(WORKERS, "Service processes", kind="SYSTEM")
    for account, password in passwords.items():
        user, name = account.user_id, account.process
        engine.ensure_user(user, first_name=FIRST_NAME, last_name=name, email=account.email, password=password)
        engine.set_password(user, password)
        engine.ensure_membership(WORKERS, user)
        engine.grant_exactly(user, account.grants)


def _faults(engine: Engine, account: Account, password: str) -> Sequence[str]:
    profile = {"id": account.user_id, "firstName": FIRST_NAME, "lastName": account.process, "email": account.email}
    unmet = engine.unmet_rules(profile, password)
    name = variable(f"{account.process}_engine_password")
    return [f"{name} is too weak for the engine: give {', '.join(unmet)}"] if unmet else []
