"""Fixtures for the parts of the sandbox provider."""

from __future__ import annotations

from tests.support.sandbox import clock, courier, faults, ledger, provider, receiver, store

__all__ = ["clock", "courier", "faults", "ledger", "provider", "receiver", "store"]
