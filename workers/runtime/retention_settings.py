"""How long data are kept before they are deleted or archived (decision 0038). Every age is a number of days."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from domain.store.outbox import INBOX_IS_WHOLE_FOR
from workers.runtime.ages import DAYS
from workers.runtime.environment import Environment, SettingError, variable


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long each kind is kept, and where archives go. Without a directory nothing is archived, and finished business stays."""

    ages: Mapping[str, timedelta]
    archive: Path | None

    @classmethod
    def of(cls, environment: Environment) -> Retention:
        """Raises SettingError."""
        ages = {name: timedelta(days=environment.number(f"retain_{name}_days")) for name in DAYS}
        if ages["inbox"] < INBOX_IS_WHOLE_FOR:
            raise SettingError(
                f"{variable('retain_inbox_days')} is less than {INBOX_IS_WHOLE_FOR.days}: Kafka may still deliver these events again; give more "
                "days than Kafka keeps an event"
            )
        if ages["archive"] < ages["inbox"]:
            raise SettingError(
                f"{variable('retain_archive_days')} is less than {variable('retain_inbox_days')}: an event that Kafka delivers again would "
                "bring back an order that is archived; give more days"
            )
        return cls(ages=ages, archive=archive_of(environment))


def archive_of(environment: Environment) -> Path | None:
    """The directory of the archive files; None: there is none. Raises SettingError."""
    directory = environment.find("archive_dir")
    if directory and not Path(directory).is_dir():
        raise SettingError(f"{variable('archive_dir')}={directory} is no directory: make it, or unset it")
    return Path(directory) if directory else None
