"""The roles of the processes: makes those that are missing, and gives each exactly the rights that `domain.rights` declares.

Roles belong to the whole server, rights to one database. So migrations of several databases meet here, and no lock of one database helps:
whoever comes second begins again, and finds the role.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from domain.rights import ACROSS_TENANTS, FUNCTIONS, PROCESSES, Login, RolesMissingError, group_of, rights
from domain.schema import METADATA
from domain.store.isolation import EVERY_TENANT_ROLE

INSUFFICIENT_PRIVILEGE = "42501"
_ROLES = text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:roles)")
# USAGE: a membership counts when it needs no SET ROLE.
_MEMBERS = text("""
SELECT g.rolname, m.rolname FROM pg_roles g, pg_roles m
WHERE g.rolname = ANY(:roles) AND m.rolname = ANY(:roles) AND pg_has_role(m.oid, g.oid, 'USAGE')
""")
SEES_SESSIONS = "pg_read_all_stats"
_MAY_SHOW_SESSIONS = text(f"SELECT pg_has_role('{SEES_SESSIONS}', 'MEMBER WITH ADMIN OPTION')")
# duplicate_object, unique_violation, and `tuple concurrently updated`, which has no state of its own.
_MET_ANOTHER = frozenset({"42710", "23505", "XX000"})


class MetAnotherError(Exception):
    """Another migration makes the same roles for another database at the same time."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A statement, and the login that it makes."""

    statement: str
    login: Login | None = None

    def for_an_administrator(self, connection: Connection) -> str:
        """The statement for psql, which asks for the password of a login."""
        return f"{self.statement};\n" + (f"\\password {_quoted(connection, self.login.name)}\n" if self.login else "")


def prepare_roles(connection: Connection, logins: Mapping[str, Login]) -> None:
    """Make the groups, logins and memberships that are missing. A login that exists keeps its password.

    Raises RolesMissingError, and MetAnotherError: this transaction will not see what the other migration made, the next one will.
    """
    steps = _missing(connection, logins)
    try:
        for step in steps:
            connection.exec_driver_sql(step.statement + _password(connection, step.login))
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        if state in _MET_ANOTHER:
            raise MetAnotherError from error
        if state != INSUFFICIENT_PRIVILEGE:
            raise
        raise RolesMissingError("".join(step.for_an_administrator(connection) for step in steps)) from error


def grant_rights(connection: Connection) -> None:
    """Give the groups their rights on the tables of this database, and take all other rights from them."""
    groups = ", ".join(map(group_of, PROCESSES))
    database = _quoted(connection, str(connection.scalar(text("SELECT current_database()"))))
    statements = (
        f"REVOKE ALL ON {', '.join(sorted(METADATA.tables))} FROM PUBLIC, {groups}",
        f"REVOKE ALL ON FUNCTION {', '.join(FUNCTIONS)} FROM PUBLIC, {groups}",
        "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        f"REVOKE CREATE ON SCHEMA public FROM {groups}",
        f"GRANT USAGE ON SCHEMA public TO {groups}",
        f"GRANT CONNECT ON DATABASE {database} TO {groups}",
        # The audit reads archived rows into tables of its own session.
        f"GRANT TEMPORARY ON DATABASE {database} TO {group_of('audit')}",
        *_grants(),
    )
    connection.exec_driver_sql("; ".join(statements))


def _missing(connection: Connection, logins: Mapping[str, Login]) -> list[_Step]:
    """What makes the roles that are missing, then the memberships."""
    owner = str(connection.scalar(text("SELECT current_user")))
    wanted: dict[str, Login | None] = dict.fromkeys((EVERY_TENANT_ROLE, *map(group_of, PROCESSES), owner))
    wanted |= {login.name: login for login in logins.values() if login.name != owner}
    known = set(connection.scalars(_ROLES, {"roles": list(wanted)}))
    members = {tuple(row) for row in connection.execute(_MEMBERS, {"roles": [SEES_SESSIONS, *wanted]})}
    memberships = [
        (EVERY_TENANT_ROLE, owner),
        *((EVERY_TENANT_ROLE, group_of(process)) for process in PROCESSES if process in ACROSS_TENANTS),
        *((group_of(process), login.name) for process, login in logins.items()),
    ]
    if connection.scalar(_MAY_SHOW_SESSIONS):  # otherwise an administrator may (docs/audit.md)
        memberships.append((SEES_SESSIONS, group_of("audit")))
    return [
        *(
            _Step(f"CREATE ROLE {_quoted(connection, role)} {'LOGIN' if login else 'NOLOGIN'}", login)
            for role, login in wanted.items()
            if role not in known
        ),
        *(
            _Step(f"GRANT {group} TO {_quoted(connection, member)}")
            for group, member in memberships
            if (group, member) not in members
        ),
    ]


def _password(connection: Connection, login: Login | None) -> str:
    """The clause for a password. The server gets what proves it (SCRAM), never the password: it logs statements."""
    if login is None or login.password is None:
        return ""
    session: Any = connection.connection.dbapi_connection
    proof = session.pgconn.encrypt_password(login.password.encode(), login.name.encode(), b"scram-sha-256").decode()
    return f" PASSWORD '{proof}'"


def _quoted(connection: Connection, name: str) -> str:
    return connection.dialect.identifier_preparer.quote(name)


def _grants() -> Iterator[str]:
    names: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for right in sorted(rights(), key=str):
        what = f"{right.privilege} ({right.column})" if right.column else right.privilege
        names[what, "FUNCTION " if right.name in FUNCTIONS else "", right.process].append(right.name)
    for (what, kind, process), granted in names.items():
        yield f"GRANT {what} ON {kind}{', '.join(granted)} TO {group_of(process)}"
