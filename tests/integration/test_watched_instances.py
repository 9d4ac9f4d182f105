"""Registered process instances: one that is gone is LOST and gets a case, one that has done its work is ENDED, one that nobody needs is ended."""

from __future__ import annotations

from datetime import timedelta

import pytest

from domain.delivery import incidents
from domain.delivery.resolving import Resolution
from domain.offers import quotes
from domain.store.unit_of_work import housekeeping
from domain.workflows import watching
from reconciliation.incidents import Incidents
from reconciliation.repairs import Repairs
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.offers import Offers
from tests.support.reconciling import actions, findings
from tests.support.watched import FIRST, LONG, SECOND, Watched, order_key
from workers.runtime.engine import EngineRefusedError
from workers.runtime.set_aside import Pauses

RUNNING, DELETED, COMPLETED = "ACTIVE", "EXTERNALLY_TERMINATED", "COMPLETED"


def finish(work: Fulfilment) -> None:
    for name in work.states():
        work.complete(name)
    assert work.status == "FULFILLED"


@pytest.mark.parametrize("state", [DELETED, COMPLETED, None])
def test_the_instance_of_a_live_order_that_is_gone_is_lost_and_a_person_gets_a_case(
    watched: Watched, work: Fulfilment, state: str | None
) -> None:
    assert watched.sweep(state) == 1

    assert watched.correlation.status == "LOST"
    case = watched.case()
    assert (case.order_id, case.status, case.queue) == (work.order_id, "OPEN", "falloutL2")
    assert case.evidence == {
        "trouble": "INSTANCE_LOST",
        "businessKey": watched.business_key,
        "processInstanceId": FIRST,
        "state": state or "UNKNOWN",
    }
    assert actions(work.offers) == ["lost"]


def test_a_lost_instance_gets_one_case(watched: Watched) -> None:
    watched.sweep(DELETED)

    assert watched.sweep(DELETED) == 0
    assert len(watched.cases()) == 1


def test_the_instance_of_a_live_order_runs_on(watched: Watched) -> None:
    assert watched.sweep(RUNNING) == 0

    assert (watched.correlation.status, watched.cases()) == ("STARTED", [])
    watched.engine.delete_instance.assert_not_called()


def test_a_retry_asks_for_a_new_instance_and_the_case_closes_when_it_has_come(watched: Watched) -> None:
    watched.sweep(DELETED)

    assert watched.resolve().status == "RESOLVED"

    assert (watched.correlation.status, watched.correlation.process_instance_id) == ("REQUESTED", None)
    assert len(watched.queued("START")) == 1
    assert watched.look_at_incidents() == 0
    watched.register(SECOND)
    assert watched.look_at_incidents() == 1
    assert watched.case().status == "CLOSED"


def test_an_instance_that_is_lost_again_before_its_first_case_is_closed_is_started_again(watched: Watched) -> None:
    """Kills: one case for all lost instances of an order. Its RETRY would name the first one, and nothing would start."""
    watched.sweep(DELETED)
    watched.resolve()
    watched.register(SECOND)
    watched.sweep(DELETED)
    assert [(case.status, case.evidence["processInstanceId"]) for case in watched.cases()] == [
        ("RESOLVED", FIRST),
        ("OPEN", SECOND),
    ]

    watched.resolve()

    assert (watched.correlation.status, len(watched.queued("START"))) == ("REQUESTED", 1)
    watched.register("third")
    assert watched.look_at_incidents() == 2
    assert [case.status for case in watched.cases()] == ["CLOSED", "CLOSED"]


def test_the_case_of_a_lost_instance_outlives_an_evaluation_of_its_order(watched: Watched, work: Fulfilment) -> None:
    """Kills: closing the case of a process because the order has steps."""
    watched.sweep(DELETED)
    watched.resolve()

    work.evaluate()

    assert watched.case().status == "RESOLVED"


def test_a_lost_instance_that_a_person_leaves_alone_ends_with_its_order(watched: Watched, work: Fulfilment) -> None:
    watched.sweep(DELETED)
    watched.resolve(Resolution.KEEP_AS_IS)
    assert watched.sweep(DELETED) + watched.look_at_incidents() == 0
    finish(work)

    assert watched.sweep(DELETED) == 1
    assert watched.look_at_incidents() == 1

    assert (watched.correlation.status, watched.case().status) == ("ENDED", "CLOSED")


@pytest.mark.parametrize(("state", "found"), [(COMPLETED, []), (DELETED, ["ended"]), (None, ["ended"])])
def test_an_instance_whose_order_is_done_has_ended(watched: Watched, work: Fulfilment, state: str | None, found: list[str]) -> None:
    """A normal end is no disagreement, so there is no finding about it."""
    finish(work)

    assert watched.sweep(state) == 1
    assert watched.sweep(state) == 0

    assert (watched.correlation.status, watched.cases()) == ("ENDED", [])
    assert actions(work.offers) == found


def test_an_order_that_is_done_meanwhile_misses_no_instance(watched: Watched, work: Fulfilment) -> None:
    """Kills: opening a case for an order that ended between the question and the repair."""
    finish(work)

    with work.offers.uow() as uow:
        assert not incidents.lose(uow, watched.business_key, FIRST, DELETED)

    assert (watched.correlation.status, watched.cases()) == ("STARTED", [])


def test_the_instance_of_an_order_that_is_done_is_ended_after_its_grace_and_not_before(watched: Watched, work: Fulfilment) -> None:
    finish(work)

    assert watched.sweep(RUNNING, grace=LONG) == 0
    watched.engine.delete_instance.assert_not_called()
    assert watched.sweep(RUNNING) == 1

    watched.engine.delete_instance.assert_called_once()
    assert watched.engine.delete_instance.call_args.args[0] == FIRST
    assert actions(work.offers) == ["terminated"]


def test_an_instance_that_the_engine_does_not_end_is_tried_again_with_one_finding_and_one_case(
    watched: Watched, work: Fulfilment, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish(work)
    watched.engine.delete_instance.side_effect = EngineRefusedError(403, "Forbidden", "no", None)
    for _ in range(3):
        monkeypatch.setattr("reconciliation.alone._pauses", Pauses())
        watched.sweep(RUNNING)

    assert watched.engine.delete_instance.call_count == 3
    assert [(finding.action, finding.status) for finding in findings(work.offers)] == [
        ("terminated", "OPEN"),
        ("case_opened", "REPAIRED"),
    ]
    assert (watched.case().order_id, watched.case().evidence["trouble"]) == (work.order_id, "INSTANCE_NOT_ENDED")


def test_an_instance_that_is_ended_at_the_second_try_is_looked_at_again_at_once(
    watched: Watched, work: Fulfilment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills: counting an instance that runs until its next look, ten minutes later, because its end was recorded before."""
    finish(work)
    watched.engine.delete_instance.side_effect = [EngineRefusedError(403, "Forbidden", "no", None), None]
    watched.sweep(RUNNING)
    monkeypatch.setattr("reconciliation.alone._pauses", Pauses())
    waiting = watched.due_instances()

    watched.sweep(RUNNING)

    assert (waiting, watched.due_instances()) == (0, 1)


def test_the_case_of_an_instance_that_was_not_ended_closes_when_it_has_ended(watched: Watched, work: Fulfilment) -> None:
    finish(work)
    watched.engine.delete_instance.side_effect = EngineRefusedError(403, "Forbidden", "no", None)
    watched.sweep(RUNNING)
    assert watched.look_at_incidents() == 0

    watched.sweep(DELETED)
    watched.engine.incidents_from.return_value = []
    database = acting(work.offers.engine, "reconcile")
    Incidents(database, watched.engine, Repairs(database, dry_run=False), timedelta(0)).sweep()

    assert watched.case().status == "CLOSED"


def test_an_instance_that_cannot_be_ended_stops_no_other(offers: Offers) -> None:
    for instance_id in (FIRST, SECOND):
        work = Fulfilment.running(offers)
        watched = Watched.of(offers, order_key(offers, work.order_id), instance_id)
        finish(work)
    watched.execute("UPDATE workflow_correlation SET next_check_at = clock_timestamp()")
    watched.engine.delete_instance.side_effect = EngineRefusedError(500, "Exception", "no", None)

    assert watched.sweep(RUNNING) == 0

    assert watched.engine.delete_instance.call_count == 2


def test_a_dry_run_says_what_is_lost_and_changes_nothing(watched: Watched) -> None:
    before = watched.correlation

    assert watched.sweep(DELETED, dry_run=True) == 1

    after = watched.correlation
    assert (after.status, after.version, watched.cases()) == (before.status, before.version, [])


def test_a_dry_run_ends_no_instance(watched: Watched, work: Fulfilment) -> None:
    finish(work)

    assert watched.sweep(RUNNING, dry_run=True) == 1

    watched.engine.delete_instance.assert_not_called()


def test_an_instance_is_looked_at_by_one_sweep_at_a_time_and_again_when_its_lease_is_over(watched: Watched) -> None:
    watched.execute("UPDATE workflow_correlation SET next_check_at = clock_timestamp()")
    lease = timedelta(hours=1)
    with housekeeping(watched.offers.engine) as connection:
        first = watching.due_instances(connection, 10, lease)
    with housekeeping(watched.offers.engine) as connection:
        second = watching.due_instances(connection, 10, lease)
    watched.execute("UPDATE workflow_correlation SET next_check_at = clock_timestamp() WHERE status = 'STARTED'")
    with housekeeping(watched.offers.engine) as connection:
        third = watching.due_instances(connection, 10, lease)

    assert (len(first), len(second), len(third)) == (1, 0, 1)


def test_an_approval_whose_instance_is_gone_gets_a_case_and_asks_again_after_a_retry(offers: Offers) -> None:
    offer = offers.quote_in_approval()
    watched = Watched.of(offers, quotes.business_key(offers.tenant_id, offer.quote_id, offer.revision_id))

    watched.sweep(DELETED)
    watched.resolve()

    assert watched.case().order_id is None
    assert watched.correlation.status == "REQUESTED"
    assert len(watched.queued("START")) == 1


def test_an_approval_that_was_decided_misses_no_instance(offers: Offers) -> None:
    offer = offers.approved_quote()
    watched = Watched.of(offers, quotes.business_key(offers.tenant_id, offer.quote_id, offer.revision_id))

    watched.sweep(DELETED)

    assert (watched.correlation.status, watched.cases()) == ("ENDED", [])


def test_the_process_of_a_case_is_started_again_without_another_case(offers: Offers) -> None:
    case = Fulfilment.contradicted(offers).case()
    watched = Watched.of(offers, f"fallout:{offers.tenant_id}:{case.id}")

    assert watched.sweep(DELETED) == 1

    assert (watched.correlation.status, watched.cases()) == ("REQUESTED", [])
    assert len(watched.queued("START")) == 1


def test_a_row_that_was_typed_by_hand_stops_no_other(watched: Watched) -> None:
    other = Fulfilment.running(watched.offers)
    by_hand = Watched.of(watched.offers, order_key(watched.offers, other.order_id), SECOND)
    by_hand.execute(
        "UPDATE workflow_correlation SET business_key = 'by hand', next_check_at = clock_timestamp() WHERE process_instance_id = :id",
        id=SECOND,
    )

    assert watched.sweep(DELETED) == 1

    assert watched.correlation.status == "LOST"
