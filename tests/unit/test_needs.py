"""What `/readyz` of each process asks: a database, an engine or a broker that does not serve the process makes it not ready."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from threading import Event
from typing import Any

import pytest

from tests.support.answering import Reply, Request, answering
from tests.support.identity_provider import IdentityProvider, rsa_key
from tests.unit.test_settings import NEEDS
from workers import suite
from workers.http.edge import HttpEdge
from workers.http.signing_keys import SigningKeys
from workers.http.tokens import Tokens, local_tokens
from workers.needs import needs_of
from workers.runtime.environment import Environment
from workers.runtime.readiness import Ask
from workers.runtime.settings import Settings
from workers.runtime.token_settings import TokenSettings

RIGHTS = Reply(body=b'{"authorized": true}')


class Loop:
    def run(self, stop: Event) -> None: ...


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def ask_of(process: str, need: str, opened: ExitStack, **changes: str) -> Ask:
    return needs_of(process, Settings(NEEDS[process]).having(**changes), Loop(), opened)[need]


def reason(ask: Ask) -> str:
    with pytest.raises(Exception, match=r".") as refusal:
        ask()
    return str(refusal.value)


def engine_that(answer: Callable[[Request], Reply | None], process: str, opened: ExitStack) -> Ask:
    url = opened.enter_context(answering(answer))
    return ask_of(process, "engine", opened, engine_url=url)


@pytest.mark.parametrize("process", sorted(suite.PROCESSES))
def test_every_process_needs_its_database(process: str, opened: ExitStack) -> None:
    assert "cannot use the database" in reason(ask_of(process, "database", opened))


@pytest.mark.parametrize("process", ["tasks", "dispatch", "reconcile"])
def test_a_process_needs_an_engine_that_believes_its_password(process: str, opened: ExitStack) -> None:
    ask = engine_that(lambda _: Reply(status=401), process, opened)

    assert "does not accept the password of user worker" in reason(ask)


@pytest.mark.parametrize("process", ["tasks", "dispatch", "reconcile"])
def test_a_process_needs_its_rights_in_the_engine(process: str, opened: ExitStack) -> None:
    def refusing_groups(request: Request) -> Reply:
        is_tenant = "resourceName=TENANT" in request.path
        return Reply(body=b'{"authorized": false}') if is_tenant else RIGHTS

    ask = engine_that(refusing_groups, process, opened)

    assert reason(ask) == (
        "user worker may not name at its start the tenants that it does not serve: run `q2o deploy --accounts-only`"
    )


@pytest.mark.parametrize("process", ["tasks", "dispatch", "reconcile"])
def test_an_engine_with_all_rights_serves_a_process(process: str, opened: ExitStack) -> None:
    engine_that(lambda _: RIGHTS, process, opened)()


@pytest.mark.parametrize("process", ["relay", "inbox"])
def test_a_process_needs_a_broker(process: str, opened: ExitStack) -> None:
    assert reason(ask_of(process, "Kafka", opened)) == "no broker responds at 127.0.0.1:1"


class Keys:
    """An identity provider that may be away."""

    def __init__(self) -> None:
        self.is_away = True

    def load(self) -> bytes:
        if self.is_away:
            raise OSError("it is away")
        return json.dumps(IdentityProvider(issuer="https://login.example", keys=[rsa_key("rsa")]).key_set()).encode()


def edge_of(authenticate: Any, opened: ExitStack) -> HttpEdge:
    database = suite.connect(Settings(NEEDS["http"]), "http")
    opened.callback(database.dispose)
    edge = HttpEdge(database, authenticate=authenticate, callback_secrets={})
    opened.callback(edge.stop)
    return edge


def keys_need(keys: Keys, opened: ExitStack) -> Ask:
    rules = TokenSettings.of(Environment({"Q2O_JWT_ISSUER": "https://login.example", "Q2O_JWT_AUDIENCE": "q2o"}))
    edge = edge_of(Tokens(SigningKeys(keys.load), rules), opened)
    return needs_of("http", Settings(NEEDS["http"]), edge, opened)["keys of tokens"]


def test_an_edge_without_keys_is_not_ready(opened: ExitStack) -> None:
    ask = keys_need(Keys(), opened)

    assert reason(ask) == "the keys of the identity provider cannot be read (OSError: it is away)"


def test_an_edge_that_has_read_its_keys_stays_ready_without_the_identity_provider(opened: ExitStack) -> None:
    keys = Keys()
    ask = keys_need(keys, opened)
    keys.is_away = False
    ask()

    keys.is_away = True

    ask()


def test_an_edge_with_a_shared_secret_needs_no_keys(opened: ExitStack) -> None:
    edge = edge_of(local_tokens("s" * 32), opened)

    needs_of("http", Settings(NEEDS["http"]), edge, opened)["keys of tokens"]()
