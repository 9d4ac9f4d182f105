"""Fallout: the cases that people resolve when an order cannot go on by itself.

A case never knows a step: it has the ids of order and step, and a detail that `delivery.troubles` writes. This room needs messages,
`workflows` and the store; `delivery` needs it. `cases` is the table with its matrix, `triaging` the system's commands, `casework` the
commands of people.
"""
