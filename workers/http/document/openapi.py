"""The OpenAPI document: FastAPI derives it, and this module adds what FastAPI cannot know.

That is: examples, links, the roles that a path lets in, and the two headers that are required (each has a code of its own for its absence).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import iter_route_contexts

from workers.http.calls import roles_of
from workers.http.document.examples import EXAMPLES
from workers.http.document.links import links_of
from workers.http.shapes.answers import Problem
from workers.http.shapes.order_bodies import CallbackBody

REQUIRED_HEADERS: Mapping[str, Mapping[str, Any]] = {
    "Idempotency-Key": {"minLength": 1, "maxLength": 255},
    "If-Match": {"pattern": '^"[0-9]{1,18}(-gzip)?"$'},
}
DESCRIPTION = """
A command names what its sender has seen, and is refused when that no longer holds.

* **Idempotency-Key** is required on every command. The same key with the same request gets the stored answer for 72 hours, with
  `Idempotent-Replayed: true`; with another request it is refused. A refused command stores nothing.
* **If-Match** carries the version from the last `ETag`. A stale version gets **409** with a code (RFC 9110 would allow 412 too; a stale
  revision, price or approval is the same kind of news and also gets 409), a missing one **428**.
* An answer may come gzipped; then its ETag is `"17-gzip"`, and names the same version in If-Match as `"17"`. Weak tags are refused.
* Refusals are problem documents (RFC 9457): branch on `code`, show `detail`, do what `safeUserAction` says.
* A request is checked in this order: who sends it (401), how much the tenant sends (429), its form (400, 408, 413, 415, 422), whether it is a
  repeat, whether the sender may do this (403, 404), which version the sender has seen (428, 409), and then everything else that the command
  names (409).
* A body is JSON in UTF-8. An identifier (a customer, a region, a reference, a reason code) has 1 to 200 characters, no blank at its ends and no
  control, invisible or bidirectional character; prose (a comment, evidence) may have line breaks and tabs, but no other control and no
  bidirectional character.
* A token (JWT) carries `sub`, `tenant`, `roles`, and for a buyer `customers`. Quotes and orders of other customers do not exist for a buyer
  (404), and nothing of another tenant exists for anybody. Buyers get less of a quote or an order than sellers.
"""


def complete(app: FastAPI, title: str, version: str) -> None:
    """Make `app.openapi()` give the completed document."""

    def build() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(title=title, version=version, description=DESCRIPTION, routes=app.routes)
            _add_schemas(document)
            for route in iter_route_contexts(app.routes):
                for method in route.methods or () if route.include_in_schema else ():
                    _complete(document["paths"][route.path][method.lower()], sorted(roles_of(route)))
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = build  # type: ignore[method-assign]  # FastAPI's documented way to extend the document


def _add_schemas(document: dict[str, Any]) -> None:
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for model in (Problem, CallbackBody):
        schemas[model.__name__] = model.model_json_schema(ref_template="#/components/schemas/{model}")
    for body, example in EXAMPLES.items():
        schemas[body.__name__]["examples"] = [example]
    components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}


def _complete(operation: dict[str, Any], roles: Sequence[str]) -> None:
    for parameter in operation.get("parameters", []):
        if parameter["name"] in REQUIRED_HEADERS:
            parameter["required"] = True
            parameter["schema"] = {"type": "string", **REQUIRED_HEADERS[parameter["name"]]}
    good = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
    if links := links_of(operation["operationId"]):
        good["links"] = links
    if roles:
        # OpenAPI 3.1 lists roles where a scheme has no scopes; one of these requirements is enough.
        operation["security"] = [{"token": [role]} for role in roles]
