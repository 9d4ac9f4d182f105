"""User tasks, and the people, groups and permissions that they need.

The rule it keeps: `ensure_…` may be repeated at every start; it creates what is missing and changes only what differs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

from workers.runtime.engine_answers import Update, shown_between, typed_by
from workers.runtime.engine_connection import EngineConnection, EngineRefusedError
from workers.runtime.variables import TypedValue, Variable, decode, encode

_GRANT = 1


class Resource(IntEnum):
    """The kinds of resource that a permission may be about, by the engine's numbers for them."""

    APPLICATION = 0
    GROUP = 2
    FILTER = 5
    PROCESS_DEFINITION = 6
    TASK = 7
    PROCESS_INSTANCE = 8
    DEPLOYMENT = 9
    DECISION_DEFINITION = 10
    TENANT = 11


# The engine bounds a value of a small type by 4,000 characters, and one of a large type not at all. No form has a large one.
SMALL_TYPES, LARGE_TYPES = "string,boolean,integer,long,short,double,date,null", "json,bytes,file,object,xml"
MOST_UPDATES = 2000  # a form has some 40 values; each may change a few times while it is open
PREPARING = timedelta(minutes=1)  # a form gets its values in the transaction that opens it
A_MOMENT = timedelta(seconds=1)  # between the times of one transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class UserTask:
    """An open user task. `due` is what the engine says: whoever may assign a task may set it to any time."""

    id: str
    name: str
    definition_key: str
    process_instance_id: str
    assignee: str | None
    due: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """Who completed a user task, what they typed, and what the form may have shown them: by the engine's history, not by process variables.

    `shown` has every value that a variable had while the task was open, by the variable's name.
    """

    user_id: str
    task_id: str
    typed: Mapping[str, TypedValue]
    shown: Mapping[str, Sequence[TypedValue]]


class PeopleCalls(EngineConnection):
    """Find and complete user tasks; set up users, groups, permissions and Tasklist filters."""

    def user_tasks(self, business_key: str) -> list[UserTask]:
        """Find the open user tasks of all instances with this business key, oldest first."""
        rows = self.rows("/task", processInstanceBusinessKey=business_key, sortBy="created", sortOrder="asc")
        return [_user_task(row) for row in rows]

    def assigned_tasks(self, definition_key: str, limit: int, first: int = 0) -> list[UserTask]:
        """Find assigned open user tasks with this id in their model, oldest first, beginning with the number `first`."""
        order = {"sortBy": "created", "sortOrder": "asc", "firstResult": first, "maxResults": limit}
        rows = self.rows("/task", taskDefinitionKey=definition_key, assigned="true", **order)
        return [_user_task(row) for row in rows]

    def open_tasks(self, definition_key: str, first: int, limit: int) -> list[UserTask]:
        """One page of the open user tasks with this id in their model, the oldest first."""
        page = {"sortBy": "created", "sortOrder": "asc", "firstResult": first, "maxResults": limit}
        return [_user_task(row) for row in self.rows("/task", taskDefinitionKey=definition_key, **page)]

    def task_variables(self, task_id: str) -> dict[str, Any]:
        """Every variable that the user task can see."""
        return decode(self.get(f"/task/{task_id}/variables", deserializeValues="false"))

    def complete_user_task(self, task_id: str, variables: Mapping[str, Variable] | None = None) -> bool:
        """Complete a user task; False when it is no longer open."""
        try:
            self.post(f"/task/{task_id}/complete", {"variables": encode(variables or {})})
        except EngineRefusedError:
            # The response for a task that was completed or cancelled meanwhile is 500, as for a fault in what follows it.
            if self.find(f"/task/{task_id}") is None:
                return False
            raise
        return True

    def assign_user_task(self, task_id: str, user_id: str | None) -> bool:
        """Assign a user task to a person, or to nobody; False when it is no longer open."""
        try:
            self.post(f"/task/{task_id}/assignee", {"userId": user_id})
        except EngineRefusedError:
            if self.find(f"/task/{task_id}") is None:
                return False
            raise
        return True

    def who_completed(self, process_instance_id: str, activity_id: str) -> Completion | None:
        """Who completed the last user task `activity_id` of an instance, and how; None when it is open, or a timer or a message ended it.

        Raises LookupError when the operation log does not say who it was.
        """
        newest = {"sortBy": "startTime", "sortOrder": "desc", "maxResults": 1}
        tasks = self.rows("/history/task", processInstanceId=process_instance_id, taskDefinitionKey=activity_id, **newest)
        if not tasks or tasks[0]["deleteReason"] != "completed":
            return None
        [task] = tasks
        by_task = {"taskId": task["id"], "operationType": "Complete", "sortBy": "timestamp", "sortOrder": "asc"}
        completed = [row for row in self.rows("/history/user-operation", **by_task) if row["userId"]]
        if not completed:
            raise LookupError(f"the operation log does not say who completed task {task['id']}")
        opened, closed = (datetime.fromisoformat(task[name]) for name in ("startTime", "endTime"))
        operation_id = completed[-1]["operationId"]
        # Name and description of a task stand above its form; whoever may assign it may change them.
        is_renamed = self.count("/history/user-operation/count", taskId=task["id"], operationType="Update")
        updates = [] if is_renamed else self._updates(process_instance_id, opened, closed, operation_id)
        return Completion(
            user_id=completed[-1]["userId"],
            task_id=task["id"],
            typed=typed_by(updates, operation_id),
            shown=shown_between(updates, opened, closed, operation_id),
        )

    def _updates(self, process_instance_id: str, opened: datetime, closed: datetime, completion: str) -> list[Update]:
        """The values that a form was given, and all that came while it was open; none, when that is more than a form can show.

        A person may write as many and as large values as they like: neither the engine nor this process reads them into its memory. Large
        ones that the completion itself has written were not shown, and are left out.
        """
        of_form = {
            "processInstanceId": process_instance_id,
            "variableUpdates": "true",
            "occurredBefore": _moment(closed + A_MOMENT),
        }
        large = self._count(of_form, LARGE_TYPES, opened - A_MOMENT)
        if large and large > self._count({**of_form, "userOperationId": completion}, LARGE_TYPES, opened):
            return []
        if self._count(of_form, SMALL_TYPES, opened - PREPARING) > MOST_UPDATES:
            return []
        query = {**of_form, "variableTypeIn": SMALL_TYPES, "occurredAfter": _moment(opened - PREPARING)}
        rows = self.rows("/history/detail", **query, deserializeValues="false", sortBy="time", sortOrder="asc")
        return [Update.from_row(row) for row in rows]

    def _count(self, of_form: Mapping[str, str], types: str, since: datetime) -> int:
        return self.count("/history/detail/count", **of_form, variableTypeIn=types, occurredAfter=_moment(since))

    def who_assigned(self, task_id: str) -> str | None:
        """Who has last claimed an open user task or assigned it; None when the operation log does not say."""
        newest = {"sortBy": "timestamp", "sortOrder": "desc", "maxResults": 1}
        rows = self.rows("/history/user-operation", taskId=task_id, property="assignee", **newest)
        return rows[0]["userId"] if rows else None

    def groups_of(self, user_id: str) -> list[str]:
        """The groups that a user is in: the roles in which they act."""
        return [str(row["id"]) for row in self.rows("/group", member=user_id)]

    def ensure_user(self, user_id: str, *, first_name: str, last_name: str, email: str, password: str) -> None:
        """Create the user unless it exists; an existing password is not changed."""
        profile = {"id": user_id, "firstName": first_name, "lastName": last_name, "email": email}
        self._create_unless(f"/user/{user_id}/profile", "/user/create", {"profile": profile, "credentials": {"password": password}})

    def ensure_group(self, group_id: str, name: str, *, kind: str = "WORKFLOW") -> None:
        self._create_unless(f"/group/{group_id}", "/group/create", {"id": group_id, "name": name, "type": kind})

    def ensure_membership(self, group_id: str, user_id: str) -> None:
        if not self.count("/user/count", id=user_id, memberOfGroup=group_id):
            self.put(f"/group/{group_id}/members/{user_id}")

    def ensure_authorization(
        self,
        resource_type: Resource,
        resource_id: str,
        permissions: Sequence[str],
        *,
        group_id: str | None = None,
        user_id: str | None = None,
    ) -> None:
        """Grant exactly these permissions on a resource to a group or a user."""
        grantee = {"groupIdIn": group_id} if group_id else {"userIdIn": user_id}
        rows = self.rows("/authorization", type=_GRANT, resourceType=resource_type, resourceId=resource_id, **grantee)
        body = {
            "permissions": list(permissions),
            "userId": user_id,
            "groupId": group_id,
            "resourceType": resource_type,
            "resourceId": resource_id,
        }
        if not rows:
            self.ask("/authorization/create", {"type": _GRANT, **body})
        elif set(rows[0]["permissions"]) != set(permissions):
            self.put(f"/authorization/{rows[0]['id']}", body)

    def ensure_filter(self, name: str, query: Mapping[str, Any], properties: Mapping[str, Any] | None = None) -> str:
        """Create or update a Tasklist filter and return its id."""
        body = {"resourceType": "Task", "name": name, "query": dict(query), "properties": dict(properties or {})}
        rows = self.rows("/filter", name=name)
        if not rows:
            return str(self.ask("/filter/create", body)["id"])
        self.put(f"/filter/{rows[0]['id']}", body)
        return str(rows[0]["id"])

    def _create_unless(self, address: str, create: str, body: Mapping[str, Any]) -> None:
        if self.find(address) is not None:
            return
        try:
            self.post(create, body)
        except EngineRefusedError:
            # Two service processes that start together both find nothing; the engine refuses the second one's insert.
            if self.find(address) is None:
                raise


def _moment(time: datetime) -> str:
    """A time in the form that the engine's filters want."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}" + time.strftime("%z")


def _user_task(row: Mapping[str, Any]) -> UserTask:
    return UserTask(
        id=row["id"],
        name=row["name"],
        definition_key=row["taskDefinitionKey"],
        process_instance_id=row["processInstanceId"],
        assignee=row["assignee"],
        due=row["due"],
    )
