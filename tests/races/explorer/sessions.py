"""How the explorer's sessions connect."""

from __future__ import annotations

from sqlalchemy import Engine, create_engine

# A deadlock is resolved by the server after this time; the default of a second would make schedules that meet one slow.
DEADLOCK_TIMEOUT_MS = 200
# Longer than a schedule that meets a deadlock takes, shorter than whoever waits for a hanging test is patient.
LOCK_TIMEOUT_MS = 15_000
_OPTIONS = (
    f"-c deadlock_timeout={DEADLOCK_TIMEOUT_MS}ms -c lock_timeout={LOCK_TIMEOUT_MS}ms -c jit=off "
    # The same few statements over and over, on a dozen rows: planning them again each time would cost more than running them.
    "-c plan_cache_mode=force_generic_plan "
    # Nothing here has to survive a crash.
    "-c synchronous_commit=off -c search_path=explorer,public,pg_catalog"
)


def connect(database_url: str, name: str) -> Engine:
    """An engine of one connection, whose first look for a name is the explorer's schema: its clock stands there (`stage`)."""
    return create_engine(
        database_url,
        pool_size=1,
        max_overflow=0,
        connect_args={"options": _OPTIONS, "application_name": f"explorer {name}", "prepare_threshold": None},
    )
