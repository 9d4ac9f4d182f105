"""Delivery: orders, their steps, what was asked of providers and what they said, cancellation and compensation.

This room needs `fallout`, `offers`, `workflows`, the catalog and the store; only `accepting`, `auditing` and the entries need it. A noun is a
table with its matrix (`orders`), a gerund its commands (`evaluating`).
"""
