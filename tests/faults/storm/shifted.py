"""Runs a process of the suite with a clock that is some hours off: `python -m tests.faults.storm.shifted HOURS PROCESS`."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import time_machine

from workers.cli import main

if __name__ == "__main__":
    hours = int(sys.argv.pop(1))
    with time_machine.travel(datetime.now(UTC) + timedelta(hours=hours), tick=True):
        main()
