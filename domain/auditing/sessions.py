"""The rule about transactions that are open now: none waits for anything but the database."""

from __future__ import annotations

from datetime import timedelta

from domain.auditing.invariants import INVARIANTS
from domain.auditing.rule import Rule

LONGEST_IDLE = timedelta(seconds=30)
"""Three times the server's limit for a transaction that does nothing; a report, which reads for minutes, is never idle for so long."""
_OURS = "FROM pg_stat_activity a WHERE a.application_name LIKE 'q2o %'"
_IDLE = f"a.state = 'idle in transaction' AND a.state_change < clock_timestamp() - interval '{LONGEST_IDLE.seconds} s'"

NOTHING_HELD_OPEN = Rule(
    code="I30",
    title=INVARIANTS["I30"].title,
    counts={"sessions": f"SELECT count(*) {_OURS}"},
    violations=(
        f"""SELECT format('Session %s of %s has done nothing in its open transaction since %s.', a.pid, a.application_name, a.state_change)
        {_OURS} AND {_IDLE}""",
    ),
    blind="""SELECT 'the login of the audit does not see the sessions of other logins: GRANT pg_read_all_stats TO q2o_audit'
    WHERE NOT pg_has_role('pg_read_all_stats', 'USAGE')""",
    of_excerpt=False,
)
RULES = (NOTHING_HELD_OPEN,)
