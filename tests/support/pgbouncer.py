"""PgBouncer before the tests' PostgreSQL, from the folders that `make pgbouncer` installs. Without them, a test is skipped."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from sqlalchemy import URL, make_url

from tests.support.ports import free_port
from tests.support.waiting import eventually

INSTALLED = Path(__file__).resolve().parents[2] / "build" / "pgbouncer"
NEW, OLD = "trixie", "bookworm"
"""Debian releases: the first has a PgBouncer that keeps prepared statements (1.24), the second one that does not (1.18)."""
SESSIONS = 4  # of the server: fewer than the threads of a test, so that transactions of different clients meet on each


@contextmanager
def pgbouncer(release: str, *logins: str, **settings: str) -> Iterator[int]:
    """Run PgBouncer in transaction mode for these addresses of one server; gives its port. `settings` replace those of its section."""
    root = INSTALLED / release
    program = root / "usr" / "sbin" / "pgbouncer"
    if not program.exists() or os.geteuid() != 0:
        pytest.skip(f"PgBouncer of Debian's {release} is not installed in {INSTALLED}, or this is not root: run `make pgbouncer`")
    addresses, port = [make_url(login) for login in logins], free_port()
    directory = root / "tmp" / uuid4().hex
    directory.mkdir(parents=True)
    inside = Path("/") / directory.relative_to(root)
    (directory / "users").write_text("".join(f'"{address.username}" "{address.password}"\n' for address in addresses))
    (directory / "ini").write_text(_configuration(addresses[0], port, inside, settings))
    with (directory / "log").open("wb") as log:
        command = ["chroot", str(root), "/usr/sbin/pgbouncer", "--user=nobody", str(inside / "ini")]
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        eventually(lambda: _listens(port) or process.poll() is not None, "PgBouncer listens")
        assert process.poll() is None, (directory / "log").read_text()
        yield port
    finally:
        # Until a client has gone, its port in the server's table stays: the tests have closed their pools by now.
        psutil.Process(process.pid).kill()
        process.wait()
        shutil.rmtree(directory)


def through(port: int, address: str) -> str:
    """The same address by way of PgBouncer."""
    return make_url(address).set(host="127.0.0.1", port=port).render_as_string(hide_password=False)


def _configuration(server: URL, port: int, directory: Path, settings: Mapping[str, str]) -> str:
    given = {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "scram-sha-256",
        "auth_file": str(directory / "users"),
        "pool_mode": "transaction",
        "default_pool_size": str(SESSIONS),
        "max_client_conn": "200",
        **settings,
    }
    lines = "".join(f"{name} = {value}\n" for name, value in given.items())
    return f"[databases]\n* = host={server.host} port={server.port}\n[pgbouncer]\n{lines}"


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
