"""The database roles of the processes: the logins that a migration makes, and whether a process that starts has the role that it needs."""

from __future__ import annotations

from sqlalchemy import Engine, text

from domain.rights import PROCESSES, Login, group_of
from domain.store.isolation import EVERY_TENANT
from domain.store.transactions import transaction
from workers.runtime.database import parsed
from workers.runtime.environment import SettingError, variable
from workers.runtime.secret_files import reveal
from workers.runtime.settings import Settings

# MEMBER: a role that could become the owner (SET ROLE) is as good as the owner.
_MINE = text("""
SELECT current_user AS name, r.rolsuper OR r.rolbypassrls OR r.rolcreaterole AS is_mighty,
    EXISTS (SELECT FROM pg_class t WHERE t.oid = to_regclass('alembic_version') AND pg_has_role(t.relowner, 'MEMBER')) AS is_owner,
    EXISTS (SELECT FROM pg_roles g WHERE g.rolname = :group AND pg_has_role(g.oid, 'USAGE')) AS is_member
FROM pg_roles r WHERE r.rolname = current_user
""")


class DatabaseRoleError(Exception):
    """A process has a database role that it must not have, or one without its rights; the text says what to do."""


def logins_of(settings: Settings) -> dict[str, Login]:
    """The logins in those addresses that only one process has (Q2O_RELAY_DATABASE_URL). Raises SettingError."""
    found = {}
    for process in PROCESSES:
        name = f"{process}_database_url"
        secret = settings.environment.find_secret(name)
        if secret is None:
            continue
        address = parsed(reveal(secret), name)
        if address.username == group_of(process):
            raise SettingError(f"{variable(name)} names the group {group_of(process)}, with which nobody logs in: name a login")
        if address.username:
            found[process] = Login(address.username, address.password)
    return found


def require_role(database: Engine, process: str, *, production: bool) -> None:
    """Refuse to start a process with a role that lacks its rights, or that has more in production. Raises DatabaseRoleError."""
    named = f"{variable('database_url')} or {variable(f'{process}_database_url')}"
    with transaction(database, EVERY_TENANT) as connection:
        mine = connection.execute(_MINE, {"group": group_of(process)}).one()
    if not (mine.is_member or mine.is_owner or mine.is_mighty):
        raise DatabaseRoleError(
            f"the database role {mine.name} lacks the rights of `q2o {process}`: run `q2o migrate`, then GRANT {group_of(process)} "
            f"TO {mine.name}, or name another login in {named}"
        )
    if production and (mine.is_owner or mine.is_mighty):
        raise DatabaseRoleError(
            f"the database role {mine.name} is refused with Q2O_MODE=production, because it "
            + ("owns the tables" if mine.is_owner else "is a superuser, or gets past row level security, or makes roles")
            + f": name a login in {named} that is only a member of {group_of(process)}"
        )
