"""The machine that runs external tasks: polls, leases, heartbeats, outcomes, reports. It knows no handler and no domain command.

`workers.tasks` has the handlers and needs this package; this package needs `workers.runtime` only.
"""
