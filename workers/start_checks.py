"""Checks the settings of a command before it connects to anything: every problem is named, all at once, one line each.

The rule: what the table of settings says about one variable is judged first; then what several of them say together; then whether the ports
can be opened. A setting that exists nowhere is refused too, because it may be one that is misspelt.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches

from workers.runtime.environment import FILE, SettingError, variable
from workers.runtime.listening import is_about_the_host, remedy_of, system_reason
from workers.runtime.production import require_fitness
from workers.runtime.setting_table import DATABASE_OF, OF_A_PROCESS, PREFIX, SETTINGS, VARIABLES, Setting, read_by
from workers.runtime.settings import Settings

Reading = Callable[[Settings], object]


def require_settings(command: str, variables: Mapping[str, str], *, opens: Sequence[str] = ()) -> Settings:
    """The settings of a command, as its process reads them; `opens` names the settings of the ports that it opens.

    Raises SettingError with a line for each problem.
    """
    if problems := list(_problems(command, variables, opens)):
        raise SettingError("\n".join(problems))
    return Settings(variables).of(command)


def _problems(command: str, variables: Mapping[str, str], opens: Sequence[str]) -> Iterator[str]:
    settings, named = Settings(variables), set[str]()
    alone = [(_reading(setting, command), settings) for setting in _judged(command, variables)]
    together = [(reading, settings.of(command)) for reading in (*_TOGETHER.get(command, ()), lambda its: _require_free(its, opens))]
    yield from _unknown(variables)
    for reading, its in ((lambda its: require_fitness(its.variables), settings), *alone, *together):
        # A variable that was named before is named once: its faults have one cause.
        lines = [line for line in _complaints(reading, its) if _subject(line) not in named]
        named.update(filter(None, map(_subject, lines)))
        yield from lines


def _unknown(variables: Mapping[str, str]) -> Iterator[str]:
    """A line for each variable that begins as ours and is none."""
    for name in sorted(variables):
        if name.startswith(PREFIX) and name not in VARIABLES:
            # Without what all have in common: it would make any two of them alike.
            close = get_close_matches(name.removeprefix(PREFIX), [each.removeprefix(PREFIX) for each in VARIABLES], 1)
            yield f"{name} is no setting: " + (f"did you mean {PREFIX}{close[0]}? Correct it, or unset it" if close else "unset it")


def _subject(line: str) -> str | None:
    """The variable that a line begins with."""
    return line.split(maxsplit=1)[0].partition("=")[0] if line.startswith(PREFIX) else None


def _judged(command: str, variables: Mapping[str, str]) -> Sequence[Setting]:
    """The settings that a command reads; where its process has its own, that one and not the common one."""
    logins = {name: DATABASE_OF.get(command, command) if name == "database_url" else command for name in OF_A_PROCESS}
    own = {name: f"{process}_{name}" for name, process in logins.items() if process in OF_A_PROCESS[name]}
    replaced = {name for name, its in own.items() if any(variables.get(variable(its) + ending) for ending in ("", FILE))}
    if command == "up":  # it starts every process
        return [setting for setting in SETTINGS.values() if variables.get(setting.variable)]
    return [setting for setting in read_by(command) if setting.name not in replaced]


def _reading(setting: Setting, command: str) -> Reading:
    is_needed = command in setting.needed_by
    if setting.is_secret:
        return lambda its: (its.environment.secret if is_needed else its.environment.find_secret)(setting.name)
    return lambda its: (its.environment.text if is_needed else its.environment.find)(setting.name)


def _complaints(reading: Reading, settings: Settings) -> Sequence[str]:
    try:
        reading(settings)
    except SettingError as error:
        return str(error).splitlines()
    return ()


def _tokens(settings: Settings) -> None:
    from workers.http.tokens import tokens_of

    tokens_of(settings.tokens)


def _topics(settings: Settings) -> None:
    from workers.tasks.topics import CONTRACTS

    unknown_ones = [_named(topic, CONTRACTS) for topic in sorted(settings.topics - CONTRACTS.keys())]
    if unknown_ones:
        raise SettingError("\n".join(unknown_ones))


def _named(topic: str, known: Mapping[str, object]) -> str:
    close = get_close_matches(topic, known, 1)
    guess = f"did you mean {close[0]}?" if close else f"there are {', '.join(sorted(known))}."
    return f"there is no topic {topic!r}: {guess} Correct --topic or Q2O_TOPICS (docs/topics.md)"


def _locks(settings: Settings) -> None:
    lock, stale = settings.lock_duration, settings.attempt_stale_after
    if stale < lock:
        raise SettingError(
            f"Q2O_ATTEMPT_STALE_AFTER_SECONDS={stale.total_seconds():g} is shorter than Q2O_LOCK_DURATION_SECONDS={lock.total_seconds():g}: "
            "a worker between two heartbeats would count as dead; give at least the duration of the lock"
        )


def _require_free(settings: Settings, opens: Sequence[str]) -> None:
    """Raises SettingError for a port that is in use, or that two parts of the process want."""
    ports = {variable(name): port for name in opens if (port := getattr(settings, name)) is not None}
    chosen = [port for port in ports.values() if port]  # 0 takes a free one
    if len(set(chosen)) < len(chosen):
        raise SettingError(f"{' and '.join(ports)} are both {chosen[0]}: give each a port of its own")
    if taken := [line for name, port in ports.items() if (line := _taken(name, settings.http_host, port))]:
        raise SettingError("\n".join(dict.fromkeys(taken)))


def _taken(name: str, host: str, port: int) -> str | None:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        host_named = variable("http_host")
        refused = f"{host_named}={host} cannot be used" if is_about_the_host(error) else f"{name}={port} cannot be opened on {host}"
        return f"{refused} ({system_reason(error)}): {remedy_of(error, host_named, name)}"
    return None


def _sides_of_the_audit(settings: Settings) -> None:
    """Raises SettingError for a side that is set up wrongly; one that is not set up is not looked at."""
    sides = {"engine_url": "engine_tls", "kafka": "kafka", "provider_ledger_url": "provider_ledger_tls"}
    for name, side in sides.items():
        if settings.environment.find(name):
            getattr(settings, side)
    settings.archive  # noqa: B018 - it raises


def _archive(settings: Settings) -> None:
    """Raises SettingError for an archive in which no file can be made: every run that archives would fail."""
    from tempfile import TemporaryFile

    directory = settings.retention.archive
    try:
        if directory:
            TemporaryFile(dir=directory).close()
    except OSError as error:
        raise SettingError(
            f"{variable('archive_dir')}={directory} cannot be written ({error.strerror}): let this user write there, or unset it"
        ) from error


_ENGINE: tuple[Reading, ...] = (lambda its: its.engine_tls,)
_PROVIDER: tuple[Reading, ...] = (lambda its: its.provider_tls,)
_KAFKA: tuple[Reading, ...] = (lambda its: its.kafka,)
_TOGETHER: Mapping[str, Sequence[Reading]] = {
    "http": (_tokens, lambda its: its.callback_secrets),
    "tasks": (*_ENGINE, *_PROVIDER, _topics, _locks),
    "dispatch": _ENGINE,
    "relay": _KAFKA,
    "inbox": _KAFKA,
    "reconcile": (*_ENGINE, *_PROVIDER, lambda its: its.redis_tls),
    "retain": (_archive,),
    "audit": (_sides_of_the_audit,),
    "dead-letters": _KAFKA,
    "deploy": _ENGINE,
    "restart-instances": (*_ENGINE, lambda its: its.of("reconcile").database_url),
    "rebuild": (lambda its: its.of("reconcile").database_url,),
    "sandbox": (lambda its: its.callback_secrets,),
}
"""Command -> what several of its settings say together, or more than the table says."""
