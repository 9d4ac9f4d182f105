"""The machine that runs external tasks: polls, leases, heartbeats, outcomes, reports. It knows no handler and no domain command.

`workers.tasks` holds the handlers and needs this package; it needs `workers.runtime` only.
"""
