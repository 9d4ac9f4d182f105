"""A PostgreSQL that demands TLS and a client certificate: every way into it works by its address, and a refusal says why."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import URL, make_url
from sqlalchemy.exc import OperationalError

from domain.store import outbox
from domain.store.unit_of_work import housekeeping
from tests.support.database import new_database
from tests.support.tls import HOST, Authority, Pair, TlsDoor, tls_door
from tests.support.tls_postgres import demand_tls
from workers.local.errors import StackError
from workers.local.given import check_database, engine_database
from workers.local.jars import JarStore, default_jar_directory, read_lock
from workers.local.java import class_path, find_java, jvm_command
from workers.local.source import CONFIGURATION
from workers.runtime.database import connect
from workers.runtime.database_fitness import DatabaseUnreachableError, require_fit
from workers.runtime.outages import needs_a_person

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandingDatabase:
    """The test's server behind a door that demands TLS and a client certificate."""

    door: TlsDoor
    plain: URL
    authority: Authority

    def address(self, pair: Pair | None, host: str = HOST, ca: Authority | None = None, sslmode: str = "verify-full") -> str:
        """Write the address of a client, with its certificate if there is one."""
        files = {"sslrootcert": str((ca or self.authority).file)}
        if pair:
            files |= {"sslcert": str(pair.certificate), "sslkey": str(pair.key_for_java)}
        url = self.plain.set(host=host, port=self.door.port).update_query_dict({"sslmode": sslmode, **files})
        return url.render_as_string(hide_password=False)


@pytest.fixture
def demanding(database: str, authority: Authority) -> Iterator[DemandingDatabase]:
    url, context = make_url(database), authority.server(authority.issue(HOST), demands_client=True)
    with tls_door(url.port or 5432, context, demand_tls) as door:
        yield DemandingDatabase(door=door, plain=url, authority=authority)


@pytest.fixture
def ours(authority: Authority) -> Pair:
    return authority.issue("worker")


def test_pool_migrations_and_declared_statements_work_with_a_client_certificate(demanding: DemandingDatabase, ours: Pair) -> None:
    with new_database(demanding.address(ours), "q2o_encrypted") as engine:
        require_fit(engine)
        with housekeeping(engine) as connection:
            assert outbox.claim(connection, 1, timedelta(seconds=1)) == []

    assert set(demanding.door.entered) == {"worker"}


def test_a_given_database_is_checked_with_its_certificates(demanding: DemandingDatabase, ours: Pair) -> None:
    assert check_database("Q2O_DATABASE_URL", demanding.address(ours)).database == demanding.plain.database
    assert demanding.door.entered == ["worker"]


REFUSALS: Mapping[str, tuple[Callable[[DemandingDatabase, Pair, Authority], str], str]] = {
    "no TLS": (lambda database, ours, _: database.address(ours, sslmode="disable"), "SSL required"),
    "an unknown authority": (lambda database, ours, stranger: database.address(ours, ca=stranger), "certificate verify failed"),
    "another host name": (
        lambda database, ours, _: database.address(ours, host="localhost"),
        'does not match host name "localhost"',
    ),
    "no client certificate": (lambda database, _, __: database.address(None), "alert certificate required"),
    "a stranger's certificate": (lambda database, _, stranger: database.address(stranger.issue("worker")), "alert unknown ca"),
}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_refusal_is_one_line_that_names_the_setting_and_no_outage_that_passes(
    refusal: str, demanding: DemandingDatabase, ours: Pair, stranger: Authority
) -> None:
    address, words = REFUSALS[refusal]
    engine = connect(address(demanding, ours, stranger), "tests")

    with pytest.raises(DatabaseUnreachableError) as refused:
        require_fit(engine)

    message, cause = str(refused.value), refused.value.__cause__
    assert words in message
    assert "Check Q2O_DATABASE_URL" in message
    assert "\n" not in message
    assert isinstance(cause, OperationalError)
    assert needs_a_person(cause)


def test_the_engine_reaches_its_own_database_by_the_same_address(demanding: DemandingDatabase, ours: Pair) -> None:
    database = engine_database(demanding.address(ours))
    command = jvm_command(
        find_java(os.environ),
        mark="-Dq2o.test",
        heap_mib=64,
        main="org.springframework.boot.SpringApplication",
        arguments=[
            f"--spring.main.sources=file:{ROOT / 'tests' / 'support' / 'datasource.xml'}",
            f"--spring.config.location=file:{CONFIGURATION / 'engine' / 'application.yaml'}",
            "--spring.main.web-application-type=none",
        ],
    )
    jars = JarStore(default_jar_directory(os.environ)).provide(read_lock(CONFIGURATION / "engine" / "jgo.lock.toml"))
    settings = {
        "Q2O_ENGINE_JDBC_URL": database.jdbc_url,
        "Q2O_ENGINE_DATABASE_USER": database.user,
        "Q2O_ENGINE_DATABASE_PASSWORD": database.password,
    }

    ended = subprocess.run(command, env=class_path(jars) | settings, capture_output=True, text=True, check=False, timeout=120)

    assert ended.returncode == 0, ended.stdout
    # The check of the address by Python, and the pool of Java.
    assert len(demanding.door.entered) > 1
    assert set(demanding.door.entered) == {"worker"}


def test_a_parameter_that_java_would_take_otherwise_is_refused(demanding: DemandingDatabase, ours: Pair) -> None:
    with pytest.raises(StackError, match="Q2O_ENGINE_DATABASE_URL has options, but only"):
        engine_database(f"{demanding.address(ours)}&options=-csearch_path%3Dother")
