"""Who completed a user task: by the engine's operation log, never by what a form says."""

from __future__ import annotations

from dataclasses import dataclass

from workers.pod.contract import GiveUp, Task
from workers.runtime.engine import Engine


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """A person who completed a task in Tasklist, with the groups that the person is in.

    `may_have_seen_other_facts`: somebody has written variables of the process while the task was open, so its form may have shown them.
    """

    user_id: str
    task_id: str
    roles: tuple[str, ...]
    may_have_seen_other_facts: bool


def who_completed(engine: Engine, task: Task, user_task: str) -> Person | None:
    """Find who completed the last user task of this name in the process of a task; None when nobody did, but a timer or a message ended it.

    Raises GiveUp when the engine does not keep who it was.
    """
    try:
        completion = engine.who_completed(task.process_instance_id, user_task)
    except LookupError as error:
        raise GiveUp(f"{error}: check that history level is full") from error
    if completion is None:
        return None
    return Person(
        user_id=completion.user_id,
        task_id=completion.task_id,
        roles=tuple(engine.groups_of(completion.user_id)),
        may_have_seen_other_facts=completion.was_tampered_with,
    )
