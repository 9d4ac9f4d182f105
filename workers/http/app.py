"""The application: routes, who may enter, how much they may carry, and how every no looks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from sqlalchemy import Engine

from workers.http import approvals, callbacks, health, openapi, orders, problems, quotes
from workers.http.auth import Authentication, require_long_enough
from workers.http.execution import Executor
from workers.http.limits import BodyLimit

TITLE = "Quote to order"


def create_app(database: Engine, jwt_secret: str, callback_secrets: Mapping[str, Sequence[str]]) -> FastAPI:
    """Build the edge on a database. `callback_secrets` maps provider -> its signing secrets (two during a rotation).

    Raises ValueError if the JWT secret is too short.
    """
    require_long_enough(jwt_secret)
    # The page of documentation would load its script from somebody else's server.
    app = FastAPI(title=TITLE, docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    app.state.executor = Executor(database)
    app.state.callback_secrets = callback_secrets
    problems.install(app)
    for routes in (quotes, approvals, orders, callbacks, health):
        app.include_router(routes.router)
    app.add_middleware(Authentication, secret=jwt_secret)
    app.add_middleware(BodyLimit)
    openapi.complete(app, TITLE, _version())
    return app


def _version() -> str:
    try:
        return version("quote-to-order")
    except PackageNotFoundError:
        return "0"
