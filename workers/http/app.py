"""The application: its routes, and around them authentication, limits and error responses."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from fastapi import FastAPI
from sqlalchemy import Engine as Database
from sqlalchemy import create_engine

from domain.store.base import camel
from workers.http import problems
from workers.http.auth import Authenticate, Authentication
from workers.http.document import openapi
from workers.http.entrance import Compression, SingleHeaders
from workers.http.execution import Executor
from workers.http.headers import AnswerHeaders
from workers.http.limits import BodyLimit, Limits, RateLimit, Rates
from workers.http.routes import (
    approvals,
    authority,
    callbacks,
    cancellations,
    documentation,
    fallout,
    lists,
    offers,
    orders,
    price_books,
    quotes,
    withdrawals,
)
from workers.http.tokens import local_tokens
from workers.runtime.callback_secrets import CallbackSecrets
from workers.runtime.setting_kinds import SHORTEST_SECRET_BYTES

TITLE = "Quote to order"
# A smaller answer fits into one packet with its head; zlib's own compromise between time and size.
SMALLEST_TO_COMPRESS = 1000
COMPRESSION = 6


def create_app(
    database: Database, authenticate: Authenticate, callback_secrets: Mapping[str, CallbackSecrets], limits: Limits | None = None
) -> FastAPI:
    """Build the application on a database. `callback_secrets` maps a provider to its signing secrets."""
    # FastAPI's own pages would load their scripts from somebody else's server: `documentation` serves Swagger UI from our files.
    app = FastAPI(
        title=TITLE,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        # A redirect to the path with a slash, or without one, would be built from the Host header, which the client chooses.
        redirect_slashes=False,
        generate_unique_id_function=lambda route: camel(route.name),
    )
    app.state.executor = Executor(database)
    app.state.callback_secrets = callback_secrets
    problems.install(app)
    for routes in (
        quotes,
        offers,
        withdrawals,
        approvals,
        authority,
        price_books,
        lists,
        orders,
        cancellations,
        fallout,
        callbacks,
        documentation,
    ):
        app.include_router(routes.router)
    limits = limits or Limits()
    app.state.rates = rates = Rates(limits)
    # A request passes the middleware that is added last first.
    app.add_middleware(RateLimit, rates=rates)
    app.add_middleware(Authentication, authenticate=authenticate)
    app.add_middleware(BodyLimit, body_time=limits.body_time)
    app.add_middleware(SingleHeaders)
    app.add_middleware(Compression, minimum_size=SMALLEST_TO_COMPRESS, compresslevel=COMPRESSION)
    app.add_middleware(AnswerHeaders)
    openapi.complete(app, TITLE, _version())
    return app


def description() -> str:
    """The OpenAPI document as `docs/openapi.json` keeps it, so that a change of the edge shows in review."""
    unconnected = create_engine("postgresql+psycopg://")
    return (
        json.dumps(create_app(unconnected, local_tokens("-" * SHORTEST_SECRET_BYTES), {}).openapi(), indent=2, ensure_ascii=False)
        + "\n"
    )


def _version() -> str:
    try:
        return version("quote-to-order")
    except PackageNotFoundError:
        return "0"
