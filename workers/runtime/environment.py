"""Reads `Q2O_*` variables, one at a time. A variable that is missing or not valid is a SettingError: one line that says what to do."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from domain.rights import PROCESSES
from workers.runtime.secret_files import Secret, SecretFile, reveal

FILE = "_FILE"
"""Ends the name of the variable that names a file with the secret: Q2O_ENGINE_PASSWORD_FILE."""


OF_A_PROCESS = ("database_url", "engine_user", "engine_password")
"""Settings that a process may have of its own: Q2O_RELAY_DATABASE_URL goes before Q2O_DATABASE_URL in `q2o relay`."""
ENGINE_USERS = {process: f"q2o-{process}" for process in ("tasks", "dispatch", "reconcile")}
"""The engine's user of each process that calls it. No caller of the HTTP API can have such a name (`workers.http.actors`)."""
DATABASES = ("database_url", *(f"{process}_database_url" for process in PROCESSES))
ENGINE_PASSWORDS = ("engine_password", *(f"{process}_engine_password" for process in ENGINE_USERS))
SECRETS = (*DATABASES, *ENGINE_PASSWORDS, "kafka_password", "provider_token", "callback_secret", "jwt_secret")
"""What may stand in a file; other variables that end so, such as Q2O_ENGINE_KEY_FILE, are files for a library."""


class SettingError(Exception):
    """A setting is missing or not valid; each line of the text names one and says what to do."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables of a process, read by their names in lower case without `Q2O_`. Every method raises SettingError."""

    variables: Mapping[str, str]

    def find(self, name: str) -> str | None:
        """The text of a variable; None when it is not set or empty."""
        return self.variables.get(variable(name)) or None

    def text(self, name: str, fallback: str | None = None) -> str:
        value = self.find(name) or fallback
        if value is None:
            raise SettingError(f"{variable(name)} is not set: give its value, or start the local stack with `q2o up`")
        return value

    def names(self, name: str) -> tuple[str, ...]:
        """A list that is separated by commas; empty when the variable is not set."""
        return tuple(part.strip() for part in (self.find(name) or "").split(",") if part.strip())

    def find_secret(self, name: str) -> Secret | None:
        """A secret: the value of the variable, or the file that `…_FILE` names; None when neither is set."""
        value, file = self.find(name), self.variables.get(variable(name) + FILE)
        if value and file:
            raise SettingError(f"{variable(name)} and {variable(name)}{FILE} are both set: unset one of them")
        if not file:
            return value
        try:
            return SecretFile(Path(file))
        except (OSError, ValueError) as error:
            raise SettingError(
                f"{variable(name)}{FILE}={file} cannot be read ({_reason(error)}): name a file with the secret"
            ) from error

    def secret(self, name: str) -> Secret:
        secret = self.find_secret(name)
        if secret is None:
            raise SettingError(
                f"{variable(name)} is not set: give its value, or a file in {variable(name)}{FILE}, or start the local stack with `q2o up`"
            )
        return secret

    def uuid(self, name: str) -> UUID | None:
        """A UUID; None when the variable is not set. An empty one is not valid: it may stand for a value that got lost."""
        value = self.variables.get(variable(name))
        try:
            return None if value is None else UUID(value)
        except ValueError:
            raise SettingError(f"{variable(name)}={value} is not a UUID: correct it, or unset it") from None

    def number(self, name: str, fallback: str) -> float:
        value = self.text(name, fallback)
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if not 0 <= number < math.inf:
            raise SettingError(f"{variable(name)}={value} is not a number from 0 on: correct it, or unset it")
        return number

    def above_zero(self, name: str, fallback: str) -> float:
        number = self.number(name, fallback)
        if number < 1:
            raise SettingError(f"{variable(name)}={number:g} would let nothing in: give a number from 1 on, or unset it")
        return number

    def seconds(self, name: str, fallback: str) -> timedelta:
        return timedelta(seconds=self.number(name, fallback))


def with_files_read(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables with each secret that stands in a file as a value. Raises SettingError for a file that cannot be read."""
    environment = Environment(variables)
    in_files = [name for name in SECRETS if environment.find(name + FILE)]
    named = {variable(name + FILE) for name in in_files}
    return {
        **{name: value for name, value in variables.items() if name not in named},
        **{variable(name): reveal(environment.secret(name)) for name in in_files},
    }


def of_process(process: str, variables: Mapping[str, str]) -> dict[str, str]:
    """The variables for one process: its own address goes before the common one, whether it stands in a variable or in a file."""
    whole = dict(variables)
    for name in OF_A_PROCESS:
        own = {ending: variables.get(variable(f"{process}_{name}") + ending, "") for ending in ("", FILE)}
        if any(own.values()):
            whole |= {variable(name) + ending: value for ending, value in own.items()}
    return whole


def variable(name: str) -> str:
    """The variable of a setting: engine_url -> Q2O_ENGINE_URL."""
    return f"Q2O_{name.upper()}"


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
