"""The folder with the configuration of the services: `docker/`, beside the packages."""

from __future__ import annotations

from pathlib import Path

CONFIGURATION = Path(__file__).resolve().parents[2] / "docker"
