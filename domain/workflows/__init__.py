"""Workflows: what the domain asks of the engine, and which process instance belongs to which aggregate.

This room needs the store only; every room that starts a process needs it. `starts` is the correlation table with its registration gate,
`requests` the queue that the dispatcher empties.
"""
