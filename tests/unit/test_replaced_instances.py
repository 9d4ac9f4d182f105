"""What the audit says of a process instance whose place another one has taken (I14)."""

from __future__ import annotations

from uuid import UUID

from domain.auditing import Snapshot, WantedWorkflow
from domain.auditing.outside import FAR_OFF
from reconciliation.audit_agreement import one_instance
from tests.support.surroundings import RecordedEngine, instance

TENANT = UUID(int=1)
KEY = f"order:{TENANT}:{UUID(int=2)}"


def violations(state: str, *, is_replaced: bool, work: frozenset[str] = frozenset({"order.decompose"})) -> tuple[str, ...]:
    """What the audit finds when an instance in this state has done this work while another one is registered."""
    registered = WantedWorkflow(KEY, "order-fulfillment", "STARTED", "new", is_settled=False, is_cancelled=False)
    snapshot = Snapshot(
        tenant_id=TENANT,
        results=(),
        workflows=(registered,),
        steps=(),
        sent_keys=frozenset(),
        events=(),
        explained_keys=frozenset(),
        callbacks=0,
        called_keys=frozenset(),
        signatures=(),
        replaced_instances=frozenset({"old"} if is_replaced else ()),
        sent_again={},
        settled_before=FAR_OFF,
        keys=frozenset(),
        answers={},
        effects={},
    )
    old = instance("old", KEY, "order-fulfillment", state)
    engine = RecordedEngine(recorded=[old], work={"old": work})
    return tuple(one_instance(snapshot, [old], engine).violations)


def test_an_instance_that_worked_until_it_was_replaced_is_no_second_one() -> None:
    assert violations("EXTERNALLY_TERMINATED", is_replaced=True) == ()


def test_an_instance_that_worked_and_was_never_replaced_is_a_second_one() -> None:
    assert violations("EXTERNALLY_TERMINATED", is_replaced=False) == (
        f"Instance old of {KEY} is not the registered one and did order.decompose.",
    )


def test_an_instance_that_a_message_ended_at_the_gate_is_no_second_one() -> None:
    """A message goes to every instance of its business key."""
    assert violations("COMPLETED", is_replaced=False, work=frozenset()) == ()


def test_an_instance_that_was_replaced_and_still_runs_is_found() -> None:
    assert violations("ACTIVE", is_replaced=True) == (f"Instance old of {KEY} was replaced, and still runs.",)
