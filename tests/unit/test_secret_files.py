"""A secret in a file is read again when the file has changed, wherever the secret is used, and without a restart."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from pathlib import Path
from traceback import format_exception

import pytest

from tests.support.answering import Reply, Request, answering
from workers.providers.http_provider import HttpProvider
from workers.providers.port import ProviderUnavailableError
from workers.runtime.engine_connection import EngineConnection
from workers.runtime.secret_files import SecretFile


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A secret as Kubernetes mounts it: the name leads through a link to a directory, which is replaced as a whole."""
    swap(tmp_path, "first")
    (tmp_path / "secret").symlink_to(Path("..data") / "secret")
    return tmp_path / "secret"


def swap(mount: Path, content: str) -> None:
    """Replace the secret as Kubernetes does: a new directory, then one atomic change of the link."""
    version = mount / f"..{len(list(mount.iterdir()))}"
    version.mkdir()
    (version / "secret").write_text(content + "\n")
    (mount / "..new").symlink_to(version.name)
    (mount / "..new").replace(mount / "..data")


def test_a_secret_is_read_again_after_kubernetes_has_swapped_it(file: Path) -> None:
    secret = SecretFile(file)
    assert secret.read() == "first"

    swap(file.parent, "other")

    assert secret.read() == "other"


def test_a_secret_is_read_again_after_its_file_was_rewritten(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("first")
    secret = SecretFile(file)

    file.write_text("the second")

    assert secret.read() == "the second"


def test_a_file_that_has_not_changed_is_not_read_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = SecretFile(file)
    monkeypatch.delattr(Path, "read_text")

    assert secret.read() == "first"


@pytest.mark.parametrize("spoil", [Path.unlink, lambda file: file.write_text("")])
def test_the_last_secret_holds_while_the_file_is_being_replaced(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    file = tmp_path / "secret"
    file.write_text("first")
    secret = SecretFile(file)

    spoil(file)
    assert secret.read() == "first"
    file.write_text("the second")

    assert secret.read() == "the second"


@pytest.fixture
def peer() -> Iterator[tuple[str, list[str]]]:
    """A server that keeps the Authorization header of each request; gives its address and these headers."""
    seen = list[str]()

    def answer(request: Request) -> Reply:
        seen.append(request.headers["Authorization"])
        return Reply(body=b'{"status": "COMPLETED", "requestId": "1", "externalRef": "1"}')

    with answering(answer) as address:
        yield address, seen


def test_the_engine_is_asked_with_the_current_password(file: Path, peer: tuple[str, list[str]]) -> None:
    address, seen = peer
    engine = EngineConnection(address, "worker", SecretFile(file))

    engine.get("/version")
    swap(file.parent, "other")
    engine.get("/version")
    engine.close()

    assert seen == ["Basic " + base64.b64encode(f"worker:{password}".encode()).decode() for password in ("first", "other")]


def test_the_provider_is_asked_with_the_current_token(file: Path, peer: tuple[str, list[str]]) -> None:
    address, seen = peer

    with HttpProvider(address, SecretFile(file)) as provider:
        provider.query("key")
        swap(file.parent, "other")
        provider.query("key")

    assert seen == ["Bearer first", "Bearer other"]


def test_a_token_that_cannot_be_sent_proves_that_nothing_was_sent(file: Path, peer: tuple[str, list[str]]) -> None:
    """The file has got it after the start. Kills: an outcome that is unknown for ever; an error that shows the token."""
    address, seen = peer

    with HttpProvider(address, SecretFile(file)) as provider:
        swap(file.parent, "not-to-be-shown\nand more")
        with pytest.raises(ProviderUnavailableError, match="nothing was sent") as refused:
            provider.query("key")

    assert seen == []
    assert "not-to-be-shown" not in "".join(format_exception(refused.value))
