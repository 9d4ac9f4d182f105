"""A 401 of the engine is waited out while it may be a lock, and is a wrong password once it lasts longer than any lock."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from itertools import count

import pytest
import typer

from domain.retry_rules import REPORT_SILENCE
from tests.support.answering import Reply, Request, answering
from tests.support.models import TENANT
from tests.unit.test_outcomes import fetched
from workers import suite
from workers.cli_errors import plain_errors
from workers.pod.contract import Topic
from workers.pod.lease import Lease
from workers.pod.outcomes import Completed
from workers.pod.report import Reporter, Settled
from workers.runtime import engine_login
from workers.runtime.engine import Engine, EngineLockedOutError, EngineUntrustedError
from workers.runtime.engine_login import LONGEST_LOCK, ROOM, Login
from workers.runtime.outages import is_outage, needs_a_person
from workers.runtime.settings import SettingError, Settings

FOR_EVER = 10**6
UNAUTHORIZED = 401


class Door:
    """An engine that does not believe the next requests (`refusals`), and then does what it is asked. `may_deploy`: what the user may."""

    url: str

    def __init__(self) -> None:
        self.refusals = 0
        self.may_deploy = False
        self.seen = 0

    def answer(self, request: Request) -> Reply:
        if request.path.startswith("/tenant"):
            return Reply(body=b"[]")
        self.seen += 1
        if self.refusals:
            self.refusals -= 1
            return Reply(status=UNAUTHORIZED)
        if not request.path.startswith("/authorization"):
            return Reply(status=204)
        return Reply(body=json.dumps({"authorized": self.may_deploy}).encode())

    def engine(self) -> closing[Engine]:
        return closing(Engine(self.url, "q2o-tasks", "password"))

    def settings(self, **variables: str) -> Settings:
        login = {"Q2O_ENGINE_USER": "q2o-tasks", "Q2O_ENGINE_PASSWORD": "password"}
        return Settings({"Q2O_ENGINE_URL": self.url, **login, **variables})


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    with answering(door.answer) as door.url:
        yield door


@pytest.fixture
def no_lock_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every refusal count as one that lasts longer than any lock."""
    monkeypatch.setattr(engine_login, "LONGEST_LOCK", timedelta(0))
    monkeypatch.setattr(engine_login, "ROOM", timedelta(0))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a starting process ask again without a pause."""
    monkeypatch.setattr(suite, "LOCKED_OUT_WAIT", timedelta(0))


def test_a_refused_password_is_an_outage_in_which_nothing_was_carried_out(door: Door) -> None:
    door.refusals = 1

    with (
        door.engine() as engine,
        pytest.raises(EngineLockedOutError, match=r"^POST .*/start was not carried out: .*user q2o-tasks") as refusal,
    ):
        engine.start_process(TENANT, "order-fulfillment", "order:1", {})

    assert (is_outage(refusal.value), needs_a_person(refusal.value)) == (True, False)
    assert "\n" not in str(refusal.value)


def test_refusals_that_last_longer_than_any_lock_are_a_wrong_password() -> None:
    now = 0.0
    login = Login("q2o-tasks", "password", clock=lambda: now)

    assert login.refused()
    now = (LONGEST_LOCK + ROOM).total_seconds() - 1
    assert login.refused()
    now += 1
    assert not login.refused()


def test_an_accepted_password_ends_the_refusals_before_it() -> None:
    now = 0.0
    login = Login("q2o-tasks", "password", clock=lambda: now)
    login.refused()

    login.accepted()

    now = FOR_EVER
    assert login.refused()


def test_a_connection_notices_that_its_password_is_accepted_again(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted = count()
    monkeypatch.setattr(Login, "accepted", lambda _: next(accepted))
    door.refusals = 1

    with door.engine() as engine:
        with pytest.raises(EngineLockedOutError):
            engine.may_deploy()
        assert next(accepted) == 0
        engine.may_deploy()

    assert next(accepted) == 2


@pytest.mark.usefixtures("no_lock_lasts")
def test_a_wrong_password_needs_a_person(door: Door) -> None:
    door.refusals = 1

    with door.engine() as engine, pytest.raises(EngineUntrustedError, match="correct Q2O_ENGINE_USER and Q2O_ENGINE_PASSWORD"):
        engine.may_deploy()


@pytest.mark.usefixtures("impatient")
def test_a_process_that_starts_while_its_user_is_locked_waits_for_the_end_of_the_lock(door: Door) -> None:
    door.refusals = 3

    with closing(suite.trusted_engine_of(door.settings())):
        assert door.seen == 4


@pytest.mark.usefixtures("impatient", "no_lock_lasts")
def test_a_process_that_starts_with_a_wrong_password_ends_with_one_line(door: Door, capsys: pytest.CaptureFixture[str]) -> None:
    door.refusals = FOR_EVER

    with pytest.raises(typer.Exit) as ended, plain_errors():
        suite.trusted_engine_of(door.settings())

    assert ended.value.exit_code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "for longer than any lock lasts (60 s): correct Q2O_ENGINE_USER and Q2O_ENGINE_PASSWORD" in line


def test_production_refuses_a_process_whose_user_may_deploy(door: Door) -> None:
    door.may_deploy = True

    with pytest.raises(SettingError, match=r"^Q2O_ENGINE_USER=q2o-tasks may deploy models"):
        suite.trusted_engine_of(door.settings(Q2O_MODE="production"))


@pytest.mark.parametrize(("may_deploy", "mode"), [(True, "local"), (False, "production")])
def test_another_process_starts(door: Door, mode: str, *, may_deploy: bool) -> None:
    door.may_deploy = may_deploy

    with closing(suite.trusted_engine_of(door.settings(Q2O_MODE=mode))):
        assert door.seen == 1


def reported(door: Door) -> Settled:
    """Report a result whose task is locked for a second, while each try takes a second."""
    seconds = count()
    now = [float(next(seconds))]

    def pause(_: float) -> None:
        now[0] = float(next(seconds))

    lease = Lease(
        fetched(), Topic(name="order.decompose", handler=lambda _: {}), timedelta(seconds=1), requested_at=0, clock=lambda: now[0]
    )
    with door.engine() as engine:
        settled, _ = Reporter(engine, clock=lambda: now[0], pause=pause).report(lease, Completed(variables={}))
    return settled


def test_a_result_is_reported_when_the_lock_of_the_user_ends_although_that_of_the_task_has_expired(door: Door) -> None:
    door.refusals = 10 * REPORT_SILENCE.attempts

    assert reported(door) is Settled.COMPLETED


@pytest.mark.usefixtures("no_lock_lasts")
def test_a_result_is_given_up_when_the_password_is_wrong(door: Door) -> None:
    door.refusals = FOR_EVER

    assert reported(door) is Settled.UNREPORTED
