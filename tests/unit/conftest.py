"""Fixtures of the tests that take the sandbox provider apart."""

from __future__ import annotations

from tests.support.sandbox import clock, courier, faults, ledger, provider, receiver, store

__all__ = ["clock", "courier", "faults", "ledger", "provider", "receiver", "store"]
