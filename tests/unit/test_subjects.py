"""A task acts for the tenant that the engine names, and for no other that its business key may name."""

from __future__ import annotations

from uuid import uuid4

import pytest

from domain.workflows.keys import BusinessKey, Kind
from workers.pod.contract import GiveUp, Task
from workers.tasks.subjects import named_by

KEY = BusinessKey(Kind.ORDER, uuid4(), (uuid4(),))


def task_of(tenant_id: str, business_key: str = str(KEY)) -> Task:
    return Task(
        id="1",
        topic="order.decompose",
        worker_id="w",
        tenant_id=tenant_id,
        process_instance_id="i",
        business_key=business_key,
        activity_id="a",
        execution_id="e",
    )


def test_a_task_acts_for_its_business_key_in_the_tenant_of_its_instance() -> None:
    assert named_by(task_of(str(KEY.tenant_id))) == KEY


@pytest.mark.parametrize(
    ("tenant_id", "why"),
    [
        ("", "process instance i belongs to no tenant, .*: run q2o restart-instances"),
        ("another", "process instance i belongs to tenant another, .*: end it in Cockpit"),
    ],
)
def test_a_business_key_that_names_another_tenant_is_an_incident(tenant_id: str, why: str) -> None:
    """A called instance has the key that its caller's variables gave it; its tenant is the engine's."""
    with pytest.raises(GiveUp, match=why):
        named_by(task_of(tenant_id))


def test_a_business_key_of_somebody_else_is_an_incident() -> None:
    with pytest.raises(GiveUp, match="is not a business key of this suite"):
        named_by(task_of(str(KEY.tenant_id), "my own key"))
