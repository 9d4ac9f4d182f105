"""Fault proxies for every link of the suite: PostgreSQL, Kafka, and what speaks HTTP (engine, provider, client)."""
