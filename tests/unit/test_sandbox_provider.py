"""The running sandbox provider: over HTTP, after it was killed, and with a page that loads no file from another host."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support import asking
from tests.support.sandbox import ASYNCHRONOUS, BEARER, KEY, ROOT, SECRET, SYNCHRONOUS, Receiver, environment, wire
from tests.support.waiting import eventually
from workers.providers.signatures import verify
from workers.sandbox.faults import FaultKind
from workers.sandbox.provider import SandboxProvider


def test_a_killed_provider_comes_back_with_its_ledger_and_its_pending_callbacks(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers.put(503)
    command = [sys.executable, "-m", "workers", "sandbox", "--callback-url", receiver.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(tmp_path), cwd=ROOT) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        answer = asking.post(f"{url}/v1/requests", json=wire(ASYNCHRONOUS), headers={**BEARER, "Idempotency-Key": KEY}).json()
        refused = receiver.next()
        process.kill()

    with SandboxProvider(tmp_path, receiver.url, SECRET) as provider:
        received = receiver.next()
        again = asking.post(
            f"{provider.url}/v1/requests", json=wire(ASYNCHRONOUS), headers={**BEARER, "Idempotency-Key": KEY}
        ).json()
        entries = asking.get(f"{provider.url}/sandbox/ledger").json()

    assert (received.headers["webhook-id"], received.body) == (refused.headers["webhook-id"], refused.body)
    assert again == answer
    assert [(entry["effects"], entry["requests"]) for entry in entries] == [(1, 2)]


def test_the_running_provider_delivers_a_callback_by_itself(provider: SandboxProvider, receiver: Receiver) -> None:
    asking.post(f"{provider.url}/v1/requests", json=wire(ASYNCHRONOUS), headers={**BEARER, "Idempotency-Key": KEY})

    delivery = receiver.next()

    verify(delivery.headers, delivery.body, [SECRET])


@pytest.mark.parametrize(
    ("headers", "changes", "status"),
    [
        ({"Idempotency-Key": KEY}, {}, 401),
        (BEARER, {}, 400),
        ({**BEARER, "Idempotency-Key": KEY}, {"quantity": 0}, 400),
        ({**BEARER, "Idempotency-Key": KEY}, {"surprise": 1}, 400),
    ],
)
def test_an_invalid_request_is_not_answered_as_a_rejection(
    provider: SandboxProvider, headers: dict[str, str], changes: dict[str, int], status: int
) -> None:
    """422 means that the provider rejects the request, so a request that was not understood needs another status."""
    response = asking.post(f"{provider.url}/v1/requests", json={**wire(SYNCHRONOUS), **changes}, headers=headers)

    assert response.status_code == status
    assert provider.ledger.entries() == []


def test_a_wrong_token_is_refused(tmp_path: Path) -> None:
    with SandboxProvider(tmp_path, "http://127.0.0.1:9/", SECRET, token="right") as provider:
        statuses = [
            asking.get(
                f"{provider.url}/v1/requests", params={"idempotencyKey": KEY}, headers={"Authorization": f"Bearer {token}"}
            ).status_code
            for token in ("wrong", "right")
        ]

    assert statuses == [401, 404]


def test_faults_are_ordered_listed_and_cleared_over_http(provider: SandboxProvider) -> None:
    order = {"kind": "hold_answer", "stepCode": "SHIP_ROUTER", "times": 2, "seconds": 1.5}

    ordered = asking.post(f"{provider.url}/sandbox/faults", json=order)

    assert ordered.status_code == 201
    assert asking.get(f"{provider.url}/sandbox/faults").json() == [{**order, "id": ordered.json()["id"], "remaining": 2}]
    assert asking.delete(f"{provider.url}/sandbox/faults").status_code == 204
    assert asking.get(f"{provider.url}/sandbox/faults").json() == []


def test_a_delayed_reply_does_not_delay_the_end_of_the_provider(tmp_path: Path) -> None:
    provider = SandboxProvider(tmp_path, "http://127.0.0.1:9/", SECRET)
    provider.start()
    provider.faults.add(FaultKind.HOLD_ANSWER, duration=timedelta(hours=1))
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(
            asking.post,
            f"{provider.url}/v1/requests",
            json=wire(SYNCHRONOUS),
            headers={**BEARER, "Idempotency-Key": KEY},
        )
        eventually(provider.ledger.entries, "the request arrives")

        provider.stop()

        assert call.result().status_code == 200


def test_the_page_loads_no_file_from_another_host(provider: SandboxProvider) -> None:
    response = asking.get(f"{provider.url}/")

    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert "http://" not in response.text
    assert "https://" not in response.text
    assert all(f'data-kind="{kind}"' in response.text for kind in FaultKind)


def test_a_port_that_is_taken_is_reported_in_one_line(provider: SandboxProvider, tmp_path: Path) -> None:
    port = provider.url.rsplit(":", 1)[1]
    command = [sys.executable, "-m", "workers", "sandbox", "--callback-url", "http://127.0.0.1:9/", "--port", port]

    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment(tmp_path / "other"), cwd=ROOT)

    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert "set the port to a free port" in ended.stderr
