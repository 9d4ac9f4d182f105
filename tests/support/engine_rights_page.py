"""Writes the page docs/rights-engine.md from the declared accounts and groups."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from domain.workflows.keys import PROCESSES
from workers.accounts import ACCOUNTS, Account, Right
from workers.deployment import DECISIONS, GROUPS, WORKERS, Group
from workers.runtime.engine import Resource

PAGE = Path(__file__).parents[2] / "docs" / "rights-engine.md"
KINDS = {
    Resource.GROUP: ("group", ()),
    Resource.PROCESS_DEFINITION: ("process", PROCESSES),
    Resource.PROCESS_INSTANCE: ("instance", ()),
    Resource.DECISION_DEFINITION: ("decision", DECISIONS),
    Resource.TENANT: ("tenant", ()),
}
HEAD = f"""# Rights in the engine

Who may do what in Camunda. Whatever is not listed, the engine refuses: mostly with 403, and for reads with an empty list or 404. Reasons:
[decision 0027](decisions/0027-an-engine-user-per-process.md). `tests/integration/test_engine_rights.py` tries what must be refused.

Written by `make rights` from `workers/accounts.py` and `workers/deployment.py`; do not edit.

## Accounts of processes

Each process that calls the engine has a user of its own, in the group `{WORKERS}`, which is a member of every tenant. `q2o deploy` makes
them. They may use neither Tasklist nor Cockpit nor Admin, and not change their own password, so nobody works with their logins. The other
processes (`q2o http`, `q2o relay`, `q2o inbox`) never call the engine. Only `q2o deploy` runs as an administrator; with
`Q2O_MODE=production`, a process whose user may deploy does not start.

"""
PEOPLE = """
## Groups of people

| group | applications | processes | permissions on them |
|---|---|---|---|
"""
REST = """
* **A task** can be read, claimed and completed by its candidates and its assignee (`READ`, `TASK_WORK`), and by nobody else. They cannot
  write its variables otherwise, pass it on, or give it back: Tasklist answers "unclaim" with an error. A case is given back over HTTP
  (`POST /fallout-cases/{caseId}/releases`) or when its lease ends; what an absent assignee of another task leaves can be decided over HTTP
  by a colleague, or is given to somebody else in Cockpit by an operator.
* **What a person sees** of an instance is their task: form, variables, and the columns of their list, which the model copies into the task.
  They read no other instance, and no history.
* **Operators** read every instance, task, decision and history. They may write variables and move tokens, because whoever gives a failed
  external task a new try needs `UPDATE_INSTANCE`, and the engine cannot split it; they may assign tasks, also to themselves. What they
  change there decides nothing and signs nothing: handlers take no identity and no evidence from variables, and the domain asks for the
  group and the authority of whoever completed a task ([decision 0022](decisions/0022-what-a-process-acts-for.md); `tests/attacks/`).
* **`UPDATE_INSTANCE` of `q2o-tasks`, `q2o-dispatch` and `q2o-reconcile`** cannot be split either: external tasks, messages, a new try of a
  failed task, and the reason of a deletion need it. `q2o-reconcile` has it for the processes that the domain starts, and for none that asks
  people.
"""


def page() -> str:
    accounts = "\n".join(_section(account) for account in ACCOUNTS.values())
    return HEAD + accounts + PEOPLE + "\n".join(_row(group) for group in GROUPS) + "\n" + REST


def _section(account: Account) -> str:
    head = f"### `{account.user_id}`, for `q2o {account.process}`\n\n| may | on | to |\n|---|---|---|\n"
    return head + "".join(
        f"| {', '.join(right.permissions)} | {_resources(right)} | {right.needed_for} |\n" for right in account.rights
    )


def _resources(right: Right) -> str:
    kind, whole = KINDS[right.kind]
    if tuple(right.ids) in {("*",), tuple(whole)}:
        return f"every {kind} of ours" if whole else f"every {kind}"
    return f"{kind} {_names(right.ids)}"


def _row(group: Group) -> str:
    processes = "all" if tuple(group.processes) == PROCESSES else _names(group.processes)
    return f"| `{group.id}` | {', '.join(group.applications)} | {processes} | {', '.join(group.sees)} |"


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
