"""The logins of the processes on the PostgreSQL of the local stack: one for each process, made by the migration from these addresses."""

from __future__ import annotations

import hmac

from sqlalchemy import make_url

from domain.rights import PROCESSES
from workers.runtime.environment import variable


def address_of(process: str, owner: str) -> str:
    """The address of the same database for a process. Its password follows from the owner's, so that nothing more has to be kept."""
    address = make_url(owner)
    password = hmac.digest(str(address.password).encode(), process.encode(), "sha256").hex()
    return address.set(username=f"local_{process}", password=password).render_as_string(hide_password=False)


def addresses_of_processes(owner: str) -> dict[str, str]:
    """The variables with the address of every process."""
    return {variable(f"{process}_database_url"): address_of(process, owner) for process in PROCESSES}
