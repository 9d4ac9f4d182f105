"""Instances that the domain has not registered are ended; the registered one is not, and other tenants' instances are left alone."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any
from unittest.mock import Mock, create_autospec
from uuid import uuid4

import pytest

import domain.findings
from domain.store import unit_of_work
from domain.workflows import restarts
from domain.workflows.keys import PROCESSES, STARTED
from reconciliation.duplicates import Duplicates
from reconciliation.repairs import Repairs
from reconciliation.walks import PAGE
from tests.support.database import acting
from tests.support.offers import Offers
from tests.support.reconciling import actions, findings
from tests.support.wanted import Wanted
from workers.runtime.engine import Engine, EngineRefusedError
from workers.runtime.engine_history import EngineInstance
from workers.runtime.set_aside import Pauses

REGISTERED, OTHER = "registered", "other"
PROCESS = "late-compensation"


@dataclass
class Site:
    """A registered instance, and an engine that has the instances that the test says."""

    wanted: Wanted
    engine: Mock
    duplicates: Duplicates

    def running(self, *found: EngineInstance) -> int:
        self.engine.running_roots.return_value = list(found)
        return self.duplicates.sweep()

    @property
    def ended(self) -> list[str]:
        return [call.args[0] for call in self.engine.delete_instance.call_args_list]

    def instance(self, instance_id: str = OTHER) -> EngineInstance:
        tenant = str(self.wanted.tenant_id)
        return EngineInstance(
            id=instance_id, business_key=self.wanted.business_key, definition_key=PROCESS, state="ACTIVE", tenant_id=tenant
        )


@pytest.fixture
def site(offers: Offers, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr("reconciliation.alone._pauses", Pauses())
    wanted = Wanted.of(offers.engine, PROCESS)
    wanted.pass_gate(REGISTERED)
    return site_of(wanted)


def site_of(wanted: Wanted, *, dry_run: bool = False) -> Site:
    engine: Mock = create_autospec(Engine, instance=True)
    database = acting(wanted.database, "reconcile")
    return Site(wanted, engine, Duplicates(database, engine, Repairs(database, dry_run=dry_run), timedelta(0)))


def test_a_second_instance_is_ended_and_the_registered_one_is_not(site: Site, offers: Offers) -> None:
    assert site.running(site.instance(REGISTERED), site.instance()) == 1

    assert site.ended == [OTHER]
    assert actions(offers) == ["terminated"]


def test_a_second_instance_that_two_reconcilers_find_is_recorded_once(
    site: Site, offers: Offers, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.running(site.instance())
    recorded_of, read_too_early = domain.findings.recorded_of, [dict[str, set[str]]()]
    monkeypatch.setattr(
        domain.findings, "recorded_of", lambda *about: read_too_early.pop() if read_too_early else recorded_of(*about)
    )

    assert site.running(site.instance()) == 0

    assert actions(offers) == ["terminated"]


@pytest.mark.parametrize("typed", ["typed in Cockpit", "", "order:nobody:nothing", "order:::::"])
def test_an_instance_that_nobody_has_asked_for_is_ended_and_its_finding_names_no_business(
    site: Site, offers: Offers, typed: str
) -> None:
    """Kills: recording the typed text as a business key. The audit (I28) would take it for a key of another tenant."""
    by_hand = replace(site.instance(), business_key=typed)

    assert site.running(by_hand) == 1

    assert site.ended == [OTHER]
    [finding] = findings(offers)
    assert (finding.business_key, finding.evidence["businessKey"]) == (None, typed)


def test_an_instance_for_something_that_does_not_exist_is_ended(site: Site) -> None:
    by_hand = replace(site.instance(), business_key=f"order:{site.wanted.tenant_id}:{uuid4()}")

    assert site.running(by_hand) == 1

    assert site.ended == [OTHER]


def test_no_instance_is_ended_while_it_is_not_known_which_one_counts(site: Site) -> None:
    with unit_of_work(site.wanted.database, site.wanted.cause) as uow:
        restarts.restart(uow, site.wanted.business_key, REGISTERED)

    assert site.running(site.instance(REGISTERED), site.instance()) == 0

    assert site.ended == []


def test_an_instance_whose_place_was_given_away_is_ended(site: Site) -> None:
    with unit_of_work(site.wanted.database, site.wanted.cause) as uow:
        restarts.restart(uow, site.wanted.business_key, REGISTERED)
    site.wanted.pass_gate("new")

    site.running(site.instance(REGISTERED), site.instance("new"))

    assert site.ended == [REGISTERED]


@pytest.mark.parametrize("change", [{"definition_key": "of somebody else"}, {"tenant_id": str(uuid4())}])
def test_an_instance_of_another_process_or_tenant_is_left_alone_and_reported_once(
    site: Site, offers: Offers, change: dict[str, Any]
) -> None:
    stranger = replace(site.instance(), **change)

    assert site.running(stranger) == 1
    assert site.running(stranger) == 0

    assert site.ended == []
    assert actions(offers) == ["left"]


def test_an_instance_in_a_tenant_that_this_domain_does_not_serve_is_left_alone(site: Site, offers: Offers) -> None:
    """Kills: ending the work of another installation on the same engine."""
    stranger = replace(site.instance(), tenant_id=str(uuid4()), business_key="theirs")

    assert site.running(stranger) == 0

    assert (site.ended, actions(offers)) == ([], [])


@pytest.mark.parametrize("process", PROCESSES)
def test_an_instance_of_any_process_of_ours_that_somebody_started_by_hand_is_ended(
    site: Site, offers: Offers, process: str
) -> None:
    """Kills: looking only for the processes that the domain starts. A called process that somebody started by hand would run for ever."""
    by_hand = replace(site.instance(), definition_key=process, business_key=f"step:{site.wanted.tenant_id}:{uuid4()}")

    assert site.running(by_hand) == 1

    assert (site.ended, actions(offers)) == ([OTHER], ["terminated"])


@pytest.mark.parametrize("process", sorted({*PROCESSES} - {*STARTED}))
def test_nothing_is_written_into_an_instance_of_a_process_that_is_called(site: Site, process: str) -> None:
    """Kills: ending it with a reason, which the rights of `q2o reconcile` do not allow."""
    site.running(replace(site.instance(), definition_key=process))

    site.engine.delete_instance.assert_called_once_with(OTHER, "")


def test_an_instance_that_the_engine_does_not_end_is_left_alone_for_a_while(site: Site) -> None:
    site.engine.delete_instance.side_effect = EngineRefusedError(403, "Forbidden", "no", None)
    site.running(site.instance())

    site.running(site.instance(), site.instance("third"))

    assert site.ended == [OTHER, "third"]


def test_a_dry_run_ends_nothing(offers: Offers) -> None:
    wanted = Wanted.of(offers.engine, PROCESS)
    wanted.pass_gate(REGISTERED)
    site = site_of(wanted, dry_run=True)

    assert site.running(site.instance()) == 1

    assert (site.ended, actions(offers)) == ([], [])


def test_a_long_list_is_looked_at_page_by_page_and_then_from_its_front_again(site: Site) -> None:
    site.running(*[site.instance(REGISTERED)] * PAGE)
    site.running(site.instance(REGISTERED))
    site.running()

    assert [call.args for call in site.engine.running_roots.call_args_list] == [(0, PAGE), (PAGE, PAGE), (0, PAGE)]
