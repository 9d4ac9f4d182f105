"""Who makes the roles of the processes, and which role a process may start with."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest
from sqlalchemy import URL, Engine, create_engine, event, inspect, make_url, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.pool import NullPool
from typer.testing import CliRunner, Result

from domain.migrations import migrate
from domain.rights import PROCESSES, Login
from domain.store.isolation import EVERY_TENANT_ROLE
from tests.support.database import UNPREPARED, acting
from tests.support.in_process import keeping_signals_and_logs
from tests.support.suite import closing_what_is_opened
from tests.support.waiting import eventually
from workers import cli, start_checks
from workers.local.credentials import load_credentials
from workers.local.stack import LocalStack
from workers.runtime.database_roles import DatabaseRoleError, require_role

WAITING = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
PASSWORD = "Zx81-kQ7v_mPe3Lw"


@pytest.fixture
def administrator(server: LocalStack, database: str) -> Iterator[Engine]:
    """A pool of the server's superuser."""
    password = load_credentials(server.data_dir / "credentials.json").postgres
    engine = create_engine(
        make_url(database).set(username="postgres", password=password, database="postgres"), isolation_level="AUTOCOMMIT"
    )
    yield engine
    engine.dispose()


@pytest.fixture
def unprivileged(administrator: Engine) -> URL:
    """The address of a new, empty database whose owner may not make roles."""
    name = f"plain_{uuid4().hex}"
    with administrator.connect() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}'"))
        connection.execute(text(f"CREATE DATABASE {name} OWNER {name}"))
    return administrator.url.set(username=name, password=PASSWORD, database=name)


def plain(address: URL) -> str:
    return address.render_as_string(hide_password=False)


def pool(address: URL) -> Engine:
    """A pool that keeps no connection open."""
    return create_engine(address, poolclass=NullPool, connect_args=UNPREPARED)


def q2o(*command: str, **variables: str) -> Result:
    """Run a command in this process, and close what it opens, as the end of a process would."""
    with keeping_signals_and_logs(), closing_what_is_opened():
        return CliRunner().invoke(cli.app, command, env={f"Q2O_{name.upper()}": value for name, value in variables.items()})


NOWHERE = {
    "kafka": "127.0.0.1:9",
    "engine_url": "http://127.0.0.1:9/engine-rest",
    "engine_user": "q2o",
    "engine_password": PASSWORD,
    "provider_url": "http://127.0.0.1:9",
    "provider_token": PASSWORD,
}
"""Settings that a process needs before it looks at its role."""


@pytest.mark.usefixtures("migrated")  # the first migration on a server makes the groups
def test_a_migration_that_may_not_make_roles_prints_the_sql_for_an_administrator_and_changes_nothing(
    unprivileged: URL, administrator: Engine
) -> None:
    login = f"relay_{uuid4().hex}"
    given = {"database_url": plain(unprivileged), "relay_database_url": plain(unprivileged.set(username=login))}

    ended = q2o("migrate", **given)

    assert ended.exit_code == 2
    assert ended.stderr.startswith("q2o: the database lacks roles of the processes")
    assert ended.stderr.count("\n") == 1
    assert ended.stdout.splitlines() == [
        f"CREATE ROLE {login} LOGIN;",
        f"\\password {login}",
        f"GRANT {EVERY_TENANT_ROLE} TO {unprivileged.username};",
        f"GRANT q2o_relay TO {login};",
    ]
    assert inspect(pool(unprivileged)).get_table_names() == []

    with administrator.connect() as connection:
        for statement in ended.stdout.splitlines():
            if not statement.startswith("\\"):
                connection.exec_driver_sql(statement)

    assert q2o("migrate", **given).exit_code == 0
    assert "quote" in inspect(pool(unprivileged)).get_table_names()


def test_a_login_gets_its_password_without_showing_it_to_the_server_and_keeps_it(two_databases: tuple[Engine, Engine]) -> None:
    engine, _ = two_databases
    login = Login(f"relay {uuid4().hex}", PASSWORD)
    seen: list[str] = []
    event.listen(engine, "before_cursor_execute", lambda *arguments: seen.append(f"{arguments[2]} {arguments[3]}"))

    migrate(engine, {"relay": login})
    migrate(engine, {"relay": Login(login.name, "another one")})

    assert any(login.name in statement for statement in seen)
    assert not [statement for statement in seen if PASSWORD in statement]
    require_role(pool(engine.url.set(username=login.name, password=PASSWORD)), "relay", production=True)
    with pytest.raises(OperationalError, match="password"):
        pool(engine.url.set(username=login.name, password="another one")).connect()


def test_of_two_databases_that_need_the_same_roles_at_once_the_second_waits_for_the_first(
    two_databases: tuple[Engine, Engine],
) -> None:
    """A lock of one database does not help here: roles belong to the server. Kills: no second try."""
    first, second = two_databases
    name = f"http_{uuid4().hex}"

    with ThreadPoolExecutor(1) as others:
        with first.begin() as connection:
            connection.exec_driver_sql(f"CREATE ROLE {name} LOGIN")
            late = others.submit(migrate, second, {"http": Login(name)})
            eventually(lambda: connection.scalar(WAITING), "the second one waits")
        late.result(30)

    assert members_of("q2o_http", second) >= {name}


def members_of(group: str, engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(
            connection.scalars(
                text("SELECT rolname FROM pg_roles WHERE rolname <> :group AND pg_has_role(oid, CAST(:group AS name), 'USAGE')"),
                {"group": group},
            )
        )


@pytest.mark.parametrize("process", PROCESSES)
def test_a_process_starts_with_a_member_of_its_group(migrated: Engine, process: str) -> None:
    require_role(acting(migrated, process), process, production=True)


def test_a_process_does_not_start_with_the_login_of_another_one(migrated: Engine) -> None:
    with pytest.raises(DatabaseRoleError, match=r"local_http lacks the rights of `q2o relay`.*GRANT q2o_relay TO local_http"):
        require_role(acting(migrated, "http"), "relay", production=False)


def test_the_owner_of_the_tables_is_a_process_outside_of_production_alone(migrated: Engine) -> None:
    require_role(migrated, "http", production=False)

    with pytest.raises(DatabaseRoleError, match="q2o is refused with Q2O_MODE=production, because it"):
        require_role(migrated, "http", production=True)


@pytest.mark.parametrize("attribute", ["SUPERUSER", "BYPASSRLS", "CREATEROLE"])
def test_a_role_that_may_do_more_than_any_process_is_refused_in_production(
    migrated: Engine, administrator: Engine, attribute: str
) -> None:
    name = f"mighty_{uuid4().hex}"
    with administrator.connect() as connection:
        connection.execute(text(f"CREATE ROLE {name} LOGIN {attribute} PASSWORD '{PASSWORD}' IN ROLE q2o_http"))
    engine = pool(migrated.url.set(username=name, password=PASSWORD))

    require_role(engine, "http", production=False)
    with pytest.raises(DatabaseRoleError, match=f"{name} is refused with Q2O_MODE=production"):
        require_role(engine, "http", production=True)


@pytest.mark.parametrize("command", [["relay"], ["reconcile", "--once"]])
def test_a_process_with_the_wrong_role_exits_with_one_line(migrated: Engine, command: list[str]) -> None:
    ended = q2o(*command, database_url=plain(acting(migrated, "http").url), **NOWHERE)

    assert ended.exit_code == 2
    assert ended.stderr.startswith("q2o: the database role local_http lacks the rights of")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [["relay"], ["reconcile", "--once"]])
def test_the_owner_s_role_is_refused_at_the_start_in_production(
    migrated: Engine, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(start_checks, "require_fitness", lambda _: None)  # this server has no certificate

    ended = q2o(*command, database_url=plain(migrated.url), mode="production", **NOWHERE)

    assert ended.exit_code == 2
    assert ended.stderr.startswith("q2o: the database role q2o is refused with Q2O_MODE=production")
