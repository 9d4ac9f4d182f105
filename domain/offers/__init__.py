"""Offers: quotes, prices, approvals, authority and documents, up to the moment before a customer accepts.

An offer never knows an order. This room needs the catalog, the messages, `workflows` and the store; `accepting` and `delivery` need it. A noun
is a table with its matrix (`quotes`), a gerund its commands (`quoting`).
"""
