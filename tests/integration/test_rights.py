"""As the role of each process: what it must not do is refused by the database, and it has exactly the rights that are declared."""

from __future__ import annotations

from uuid import uuid4

import pytest
from psycopg.errors import InsufficientPrivilege
from sqlalchemy import Connection, Engine, func, select, text
from sqlalchemy.exc import DBAPIError, ProgrammingError

from domain.migrations import migrate
from domain.rights import ACROSS_TENANTS, PROCESSES, Right, group_of, rights
from domain.schema import METADATA
from domain.store.isolation import EVERY_TENANT, EVERY_TENANT_ROLE, name_tenant
from domain.store.unit_of_work import housekeeping
from tests.support.database import acting
from tests.support.offers import Offers
from tests.support.projected import feed_all

GRANTED = text("""
SELECT g.rolname, a.privilege_type, c.relname, NULL FROM pg_class c, aclexplode(c.relacl) a, pg_roles g
WHERE c.relnamespace = 'public'::regnamespace AND g.oid = a.grantee AND a.grantee <> c.relowner
UNION ALL
SELECT g.rolname, a.privilege_type, c.relname, t.attname FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid,
    aclexplode(t.attacl) a, pg_roles g
WHERE c.relnamespace = 'public'::regnamespace AND g.oid = a.grantee
UNION ALL
SELECT g.rolname, a.privilege_type, p.proname, NULL FROM pg_proc p, aclexplode(p.proacl) a, pg_roles g
WHERE p.pronamespace = 'public'::regnamespace AND g.oid = a.grantee AND a.grantee <> p.proowner
""")
TO_EVERYBODY = text("""
SELECT relname FROM pg_class, aclexplode(relacl) a WHERE relnamespace = 'public'::regnamespace AND a.grantee = 0
UNION ALL
SELECT nspname FROM pg_namespace, aclexplode(nspacl) a WHERE nspname = 'public' AND a.grantee = 0 AND a.privilege_type = 'CREATE'
UNION ALL
SELECT proname FROM pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) a WHERE prosecdef AND a.grantee = 0
""")
APPEND_ONLY = text("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgfoid = 'refuse_change'::regproc")
FORBIDDEN = {
    "add a column": "ALTER TABLE quote ADD COLUMN more TEXT",
    "disable a trigger": "ALTER TABLE transition_log DISABLE TRIGGER ALL",
    "silence every trigger": "SET session_replication_role = replica",
    "truncate": "TRUNCATE transition_log",
    "drop a table": "DROP TABLE conflict_log",
    "create a table": "CREATE TABLE mine (id INTEGER)",
    "create a function": "CREATE FUNCTION mine() RETURNS INTEGER LANGUAGE sql RETURN 1",
    "replace a trigger's function": "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "drop a policy": "DROP POLICY tenant ON quote",
    "loosen a policy": "ALTER POLICY tenant ON quote USING (true)",
    "make a policy": "CREATE POLICY mine ON quote USING (true)",
    "switch row level security off": "ALTER TABLE quote DISABLE ROW LEVEL SECURITY",
    "change evidence": "UPDATE transition_log SET actor = 'somebody'",
    "delete evidence": "DELETE FROM transition_log",
    "delete a quote": "DELETE FROM quote",
    "rewrite the schema's history": "UPDATE alembic_version SET version_num = '0001'",
    "make a role": "CREATE ROLE mine",
    "join the group for every tenant": f"GRANT {EVERY_TENANT_ROLE} TO CURRENT_USER",
    "count numbers by hand": "SELECT setval('numbers.\"Q-1\"', 1)",
    "become the owner": "SET ROLE q2o",
    "read passwords": "SELECT rolpassword FROM pg_authid",
}


MAY = {"retain": ["delete evidence", "delete a quote"]}
"""What retention has the right to; a trigger refuses evidence that is not archived (tests/integration/test_archiving_steps.py)."""


def refused(connection: Connection, statement: str) -> bool:
    """Whether the database refuses a statement for want of a right."""
    with connection.begin() as transaction:
        name_tenant(connection, uuid4())
        try:
            connection.execute(text(statement))
        except DBAPIError as error:
            return isinstance(error.orig, InsufficientPrivilege)
        transaction.rollback()
    return False


@pytest.mark.parametrize("process", PROCESSES)
def test_what_a_process_must_not_do_is_refused(migrated: Engine, process: str) -> None:
    with acting(migrated, process).connect() as connection:
        allowed = [what for what, statement in FORBIDDEN.items() if not refused(connection, statement)]

    assert allowed == MAY.get(process, [])


def test_the_database_grants_exactly_the_declared_rights(migrated: Engine) -> None:
    groups = {group_of(process): process for process in PROCESSES}
    with migrated.connect() as connection:
        granted = {Right(groups.get(role, role), *what) for role, *what in connection.execute(GRANTED)}

        assert granted == rights()
        assert connection.scalars(TO_EVERYBODY).all() == []


def test_a_migration_takes_back_a_right_that_nobody_declared(migrated: Engine) -> None:
    with migrated.begin() as connection:
        connection.execute(text("GRANT DELETE, TRUNCATE, UPDATE (reason) ON transition_log TO q2o_http"))
        connection.execute(text("GRANT CREATE ON SCHEMA public TO PUBLIC, q2o_http"))

    migrate(migrated)

    test_the_database_grants_exactly_the_declared_rights(migrated)
    with acting(migrated, "http").connect() as connection:
        assert refused(connection, FORBIDDEN["create a table"])


def test_no_process_may_change_evidence(migrated: Engine) -> None:
    with migrated.connect() as connection:
        evidence = set(connection.scalars(APPEND_ONLY))

    assert len(evidence) > 10
    changing = {(right.name, right.column) for right in rights() if right.name in evidence and right.privilege == "UPDATE"}
    # A trigger lets this column change from OPEN to REPAIRED alone (test_open_findings.py).
    assert changing == {("reconciliation_finding", "status")}
    assert {right.process for right in rights() if right.name in evidence and right.privilege == "DELETE"} == {"retain"}


@pytest.fixture
def in_use(offers: Offers) -> Engine:
    """A database in which every process has a row that it may read."""
    offers.running_order()
    feed_all(offers.engine, offers.tenant_id)
    return offers.engine


def readable_rows(connection: Connection, process: str) -> int:
    """How many rows of the tables that a process may read are there for this transaction."""
    tables = [METADATA.tables[right.name] for right in rights() if (right.process, right.privilege) == (process, "SELECT")]
    return sum(connection.scalar(select(func.count()).select_from(table)) or 0 for table in tables)


def test_rows_of_every_tenant_are_for_members_of_a_role_alone(in_use: Engine) -> None:
    """Kills: a policy that honours `*` for everybody."""
    with in_use.connect() as connection:
        assert all(readable_rows(connection, process) for process in PROCESSES)
    seen = {}
    for process in PROCESSES:
        with housekeeping(acting(in_use, process)) as connection:
            seen[process] = readable_rows(connection, process)

    assert {process for process, rows in seen.items() if rows} == ACROSS_TENANTS


def test_a_relay_deletes_or_marks_an_event_and_changes_nothing_else_of_it(in_use: Engine) -> None:
    with acting(in_use, "relay").connect() as connection:
        name_tenant(connection, EVERY_TENANT)
        assert connection.execute(text("UPDATE outbox_event SET status = 'PUBLISHED', published_at = now()")).rowcount
        connection.rollback()
        name_tenant(connection, EVERY_TENANT)
        assert connection.execute(text("DELETE FROM outbox_event")).rowcount
        connection.rollback()

        for column, value in (("payload", "'{}'"), ("topic", "'elsewhere'"), ("tenant_id", "gen_random_uuid()")):
            assert refused(connection, f"UPDATE outbox_event SET {column} = {value}")


def test_a_process_that_writes_for_one_tenant_writes_for_no_other_by_naming_every_tenant(in_use: Engine) -> None:
    with acting(in_use, "http").connect() as connection:
        name_tenant(connection, EVERY_TENANT)
        assert connection.execute(text("UPDATE quote SET region = 'STOLEN'")).rowcount == 0

        with pytest.raises(ProgrammingError, match="row-level security"):
            connection.execute(
                text(
                    "INSERT INTO conflict_log (tenant_id, id, conflict_code, command, actor, command_id) "
                    "VALUES (gen_random_uuid(), gen_random_uuid(), 'X', 'x', 'x', gen_random_uuid())"
                )
            )
