"""The audit reads a provider's ledger over HTTP, and says why when it cannot."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.integration.test_provider_connections import drips, resets, says, server, stays_silent
from tests.support.providers import KEY, REQUEST, SHORT
from tests.support.sandbox import Receiver, receiver
from tests.support.waiting import eventually
from workers.providers.http_provider import HttpProvider
from workers.providers.ledger import BUDGET, HttpLedger, LedgerUnavailableError
from workers.providers.port import ProviderOutcomeUnknownError
from workers.providers.signatures import new_secret
from workers.runtime.transport import ClientTls
from workers.sandbox.faults import FaultKind
from workers.sandbox.provider import SandboxProvider

__all__ = ["receiver"]

UNENCRYPTED = ClientTls(peer="provider")
SHOWN = {
    "idempotencyKey": KEY,
    "stepRef": REQUEST.step_ref,
    "stepCode": REQUEST.step_code,
    "effects": 1,
    "reversals": 0,
    "net": 1,
    "requests": 1,
    "callbacks": 0,
}


@pytest.fixture
def sandbox(tmp_path: Path, receiver: Receiver) -> Iterator[SandboxProvider]:
    with SandboxProvider(tmp_path, receiver.url, new_secret(), callback_latency=timedelta(0)) as sandbox:
        yield sandbox


def ledger_at(url: str) -> HttpLedger:
    return HttpLedger(f"{url}/sandbox/ledger", UNENCRYPTED, replace(SHORT, response_bytes=BUDGET.response_bytes))


def by_key(entries: Any) -> dict[str, dict[str, Any]]:
    return {entry["idempotencyKey"]: dict(entry) for entry in entries}


def test_a_provider_that_was_never_asked_has_an_empty_ledger(sandbox: SandboxProvider) -> None:
    assert ledger_at(sandbox.url).entries() == []


def test_what_the_audit_reads_is_what_the_provider_has_done(sandbox: SandboxProvider) -> None:
    """A request whose answer was lost and that came again, one that was called back, and one that was undone."""
    later = replace(REQUEST, idempotency_key="later", step_code="SHIP_ROUTER")
    undone = replace(REQUEST, idempotency_key="undone")
    undo = replace(REQUEST, idempotency_key="undo", compensates="undone")
    sandbox.faults.add(FaultKind.LOSE_ANSWER)
    with HttpProvider(sandbox.url, "token") as provider:
        with suppress(ProviderOutcomeUnknownError):
            provider.execute(REQUEST)
        for request in (REQUEST, later, undone, undo):
            provider.execute(request)
    eventually(lambda: by_key(sandbox.ledger.entries())["later"]["callbacks"] == 1, "the provider has called back")

    read = by_key(ledger_at(sandbox.url).entries())

    assert read == {key: {name: entry[name] for name in SHOWN} for key, entry in by_key(sandbox.ledger.entries()).items()}
    assert read[KEY] == {**SHOWN, "requests": 2}
    assert (read["later"]["net"], read["later"]["callbacks"]) == (1, 1)
    assert (read["undone"]["effects"], read["undone"]["reversals"], read["undone"]["net"]) == (1, 1, 0)


def test_a_ledger_of_thousands_of_requests_is_read_whole() -> None:
    body = json.dumps([{**SHOWN, "idempotencyKey": f"key-{number}"} for number in range(5_000)])

    with server(says("200 OK", body)) as url:
        assert len(ledger_at(url).entries()) == 5_000


@pytest.mark.parametrize(
    ("behave", "reason"),
    [
        pytest.param(says("200 OK", "<html>", "text/html"), "answers no ledger: Invalid JSON", id="a page"),
        pytest.param(says("200 OK", ""), "answers no ledger: Invalid JSON", id="nothing"),
        pytest.param(says("200 OK", json.dumps(SHOWN)), "answers no ledger: Input should be a valid (array|list)", id="one entry"),
        pytest.param(says("200 OK", json.dumps([SHOWN, None])), "answers no ledger: Input should be", id="an entry that is none"),
        pytest.param(
            says("200 OK", json.dumps([SHOWN, {**SHOWN, "net": "one"}])), "answers no ledger: .* integer", id="an odd number"
        ),
        pytest.param(says("200 OK", json.dumps([{"idempotencyKey": KEY}])), "answers no ledger: Field required", id="a bare key"),
        pytest.param(says("401 Unauthorized", "{}"), "does not show its ledger at .*: .*401 Unauthorized", id="401"),
        pytest.param(says("404 Not Found", "[]"), "does not show its ledger at .*: .*404 Not Found", id="404"),
        pytest.param(says("302 Found", "[]"), "does not show its ledger at .*: .*302 Found", id="redirect"),
        pytest.param(says("503 Service Unavailable", "[]"), "does not show its ledger at .*: .*503", id="503"),
        pytest.param(resets, "does not show its ledger at .*: .*reset", id="reset"),
        pytest.param(lambda _: None, "does not show its ledger at .*: .*disconnected", id="closed without answer"),
        pytest.param(stays_silent, "does not show its ledger at .*: .*timed out", id="silence"),
        pytest.param(
            drips,
            "does not show its ledger at .*: (timed out|the time budget of the call is spent)",
            id="an answer that never ends",
        ),
    ],
)
def test_a_provider_that_shows_no_ledger_is_out_of_reach(behave: Callable[[socket.socket], None], reason: str) -> None:
    """Kills: an audit that takes another answer for an empty ledger, or that waits for ever."""
    with server(behave) as url, pytest.raises(LedgerUnavailableError, match=reason):
        ledger_at(url).entries()
