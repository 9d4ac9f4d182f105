"""The engine's password goes to the address of the settings and to no other."""

from __future__ import annotations

from contextlib import closing

import pytest

from tests.support.answering import Reply, Request, answering
from workers.runtime.engine import Engine, EngineOutcomeUnknownError


def test_a_redirect_is_not_followed() -> None:
    asked: list[str] = []

    def redirect(request: Request) -> Reply:
        asked.append(request.path)
        return Reply(status=302, headers={"Location": f"http://{request.headers['Host']}/elsewhere"})

    with (
        answering(redirect) as address,
        closing(Engine(f"{address}/engine-rest", "user", "password")) as engine,
        pytest.raises(EngineOutcomeUnknownError, match="is a redirect: is this address an engine's REST interface"),
    ):
        engine.may_deploy()

    assert [path.partition("?")[0] for path in asked] == ["/engine-rest/authorization/check"]
