"""A provider that demands a client certificate: what works, and what a refusal says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.providers import KEY, REQUEST
from tests.support.tls import Authority, TlsDoor, tls_door
from workers.providers.http_provider import HttpProvider
from workers.providers.ledger import HttpLedger, LedgerUnavailableError
from workers.providers.port import ProviderError, ProviderOutcomeUnknownError, ProviderUnavailableError, ReplyStatus
from workers.providers.signatures import new_secret
from workers.runtime.transport import ClientTls
from workers.sandbox.provider import SandboxProvider


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[SandboxProvider]:
    with SandboxProvider(tmp_path, "http://127.0.0.1:9/", new_secret(), callback_latency=timedelta(0)) as sandbox:
        yield sandbox


@contextmanager
def behind_tls(provider: SandboxProvider, authority: Authority, name: str = "127.0.0.1") -> Iterator[TlsDoor]:
    port = urlsplit(provider.url).port or 0
    with tls_door(port, authority.server(authority.issue(name), demands_client=True)) as door:
        yield door


@pytest.fixture
def door(provider: SandboxProvider, authority: Authority) -> Iterator[TlsDoor]:
    with behind_tls(provider, authority) as opened:
        yield opened


@pytest.fixture
def ours(authority: Authority) -> ClientTls:
    return authority.client("provider", authority.issue("worker"))


def test_a_client_certificate_opens_the_provider(door: TlsDoor, ours: ClientTls) -> None:
    with HttpProvider(door.url(), "token", tls=ours) as port:
        assert port.execute(REQUEST).status is ReplyStatus.COMPLETED
        reply = port.query(KEY)

    assert reply is not None
    assert reply.status is ReplyStatus.COMPLETED


def test_a_provider_of_an_unknown_authority_gets_no_request(door: TlsDoor, provider: SandboxProvider, stranger: Authority) -> None:
    with (
        HttpProvider(door.url(), "token", tls=stranger.client("provider")) as port,
        pytest.raises(ProviderUnavailableError, match="set Q2O_PROVIDER_CA_FILE to the authority that signed it"),
    ):
        port.execute(REQUEST)

    assert list(provider.ledger.entries()) == []


def test_a_provider_with_a_certificate_for_another_name_gets_no_request(
    provider: SandboxProvider, authority: Authority, ours: ClientTls
) -> None:
    with (
        behind_tls(provider, authority, "provider.example") as door,
        HttpProvider(door.url(), "token", tls=ours) as port,
        pytest.raises(ProviderUnavailableError, match="is not for this address"),
    ):
        port.execute(REQUEST)

    assert list(provider.ledger.entries()) == []


def test_a_provider_that_refuses_our_certificate_is_told_from_an_outage(
    door: TlsDoor, provider: SandboxProvider, authority: Authority, stranger: Authority
) -> None:
    for pair in (None, stranger.issue("worker")):
        with (
            HttpProvider(door.url(), "token", tls=authority.client("provider", pair)) as port,
            pytest.raises(ProviderError, match="set Q2O_PROVIDER_CERTIFICATE_FILE and Q2O_PROVIDER_KEY_FILE"),
        ):
            port.execute(REQUEST)

    assert list(provider.ledger.entries()) == []


def test_a_connection_that_is_cut_after_the_request_has_an_unknown_outcome(
    door: TlsDoor, provider: SandboxProvider, ours: ClientTls
) -> None:
    door.cuts = True

    with HttpProvider(door.url(), "token", tls=ours) as port, pytest.raises(ProviderOutcomeUnknownError):
        port.execute(REQUEST)

    assert len(list(provider.ledger.entries())) == 1


def test_a_peer_is_asked_why_when_all_that_the_client_saw_is_a_lost_connection(door: TlsDoor, authority: Authority) -> None:
    reason = authority.client("provider").explain(ConnectionResetError(), door.url())

    assert reason is not None
    assert "set Q2O_PROVIDER_CERTIFICATE_FILE and Q2O_PROVIDER_KEY_FILE" in reason


def test_a_client_certificate_opens_the_ledger(door: TlsDoor, ours: ClientTls) -> None:
    with HttpProvider(door.url(), "token", tls=ours) as port:
        port.execute(REQUEST)

    [entry] = HttpLedger(f"{door.url()}/sandbox/ledger", ours).entries()

    assert (entry["idempotencyKey"], entry["net"]) == (KEY, 1)


def test_a_ledger_that_refuses_our_certificate_says_which_setting_to_correct(
    door: TlsDoor, authority: Authority, stranger: Authority
) -> None:
    for pair in (None, stranger.issue("auditor")):
        ledger = HttpLedger(f"{door.url()}/sandbox/ledger", authority.client("provider", pair))
        with pytest.raises(LedgerUnavailableError, match="set Q2O_PROVIDER_CERTIFICATE_FILE and Q2O_PROVIDER_KEY_FILE"):
            ledger.entries()


def test_a_ledger_of_an_unknown_authority_is_not_believed(door: TlsDoor, stranger: Authority) -> None:
    ledger = HttpLedger(f"{door.url()}/sandbox/ledger", stranger.client("provider"))

    with pytest.raises(LedgerUnavailableError, match="set Q2O_PROVIDER_CA_FILE to the authority that signed it"):
        ledger.entries()
