"""Process definitions, instances, messages and decisions of the engine.

The rule it keeps: when a repeated call finds its work done already (an instance is gone, a message has no receiver), it returns a result
and raises no error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from workers.runtime.engine_connection import EngineConnection, EngineRefusedError
from workers.runtime.engine_history import RUNNING
from workers.runtime.variables import Variable, decode, encode


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A process instance in the engine's history; `runtime` is true while it has not ended."""

    id: str
    state: str
    start_time: datetime
    definition_key: str
    runtime: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CalledInstance:
    """A running process instance that another one has called, and its business key."""

    id: str
    business_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Files that were deployed together, and where they come from."""

    id: str
    source: str


class ProcessCalls(EngineConnection):
    """Start, find, message and end process instances; deploy their models."""

    def start_process(self, tenant_id: UUID, key: str, business_key: str, variables: Mapping[str, Variable]) -> str:
        """Start the latest version of process `key` that the tenant has, and return the instance's id; the instance is the tenant's.

        The engine does not keep business keys unique: after EngineOutcomeUnknownError call `find_instances` before starting again.
        """
        body = {"businessKey": business_key, "variables": encode(variables)}
        return str(self.ask(start_path(tenant_id, key), body)["id"])

    def correlate(self, tenant_id: UUID, message: str, business_key: str, variables: Mapping[str, Variable] | None = None) -> bool:
        """Deliver a message to every instance of the tenant with this business key that waits for it.

        Returns False when none waits (yet, or any more).
        """
        body = {
            "messageName": message,
            "tenantId": str(tenant_id),
            "businessKey": business_key,
            "processVariables": encode(variables or {}),
            # With `all` the response is empty when no instance waits; without it, it is a 400 that only its text tells from a fault.
            "all": True,
            "resultEnabled": True,
        }
        return bool(self.ask_rows("/message", body))

    def has_variables(self, instance_id: str, variables: Mapping[str, Variable]) -> bool:
        """Whether this instance is running and has all of these variables, with these values, in its own scope."""
        wanted = [{"name": name, "operator": "eq", "value": value} for name, value in variables.items()]
        return bool(self.ask_rows("/process-instance?maxResults=1", {"processInstanceIds": [instance_id], "variables": wanted}))

    def find_instances(self, business_key: str) -> list[Instance]:
        """Every instance ever started with this business key, oldest first."""
        rows = self.rows("/history/process-instance", processInstanceBusinessKey=business_key, sortBy="startTime", sortOrder="asc")
        return [_instance(row) for row in rows]

    def called_by(self, instance_id: str) -> list[CalledInstance]:
        """The running instances that the call activities of an instance have started."""
        rows = self.rows("/process-instance", superProcessInstance=instance_id)
        return [CalledInstance(id=row["id"], business_key=row["businessKey"] or "") for row in rows]

    def count_unfinished(self, definition_key: str, business_key_pattern: str) -> int:
        """How many instances of a process have not ended; `%` in the pattern stands for anything."""
        query = {
            "processDefinitionKey": definition_key,
            "processInstanceBusinessKeyLike": business_key_pattern,
            "unfinished": "true",
        }
        return self.count("/history/process-instance/count", **query)

    def instance_variables(self, instance_id: str) -> dict[str, Any]:
        """Read the variables of a running instance's own scope; empty when it has ended."""
        try:
            return decode(self.get(f"/process-instance/{instance_id}/variables", deserializeValues="false"))
        except EngineRefusedError:
            # The response for an instance that has ended is a 500 with a null pointer.
            if self.find(f"/process-instance/{instance_id}") is None:
                return {}
            raise

    def delete_instance(self, instance_id: str, reason: str = "") -> bool:
        """End an instance; False when it had already ended. A reason stays in history as variable `terminationReason`."""
        address = f"/process-instance/{instance_id}"
        try:
            # The synchronous call takes no reason of its own.
            if reason:
                self.post(f"{address}/variables", {"modifications": encode({"terminationReason": reason})})
            self.delete(address)
        except EngineRefusedError:
            # The response for an instance that has ended is 404 or 500, depending on the moment.
            if self.find(address) is None:
                return False
            raise
        return True

    def evaluate(self, tenant_id: UUID, decision_key: str, variables: Mapping[str, Variable]) -> list[dict[str, Any]]:
        """Evaluate the latest version of a decision that the tenant has; returns the rows that it gives for these inputs."""
        path = f"/decision-definition/key/{decision_key}/tenant-id/{tenant_id}/evaluate"
        rows = self.ask_rows(path, {"variables": encode(variables)})
        return [decode(row) for row in rows]

    def evaluate_version(self, definition_id: str, variables: Mapping[str, Variable]) -> list[dict[str, Any]]:
        """Evaluate one version of a decision; returns the rows that it gives for these inputs."""
        rows = self.ask_rows(f"/decision-definition/{definition_id}/evaluate", {"variables": encode(variables)})
        return [decode(row) for row in rows]

    def decision_definition_id(self, process_instance_id: str, decision_key: str) -> str:
        """The id of the decision version that was last evaluated in this instance. Raises EngineRefusedError (404) when none was."""
        rows = self.rows(
            "/history/decision-instance",
            processInstanceId=process_instance_id,
            decisionDefinitionKey=decision_key,
            sortBy="evaluationTime",
            sortOrder="desc",
            maxResults=1,
        )
        if not rows:
            raise EngineRefusedError(404, "NotFound", f"{decision_key} was not evaluated in instance {process_instance_id}", None)
        return str(rows[0]["decisionDefinitionId"])

    def deploy(self, tenant_id: UUID, name: str, files: Sequence[Path], source: str = "", *, anew: bool = False) -> str:
        """Deploy files together for a tenant and return the deployment's id; the same files again change nothing, unless `anew`.

        All or none: models bind their forms and decisions by deployment, so a single changed file redeploys the set. `source` says where
        the files come from; the engine compares with the last deployment of the same source, which need not be the one in force.
        """
        fields = {
            "deployment-name": name,
            "tenant-id": str(tenant_id),
            **({"deployment-source": source} if source else {}),
            "enable-duplicate-filtering": "false" if anew else "true",
            "deploy-changed-only": "false",
        }
        with ExitStack() as opened:
            parts = [(path.name, (path.name, opened.enter_context(path.open("rb")))) for path in files]
            return str(self.upload("/deployment/create", fields, parts)["id"])

    def deployment_in_force(self, tenant_id: UUID, name: str) -> Deployment | None:
        """A tenant's latest deployment of this name; None when it has none."""
        latest = {"sortBy": "deploymentTime", "sortOrder": "desc", "maxResults": 1}
        rows = self.rows("/deployment", name=name, tenantIdIn=str(tenant_id), **latest)
        return Deployment(id=rows[0]["id"], source=rows[0]["source"] or "") if rows else None

    def version(self) -> str:
        return str(self.get("/version")["version"])


def start_path(tenant_id: UUID, key: str) -> str:
    """The path under which the engine starts process `key` of a tenant: a fault proxy recognises a start by it."""
    return f"/process-definition/key/{key}/tenant-id/{tenant_id}/start"


def _instance(row: Mapping[str, Any]) -> Instance:
    return Instance(
        id=row["id"],
        state=row["state"],
        start_time=datetime.fromisoformat(row["startTime"]),
        definition_key=row["processDefinitionKey"],
        runtime=row["state"] in RUNNING,
    )
