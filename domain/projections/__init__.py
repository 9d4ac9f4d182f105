"""Projections: views that a consumer builds from events, each event once, and never backwards, in whatever order Kafka delivers them.

Lists and searches read them; nothing that decides does (docs/domain.md#events-and-projections).
"""
