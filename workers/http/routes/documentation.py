"""Swagger UI at `/docs`: the page that shows and tries every operation of the OpenAPI document.

The rule: everything that the page loads comes from this edge, and the browser is told to load nothing else. The files of Swagger UI are those that
the distribution `fastapi-offline` carries; its code is not used.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, Response

router = APIRouter(include_in_schema=False)

# Relative addresses: they hold behind a proxy that serves the edge below a path of its own.
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Quote to order</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="operations"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
# Without `validatorUrl`, Swagger UI would send the document's address to a validator on the internet.
START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#operations",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  persistAuthorization: false,
  validatorUrl: null,
});
"""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
# The files change with a release of the edge: an hour is what a browser may be behind.
KEPT_FOR_AN_HOUR = {"X-Content-Type-Options": "nosniff", "Cache-Control": "max-age=3600"}


@router.get("/docs")
def documentation() -> HTMLResponse:
    """Show the operations."""
    return HTMLResponse(PAGE, headers=HEADERS)


@router.get("/docs/start.js")
def documentation_start() -> Response:
    """Give the script that starts Swagger UI: a file of its own, so that no script stands in the page."""
    return Response(START, media_type="text/javascript", headers=KEPT_FOR_AN_HOUR)


@router.get("/docs/swagger-ui-bundle.js")
def documentation_script() -> FileResponse:
    """Give Swagger UI."""
    return _file("swagger-ui-bundle.js", "text/javascript")


@router.get("/docs/swagger-ui.css")
def documentation_style() -> FileResponse:
    """Give the style of Swagger UI."""
    return _file("swagger-ui.css", "text/css")


def _file(name: str, media_type: str) -> FileResponse:
    path = Path(str(files("fastapi_offline").joinpath("static", name)))
    return FileResponse(path, media_type=media_type, headers=KEPT_FOR_AN_HOUR)
