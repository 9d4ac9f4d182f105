"""The OpenAPI document: what FastAPI derives, completed by what it cannot know.

It cannot know that two headers are required (their absence has a code of its own), nor that almost every path asks for a token.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from workers.http.answers import Problem
from workers.http.auth import OPEN_PATHS, SIGNED_PATHS
from workers.http.bodies import CallbackBody

REQUIRED_HEADERS = ("Idempotency-Key", "If-Match")
DESCRIPTION = """
Commands name what they were decided on, and are refused when it no longer holds.

* **Idempotency-Key** is required on every command. The same key with the same request gets the stored answer for 72 hours, with
  `Idempotent-Replayed: true`; with another request it is refused. A refused command stores nothing.
* **If-Match** carries the version from the last `ETag`. A stale version is answered **409** with a code (RFC 9110 would allow 412; a
  stale revision, price or approval is the same kind of news, and comes in the same shape), a missing one **428**.
* Refusals are problem documents (RFC 9457): branch on `code`, show `detail`, do what `safeUserAction` says.
"""


def complete(app: FastAPI, title: str, version: str) -> None:
    """Make `app.openapi()` give the completed document."""

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=title, version=version, description=DESCRIPTION, routes=app.routes)
            _add_schemas(document)
            for path, operations in document["paths"].items():
                for operation in operations.values():
                    _complete(path, operation)
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _add_schemas(document: dict[str, Any]) -> None:
    components = document.setdefault("components", {})
    for model in (Problem, CallbackBody):
        components.setdefault("schemas", {})[model.__name__] = model.model_json_schema(ref_template="#/components/schemas/{model}")
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}


def _complete(path: str, operation: dict[str, Any]) -> None:
    for parameter in operation.get("parameters", []):
        if parameter["name"] in REQUIRED_HEADERS:
            parameter["required"] = True
            parameter["schema"] = {"type": "string"}
    if path not in OPEN_PATHS and not path.startswith(SIGNED_PATHS):
        operation["security"] = [{"token": []}]
