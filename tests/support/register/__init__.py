"""The register of races: what protects each, which test shows it, which metric counts it, which lines tell of it.

`make register` writes docs/races.md from it; tests/architecture/test_register.py holds it to the code.
"""

from __future__ import annotations

from tests.support.register.lines import LINES, Line
from tests.support.register.races import RACES, Race

__all__ = ["LINES", "RACES", "Line", "Race"]
