"""A person resolves a case in Tasklist, and a second one confirms it: each decides on what the form has shown."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Row, select

from domain.delivery import given_up
from domain.delivery.proposing import ConfirmationNotYours
from domain.fallout.cases import FalloutNote, ResolutionProposal
from domain.store import table_of
from domain.workflows import starts
from domain.workflows.forms import ShownForm
from domain.workflows.keys import Kind, key_of
from tests.support.case_in_tasklist import CaseInTasklist
from tests.support.fulfilment import Fulfilment
from tests.support.offers import ANNA, BERT, MONA, STAFF, Offers
from tests.support.races import race_for_row
from workers.tasks.markdown import plain

CHANGED = "What the form shows has changed since it was opened."
COMPLETED = {"resolution": "MARK_COMPLETED", "externalReference": "r-1", "evidence": "seen"}


def rows(case: CaseInTasklist, entity: type[Any]) -> list[Row[Any]]:
    with case.database.connect() as connection:
        return list(connection.execute(select(*table_of(entity).c)))


def test_a_second_person_reads_the_first_one_s_text_as_text(case: CaseInTasklist) -> None:
    case.read()
    typed = {"resolution": "MARK_COMPLETED", "externalReference": "PROV-1", "evidence": "# Seen at\nwww.evil.example"}

    assert case.resolve(BERT, **typed)["resolutionOutcome"] == "CONFIRMATION_NEEDED"

    shown = case.ask_a_second_person()
    assert (shown["proposedReference"], shown["proposedEvidence"]) == (r"PROV\-1", r"\# Seen at www\.evil\.example")


def test_the_reason_why_a_resolution_was_refused_is_shown_as_text(case: CaseInTasklist) -> None:
    case.read()

    case.resolve(BERT, resolution="**all**")

    assert case.read()["resolutionRefused"].startswith(r"bert\: '\*\*all\*\*' is not a resolution")


def test_a_resolution_of_a_case_that_was_escalated_meanwhile_is_refused(case: CaseInTasklist) -> None:
    """Kills: carrying out what a person decided about another queue than the form has shown."""
    case.read()
    case.escalate()

    assert case.resolve(MONA, resolution="RETRY") == {"resolutionOutcome": "REFUSED"}

    assert case.read()["resolutionRefused"] == plain(f"{MONA}: {CHANGED}")


def test_a_form_into_which_somebody_has_written_resolves_nothing(case: CaseInTasklist) -> None:
    """Kills: trusting what a form shows although somebody may have written its variables."""
    case.read()
    case.engine.forge(whatHappened="Nothing")

    assert case.resolve(BERT, resolution="RETRY") == {"resolutionOutcome": "REFUSED"}

    assert case.work.case().resolution is None


def test_a_resolution_that_is_repeated_after_a_lost_reply_keeps_the_first_reason(case: CaseInTasklist) -> None:
    case.read()
    case.resolve(BERT, resolution="NONSENSE")

    case.resolve(BERT, resolution="RETRY")

    assert "NONSENSE" in case.read()["resolutionRefused"]


@pytest.mark.parametrize(
    ("person", "typed", "outcome"),
    [
        (BERT, {"resolution": "RETRY"}, "APPLIED"),
        (BERT, {"resolution": "ESCALATE"}, "APPLIED"),
        (BERT, COMPLETED, "CONFIRMATION_NEEDED"),
    ],
    ids=["resolved", "handed on", "proposed"],
)
def test_a_resolution_that_is_repeated_after_a_lost_reply_gets_the_outcome_of_the_first_time(
    case: CaseInTasklist, person: str, typed: dict[str, str], outcome: str
) -> None:
    """Kills: answering a repeated task by the state that its first run has left."""
    case.read()
    case.resolve(person, **typed)
    left = case.work.case()

    assert case.resolve(person, **typed) == {"resolutionOutcome": outcome}

    assert case.work.case() == left


def test_a_form_that_is_answered_once_makes_one_proposal(case: CaseInTasklist) -> None:
    case.read()
    case.resolve(BERT, **COMPLETED)

    case.resolve(BERT, **COMPLETED)

    assert len(rows(case, ResolutionProposal)) == 1
    assert case.is_proposed()


def test_two_workers_with_the_same_answer_make_one_proposal(case: CaseInTasklist) -> None:
    """Kills: reading the form without the lock of its case."""
    case.read()
    form = max(rows(case, ShownForm), key=lambda row: row.created_at)

    workers = race_for_row(case.database, table_of(ShownForm), form.id, *[lambda: case.resolve(BERT, **COMPLETED)] * 2)

    assert [worker.result() for worker in workers] == [{"resolutionOutcome": "CONFIRMATION_NEEDED"}] * 2
    assert len(rows(case, ResolutionProposal)) == 1
    assert case.is_proposed()


@pytest.mark.parametrize(("confirmed", "kind"), [(True, "CONFIRMATION"), (False, "DECLINED")])
def test_a_confirmation_that_is_repeated_after_a_lost_reply_counts_once(
    case: CaseInTasklist, *, confirmed: bool, kind: str
) -> None:
    case.read()
    case.resolve(BERT, **COMPLETED)
    case.ask_a_second_person()
    case.confirm(MONA, confirmed=confirmed)

    assert case.confirm(MONA, confirmed=confirmed) == {"confirmationOutcome": "APPLIED"}

    assert [note.kind for note in rows(case, FalloutNote)] == [kind]


def test_another_answer_to_a_form_that_is_answered_is_refused(case: CaseInTasklist) -> None:
    """An operator has moved the token back to the user task, so nobody has renewed the form."""
    case.read()
    case.resolve(BERT, **COMPLETED)
    case.engine.completions += 1

    assert case.resolve(BERT, **COMPLETED) == {"resolutionOutcome": "REFUSED"}


def test_a_reference_that_is_too_long_is_refused_and_not_cut(case: CaseInTasklist) -> None:
    case.read()

    case.resolve(BERT, resolution="MARK_COMPLETED", externalReference="r" * 201, evidence="seen")

    assert "at most 200 visible characters" in case.read()["resolutionRefused"]


def test_whoever_has_claimed_the_case_meanwhile_decides_on_what_they_were_shown(case: CaseInTasklist) -> None:
    """Kills: taking the claim of the very person for a change of what the form shows."""
    case.read()
    case.work.claim(BERT)

    assert case.resolve(BERT, resolution="RETRY")["resolutionOutcome"] == "APPLIED"


@pytest.mark.parametrize(("proposed_since", "resolution"), [("r-2", None), (None, "MARK_COMPLETED")])
def test_a_second_person_confirms_the_proposal_that_they_were_shown_and_no_later_one(
    case: CaseInTasklist, proposed_since: str | None, resolution: str | None
) -> None:
    case.read()
    case.resolve(BERT, resolution="MARK_COMPLETED", externalReference="r-1", evidence="seen")
    case.ask_a_second_person()
    if proposed_since:
        case.work.propose(BERT, external_ref=proposed_since)

    case.confirm(MONA)

    assert case.work.case().resolution == resolution


def test_a_refused_confirmation_says_why_on_the_renewed_form(case: CaseInTasklist) -> None:
    """Kills: ending the process of a confirmation that was refused, so that nobody learns why."""
    case.read()
    case.resolve(BERT, resolution="MARK_COMPLETED", externalReference="r-1", evidence="seen")
    case.ask_a_second_person()

    assert case.confirm(BERT) == {"confirmationOutcome": "REFUSED"}

    assert case.ask_again()["confirmationRefused"] == plain(
        f"{BERT}: A second person must confirm it: you have proposed it yourself."
    )


def test_a_proposal_over_http_is_confirmed_in_tasklist(case: CaseInTasklist) -> None:
    case.work.claim(BERT)

    case.work.propose(BERT, external_ref="r-1")

    assert case.told() == [("PENDING", None)]
    assert case.is_proposed()
    assert case.ask_a_second_person()["proposedReference"] == r"r\-1"


def test_a_proposal_that_was_declined_over_http_lets_the_first_be_asked_again(case: CaseInTasklist) -> None:
    case.work.claim(BERT)
    proposal_id = case.work.propose(BERT, external_ref="r-1")
    case.is_proposed()

    case.work.answer_proposal(MONA, proposal_id, confirm=False)

    assert case.told()[-1] == ("PENDING", None)
    assert not case.is_proposed()


@pytest.mark.parametrize(("queue", "groups"), [("falloutL1", 2), ("falloutL2", 2), ("falloutManagers", 1)])
def test_those_who_are_asked_to_confirm_are_those_who_may(case: CaseInTasklist, queue: str, groups: int) -> None:
    with case.database.begin() as connection:
        connection.exec_driver_sql(f"UPDATE fallout_case SET queue = '{queue}'")
    case.work.claim(MONA)
    proposal_id = case.work.propose(MONA, external_ref="r-1")

    asked = case.ask_a_second_person()["confirmers"].split(",")

    assert len(asked) == groups
    for person in (ANNA, BERT):
        if STAFF[person] not in asked:
            with pytest.raises(ConfirmationNotYours):
                case.work.answer_proposal(person, proposal_id, confirm=False)


def test_a_repair_in_tasklist_is_the_difference_to_what_the_form_has_shown(case: CaseInTasklist) -> None:
    assert "| quantity | 1 |" in case.read()["requestText"]
    typed = {"resolution": "REPAIR_AND_RETRY", "evidence": "asked the customer", "repairedInstructions": "Ring twice"}

    assert case.resolve(BERT, **typed)["resolutionOutcome"] == "APPLIED"

    assert case.work.step("RESERVE_INVENTORY").request_changes == {"instructions": "Ring twice"}


@pytest.mark.parametrize(
    ("typed", "reason"),
    [
        ({}, "A repair names at least one field"),
        ({"repairedQuantity": "9"}, "The quantity must be a whole number from 1 to 1"),
        ({"repairedQuantity": "a few"}, "The quantity must be a whole number; it is"),
        ({"repairedOffering": "NO_SUCH"}, "The catalog has no offering"),
    ],
    ids=str,
)
def test_a_repair_in_tasklist_that_does_not_fit_comes_back_with_the_reason(
    case: CaseInTasklist, typed: dict[str, str], reason: str
) -> None:
    case.read()

    assert case.resolve(BERT, resolution="REPAIR_AND_RETRY", evidence="seen", **typed)["resolutionOutcome"] == "REFUSED"

    assert plain(reason) in case.read()["resolutionRefused"]


def about_a_failed_start(offers: Offers) -> CaseInTasklist:
    """A case that is not about a step. Its form is shown."""
    work = Fulfilment(offers, offers.accepted_quote().order_id)
    key = key_of(Kind.ORDER, offers.tenant_id, work.order_id)
    with offers.uow("dispatch") as uow:
        starts.start_refused(uow, key)
        given_up.open_case(uow, key, "The engine does not start it: no", {})
    case = CaseInTasklist(offers, work)
    case.read()
    return case


def test_a_failed_start_is_asked_for_again_in_tasklist(offers: Offers) -> None:
    case = about_a_failed_start(offers)

    assert case.resolve(BERT, resolution="RETRY")["resolutionOutcome"] == "APPLIED"

    with offers.uow() as uow:
        assert starts.status_of(uow, key_of(Kind.ORDER, offers.tenant_id, case.work.order_id)) == "REQUESTED"
    assert case.work.case().status == "CLOSED"


def test_a_repair_of_no_request_is_refused_in_tasklist(offers: Offers) -> None:
    case = about_a_failed_start(offers)
    typed = {"resolution": "REPAIR_AND_RETRY", "evidence": "seen", "repairedInstructions": "Ring twice"}

    assert case.resolve(BERT, **typed)["resolutionOutcome"] == "REFUSED"

    assert plain("It is about no step: choose RETRY or KEEP_AS_IS.") in case.read()["resolutionRefused"]
