"""An engine behind TLS with a private authority, which demands a client certificate: what works, and what a refusal says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import pytest
import typer

from tests.support.engines import Deployer, Doors
from tests.support.models import TENANT, new_name, one_task
from tests.support.ports import free_port_that_refuses
from tests.support.tls import Authority, TlsDoor, tls_door
from workers import suite
from workers.cli_errors import plain_errors
from workers.local.camunda import check_login
from workers.local.errors import StackError
from workers.runtime.engine import Engine, EngineOutcomeUnknownError, EngineUntrustedError
from workers.runtime.settings import Settings
from workers.runtime.transport import ClientTls

pytestmark = pytest.mark.stack


class SecuredEngine:
    """The test's engine behind a door that demands certificates."""

    def __init__(self, environment: dict[str, str], door: TlsDoor) -> None:
        self._environment = environment
        self.door = door

    def url(self, scheme: str = "https", host: str = "127.0.0.1") -> str:
        return f"{self.door.url(scheme, host)}/engine-rest"

    @property
    def login(self) -> tuple[str, str]:
        return self._environment["Q2O_ENGINE_USER"], self._environment["Q2O_ENGINE_PASSWORD"]

    def as_client(self, tls: ClientTls, **address: str) -> Engine:
        return Engine(self.url(**address), *self.login, tls=tls)


@contextmanager
def secured(doors: Doors, authority: Authority, *names: str, expired: bool = False) -> Iterator[SecuredEngine]:
    pair = authority.issue(*names or ("127.0.0.1",), expired=expired)
    port = urlsplit(doors.environment["Q2O_ENGINE_URL"]).port or 80
    with tls_door(port, authority.server(pair, demands_client=True)) as door:
        yield SecuredEngine(doors.environment, door)


@pytest.fixture
def engine_behind_tls(doors: Doors, authority: Authority) -> Iterator[SecuredEngine]:
    with secured(doors, authority) as behind:
        yield behind


@pytest.fixture
def ours(authority: Authority) -> ClientTls:
    return authority.client("engine", authority.issue("worker"))


def refused(engine: Engine) -> str:
    """Ask the engine; the refusal is one line that says that nothing was sent."""
    with closing(engine), pytest.raises(EngineUntrustedError) as refusal:
        engine.version()
    message = str(refusal.value)
    assert "\n" not in message
    assert "was not carried out" in message
    return message


def test_a_private_authority_and_a_client_certificate_open_the_engine(
    deploy: Deployer, engine_behind_tls: SecuredEngine, ours: ClientTls
) -> None:
    process = deploy(one_task)

    with closing(engine_behind_tls.as_client(ours)) as engine:
        instance = engine.start_process(TENANT, process.key, new_name("quote"), {"startToken": "a"})

    assert process.engine.instance_variables(instance) == {"startToken": "a"}


def test_a_certificate_of_an_unknown_authority_is_refused(engine_behind_tls: SecuredEngine, stranger: Authority) -> None:
    assert "set Q2O_ENGINE_CA_FILE to the authority" in refused(engine_behind_tls.as_client(stranger.client("engine")))


def test_a_certificate_for_another_name_is_refused(doors: Doors, authority: Authority, ours: ClientTls) -> None:
    with secured(doors, authority, "engine.example") as behind:
        message = refused(behind.as_client(ours))

    assert "is not for this address" in message


def test_an_expired_certificate_is_refused(doors: Doors, authority: Authority, ours: ClientTls) -> None:
    with secured(doors, authority, expired=True) as behind:
        assert "has expired: renew it there" in refused(behind.as_client(ours))


def test_without_a_client_certificate_nothing_reaches_the_engine(
    deploy: Deployer, engine_behind_tls: SecuredEngine, authority: Authority
) -> None:
    process, business_key = deploy(one_task), new_name("quote")

    with (
        closing(engine_behind_tls.as_client(authority.client("engine"))) as engine,
        # A client that is still sending sees the connection lost, and cannot know that this was a refusal.
        pytest.raises(
            (EngineUntrustedError, EngineOutcomeUnknownError), match="Q2O_ENGINE_CERTIFICATE_FILE and Q2O_ENGINE_KEY_FILE"
        ),
    ):
        engine.start_process(TENANT, process.key, business_key, {})

    assert "Q2O_ENGINE_CERTIFICATE_FILE" in refused(engine_behind_tls.as_client(authority.client("engine")))
    assert process.engine.find_instances(business_key) == []


def test_an_address_without_tls_is_told_from_an_outage(doors: Doors, ours: ClientTls) -> None:
    plain = doors.environment["Q2O_ENGINE_URL"].replace("http://", "https://")

    assert "have no TLS in common" in refused(Engine(plain, "any", "any", tls=ours))


def test_a_connection_that_is_cut_after_the_request_has_an_unknown_outcome(
    deploy: Deployer, engine_behind_tls: SecuredEngine, ours: ClientTls
) -> None:
    process, business_key = deploy(one_task), new_name("quote")
    engine_behind_tls.door.cuts = True

    with closing(engine_behind_tls.as_client(ours)) as engine, pytest.raises(EngineOutcomeUnknownError):
        engine.start_process(TENANT, process.key, business_key, {})

    assert len(process.engine.find_instances(business_key)) == 1


def test_a_given_engine_is_checked_with_its_certificates(
    engine_behind_tls: SecuredEngine, ours: ClientTls, stranger: Authority
) -> None:
    check_login(engine_behind_tls.url(), *engine_behind_tls.login, ours)

    with pytest.raises(StackError, match="Q2O_ENGINE_CA_FILE"):
        check_login(engine_behind_tls.url(), *engine_behind_tls.login, stranger.client("engine"))


def settings_for(doors: Doors, url: str, authority: Authority) -> Settings:
    given = {"Q2O_ENGINE_URL": url, "Q2O_ENGINE_CA_FILE": str(authority.file)}
    provider = {"Q2O_PROVIDER_URL": "http://127.0.0.1:1", "Q2O_PROVIDER_TOKEN": "token"}
    return Settings({**doors.environment, **provider, **given})


def test_a_process_that_starts_with_an_authority_that_did_not_sign_the_engines_certificate_ends_with_one_line(
    doors: Doors, engine_behind_tls: SecuredEngine, stranger: Authority, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = settings_for(doors, engine_behind_tls.url(), stranger)

    with pytest.raises(typer.Exit) as ended, plain_errors():
        suite.trusted_engine_of(settings)

    assert ended.value.exit_code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "set Q2O_ENGINE_CA_FILE" in line


def test_a_process_that_starts_while_the_engine_is_away_waits_for_it(doors: Doors, authority: Authority) -> None:
    with free_port_that_refuses() as port:
        engine = suite.trusted_engine_of(settings_for(doors, f"https://127.0.0.1:{port}/engine-rest", authority))

    engine.close()
