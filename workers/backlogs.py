"""What waits for each process, for `q2o status`: in the database, and in Kafka. What cannot be looked at is unknown, with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from domain.auditing.backlog import PEOPLE, Waiting, backlog
from domain.retaining import kinds
from domain.retaining.kinds import KINDS
from workers.kafka.letters import Letters, Replay
from workers.kafka.unread import unread
from workers.kafka.views import VIEWS
from workers.runtime.environment import SettingError
from workers.runtime.kafka import KafkaUnavailableError
from workers.runtime.kafka_access import KafkaAccess
from workers.runtime.settings import Settings

Count = tuple[int, datetime | None]


def in_the_database(connection: Connection, ages: Mapping[str, timedelta]) -> list[Waiting]:
    """Count the open items of each kind, and the rows that have been kept for longer than `ages` says."""
    number, oldest = _past_their_age(connection, ages)
    return [*backlog(connection), Waiting(process="retain", what="rows past their age", count=number, oldest=oldest)]


def in_kafka(settings: Settings) -> list[Waiting]:
    """The events that a list lacks, and the dead letters that nobody has sent again."""
    asked: Mapping[tuple[str, str], Callable[[KafkaAccess], Count]] = {
        **{("inbox", f"events for {view.projection}"): partial(unread, view=view) for view in VIEWS},
        (PEOPLE, "dead letters"): _letters,
    }
    return [_asked(settings, process, what, count) for (process, what), count in asked.items()]


def _asked(settings: Settings, process: str, what: str, count: Callable[[KafkaAccess], Count]) -> Waiting:
    try:
        number, oldest = count(settings.kafka)
    except (KafkaUnavailableError, SettingError) as error:
        return Waiting(process=process, what=what, count=None, oldest=None, unknown=str(error))
    return Waiting(process=process, what=what, count=number, oldest=oldest)


def _letters(kafka: KafkaAccess) -> Count:
    waiting = [letter.written_at for letter in Letters(kafka).all() if letter.replay is not Replay.DONE]
    return len(waiting), min(waiting, default=None)


def _past_their_age(connection: Connection, ages: Mapping[str, timedelta]) -> Count:
    """How many rows retention would delete now, and when the oldest of them reached its age."""
    number, due = 0, list[datetime]()
    for kind in KINDS:
        age = ages[kind.name]
        if old := kinds.count(connection, kind, age):
            number += old
            oldest = kinds.oldest(connection, kind)
            due += [oldest + age] if oldest else []
    return number, min(due, default=None)
