"""Secrets of one local stack: created once per data directory, in a file that only its owner can read."""

from __future__ import annotations

import base64
import json
import os
import secrets
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from uuid import UUID

from workers.local.errors import StackError
from workers.runtime.settings import DEMO_TENANT, TENANT


def _password() -> str:
    # The engine's password policy requires an upper-case letter, a lower-case letter, a digit and a special character.
    return f"{secrets.token_urlsafe(18)}-aA1"


def _webhook_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Passwords of the PostgreSQL roles and of the engine's users, and the keys that sign API tokens and callbacks."""

    postgres: str
    q2o: str
    camunda: str
    engine_admin: str
    jwt_secret: str
    callback_secret: str
    engine_tasks: str
    engine_dispatch: str
    engine_reconcile: str


ADDED = ("engine_tasks", "engine_dispatch", "engine_reconcile")
"""What files of earlier releases do not have. Nobody has used such a password before, so it can be made at any time."""


def load_credentials(file: Path) -> Credentials:
    """Read the file, or create it. Raises StackError when it does not hold credentials."""
    if file.exists():
        try:
            stored = json.loads(file.read_text())
            found = Credentials(**{name: _password() for name in ADDED} | stored)
        except (ValueError, TypeError) as error:
            raise StackError(
                f"{file} is damaged: delete the directory {file.parent} to start over (this deletes its database)"
            ) from error
        if asdict(found) != stored:
            _store(file, found)
        return found
    created = Credentials(
        postgres=_password(),
        q2o=_password(),
        camunda=_password(),
        engine_admin=_password(),
        jwt_secret=secrets.token_urlsafe(48),
        callback_secret=_webhook_secret(),
        **{name: _password() for name in ADDED},
    )
    _store(file, created)
    return created


def _store(file: Path, credentials: Credentials) -> None:
    new = file.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        json.dump(asdict(credentials), out)
    new.replace(file)


def environment_file(data_dir: Path) -> Path:
    """The file in which a running suite leaves its settings for other shells, as lines `export NAME=value`."""
    return data_dir / "environment"


def known_tenant(data_dir: Path, environment: Mapping[str, str]) -> UUID:
    """The tenant that the environment names, else the tenant of the suite that was started here last, else the demo's.

    Raises StackError when the name is not a UUID.
    """
    file = environment_file(data_dir)
    last = dict(word.partition("=")[::2] for word in shlex.split(file.read_text())) if file.exists() else {}
    named = environment.get(TENANT) or last.get(TENANT) or str(DEMO_TENANT)
    try:
        return UUID(named)
    except ValueError as error:
        raise StackError(f"{TENANT}={named} is not a tenant: set it to a UUID, or unset it") from error


def known_secret(data_dir: Path) -> str:
    """The secret that signs the tokens of the local stack in this directory. Raises StackError when no stack was started there."""
    file = data_dir / "credentials.json"
    if not file.exists():
        raise StackError(f"{file} does not exist: start the suite with `q2o up` first, or set Q2O_JWT_SECRET")
    return load_credentials(file).jwt_secret
