"""The register of races: what protects each, which test shows it, which metric counts it, which lines tell of it.

`make register` writes docs/races.md and docs/metrics.md; `tests/architecture/test_register.py` holds all of it to the code.
"""

from __future__ import annotations

from tests.support.register.lines import LINES, Line
from tests.support.register.races import FURTHER, RACES, Race
from tests.support.register.required import REQUIRED, Required

__all__ = ["FURTHER", "LINES", "RACES", "REQUIRED", "Line", "Race", "Required"]
