"""The connections of the explorer's sessions."""

from __future__ import annotations

from sqlalchemy import Engine, create_engine

# The server resolves a deadlock after this time; the default of a second would slow down every schedule with a deadlock.
DEADLOCK_TIMEOUT_MS = 200
# Longer than a schedule with a deadlock takes, and shorter than the time-out of a test.
LOCK_TIMEOUT_MS = 15_000
_OPTIONS = (
    f"-c deadlock_timeout={DEADLOCK_TIMEOUT_MS}ms -c lock_timeout={LOCK_TIMEOUT_MS}ms -c jit=off "
    # The same few statements again and again, on a dozen rows: to plan them each time would cost more than to run them.
    "-c plan_cache_mode=force_generic_plan "
    # No data here has to survive a crash.
    "-c synchronous_commit=off -c search_path=explorer,public,pg_catalog"
)


def connect(database_url: str, name: str) -> Engine:
    """Make an engine of one connection that finds names in the explorer's schema first: its clock is there (`stage`)."""
    return create_engine(
        database_url,
        pool_size=1,
        max_overflow=0,
        connect_args={"options": _OPTIONS, "application_name": f"explorer {name}", "prepare_threshold": None},
    )
