"""A callback that has matched no step is kept for its age and as long as a person works on its case, and no longer."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Engine, text

from domain.delivery import callbacks
from domain.delivery.callbacks import ReceiveCallback
from domain.fallout import triaging
from domain.fallout.triaging import CASE
from reconciliation.retention import Retainer
from tests.integration.test_retention import AGES
from tests.support.database import acting
from tests.support.fulfilment import Fulfilment
from tests.support.offers import Offers
from tests.support.retaining import archiving, lines_of

EVENT = "evt-1"


def receive(offers: Offers, content: str, *, names_a_step: bool = True) -> None:
    """Receive an event of the provider about a step that is not there, or about nothing that could be a step."""
    command = ReceiveCallback(
        provider_name="sandbox",
        external_event_id=EVENT,
        event_type="step.completed",
        step_id=uuid4() if names_a_step else None,
        external_ref=None,
        external_request_id=None,
        external_event_at=None,
        payload={"said": content},
    )
    with offers.uow("callback") as uow:
        callbacks.receive(uow, command)


def grow_old(db: Engine) -> None:
    with db.begin() as connection:
        connection.execute(text("UPDATE external_callback_record SET received_at = received_at - interval '91 days'"))


def end_cases(offers: Offers) -> None:
    with offers.uow() as uow:
        for key in uow.connection.scalars(CASE.select().with_only_columns(CASE.c.dedupe_key)).all():
            triaging.cancel_cases(uow, key)


def retain(db: Engine, archive: Path | None = None, **ages: timedelta) -> dict[str, Any]:
    return {each.kind: each for each in Retainer(acting(db, "retain"), {**AGES, **ages}, archive).run_once()}


def count(db: Engine, table: str) -> int:
    with db.connect() as connection:
        return int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


@pytest.fixture
def tenant(offers: Offers) -> Offers:
    """A tenant with an order, because a callback for a tenant without any step is refused."""
    Fulfilment.running(offers)
    return offers


@pytest.mark.parametrize("names_a_step", [True, False])
def test_an_old_callback_that_has_matched_no_step_goes_with_its_payload(db: Engine, tenant: Offers, *, names_a_step: bool) -> None:
    """Kills: a payload that is kept for ever, because no dossier has it."""
    receive(tenant, "a name", names_a_step=names_a_step)
    end_cases(tenant)
    young = retain(db)["unmatched"]
    grow_old(db)

    old = retain(db)["unmatched"]

    assert (young.rows, old.rows, old.failed) == (0, 1, "")
    assert count(db, "external_callback_record") == 0


@pytest.mark.parametrize("contents", [("a",), ("a", "b")])
def test_a_callback_stays_whole_while_a_case_about_it_is_open(db: Engine, tenant: Offers, contents: tuple[str, ...]) -> None:
    for content in contents:
        receive(tenant, content)
    with tenant.uow() as uow:
        [first, *_] = uow.connection.scalars(CASE.select().with_only_columns(CASE.c.dedupe_key).order_by(CASE.c.created_at)).all()
        if len(contents) > 1:
            triaging.cancel_cases(uow, first)
    grow_old(db)

    done = retain(db)["unmatched"]

    assert (done.rows, count(db, "external_callback_record")) == (0, 1)
    with db.connect() as connection:
        assert connection.scalar(text("SELECT payload ->> 'said' FROM external_callback_record")) == "a"


def test_another_content_of_a_callback_of_no_step_is_archived_with_its_case(db: Engine, tenant: Offers, tmp_path: Path) -> None:
    """Kills: keeping the payload for ever, because it belongs to no dossier."""
    receive(tenant, "a")
    receive(tenant, "b")
    end_cases(tenant)

    archiving(db, tmp_path).run(timedelta(0))

    assert count(db, "external_callback_conflict") == 0
    lines = [line for line in lines_of(db, tmp_path, tenant.tenant_id) if line["table"] == "external_callback_conflict"]
    assert [line["row"]["external_event_id"] for line in lines] == [EVENT]
    assert "payload" not in lines[0]["row"]
