"""The process of a case reads the case before it asks a person. A change that it has read needs no message; a later change keeps its own.

A message about a change that the form already shows would end the person's task and offer another one with the same content.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine as Database
from sqlalchemy import Row, event, select

from domain.delivery.proposing import ConfirmationNotYours
from domain.errors import Conflict
from domain.fallout import casework
from domain.fallout.cases import business_key, resolution_key
from domain.messages import FALLOUT_CASE_CHANGED
from domain.store import table_of
from domain.store.facts import WorkflowCommand
from domain.store.unit_of_work import housekeeping
from domain.workflows import requests
from domain.workflows.keys import Kind, key_of, parse
from tests.support.database import acting, in_order
from tests.support.fulfilment import ROLES, Fulfilment
from tests.support.offers import ANNA, BERT, MONA, STAFF, Offers
from tests.support.rules import KnownEngine
from workers.pod.contract import Task
from workers.runtime.variables import encode
from workers.tasks.casework import Casework
from workers.tasks.fallout import Fallout
from workers.tasks.markdown import plain

COMMAND = table_of(WorkflowCommand)
STATEMENTS = range(1, 7)  # the handler reads the case with the fourth; `act` runs before, between and after


class CaseInTasklist:
    """A case that waits for a person, seen by its process and by the people who work on it."""

    def __init__(self, offers: Offers) -> None:
        self.database = offers.engine
        self.work = Fulfilment.contradicted(offers)
        self._tenant_id, self._case_id = offers.tenant_id, self.work.case().id
        self._told = business_key(offers.tenant_id, self._case_id)
        self._key = resolution_key(offers.tenant_id, self._case_id)
        self._instance_id, self._second_id = offers.process_of_case(self._case_id), ""
        self._second_key = key_of(Kind.CONFIRMATION, self._tenant_id, self._case_id)
        self.engine = KnownEngine(groups=ROLES)
        self._workers = Casework(acting(offers.engine, "tasks"), self.engine.door)

    def read(self) -> dict[str, Any]:
        """Have the process read the case, as it does before it asks a person."""
        values = self._workers.prepare_form(self._task("prepare-form"), parse(self._key))
        self.engine.offer(self._instance_id, values)
        return values

    def resolve(self, person: str, **typed: str) -> dict[str, Any]:
        """Let a person complete the task with what they typed, and the worker carry it out."""
        self.engine.completed_by, self.engine.typed = person, encode(typed)
        return self._workers.apply_resolution(self._task("apply-resolution"), parse(self._key))

    def ask_a_second_person(self) -> dict[str, Any]:
        """Read what a second person is asked to confirm."""
        self._second_id = self.work.offers.process_of(self._second_key)
        values = self._workers.prepare_confirmation(self._second_task("prepare-confirmation"), parse(self._second_key))
        self.engine.offer(self._second_id, values)
        return values

    def ask_again(self) -> dict[str, Any]:
        """Renew the form of the second person."""
        return self._workers.prepare_confirmation(self._second_task("prepare-confirmation"), parse(self._second_key))

    def is_proposed(self) -> bool:
        """Have the process of the case read whether a second person must be asked."""
        task = replace(self._task("read-case"), process_instance_id="instance", business_key=self._told)
        return bool(Fallout(self.database, self.engine.door).read_case(task, parse(self._told))["isProposed"])

    def confirm(self, person: str) -> dict[str, Any]:
        """Let a second person confirm what they were shown."""
        self.engine.completed_by, self.engine.typed = person, encode({"confirmed": True})
        return self._workers.confirm_resolution(self._second_task("confirm-resolution"), parse(self._second_key))

    def _second_task(self, activity: str) -> Task:
        task = self._task(activity)
        return replace(task, process_instance_id=self._second_id, business_key=self._second_key)

    def _task(self, activity: str) -> Task:
        return Task(
            id="external-task-1",
            topic=f"fallout.{activity}",
            worker_id="worker-1",
            tenant_id=str(self.work.offers.tenant_id),
            process_instance_id=self._instance_id,
            business_key=self._key,
            activity_id=activity,
            execution_id="execution-1",
        )

    def escalate(self, person: str = BERT) -> None:
        with self.work.offers.uow(person) as uow:
            casework.hand_on(uow, self.work.as_seen(person))

    def messages(self) -> list[Row[Any]]:
        """The messages about changes of this case, oldest first."""
        query = in_order(select(*COMMAND.c), COMMAND).filter_by(business_key=self._told, name=FALLOUT_CASE_CHANGED.name)
        with self.database.connect() as connection:
            return list(connection.execute(query))

    def told(self) -> list[tuple[str, str | None]]:
        return [(message.status, message.outcome) for message in self.messages()]


@pytest.fixture
def case(offers: Offers) -> CaseInTasklist:
    return CaseInTasklist(offers)


def test_a_change_that_the_process_has_read_needs_no_message(case: CaseInTasklist) -> None:
    case.escalate()

    shown = case.read()

    assert (shown["caseQueue"], case.told()) == ("falloutManagers", [("EXPIRED", "READ")])


def test_a_change_after_the_process_has_read_the_case_keeps_its_message(case: CaseInTasklist) -> None:
    case.read()

    case.escalate()

    assert case.told() == [("PENDING", None)]


def test_reading_one_case_leaves_the_messages_of_another(case: CaseInTasklist, offers: Offers) -> None:
    other = CaseInTasklist(offers)
    other.escalate()

    case.read()

    assert other.told() == [("PENDING", None)]


def test_reading_a_case_leaves_the_assignment_of_its_task(case: CaseInTasklist) -> None:
    case.work.claim(BERT)

    case.read()

    with case.database.connect() as connection:
        query = select(COMMAND.c.status).filter_by(kind="ASSIGN_TASK")
        assert connection.scalars(query).all() == ["PENDING"]


def test_a_message_that_was_on_its_way_when_the_case_was_read_is_not_sent_again(case: CaseInTasklist) -> None:
    case.escalate()
    [message] = case.messages()
    with housekeeping(case.database) as connection:
        requests.claim(connection, 10, timedelta(seconds=30))

    case.read()

    with housekeeping(case.database) as connection:
        requests.give_back(connection, message, timedelta(0), was_sent=True)
        assert requests.claim(connection, 10, timedelta(seconds=30)) == []
    with pytest.raises(Conflict), case.work.offers.uow("dispatch") as uow:
        requests.finish(uow, message.id, "DELIVERED")


@contextmanager
def before_statement(number: int, database: Database, act: Callable[[], None]) -> Iterator[None]:
    """Run `act` right before the block sends its n-th statement (from 1); `act` has a transaction of its own."""
    sent = 0

    def count(*_: object) -> None:
        nonlocal sent
        sent += 1
        if sent == number:
            act()

    event.listen(database, "before_cursor_execute", count)
    try:
        yield
    finally:
        event.remove(database, "before_cursor_execute", count)


@pytest.mark.parametrize("number", STATEMENTS)
def test_a_change_while_the_case_is_being_read_is_shown_or_keeps_its_message(case: CaseInTasklist, number: int) -> None:
    """Fails if the case is read before its messages expire."""
    case.escalate()

    with before_statement(number, case.database, lambda: case.escalate(MONA)):
        shown = case.read()

    seen = shown["dueAt"] == case.work.case().due_at.isoformat()
    assert seen or case.told()[-1] == ("PENDING", None)


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


CHANGED = "What the form shows has changed since it was opened."


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
