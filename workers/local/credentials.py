"""Secrets of one local stack: made once per data directory, kept in a file that only its owner reads."""

from __future__ import annotations

import base64
import json
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path

from workers.local.errors import StackError


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


def known_secret(data_dir: Path) -> str:
    """The token secret of a local stack that was started here before. Raises StackError when there is none."""
    file = data_dir / "credentials.json"
    if not file.exists():
        raise StackError(f"{file} does not exist: start the suite with `q2o up` first, or set Q2O_JWT_SECRET")
    return load_credentials(file).jwt_secret
