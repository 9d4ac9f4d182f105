"""Secrets of one local stack: made once per data directory, kept in a file that only its owner reads."""

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
    # Upper, lower, digit and sign: the engine's password policy asks for one of each.
    return f"{secrets.token_urlsafe(18)}-aA1"


def _webhook_secret() -> str:
    return "whsec_" + base64.b64encode(secrets.token_bytes(32)).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """Passwords of the PostgreSQL roles and of the engine's administrator, keys of API tokens and callbacks."""

    postgres: str
    q2o: str
    camunda: str
    engine_admin: str
    jwt_secret: str
    callback_secret: str


def load_credentials(file: Path) -> Credentials:
    """Read the file, or make it. Raises StackError when it is not readable as credentials."""
    if file.exists():
        try:
            return Credentials(**json.loads(file.read_text()))
        except (ValueError, TypeError) as error:
            raise StackError(
                f"{file} is damaged: delete the directory {file.parent} to begin anew (its database is lost)"
            ) from error
    made = Credentials(
        postgres=_password(),
        q2o=_password(),
        camunda=_password(),
        engine_admin=_password(),
        jwt_secret=secrets.token_urlsafe(48),
        callback_secret=_webhook_secret(),
    )
    new = file.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        json.dump(asdict(made), out)
    new.replace(file)
    return made


def environment_file(data_dir: Path) -> Path:
    """Where a running suite leaves its settings for other shells, as lines `export NAME=value`."""
    return data_dir / "environment"


def known_tenant(data_dir: Path, environment: Mapping[str, str]) -> UUID:
    """The tenant that the environment names, else that of the suite that was started here last, else the demo's.

    Raises StackError when what is named is no tenant.
    """
    file = environment_file(data_dir)
    left = dict(word.partition("=")[::2] for word in shlex.split(file.read_text())) if file.exists() else {}
    named = environment.get(TENANT) or left.get(TENANT) or str(DEMO_TENANT)
    try:
        return UUID(named)
    except ValueError as error:
        raise StackError(f"{TENANT}={named} is no tenant: give its UUID, or unset it") from error


def known_secret(data_dir: Path) -> str:
    """The token secret of a local stack that was started here before. Raises StackError when there is none."""
    file = data_dir / "credentials.json"
    if not file.exists():
        raise StackError(f"{file} does not exist: start the suite with `q2o up` first, or set Q2O_JWT_SECRET")
    return load_credentials(file).jwt_secret
