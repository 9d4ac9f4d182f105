"""Reads `Q2O_*` variables, one at a time. A variable that is missing or not valid is a SettingError: one line that says what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from workers.runtime.secret_files import Secret, SecretFile, reveal
from workers.runtime.setting_table import ENGINE_USERS, FILE, OF_A_PROCESS, SECRETS, SETTINGS, variable

__all__ = [
    "DATABASES",
    "ENGINE_PASSWORDS",
    "ENGINE_USERS",
    "FILE",
    "SECRETS",
    "Environment",
    "SettingError",
    "of_process",
    "variable",
]

DATABASES = ("database_url", *(f"{process}_database_url" for process in OF_A_PROCESS["database_url"]))
# A user and a password in an address, which a message must not show.
_LOGIN = re.compile(r"//[^/]*@")
ENGINE_PASSWORDS = ("engine_password", *(f"{process}_engine_password" for process in ENGINE_USERS))


class SettingError(Exception):
    """A setting is missing or not valid; each line of the text names one and says what to do."""


@dataclass(frozen=True, slots=True)
class Environment:
    """The variables of a process, read by their names in the table of settings. Every method that reads one raises SettingError."""

    variables: Mapping[str, str]
    process: str = ""

    def source(self, name: str) -> str:
        """The variable from which the value of a setting comes: the process's own, the common one, or that of the file."""
        named = self._named(name)
        return named + FILE if self.variables.get(named + FILE) and not self.variables.get(named) else named

    def _named(self, name: str) -> str:
        own = variable(f"{self.process}_{name}")
        has_own = self.process in OF_A_PROCESS.get(name, ()) and any(self.variables.get(own + ending) for ending in ("", FILE))
        return own if has_own else variable(name)

    def find(self, name: str) -> str | None:
        """The text of a variable; its default when it is not set or empty."""
        setting = SETTINGS[name]
        value = self.variables.get(variable(name))
        if not value:
            return setting.default
        if fault := setting.kind.fault(value):
            shown = _LOGIN.sub("//", value)
            raise SettingError(f"{self._named(name)}={shown} {fault}: correct it, or unset it")
        return value

    def text(self, name: str) -> str:
        value = self.find(name)
        if value is None:
            raise SettingError(f"{variable(name)} is not set: give its value, or start the local stack with `q2o up`")
        return value

    def names(self, name: str) -> tuple[str, ...]:
        """A list that is separated by commas; empty when the variable is not set."""
        return tuple(part.strip() for part in (self.find(name) or "").split(",") if part.strip())

    def find_secret(self, name: str) -> Secret | None:
        """A secret: the value of the variable, or the file that `…_FILE` names; None when neither is set."""
        value, file = self.variables.get(variable(name)), self.variables.get(variable(name) + FILE)
        if value and file:
            named = self._named(name)
            raise SettingError(f"{named} and {named}{FILE} are both set: unset one of them")
        secret = self._in_file(name, file) if file else value or None
        if secret is not None and (fault := SETTINGS[name].kind.fault(reveal(secret))):
            raise SettingError(f"{self.source(name)} {fault}")  # without the text, which is a secret
        return secret

    def secret(self, name: str) -> Secret:
        secret = self.find_secret(name)
        if secret is None:
            raise SettingError(
                f"{variable(name)} is not set: give its value, or a file in {variable(name)}{FILE}, or start the local stack with `q2o up`"
            )
        return secret

    def uuid(self, name: str) -> UUID | None:
        """A UUID; None when the variable is not set. An empty one is not valid: it may stand for a value that got lost."""
        if self.variables.get(variable(name)) == "":
            raise SettingError(f"{variable(name)}= is not {SETTINGS[name].kind.wanted}: correct it, or unset it")
        value = self.find(name)
        return UUID(value) if value else None

    def number(self, name: str) -> float:
        return float(self.text(name))

    def whole(self, name: str) -> int:
        return int(self.text(name))

    def seconds(self, name: str) -> timedelta:
        return timedelta(seconds=self.number(name))

    def _in_file(self, name: str, file: str) -> SecretFile:
        try:
            return SecretFile(Path(file))
        except (OSError, ValueError) as error:
            raise SettingError(
                f"{self._named(name)}{FILE}={file} cannot be read ({_reason(error)}): name a file with the secret"
            ) from error


def with_files_read(variables: Mapping[str, str]) -> dict[str, str]:
    """The variables with each secret that stands in a file as a value. Raises SettingError for a file that cannot be read."""
    environment = Environment(variables)
    in_files = [name for name in SECRETS if variables.get(variable(name) + FILE)]
    named = {variable(name) + FILE for name in in_files}
    return {
        **{name: value for name, value in variables.items() if name not in named},
        **{variable(name): reveal(environment.secret(name)) for name in in_files},
    }


def of_process(process: str, variables: Mapping[str, str]) -> dict[str, str]:
    """The variables for one process: its own address goes before the common one, whether it stands in a variable or in a file."""
    whole = dict(variables)
    for name, processes in OF_A_PROCESS.items():
        own = {ending: variables.get(variable(f"{process}_{name}") + ending, "") for ending in ("", FILE)}
        if process in processes and any(own.values()):
            # The two ways exclude each other, and an empty variable is one that nobody knows.
            whole = {each: value for each, value in whole.items() if each not in {variable(name), variable(name) + FILE}}
            whole |= {variable(name) + ending: value for ending, value in own.items() if value}
    return whole


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
