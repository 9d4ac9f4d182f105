"""Incidents of the engine: each failing task gets one case; RETRY tries it once more, and the case closes when the incident is gone."""

from __future__ import annotations

from datetime import timedelta

import pytest

from domain.delivery import given_up, incidents
from domain.delivery.resolving import Resolution
from domain.workflows import requests
from reconciliation.incidents import NIL
from tests.support.fulfilment import Fulfilment
from tests.support.metrics import metric
from tests.support.offers import Offers
from tests.support.reconciling import actions, findings
from tests.support.watched import FIRST, Watched, incident
from workers.dispatch import Dispatcher
from workers.runtime.engine import EngineRefusedError

STEP = "execute-step"


def test_an_incident_gets_a_case_that_says_where_and_why(watched: Watched, work: Fulfilment) -> None:
    assert watched.look_at_incidents(incident()) == 1

    case = watched.case()
    assert (case.order_id, case.status) == (work.order_id, "OPEN")
    assert case.evidence == {
        "trouble": "TASK_FAILED",
        "businessKey": watched.business_key,
        "processInstanceId": FIRST,
        "activityId": STEP,
        "incidentId": "incident-1",
        "incidentType": "failedExternalTask",
        "message": "no attempt is left",
    }
    assert actions(work.offers) == ["case_opened"]


def test_the_tasks_of_one_instance_that_fail_at_one_activity_share_a_case(watched: Watched) -> None:
    watched.look_at_incidents(incident(number=1), incident(number=2))
    watched.look_at_incidents(incident(number=1), incident(number=2))

    assert len(watched.cases()) == 1


def test_an_incident_that_two_reconcilers_find_is_recorded_once(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incidents, "with_case", lambda *_: set())

    assert [watched.look_at_incidents(incident()), watched.look_at_incidents(incident())] == [1, 0]

    assert actions(watched.offers) == ["case_opened"]


def test_another_activity_has_a_case_of_its_own(watched: Watched) -> None:
    watched.look_at_incidents(incident(), incident("evaluate-order", number=2))

    assert len(watched.cases()) == 2


def test_the_case_of_an_incident_closes_by_itself_when_the_incident_is_gone(watched: Watched) -> None:
    watched.look_at_incidents(incident())

    assert watched.look_at_incidents() == 1

    assert (watched.case().status, watched.case().resolution) == ("CLOSED", "THE_PROCESS_GOES_ON")


def test_a_retry_asks_the_engine_once_and_keeps_the_case_until_the_incident_is_gone(watched: Watched) -> None:
    watched.look_at_incidents(incident())

    watched.resolve()

    [command] = watched.queued("RETRY_TASK")
    assert (command.name, command.variables["processInstanceId"]) == (STEP, FIRST)
    assert watched.look_at_incidents(incident()) == 0
    assert watched.case().status == "RESOLVED"
    settle(watched)
    assert watched.look_at_incidents() == 1
    assert watched.case().status == "CLOSED"


def test_a_task_that_fails_again_after_a_retry_opens_its_case_again(watched: Watched) -> None:
    watched.look_at_incidents(incident())
    watched.resolve()
    settle(watched)

    assert watched.look_at_incidents(incident(number=2)) == 1

    assert (watched.case().status, watched.case().reopen_count, watched.case().evidence["incidentId"]) == ("OPEN", 1, "incident-2")


def test_a_resolved_case_waits_for_its_grace_before_it_is_judged(watched: Watched) -> None:
    watched.look_at_incidents(incident())
    watched.resolve()
    settle(watched)

    assert watched.look_at_incidents(incident(number=2), grace=timedelta(hours=1)) == 0


def test_an_incident_that_a_person_leaves_alone_is_not_opened_again(watched: Watched) -> None:
    watched.look_at_incidents(incident())
    watched.resolve(Resolution.KEEP_AS_IS)

    assert watched.look_at_incidents(incident()) == 0

    assert (watched.case().status, watched.queued("RETRY_TASK")) == ("RESOLVED", [])


def test_the_process_of_such_a_case_gets_no_further_case_when_it_fails_itself(watched: Watched) -> None:
    """Kills: a case about the case about the case, without end, when the model of cases is broken. And: counting that as lost to a callback."""
    watched.look_at_incidents(incident())
    lost = metric("q2o_reconciliation_actions_total", kind="incident", result="lost_to_callback")
    about = Watched.of(watched.offers, f"fallout:{watched.offers.tenant_id}:{watched.case().id}", "instance of the case")

    broken = (incident(instance_id="instance of the case", number=2), incident())

    assert [about.look_at_incidents(*broken), about.look_at_incidents(*broken)] == [1, 0]

    assert len(watched.cases()) == 1
    assert [(finding.action, finding.status) for finding in findings(watched.offers)] == [
        ("case_opened", "REPAIRED"),
        ("left", "OPEN"),
    ]
    assert metric("q2o_reconciliation_actions_total", kind="incident", result="lost_to_callback") == lost


def test_an_incident_of_another_tenant_or_of_no_business_of_ours_is_left_alone(watched: Watched, offers: Offers) -> None:
    stranger = Watched(offers, "typed in Cockpit")

    assert stranger.look_at_incidents(incident()) == 0


def test_a_dry_run_opens_and_closes_no_case(watched: Watched) -> None:
    assert watched.look_at_incidents(incident(), dry_run=True) == 1
    assert watched.cases() == []
    watched.look_at_incidents(incident())

    assert watched.look_at_incidents(dry_run=True) == 1

    assert watched.case().status == "OPEN"


def test_the_dispatcher_tries_every_failed_task_of_the_activity_once_more(watched: Watched) -> None:
    watched.look_at_incidents(incident(number=1), incident(number=2), incident("another", number=3))
    [case, _] = watched.cases()
    ask_for_a_retry(watched)

    Dispatcher(watched.offers.engine, watched.engine).run_once()

    assert case.dedupe_key.endswith(STEP)
    assert [call.args[0].id for call in watched.engine.retry.call_args_list] == ["incident-1", "incident-2"]
    assert watched.queued("RETRY_TASK") == []


def test_a_retry_that_the_engine_refuses_is_tried_again_later(watched: Watched) -> None:
    watched.look_at_incidents(incident())
    ask_for_a_retry(watched)
    watched.engine.retry.side_effect = EngineRefusedError(500, "Exception", "busy", None)

    Dispatcher(watched.offers.engine, watched.engine).run_once()

    assert len(watched.queued("RETRY_TASK")) == 1


def ask_for_a_retry(watched: Watched) -> None:
    """Queue the retry, and nothing else that the dispatcher would carry out."""
    watched.execute("UPDATE workflow_command SET status = 'DONE'")
    with watched.offers.uow() as uow:
        incidents.retry(uow, watched.cases()[0])


def settle(watched: Watched) -> None:
    """Let the dispatcher have asked the engine."""
    with watched.offers.uow() as uow:
        for command in watched.queued("RETRY_TASK"):
            requests.finish(uow, command.id, "DELIVERED")


def test_a_case_about_what_was_given_up_is_none_of_an_incident(watched: Watched) -> None:
    with watched.offers.uow("dispatch") as uow:
        given_up.open_case(uow, watched.business_key, "The engine does not take the message: no", {})
        assert incidents.cases_after(uow.connection, NIL, 10) == []

    assert watched.look_at_incidents() == 0
    assert watched.case().status == "OPEN"
