"""The places of a pod, and what a fetch may ask for.

The rule it keeps: tasks that ask a provider never take all places. A provider that hangs keeps waiting what asks a provider, also another
one, because one topic sends the requests to all of them, and a fetch cannot choose by provider. It keeps no other task waiting.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from workers.pod.contract import Topic
from workers.runtime.engine import TopicRequest

KEPT = 4  # one place of so many is kept for topics that ask no provider


class Offer(NamedTuple):
    """What a fetch may ask for: at most `room` tasks of these topics. `is_narrow`: topics are left out that have no place now."""

    topics: Sequence[TopicRequest]
    room: int
    is_narrow: bool


NOTHING = Offer((), 0, is_narrow=False)


class Places:
    """`capacity` places. Some are kept for topics that ask no provider, if the pod works on topics of both kinds."""

    def __init__(self, topics: Mapping[str, Topic], requests: Sequence[TopicRequest], capacity: int) -> None:
        self._topics = topics
        self._all = requests
        self._others = [request for request in requests if not topics[request.name].asks_provider]
        self._capacity = capacity
        self._for_asking = capacity - (capacity // KEPT if 0 < len(self._others) < len(requests) else 0)

    def offer(self, running: Iterable[str]) -> Offer:
        """What may be fetched while tasks of these topics are running."""
        asks = [self._topics[name].asks_provider for name in running]
        room = max(0, self._capacity - len(asks))
        room_for_asking = min(room, self._for_asking - sum(asks))
        if room_for_asking <= 0 and self._others:
            return Offer(self._others, room, is_narrow=True)
        # The engine takes one number for all topics, so those that ask no provider get no more in this fetch.
        return Offer(self._all, max(0, room_for_asking), is_narrow=False)
