"""How long data are kept: the days of each kind, and why so long (decision 0038)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

DAYS: Mapping[str, int] = MappingProxyType(
    {
        "events": 7,  # only events of the release before: as long as Kafka keeps them
        "inbox": 14,  # twice as long as Kafka keeps an event: until then Kafka may deliver it again
        "answers": 0,  # beyond `expires_at`, which is three days after the request
        "workflow_commands": 30,  # whoever looks into a message that did not arrive does so within weeks
        "refusals": 90,  # a quarter: longer than a customer's complaint about a refused command takes
        "findings": 365,  # a year: whoever asks why an order was repaired does so before its archive
        "payloads": 90,  # a quarter: longer than a dispute with a provider about what it sent
        "unmatched": 90,  # as long as the payload of any callback: what belongs to no step is in no dossier
        "archive": 365,  # people look at last year's orders; older ones are in the archive
    }
)
"""Kind of data -> days that it is kept by default."""
