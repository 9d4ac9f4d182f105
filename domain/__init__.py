"""The business truth: what exists, which states it may be in, what each command must carry, what storage enforces.

Nothing here knows a network, a broker or the engine; nothing here commits (`store.unit_of_work` does), logs or retries.
"""
