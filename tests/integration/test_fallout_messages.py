"""The process of a case reads the case before it asks a person. A change that it has read needs no message; a later change keeps its own.

A message about a change that the form already shows would end the person's task and offer another one with the same content.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from domain.errors import Conflict
from domain.retry_rules import WORKFLOW_COMMAND
from domain.store.unit_of_work import housekeeping
from domain.workflows import requests
from tests.support.case_in_tasklist import COMMAND, CaseInTasklist
from tests.support.database import acting
from tests.support.offers import BERT, MONA, Offers
from tests.support.statements import before_statement

STATEMENTS = range(1, 7)  # the handler reads the case with the fourth; `act` runs before, between and after


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
    with case.database.begin() as connection:
        connection.execute(update(COMMAND).where(COMMAND.c.kind == "START").values(status="DONE"))
    with housekeeping(case.database) as connection:
        claimed = {row.id: row for row in requests.claim(connection, 10, timedelta(seconds=30))}

    case.read()

    with housekeeping(case.database) as connection:
        requests.put_off(connection, claimed[message.id], WORKFLOW_COMMAND, "no", was_sent=True, at_once=True)
        assert requests.claim(connection, 10, timedelta(seconds=30)) == []
    with pytest.raises(Conflict), case.work.offers.uow("dispatch") as uow:
        requests.finish(uow, message.id, "DELIVERED")


@pytest.mark.parametrize("number", STATEMENTS)
def test_a_change_while_the_case_is_being_read_is_shown_or_keeps_its_message(case: CaseInTasklist, number: int) -> None:
    """Fails if the case is read before its messages expire."""
    case.escalate()

    with before_statement(number, acting(case.database, "tasks"), lambda: case.escalate(MONA)):
        shown = case.read()

    seen = shown["dueAt"] == case.work.case().due_at.isoformat()
    assert seen or case.told()[-1] == ("PENDING", None)
