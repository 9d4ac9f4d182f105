"""Delivery: orders, their steps, the requests to providers and what they said, cancellation and compensation.

This room needs `fallout`, `offers`, `workflows`, the catalog and the store; only `accepting`, `auditing` and the entries need it.
A noun is a table with its matrix (`orders`), a gerund its commands (`evaluating`).
"""
