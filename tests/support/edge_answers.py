"""An edge that gives the clients of the demo and of storms the answers that a test names."""

from __future__ import annotations

import httpx

URL = "http://edge"
SECRET = "a secret of the tests, which is long enough"


def answer_with(*answers: httpx.Response | Exception) -> tuple[list[httpx.Request], httpx.Client]:
    """Make an edge that gives these answers in turn, and then repeats the last one. Returns the list of its requests, and its client."""
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        answer = answers[min(len(seen), len(answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return seen, httpx.Client(base_url=URL, transport=httpx.MockTransport(handle))
