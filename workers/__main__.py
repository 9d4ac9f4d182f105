"""Makes `python -m workers` the same as `q2o`."""

from __future__ import annotations

from workers.cli import main

main()
